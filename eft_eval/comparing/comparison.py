"""The record of a comparison: the one source of every report, and its JSON form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from eft_eval.records import data_frame, plain
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.paired import PairedTest

__all__ = [
    "Candidate",
    "Change",
    "Comparison",
    "Decision",
    "DifferenceBounds",
    "Outcome",
    "Result",
    "Row",
    "RunName",
    "Side",
]

FORMAT = "eft-eval comparison"
VERSION = 1
_COLUMNS = (
    "candidate", "task", "metric", "filter", "better", "baseline", "mean", "difference", "lower",
    "upper", "standard_error", "p_value", "units", "documents", "outcome",
)  # fmt: skip
Outcome = Literal["regression", "pass", "inconclusive"]
Result = Literal["regression", "pass", "inconclusive", "not comparable"]


@dataclass(frozen=True)
class RunName:
    """Which run it is.

    Attributes:
        label: The path as given.
        model: The model's name.
        date: When it was made.
        kind: "run" or "baseline".
    """

    label: str
    model: str
    date: str
    kind: str


@dataclass(frozen=True)
class Side:
    """One run's figure.

    Attributes:
        reported: The aggregate in its file; None where that is no number.
        mean: Mean over the paired documents; None where nothing was paired.
        interval: Of that mean: Wilson's for a rate, t or clustered t else.
        missing: Documents without a number.
        verdicts: The judge's verdicts by status; None where there is no judge.
    """

    reported: float | None
    mean: float | None
    interval: Interval | None
    missing: int
    verdicts: Mapping[str, int] | None


class DifferenceBounds(NamedTuple):
    """How far a difference could be moved by documents without all their scores.

    Attributes:
        lower: candidate - baseline with every unknown score lowest in the candidate and highest in
            the baseline.
        upper: The other way round.
        baseline: Documents of the baseline with an unknown score.
        candidate: Documents of the candidate with one, or with none where the baseline has one.
    """

    lower: float
    upper: float
    baseline: int
    candidate: int

    @property
    def unknown(self) -> int:
        """Unknown scores of both runs."""
        return self.baseline + self.candidate


@dataclass(frozen=True)
class Decision:
    """What the gate says of one metric. Gains are positive where the candidate is better.

    Where scores are unknown, ``upper`` and the p-values count them at their best for the
    candidate, ``lower`` at their worst: no outcome rests on what nobody knows.

    Attributes:
        outcome: regression, pass or inconclusive.
        reason: One sentence.
        tolerance: Largest accepted drop, in the metric's units.
        gain: candidate - baseline in the better direction.
        upper: One-sided upper bound of the gain; below 0 the metric got worse.
        upper_level: Its confidence level, 1 - α with Holm's correction.
        lower: One-sided lower bound of the gain; above -tolerance no drop beyond it is left.
        lower_level: Its confidence level, 1 - α, with Holm's correction over the candidates.
        p_worse: One-sided p-value of "no worse".
        p_worse_holm: The same after Holm's correction over the gated metrics of all candidates.
        items_to_decide: Documents with which the gate would decide (power 80 %), were the
            difference seen the true one; None where it has decided or no number would do.
        detectable: The true drop that so many documents find with power 80 %; None without a
            standard error.
        incomplete: Whether it is undecided as responses have no score; no policy accepts that.
        accepted: Whether it is undecided, and passes by policy.
        of_share: Whether it is on a share of responses without a score, and on no score.
    """

    outcome: Outcome
    reason: str
    tolerance: float
    gain: float | None = None
    upper: float | None = None
    upper_level: float | None = None
    lower: float | None = None
    lower_level: float | None = None
    p_worse: float | None = None
    p_worse_holm: float | None = None
    items_to_decide: int | None = None
    detectable: float | None = None
    incomplete: bool = False
    accepted: bool = False
    of_share: bool = False

    def fails(self, fail_on_inconclusive: bool) -> bool:
        """Whether the command ends with an error for it."""
        undecided = self.outcome == "inconclusive"
        return self.outcome == "regression" or (
            undecided and (self.incomplete or fail_on_inconclusive)
        )


@dataclass(frozen=True)
class Row:
    """One metric of one task (or group) in both runs.

    Attributes:
        task: Name of the task, or of the group.
        metric: Name of the metric.
        filter: Name of the filter.
        better: "higher", "lower", or None where that is not known.
        baseline: The baseline's figure; None where it has none.
        candidate: The candidate's; None where it has none.
        units: Number of independent or clustered units that were compared.
        documents: Number of documents they come from.
        samples: Samples of one prompt averaged into each unit.
        clusters: Number of clusters; None where the units are independent.
        dropped: Documents left out as one of the runs has no number there.
        difference: candidate - baseline with its interval; None where nothing was paired.
        standard_error: Of the difference; None where there is none.
        test: Two-sided test of no difference.
        decision: The gate's; None where the metric is only shown.
        notes: What keeps the figures from being read as they stand.
        bounds: How far unknown scores could move the difference; None where it is no judge's and
            every document has a number, or where nothing is known.
    """

    task: str
    metric: str
    filter: str
    better: Literal["higher", "lower"] | None
    baseline: Side | None
    candidate: Side | None
    units: int
    documents: int
    samples: int
    clusters: int | None
    dropped: int
    difference: Interval | None
    standard_error: float | None
    test: PairedTest | None
    decision: Decision | None
    notes: tuple[str, ...]
    bounds: DifferenceBounds | None = None

    @property
    def name(self) -> str:
        """``task/metric,filter``, as patterns of settings match it."""
        return f"{self.task}/{self.metric},{self.filter}"

    @property
    def is_gated_score(self) -> bool:
        """Whether the gate decides on it as on a score."""
        return self.decision is not None and not self.decision.of_share


class Change(NamedTuple):
    """A condition that is another one in the candidate's run.

    Attributes:
        what: Which one.
        baseline: As it was.
        candidate: As it is.
        bears_on_scores: Whether it may move scores by itself.
    """

    what: str
    baseline: str
    candidate: str
    bears_on_scores: bool


@dataclass(frozen=True)
class Candidate:
    """A candidate against the baseline.

    Attributes:
        run: Which run it is.
        outcome: Of all gated metrics: regression if one is, else inconclusive if one is; or "not
            comparable".
        sentence: The outcome in one sentence.
        rows: Gated metrics first, each in the baseline's order.
        notes: On the run as a whole.
        changes: What else differs between the two runs.
        reasons: Why it is not comparable; none where it is.
    """

    run: RunName
    outcome: Result
    sentence: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    changes: tuple[Change, ...] = ()
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """One or several candidates against a baseline.

    Attributes:
        baseline: Which run the baseline is.
        candidates: At least one.
        outcome: The worst of theirs.
        exit_code: 0 pass or tolerated, 1 regression, 2 not comparable, 3 inconclusive where that
            fails, or as responses have no score.
        alpha: One-sided error probability of the gate.
        level: Confidence level of the intervals.
        flips: Number of random sign flips.
        seed: Their seed.
        cluster: What makes items dependent.
        fail_on_inconclusive: Whether an inconclusive outcome fails.
    """

    baseline: RunName
    candidates: tuple[Candidate, ...]
    outcome: Result
    exit_code: int
    alpha: float
    level: float
    flips: int
    seed: int
    cluster: str
    fail_on_inconclusive: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; a number that does not exist is None."""
        return {"format": FORMAT, "version": VERSION, **plain(self)}

    def to_frame(self) -> Any:
        """Return the comparison as a pandas data frame: one row per candidate and metric.

        Returns:
            Columns ``candidate`` (its path as given), ``task``, ``metric``, ``filter``, ``better``,
            ``baseline`` and ``mean`` (over the paired documents), ``difference`` (candidate -
            baseline) with its interval ``lower``, ``upper`` at `level`, ``standard_error``,
            ``p_value`` (two-sided), ``units``, ``documents`` and ``outcome`` (of the gate; missing
            where the metric is only shown). A number that does not exist is missing. The notes and
            bounds are in `to_dict`.

        Raises:
            ConfigError: pandas is not installed.
        """
        return data_frame(self._records(), _COLUMNS)

    def _records(self) -> Iterator[dict[str, Any]]:
        for candidate in self.candidates:
            for row in candidate.rows:
                difference = row.difference
                yield {
                    "candidate": candidate.run.label,
                    "task": row.task,
                    "metric": row.metric,
                    "filter": row.filter,
                    "better": row.better,
                    "baseline": row.baseline.mean if row.baseline else None,
                    "mean": row.candidate.mean if row.candidate else None,
                    "difference": difference.estimate if difference else None,
                    "lower": difference.lower if difference else None,
                    "upper": difference.upper if difference else None,
                    "standard_error": row.standard_error,
                    "p_value": row.test.p_value if row.test else None,
                    "units": row.units,
                    "documents": row.documents,
                    "outcome": row.decision.outcome if row.decision else None,
                }

    def __repr__(self) -> str:
        against = ", ".join(f"{one.run.label!r}: {one.outcome}" for one in self.candidates)
        return f"Comparison({self.baseline.label!r} against {against}; exit_code={self.exit_code})"
