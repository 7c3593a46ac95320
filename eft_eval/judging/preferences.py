"""From verdicts in both orders to one verdict on each pair, and the figures that come of them.

Pure arithmetic: asks nobody and reads no file.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from eft_eval.judging.pairs import PairedTask
from eft_eval.judging.prompts.measures import MEASURES, ORDER_METRICS, UNKNOWN
from eft_eval.judging.prompts.ranges import mean_of_metric
from eft_eval.runs.judged import Bounds
from eft_eval.statistics.length_control import LengthControlled, length_controlled_rate
from eft_eval.statistics.means import Mean, share_of
from eft_eval.statistics.ratings import read_clusters, select
from eft_eval.verdicts.verdict import Verdict, status_of_several

__all__ = [
    "Figures",
    "Orders",
    "figures_of",
    "values_of",
]

_MEASURE = MEASURES["preference"]
_TIE = 0


class Orders(NamedTuple):
    """The verdicts on one pair: with A shown first, and with B shown first."""

    a_first: Verdict
    b_first: Verdict

    @property
    def wins(self) -> tuple[float, float] | None:
        """A's win (1), tie (1/2) or loss (0) in either order; None unless both are scored."""
        if self.a_first.value is None or self.b_first.value is None:
            return None
        return _won(self.a_first.value, 1), _won(self.b_first.value, 2)

    @property
    def verdict(self) -> Verdict:
        """The verdict on the pair: A's wins in percent, averaged over the orders.

        Where an order has no score, neither has the pair: the other order's alone would hold
        whatever the judge thinks of places.
        """
        both = (self.a_first, self.b_first)
        key = hashlib.sha256("".join(one.key for one in both).encode()).hexdigest()
        found = replace(
            self.a_first,
            key=key,
            raw=_joined(*(one.raw for one in both)),
            reason=_joined(*(one.reason for one in both)),
            prompt_tokens=_sum(*(one.prompt_tokens for one in both)),
            completion_tokens=_sum(*(one.completion_tokens for one in both)),
            cost_usd=_sum(*(one.cost_usd for one in both)),
            created=max(one.created for one in both),
            prompt_scale="percent",
        )
        if self.wins is not None:
            return replace(found, value=100 * statistics.fmean(self.wins))
        status = status_of_several(one.status for one in both)
        error = next(one.error for one in both if one.status is status)
        return replace(found, status=status, value=None, error=error)


def _won(value: float, own: int) -> float:
    if value == _TIE:
        return 0.5
    return float(value == own)


def _sum(*numbers: Any) -> Any:
    return None if None in numbers else sum(numbers)


def _joined(*texts: str | None) -> str | None:
    if all(text is None for text in texts):
        return None
    names = ("A shown first", "B shown first")
    return "\n\n".join(f"[{name}]\n{text or ''}" for name, text in zip(names, texts, strict=True))


def values_of(group: Sequence[Orders]) -> dict[str, float | None]:
    """Return the metrics of one document over its pairs.

    Returns:
        The win rate and the shares of pairs without a score, as of any measure; then
        `ORDER_METRICS`, means over the pairs that both orders scored, None where there is none.
        ``prefers_first_shown`` counts a tie as a half, so that 1/2 is no preference.
    """
    wins = [one.wins for one in group if one.wins is not None]
    order: dict[str, float | None] = dict.fromkeys(ORDER_METRICS)
    if wins:
        columns = (
            [first for first, _ in wins],
            [second for _, second in wins],
            [float(sum(pair) == 1) for pair in wins],
            [(first + 1 - second) / 2 for first, second in wins],
            [float(first == second) for first, second in wins],
        )
        order = dict(zip(ORDER_METRICS, map(statistics.fmean, columns), strict=True))
    return {**_MEASURE.values([one.verdict for one in group]), **order}


@dataclass(frozen=True)
class Figures:
    """What judging a task's pairs gave.

    Attributes:
        metrics: Per metric its mean over documents, with interval and standard error.
        bounds: Of the win rate, whatever the pairs without a score would have got.
        order_bounds: The same of `ORDER_METRICS`, which all lie in [0, 1].
        length_controlled: The win rate at equal lengths; None where it was not asked for.
        prompts: How many documents have a prompt of their own; fewer than there are documents
            where prompts repeat, which are clusters then.
    """

    metrics: Mapping[str, Mean]
    bounds: Bounds
    order_bounds: Mapping[str, Bounds]
    length_controlled: LengthControlled | None
    prompts: int


def figures_of(
    task: PairedTask, groups: Sequence[Sequence[Orders]], *, length_control: bool
) -> Figures:
    """Return the figures of a task of pairs.

    Args:
        task: The pairs.
        groups: Per document the verdicts on its pairs.
        length_control: Whether the length-controlled win rate is asked for.
    """
    columns = [values_of(group) for group in groups]
    prompts = len({*task.prompt_ids})
    clusters = None if prompts == len(columns) else list(task.prompt_ids)
    metrics = {name: _mean(name, [one[name] for one in columns], clusters) for name in columns[0]}
    length = None
    if length_control:
        length = length_controlled_rate(
            np.array([one["win_rate"] for one in columns], dtype=np.float64),
            [*_length_differences(task, groups)],
            clusters,
        )
    bounds = _MEASURE.bounds([[one.verdict for one in group] for group in groups])["win_rate"]
    return Figures(metrics, bounds, _order_bounds(groups, columns), length, prompts)


def _order_bounds(
    groups: Sequence[Sequence[Orders]], columns: Sequence[Mapping[str, float | None]]
) -> dict[str, Bounds]:
    """Return the means over documents were every unknown pair a 0, and were it a 1."""
    counts = [
        (
            sum(one.wins is not None for one in group),
            sum(one.verdict.status in UNKNOWN for one in group),
        )
        for group in groups
    ]
    unknown = sum(lost for _, lost in counts)

    def mean(name: str, filled: float) -> float | None:
        means = [
            ((of_document[name] or 0) * known + filled * lost) / (known + lost)
            for of_document, (known, lost) in zip(columns, counts, strict=True)
            if known + lost
        ]
        return statistics.fmean(means) if means else None

    return {name: Bounds(mean(name, 0), mean(name, 1), unknown) for name in ORDER_METRICS}


def _mean(metric: str, column: Sequence[float | None], clusters: list[str] | None) -> Mean:
    """Return a metric's mean over the documents that have a number."""
    values = np.array(column, dtype=np.float64)
    known = ~np.isnan(values)
    codes = select(read_clusters(clusters, len(values)), known)
    return share_of(mean_of_metric(metric, values[known], codes, dropped=int((~known).sum())))


def _length_differences(task: PairedTask, groups: Sequence[Sequence[Orders]]) -> list[float | None]:
    """Return per document the mean difference over the pairs that were scored."""
    found: list[float | None] = []
    for pairs, group in zip(task.pairs, groups, strict=True):
        scored = [
            pair.length_difference
            for pair, one in zip(pairs, group, strict=True)
            if one.wins is not None and pair.length_difference is not None
        ]
        found.append(statistics.fmean(scored) if scored else None)
    return found
