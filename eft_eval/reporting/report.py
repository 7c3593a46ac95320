"""The record of a report: all that its page shows, computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from eft_eval.agreement.report import Agreement, CorrectedMetric, correction_in
from eft_eval.comparing.changes import unlike_sampling
from eft_eval.comparing.compare import compare_runs
from eft_eval.comparing.comparison import Comparison, RunName
from eft_eval.comparing.settings import GateSettings
from eft_eval.comparing.unscored import is_share
from eft_eval.errors import ComparabilityError, ConfigError
from eft_eval.reporting.arms import Arms, find_arms
from eft_eval.reporting.distances import Distances, distances_of
from eft_eval.reporting.flips import Flips, find_flips
from eft_eval.reporting.frontier import Frontier, find_frontiers
from eft_eval.reporting.scores import Score, align, column_of, scores_of
from eft_eval.runs.metadata import Decoding, Member
from eft_eval.runs.provenance import (
    Fact,
    decoding_of,
    facts_of,
    judges_of,
    members_of,
)
from eft_eval.runs.records import Column, JudgeSeen, MetricKey, Pipeline, Problem, Run
from eft_eval.runs.traces import Trace
from eft_eval.statistics.fieller import improvement_if_apart
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.paired import paired_difference
from eft_eval.version import __version__

__all__ = ["Improvement", "Report", "ReportedRun", "make_report"]

_ENDS = ("small tuned", "large tuned")


class Improvement(NamedTuple):
    """A run between the small (0) and the large tuned model (1), in one metric.

    Attributes:
        run: Its position among the runs.
        task: The task.
        metric: The metric.
        filter: The filter.
        interval: The normalised improvement; None where the tuned models are not apart.
        gap: Large tuned minus small tuned, with its paired interval.
        documents: Documents that all three have a number for.
        clusters: Number of clusters; None where the documents are independent.
    """

    run: int
    task: str
    metric: str
    filter: str
    interval: Interval | None
    gap: Interval
    documents: int
    clusters: int | None


@dataclass(frozen=True)
class ReportedRun:
    """One run of a report.

    Attributes:
        name: Which run it is.
        short: What it is called in figures and tables: its arm, else the end of its path.
        arm: Which arm it is; None for none.
        scores: Its metrics.
        decoding: How its responses were decoded; None for a model that is no composite.
        members: Its models; empty for a model that is no composite.
        facts: Where it comes from.
        judges: Its judges, by task and filter.
        corrected: Its metrics corrected by people's labels.
        corrected_warnings: What keeps these from being read as they stand.
        problems: What is wrong with its files.
    """

    name: RunName
    short: str
    arm: str | None
    scores: tuple[Score, ...]
    decoding: Decoding | None
    members: tuple[Member, ...]
    facts: tuple[Fact, ...]
    judges: tuple[tuple[str, JudgeSeen], ...]
    corrected: tuple[CorrectedMetric, ...]
    corrected_warnings: tuple[str, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Report:
    """All that a report's page shows.

    Attributes:
        title: Its title.
        runs: At least one; the first is the baseline.
        comparison: The others against it; None for one run.
        main: Names of the metrics that figures show: those that are gated, or with one run those
            with a known direction that are no shares of unscored responses.
        improvements: Per metric and run, where there are a small and a large tuned model.
        frontiers: Runs that differ in a weight.
        flips: Documents on which a candidate differs most from the baseline.
        traces: Responses token by token.
        distances: How far they are from the draft, by task.
        agreements: Judge and people.
        notes: What could not be shown, and why.
        level: Confidence level of the intervals.
        command: The command that made it; empty where none did.
        gate: Whether it opens with the verdict on the candidates; else it is a study.
        version: Of eft-eval.
    """

    title: str
    runs: tuple[ReportedRun, ...]
    comparison: Comparison | None
    main: tuple[str, ...]
    improvements: tuple[Improvement, ...]
    frontiers: tuple[Frontier, ...]
    flips: tuple[Flips, ...]
    traces: tuple[Trace, ...] = ()
    distances: tuple[Distances, ...] = ()
    agreements: tuple[Agreement, ...] = ()
    notes: tuple[str, ...] = ()
    level: float = 0.95
    command: str = ""
    gate: bool = False
    version: str = field(default=__version__)


def _check_whole(run: Run) -> None:
    """Raise on what `compare_runs` raises on: samples lost, or means that are not theirs."""
    if errors := [problem.text for problem in run.problems if problem.severity == "error"]:
        raise ComparabilityError(f"{run.label} cannot be reported: {'; '.join(errors)}")


def make_report(
    runs: Sequence[Run],
    settings: GateSettings | None = None,
    *,
    arms: Mapping[int, str] | None = None,
    traces: Sequence[Trace] = (),
    agreements: Sequence[Agreement] = (),
    flips: int = 3,
    title: str = "",
    command: str = "",
    gate: bool = False,
) -> Report:
    """Compute everything that a report shows.

    Args:
        runs: At least one; the first is the baseline of the others.
        settings: Of the gate.
        arms: By position the arm that a run is said to be; see `find_arms`.
        traces: Token traces to show.
        agreements: Results of `eft-eval agree` to show.
        flips: Documents per metric that got worse, and as many that got better.
        title: By default made of the models' names.
        command: What made it.
        gate: Whether the page opens with the verdict on the candidates.

    Raises:
        ComparabilityError: The runs cannot be compared with the first, or the only one is damaged.
        ConfigError: A setting or an arm is wrong.
    """
    assert runs
    if flips < 0:
        raise ConfigError(f"flips is {flips}; expected 0 or more documents per metric")
    if gate and len(runs) < 2:
        raise ConfigError("a gate needs a baseline and at least one candidate; given is one run")
    settings = settings or GateSettings()
    found = find_arms(runs, arms)
    if len(runs) == 1:
        _check_whole(runs[0])  # several are checked by the comparison
    comparison = compare_runs(runs[0], runs[1:], settings) if len(runs) > 1 else None
    reported = tuple(
        _reported(run, short, arm, settings.level)
        for run, short, arm in zip(runs, _short_names(runs, found), found.names, strict=True)
    )
    main = _main(reported[0], comparison)
    improvements = _improvements(runs, found, comparison, settings.level)
    notes = [*found.notes, *unlike_sampling(runs, [one.short for one in reported])]
    if runs[0].kind == "baseline" and comparison is not None:
        notes.append("the baseline is a file of `eft-eval bless`, which holds no texts")
    return Report(
        title=title or _title(reported),
        runs=reported,
        comparison=comparison,
        main=main,
        improvements=improvements,
        frontiers=find_frontiers(runs),
        flips=_all_flips(runs, comparison, flips),
        traces=tuple(traces),
        distances=distances_of(traces, runs, settings.level) if traces else (),
        agreements=tuple(agreements),
        notes=tuple(notes),
        level=settings.level,
        command=command,
        gate=gate,
    )


def _title(runs: Sequence[ReportedRun]) -> str:
    names = list(dict.fromkeys(run.name.model for run in runs))
    if len(names) == 1:
        return names[0]
    return f"{runs[0].short} and {len(runs) - 1} other run{'s' if len(runs) > 2 else ''}"


def _short_names(runs: Sequence[Run], arms: Arms) -> list[str]:
    """Return names that tell the runs apart: the arm, else the end of the path."""
    ends = [
        arm or Path(run.label).name or run.label for run, arm in zip(runs, arms.names, strict=True)
    ]
    return [
        end if ends.count(end) == 1 else f"{end} ({number})"
        for number, end in enumerate(ends, start=1)
    ]


def _reported(run: Run, short: str, arm: str | None, level: float) -> ReportedRun:
    corrected, warnings = _corrections(run)
    return ReportedRun(
        name=RunName(run.label, run.model, run.date, run.kind),
        short=short,
        arm=arm,
        scores=scores_of(run, level),
        decoding=decoding_of(run),
        members=members_of(run),
        facts=facts_of(run),
        judges=judges_of(run),
        corrected=corrected,
        corrected_warnings=warnings,
        problems=run.problems,
    )


def _corrections(run: Run) -> tuple[tuple[CorrectedMetric, ...], tuple[str, ...]]:
    """Return the metrics that labels corrected, each from the file that its task is from."""
    metrics: list[CorrectedMetric] = []
    warnings: list[str] = []
    for file in run.files:
        found = correction_in(file)
        if found is None:
            continue
        here = [
            one for one in found.metrics if one.task in run.tasks and run.file_of(one.task) is file
        ]
        metrics += here
        warnings += found.warnings if here else ()
    return tuple(metrics), tuple(dict.fromkeys(warnings))


def _main(first: ReportedRun, comparison: Comparison | None) -> tuple[str, ...]:
    if comparison is not None:
        rows = (row for one in comparison.candidates for row in one.rows)
        return tuple(dict.fromkeys(row.name for row in rows if row.is_gated_score))
    return tuple(
        score.name
        for score in first.scores
        if score.better is not None and score.interval is not None and not is_share(score.metric)
    )


def _improvements(
    runs: Sequence[Run], arms: Arms, comparison: Comparison | None, level: float
) -> tuple[Improvement, ...]:
    if comparison is None or not all(end in arms.names for end in _ENDS):
        return ()
    small, large = (arms.names.index(end) for end in _ENDS)
    found = []
    rows = {
        row.name: row for one in comparison.candidates for row in one.rows if row.is_gated_score
    }
    for row in rows.values():
        key = MetricKey(row.metric, row.filter)
        for index in set(range(len(runs))) - {small, large}:
            three = [column_of(runs[place], row.task, key) for place in (small, index, large)]
            columns = [one for one in three if one is not None]
            if len(columns) == 3:
                found.append(_improvement(index, row.task, key, columns, row.better, level))
    return tuple(found)


def _improvement(
    index: int,
    task: str,
    key: MetricKey,
    columns: Sequence[tuple[Column, Pipeline]],
    better: str | None,
    level: float,
) -> Improvement:
    """Return an improvement; none where the large tuned model is not clearly the better one."""
    aligned = align(columns)
    small, _, large = aligned.values
    gap = paired_difference(large - small, aligned.clusters, level)
    return Improvement(
        run=index,
        task=task,
        metric=key.metric,
        filter=key.filter,
        interval=improvement_if_apart(aligned.values, better == "lower", aligned.clusters, level),
        gap=gap.interval,
        documents=gap.n,
        clusters=gap.clusters,
    )


def _all_flips(runs: Sequence[Run], comparison: Comparison | None, count: int) -> tuple[Flips, ...]:
    if comparison is None or not count:
        return ()
    found: list[Flips] = []
    for number, candidate in enumerate(comparison.candidates):
        found += find_flips(runs[0], runs[number + 1], candidate, number, count)
    return tuple(found)
