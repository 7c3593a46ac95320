"""How far the up-scaled model is from its small tuned member, token by token (Figure 7)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from eft_eval.reporting.distances import distances_by_token
from eft_eval.runs.traces import Shift, Trace
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.means import mean_of, within_unit
from eft_eval.study.folder import StudyFolder
from eft_eval.study.passes import traces_of

__all__ = ["TokenDistances", "Word", "token_distances"]

THRESHOLDS = (0.05, 0.1, 0.2, 0.5)
_BINS = 20
_WORDS = 12
_EXAMPLES = 2


class Word(NamedTuple):
    """A token that the composite makes likelier, or less likely, than its draft member does.

    Attributes:
        text: The token.
        times: Positions at which it is among the three most changed.
        change: Sum of the changes of its probability there.
    """

    text: str
    times: int
    change: float


@dataclass(frozen=True)
class TokenDistances:
    """The total-variation distance between an arm and its draft member, over response tokens.

    Attributes:
        arm: The arm.
        draft: Role of the member.
        responses: Responses looked into.
        tokens: Their tokens.
        mean: Mean distance, with an interval clustered by prompt.
        shares: Per threshold the share of tokens at that distance or more, likewise.
        histogram: Tokens by distance, in twenty steps from 0 to 1.
        raised: Words made likelier, most first.
        lowered: Words made less likely.
        examples: Responses to show: those of the median mean distance.
    """

    arm: str
    draft: str
    responses: int
    tokens: int
    mean: Interval
    shares: Mapping[str, Interval]
    histogram: tuple[int, ...]
    raised: tuple[Word, ...]
    lowered: tuple[Word, ...]
    examples: tuple[Trace, ...]


def token_distances(folder: StudyFolder) -> tuple[TokenDistances, ...]:
    """Return the distances of every arm with a delta that is whole.

    Raises:
        ConfigError: A response cannot be traced.
    """
    found = []
    for arm in folder.plan.arms:
        runs = [run for run in folder.plan.runs if run.arm == arm]
        if arm.recipe.is_base_alone or not all(map(folder.is_done, runs)):
            continue
        traces = [trace for run in runs for trace in traces_of(folder, run)]
        if traces:
            found.append(_distances(arm.name, traces, folder.plan.design.level))
    return tuple(found)


def _distances(arm: str, traces: Sequence[Trace], level: float) -> TokenDistances:
    values, codes = distances_by_token(traces)
    shares = {
        f"{least:g}": within_unit(
            mean_of((values >= least).astype(np.float64), codes, level).interval
        )
        for least in THRESHOLDS
    }
    counts = np.histogram(values, bins=_BINS, range=(0.0, 1.0))[0]
    tokens = [token for t in traces for token in t.tokens]
    return TokenDistances(
        arm=arm,
        draft=traces[0].draft,
        responses=len(traces),
        tokens=len(values),
        mean=within_unit(mean_of(values, codes, level).interval),
        shares=shares,
        histogram=tuple(int(count) for count in counts),
        raised=_words(shift for token in tokens for shift in token.raised),
        lowered=_words(shift for token in tokens for shift in token.lowered),
        examples=tuple(_median(traces)),
    )


def _words(shifts: Iterator[Shift]) -> tuple[Word, ...]:
    by_text: dict[str, list[float]] = defaultdict(list)
    for shift in shifts:
        by_text[shift.token].append(shift.change)
    words = [Word(text, len(changes), sum(changes)) for text, changes in by_text.items()]
    words.sort(key=lambda word: (-abs(word.change), word.text))
    return tuple(words[:_WORDS])


def _median(traces: Sequence[Trace]) -> list[Trace]:
    def mean(trace: Trace) -> float:
        return sum(token.total_variation for token in trace.tokens) / len(trace.tokens)

    ordered = sorted(traces, key=lambda trace: (mean(trace), trace.prompt, trace.response))
    start = max(0, (len(ordered) - _EXAMPLES) // 2)
    return ordered[start : start + _EXAMPLES]
