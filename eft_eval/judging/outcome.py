"""From a judge's outcome to the verdict that it amounts to; and the same from a stored reply."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Protocol

from eft_eval.judging.cost.prices import cost_usd
from eft_eval.judging.judges.base import Failure, Outcome, Reply
from eft_eval.judging.judges.registry import judge_class, judge_for
from eft_eval.judging.judges.structured import FORMAT_NAME
from eft_eval.judging.prompts.endings import ending_of
from eft_eval.judging.prompts.parsing import PARSER_VERSION, Parsed, parse_reply
from eft_eval.judging.prompts.prompt import JudgePrompt
from eft_eval.judging.settings import JudgeSettings
from eft_eval.verdicts.verdict import Scale, Status, Verdict

__all__ = ["PromptMark", "is_failure", "reparse", "unfinished", "unjudged", "verdict_of"]

# How these were read depends on the prompt's scale; the other statuses do not.
_READ_BY_SCALE = (Status.scored, Status.malformed, Status.out_of_range)
_READ_BY_TEXT = (Status.scored, Status.abstained)


class PromptMark(Protocol):
    """What a verdict needs to know of its judge prompt; `JudgePrompt` is one."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    @property
    def scale(self) -> Scale: ...


def unjudged(prompt: JudgePrompt, settings: JudgeSettings, error: str) -> Verdict:
    """Return the verdict of a response that no judge was asked about: api_error, with a reason."""
    return verdict_of("", Failure(error), prompt, settings)


def unfinished(key: str, prompt: JudgePrompt, settings: JudgeSettings) -> Verdict:
    """Return the verdict of a response whose reasoning did not end: no judge is asked about it."""
    blank = verdict_of(key, Failure(""), prompt, settings)
    return dataclasses.replace(blank, status=Status.unfinished, error=None)


def reparse(verdict: Verdict, scale: Scale, judged: str | None = None) -> Verdict:
    """Read a verdict's raw reply again with the present parser; asks nobody.

    Read again is what scale and judged text decide and, where the parser has changed since,
    everything that has a reply. The key stays: it names the call that was made.

    Args:
        verdict: The verdict.
        scale: The judge prompt's.
        judged: What the judge was shown; None where that is not known any more, so that what was
            ambiguous stays so.

    Returns:
        The verdict as it is read now; an api_error where the endpoint had failed, see
        `is_failure`.
    """
    anew = verdict.parser_version != PARSER_VERSION or verdict.status in _READ_BY_SCALE
    if judged is None:
        anew = anew and verdict.status is not Status.ambiguous
    else:
        anew = anew or verdict.status in (Status.ambiguous, *_READ_BY_TEXT)
    if not verdict.status.has_reply or not anew:
        return verdict
    if is_failure(verdict):
        return dataclasses.replace(
            verdict,
            status=Status.api_error,
            value=None,
            reason=None,
            parser_version=PARSER_VERSION,
            error=f"the endpoint failed (finish_reason {verdict.finish_reason!r})",
        )
    read = parse_reply(verdict.raw, verdict.finish_reason, None, scale, judged or "")
    if verdict.status is Status.refused and read.status is Status.malformed:
        # The endpoint's refusal field, whose text is all there is, need not read like a refusal.
        read = Parsed(Status.refused)
    return dataclasses.replace(
        verdict,
        status=read.status,
        value=read.value,
        reason=read.reason,
        parser_version=PARSER_VERSION,
    )


def is_failure(verdict: Verdict) -> bool:
    """Whether a stored verdict is an endpoint's failure, which the first version stored."""
    return ending_of(verdict.finish_reason) == "failed"


def verdict_of(
    key: str,
    outcome: Outcome,
    prompt: PromptMark,
    settings: JudgeSettings,
    *,
    batch: bool = False,
    parameters: Mapping[str, Any] | None = None,
    judged: str = "",
) -> Verdict:
    """Return the verdict that an outcome amounts to.

    Args:
        key: The verdict's key.
        outcome: A reply, which is read, or a failure, which gives the status api_error.
        prompt: The judge prompt, or what is known of it.
        settings: The judge.
        batch: Whether the Batch API's prices count.
        parameters: What `Judge.key` gives, where many verdicts share it: for a
            model's folder it reads files.
        judged: What the judge was shown, as far as it is known: scores in it are no verdicts.
    """
    parameters = dict(parameters or judge_for(settings).key())
    blank = _blank(key, prompt, settings.model, parameters)
    if isinstance(outcome, Failure):
        return dataclasses.replace(blank, error=outcome.error)
    if outcome.structured:
        parameters["response_format"] = FORMAT_NAME
    if outcome.sent is not None:
        parameters["sent"] = dict(outcome.sent)
    read = parse_reply(outcome.text, outcome.finish_reason, outcome.refusal, prompt.scale, judged)
    cost, table = _cost(outcome, settings, batch=batch)
    return dataclasses.replace(
        blank,
        status=read.status,
        value=read.value,
        reason=read.reason,
        raw=outcome.text or outcome.refusal,
        finish_reason=outcome.finish_reason,
        judge_model_returned=outcome.model,
        parameters=parameters,
        prompt_tokens=outcome.prompt_tokens,
        completion_tokens=outcome.completion_tokens,
        cost_usd=cost,
        price_table=table,
    )


def _cost(reply: Reply, settings: JudgeSettings, *, batch: bool) -> tuple[float | None, str | None]:
    """Price a reply by the model that answered, else by the one asked for."""
    if not judge_class(settings.model).priced:
        return 0.0, None
    used = (reply.prompt_tokens, reply.completion_tokens)
    if reply.model:
        priced = cost_usd(reply.model, *used, batch=batch)
        if priced[0] is not None:
            return priced
    return cost_usd(settings.model, *used, batch=batch)


def _blank(key: str, prompt: PromptMark, model: str, parameters: Mapping[str, Any]) -> Verdict:
    return Verdict(
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
        prompt_scale=prompt.scale,
    )
