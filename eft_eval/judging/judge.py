"""Judging responses: stored verdicts first, the rest from the judge, each stored as it arrives."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.judging.client import Failure, Outcome, ask_all
from eft_eval.judging.parsing import PARSER_VERSION, Scale, parse_reply
from eft_eval.judging.prices import cost_usd
from eft_eval.judging.prompt import JudgePrompt
from eft_eval.judging.settings import JudgeSettings, parameters_for
from eft_eval.judging.store import VerdictStore
from eft_eval.judging.verdict import Status, Verdict, content_key

__all__ = ["JudgeItem", "judge_responses", "reparse", "unjudged"]

_log = logging.getLogger("eft_eval.judging")

# How these were read depends on the prompt's scale; the other statuses do not.
_READ_BY_SCALE = (Status.scored, Status.malformed, Status.out_of_range)


class JudgeItem(NamedTuple):
    """One response to judge, with the user's query where the prompt shows it.

    An empty response is a valid item: what it is worth is the judge's decision.
    """

    response: str
    query: str | None = None


def judge_responses(
    items: Sequence[JudgeItem],
    prompt: JudgePrompt,
    settings: JudgeSettings,
    store: VerdictStore,
    progress: Callable[[int, int], None] | None = None,
) -> list[Verdict]:
    """Return one verdict per item, in the items' order.

    Only what the store lacks is asked, equal texts once. Every verdict is on disk the moment it
    arrives, so that neither a crash nor Ctrl-C loses a paid one. A request that fails for good
    becomes a verdict with the status api_error, which is not stored and is asked again next time.
    May be called where an event loop runs already.

    Args:
        items: Responses and queries; white space around them is not shown to the judge.
        prompt: The judge prompt.
        settings: The judge.
        store: Where verdicts are looked up and kept.
        progress: Called with (items that have a verdict, items in all), at first for what was
            stored, then with every arrival.

    Raises:
        ConfigError: An item lacks what the prompt shows, or the store cannot be used.
        EftEvalError: A stored verdict cannot be read.
    """
    parameters = parameters_for(settings.model, settings.max_tokens)
    rendered = [_render(prompt, item, index) for index, item in enumerate(items)]
    keys = [content_key(text, settings.model, parameters, PARSER_VERSION) for text in rendered]
    stored = store.get_many(keys)
    found = {key: _under_prompt(verdict, prompt) for key, verdict in stored.items()}
    missing = {key: text for key, text in zip(keys, rendered, strict=True) if key not in found}
    asked = list(missing)
    shares = dict.fromkeys(asked, 0)
    for key in keys:
        if key in shares:
            shares[key] += 1
    done = len(items) - sum(shares.values())

    def on_outcome(index: int, outcome: Outcome) -> None:
        nonlocal done
        key = asked[index]
        verdict = _verdict(key, outcome, prompt, settings.model, parameters)
        if verdict.status is not Status.api_error:
            _keep(store, verdict)
        found[key] = verdict
        done += shares[key]
        if progress is not None:
            progress(done, len(items))

    if progress is not None:
        progress(done, len(items))
    ask_all(list(missing.values()), settings, on_outcome)
    return [found[key] for key in keys]


def unjudged(prompt: JudgePrompt, settings: JudgeSettings, error: str) -> Verdict:
    """Return the verdict of a response that no judge was asked about: api_error, with a reason."""
    parameters = parameters_for(settings.model, settings.max_tokens)
    return _verdict("", Failure(error), prompt, settings.model, parameters)


def _keep(store: VerdictStore, verdict: Verdict) -> None:
    """Store a verdict; a disk that is full must not cost the verdicts still to come."""
    try:
        store.put(verdict)
    except EftEvalError as error:
        _log.error("verdict %s is in the results but not in the store: %s", verdict.key[:8], error)


def reparse(verdict: Verdict, scale: Scale) -> Verdict:
    """Read a verdict's raw reply again with the present parser; asks nobody.

    Only what the scale or the parser decides is read again; refusals, abstentions, truncated
    replies and failures stay what they are. The key stays too: it names the call that was made.
    """
    if verdict.status not in _READ_BY_SCALE:
        return verdict
    status, value, reason = parse_reply(verdict.raw, verdict.finish_reason, None, scale)
    return dataclasses.replace(
        verdict, status=status, value=value, reason=reason, parser_version=PARSER_VERSION
    )


def _render(prompt: JudgePrompt, item: JudgeItem, index: int) -> str:
    values = {"response": item.response.strip()}
    if item.query is not None:
        values["query"] = item.query.strip()
    try:
        return prompt.render(**values)
    except ConfigError as error:
        raise ConfigError(f"item {index}: {error}") from error


def _under_prompt(verdict: Verdict, prompt: JudgePrompt) -> Verdict:
    """Return a stored verdict as this prompt reads it.

    The key holds the rendered text, not the metadata: a prompt whose scale was corrected finds
    its old replies, which must then be read on the new scale.
    """
    if verdict.prompt_sha256 == prompt.sha256:
        return verdict
    return dataclasses.replace(
        reparse(verdict, prompt.scale),
        prompt_name=prompt.name,
        prompt_version=prompt.version,
        prompt_sha256=prompt.sha256,
    )


def _verdict(
    key: str, outcome: Outcome, prompt: JudgePrompt, model: str, parameters: Mapping[str, Any]
) -> Verdict:
    blank = Verdict(
        key=key,
        status=Status.api_error,
        value=None,
        reason=None,
        raw=None,
        finish_reason=None,
        judge_model=model,
        judge_model_returned=None,
        prompt_name=prompt.name,
        prompt_version=prompt.version,
        prompt_sha256=prompt.sha256,
        parameters=dict(parameters),
        parser_version=PARSER_VERSION,
        prompt_tokens=None,
        completion_tokens=None,
        cost_usd=None,
        price_table=None,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        error=None,
    )
    if isinstance(outcome, Failure):
        return dataclasses.replace(blank, error=outcome.error)
    status, value, reason = parse_reply(
        outcome.text, outcome.finish_reason, outcome.refusal, prompt.scale
    )
    cost, table = cost_usd(outcome.model or model, outcome.prompt_tokens, outcome.completion_tokens)
    return dataclasses.replace(
        blank,
        status=status,
        value=value,
        reason=reason,
        raw=outcome.text or outcome.refusal,
        finish_reason=outcome.finish_reason,
        judge_model_returned=outcome.model,
        prompt_tokens=outcome.prompt_tokens,
        completion_tokens=outcome.completion_tokens,
        cost_usd=cost,
        price_table=table,
    )
