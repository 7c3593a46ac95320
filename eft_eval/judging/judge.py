"""From responses to verdicts: what is stored already, what is asked, what is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from eft_eval.errors import ConfigError
from eft_eval.judging.asking import ask_all
from eft_eval.judging.cost.budget import Budget
from eft_eval.judging.judges.base import Failure, Outcome
from eft_eval.judging.judges.registry import judge_for
from eft_eval.judging.outcome import is_failure, reparse, unfinished, verdict_of
from eft_eval.judging.prompts.prompt import JudgePrompt
from eft_eval.judging.settings import JudgeSettings
from eft_eval.verdicts.leases import Claims, SharedSource, Taken
from eft_eval.verdicts.store import Unreadable, VerdictStore
from eft_eval.verdicts.verdict import Status, Verdict, content_key
from eft_eval.verdicts.writer import Keeper

__all__ = [
    "ABSENT",
    "UNFINISHED",
    "JudgeItem",
    "Plan",
    "judge_responses",
    "plan",
]

ABSENT = "no response"
"""The key of the responses that never came."""

UNFINISHED = "unfinished response"
"""The key of the responses whose reasoning did not end."""

_IN_A_BATCH = (
    "not sent: the request is in a Batch API job; `eft-eval judge RUN_DIR --batch collect` "
    "fetches the reply"
)


class JudgeItem(NamedTuple):
    """One response to judge, with the user's query where the prompt shows it.

    An empty response is a valid item: what it is worth is the judge's decision. None is a
    response that never came; no judge is asked about it, and its verdict is missing. One whose
    reasoning did not end is no answer: nobody is asked, and its verdict is unfinished. A second
    response is what a prompt that shows two compares the first with.
    """

    response: str | None
    query: str | None = None
    unfinished: bool = False
    second: str | None = None


class Plan(NamedTuple):
    """What judging would do.

    Attributes:
        keys: The verdicts' keys, in the items' order.
        found: Stored verdicts by key, as the prompt reads them; one that nobody can read any more
            is an api_error.
        missing: Texts to send, by key; equal texts once.
        parameters: The judge's sampling parameters, which are part of the keys.
        judged: What is judged, by key.
        failures: Keys under which the first version stored an endpoint's failure; they are
            among the missing.
    """

    keys: list[str]
    found: dict[str, Verdict]
    missing: dict[str, str]
    parameters: dict[str, Any]
    judged: dict[str, str]
    failures: tuple[str, ...] = ()

    @property
    def stored(self) -> set[str]:
        """Keys of the verdicts that are stored and can be read."""
        return {key for key, one in self.found.items() if one.status.has_reply}


def plan(
    items: Sequence[JudgeItem],
    prompt: JudgePrompt,
    settings: JudgeSettings,
    store: VerdictStore,
    *,
    repeat: int = 0,
) -> Plan:
    """Return what is stored and what is to be asked; asks nobody.

    Arguments and errors are those of `judge_responses`.
    """
    parameters = judge_for(settings).key()
    rendered = [_render(prompt, item, index) for index, item in enumerate(items)]
    keys = [
        UNFINISHED
        if item.unfinished
        else ABSENT
        if item.response is None
        else content_key(text, settings.model, parameters, repeat=repeat)
        for item, text in zip(items, rendered, strict=True)
    ]
    judged = {key: _shown(item) for key, item in zip(keys, items, strict=True)}
    entries = store.look_up(keys)
    failures = [key for key, one in entries.items() if isinstance(one, Verdict) and is_failure(one)]
    found = {
        key: _as_found(entry, prompt, settings, parameters, judged[key])
        for key, entry in entries.items()
        if key not in failures
    }
    if ABSENT in keys:
        absent = Failure("not sent: there is no response (null in the samples file)")
        found[ABSENT] = verdict_of(ABSENT, absent, prompt, settings, parameters=parameters)
    if UNFINISHED in keys:
        found[UNFINISHED] = unfinished(UNFINISHED, prompt, settings)
    missing = {key: text for key, text in zip(keys, rendered, strict=True) if key not in found}
    return Plan(keys, found, missing, parameters, judged, tuple(failures))


def judge_responses(
    items: Sequence[JudgeItem],
    prompt: JudgePrompt,
    settings: JudgeSettings,
    store: VerdictStore,
    progress: Callable[[int, int], None] | None = None,
    *,
    budget: Budget | None = None,
    repeat: int = 0,
) -> list[Verdict]:
    """Return one verdict per item, in the items' order.

    Only what the store lacks is asked, equal texts once, also where several processes judge over
    one store at the same time. Every verdict is on disk the moment it arrives, so that neither a
    crash nor Ctrl-C loses a paid one. A request that fails for good becomes a verdict with the
    status api_error, which is not stored and is asked again next time. Where the store fails on
    the way, nothing more is sent; what was answered is returned and, where it cannot be stored
    even at the end, put into a file that is logged. May be called where an event loop runs already.

    Args:
        items: Responses and queries; white space around them is not shown to the judge.
        prompt: The judge prompt.
        settings: The judge.
        store: Where verdicts are looked up and kept.
        progress: Called with (items that have a verdict, items in all), at first for what was
            stored, then with every arrival.
        budget: What may be spent; what no longer fits is not sent. None is any sum.
        repeat: 0 for the first verdict on these items, 1 for a second opinion of the same judge,
            and so on; each is stored on its own.

    Raises:
        ConfigError: An item lacks what the prompt shows, or the store cannot be used.
        EftEvalError: A stored verdict cannot be read.
    """
    planned = plan(items, prompt, settings, store, repeat=repeat)
    if planned.missing and store.failure is not None:
        failure = Failure(f"not sent: {store.failure}")
        for key in planned.missing:
            planned.found[key] = verdict_of(
                key, failure, prompt, settings, parameters=planned.parameters
            )
    elif planned.missing:
        if planned.failures:
            store.discard(planned.failures, is_failure)
        with Claims(store) as claims:
            with Keeper(claims, store.path) as keeper:
                _Judging(planned, prompt, settings, store, claims, keeper, progress).run(budget)
            store.unstored += keeper.unstored
    elif progress is not None:
        progress(len(items), len(items))
    return [planned.found[key] for key in planned.keys]


class _Judging:
    """One call's work: fills ``planned.found``."""

    def __init__(
        self,
        planned: Plan,
        prompt: JudgePrompt,
        settings: JudgeSettings,
        store: VerdictStore,
        claims: Claims,
        keeper: Keeper,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._planned = planned
        self._prompt = prompt
        self._settings = settings
        self._store = store
        self._claims = claims
        self._keeper = keeper
        self._progress = progress
        self._asked = list(planned.missing)
        self._shares = dict.fromkeys(self._asked, 0)
        for key in planned.keys:
            if key in self._shares:
                self._shares[key] += 1
        self._done = len(planned.keys) - sum(self._shares.values())

    def run(self, budget: Budget | None) -> None:
        self._tell()
        ended = ask_all(
            list(self._planned.missing.values()),
            self._settings,
            self._on_outcome,
            source=SharedSource(self._asked, self._claims, self._on_settled),
            budget=budget,
        )
        self._store.failure = ended
        for key in self._asked:
            if key not in self._planned.found:
                self._found(self._verdict(key, Failure(f"not sent: {ended}")))

    def _on_outcome(self, number: int, outcome: Outcome) -> Future[None] | None:
        verdict = self._verdict(self._asked[number], outcome)
        stored = None
        if verdict.status is Status.api_error:
            self._claims.give_back(verdict.key)
        else:
            stored = self._keeper.keep(verdict)
        self._found(verdict)
        return stored

    def _on_settled(self, number: int, state: Taken) -> None:
        key = self._asked[number]
        if state == "stored":  # by another process, after we looked
            entry = self._store.look_up([key])[key]
            plan_ = self._planned
            self._found(
                _as_found(entry, self._prompt, self._settings, plan_.parameters, plan_.judged[key])
            )
        else:
            failure = Failure(_IN_A_BATCH)
            self._found(self._verdict(key, failure))

    def _verdict(self, key: str, outcome: Outcome) -> Verdict:
        return verdict_of(
            key,
            outcome,
            self._prompt,
            self._settings,
            parameters=self._planned.parameters,
            judged=self._planned.judged[key],
        )

    def _found(self, verdict: Verdict) -> None:
        self._planned.found[verdict.key] = verdict
        self._done += self._shares[verdict.key]
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._done, len(self._planned.keys))


def _shown(item: JudgeItem) -> str:
    """Return all texts that the judge is shown: scores in them are no verdicts."""
    second = "" if item.second is None else f"\n{item.second}"
    return f"{item.response}{second}\n{item.query or ''}"


def _render(prompt: JudgePrompt, item: JudgeItem, index: int) -> str:
    response = (item.response or "").strip()
    values = {"response": response}
    if item.second is not None:
        values = {"response_1": response, "response_2": item.second.strip()}
    if item.query is not None:
        values["query"] = item.query.strip()
    try:
        return prompt.render(**values)
    except ConfigError as error:
        raise ConfigError(f"item {index}: {error}") from error


def _as_found(
    entry: Verdict | Unreadable,
    prompt: JudgePrompt,
    settings: JudgeSettings,
    parameters: Mapping[str, Any],
    judged: str,
) -> Verdict:
    """Return what is stored as this prompt reads it; without a verdict where nobody can."""
    if isinstance(entry, Verdict):
        return _under_prompt(entry, prompt, judged)
    failure = Failure(f"not sent: {entry.why}; `eft-eval verdicts prune` removes such")
    return verdict_of(entry.key, failure, prompt, settings, parameters=parameters)


def _under_prompt(verdict: Verdict, prompt: JudgePrompt, judged: str) -> Verdict:
    """Return a stored verdict as this prompt and the present parser read it.

    The key holds the rendered text, not the metadata: a prompt whose scale was corrected finds
    its old replies, which must then be read on the new scale. So they are always read again, as
    a stored reading may be on another prompt's scale.
    """
    return dataclasses.replace(
        reparse(verdict, prompt.scale, judged),
        prompt_name=prompt.name,
        prompt_version=prompt.version,
        prompt_sha256=prompt.sha256,
        prompt_scale=prompt.scale,
    )
