"""From a run to what may be claimed of it; what may not is refused in one line."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from eft_eval.agreement.report import CorrectedMetric, correction_in
from eft_eval.errors import ClaimError, ConfigError, nearest
from eft_eval.exporting.claims import Claim, JudgeClaim, RunClaim, TaskClaim
from eft_eval.exporting.figures import corrected_figure, figure_of, labels_of
from eft_eval.exporting.judges import judge_of, load_prompts, possible_range
from eft_eval.exporting.models import HubModel, composite_of, hub_model, public_name, unpinned
from eft_eval.exporting.tasks import (
    check_same_model,
    claim_of_group,
    claim_of_task,
)
from eft_eval.judging.prompts.prompt import JudgePrompt
from eft_eval.judging.prompts.ranges import range_of
from eft_eval.runs.reading import read_run
from eft_eval.runs.records import Column, Group, MetricKey, ResultsFile, Run, TaskRun
from eft_eval.runs.variants import public_variant, variant_of

__all__ = ["ClaimSettings", "claims_of", "read_claims"]

_SHOWN = 5
_WILD = "*?["


@dataclass(frozen=True)
class ClaimSettings:
    """What is to be claimed, and how strictly.

    Attributes:
        metrics: Patterns ``task/metric`` or ``task/metric,filter`` with ``*``; none: all there are.
        level: Confidence level of the intervals, in (0, 1).
        allow_limit: Whether a run of some documents only may be claimed, which then is said.
        max_unknown: Largest share of verdicts that may be no answer, in [0, 1].
        judge_prompts: Files of judge prompts besides the shipped ones.
    """

    metrics: tuple[str, ...] = ()
    level: float = 0.95
    allow_limit: bool = False
    max_unknown: float = 0.05
    judge_prompts: tuple[str, ...] = ()


class _Chosen(NamedTuple):
    """A metric that is to be exported."""

    name: str
    tasks: tuple[str, ...]
    key: MetricKey
    column: Column
    group: Group | None


def read_claims(sources: Iterable[str | Path], settings: ClaimSettings) -> list[RunClaim]:
    """Read runs and return what may be claimed of each.

    Args:
        sources: See `eft_eval.comparing.read_run`.
        settings: What is to be claimed.

    Raises:
        ConfigError: There is no run, or a setting is wrong.
        ClaimError: Something of them must not be claimed.
    """
    return [claims_of(read_run(source), settings) for source in sources]


def claims_of(run: Run, settings: ClaimSettings) -> RunClaim:
    """Return what may be claimed of a run.

    Args:
        run: The run, or a baseline.
        settings: What is to be claimed.

    Raises:
        ConfigError: A setting is wrong.
        ClaimError: The run is incomplete, limited, without metrics, or has too many verdicts that
            are no answer; or a metric that was named has no number.
    """
    _check(settings, run)
    notes: list[str] = []
    chosen = list(_chosen(run, settings, notes))
    needed = {name for one in chosen for name in one.tasks}
    _check_whole(run, needed, settings, notes)
    if not chosen:
        raise ClaimError(f"{run.label} has no metric with a number that could be exported")
    prompts = load_prompts(settings.judge_prompts)
    first = run.file_of(chosen[0].tasks[0])
    for name in needed:
        check_same_model(first, run.file_of(name))
    composite = composite_of(first.config, first.path.name)
    hub = HubModel() if composite else hub_model(first.config, run.model)
    variant = public_variant(unpinned(first.config))
    named = f" ({variant})" if variant else ""
    by_task: dict[str, list[_Chosen]] = {}
    for one in chosen:
        by_task.setdefault(one.name, []).append(one)
    tasks = tuple(
        _task(run, name, ones, prompts, settings, notes) for name, ones in by_task.items()
    )
    for task in tasks:
        _check_limit(run, task, settings)
    return RunClaim(
        label=run.label,
        model=composite.name if composite else f"{public_name(run.model)}{named}",
        backend=str(first.config.get("model") or ""),
        repository=hub.repository,
        commit=hub.commit,
        composite=composite,
        from_baseline=run.kind == "baseline",
        level=settings.level,
        tasks=tasks,
        notes=tuple(dict.fromkeys(notes)),
        path=composite.name if composite else f"{run.model}{variant_of(first.config) or ''}",
        named_by=hub.named_by,
        variant=variant,
        below=hub.below,
    )


def _check(settings: ClaimSettings, run: Run) -> None:
    if not 0 < settings.level < 1:
        raise ConfigError(f"--level {settings.level}: expected a number between 0 and 1")
    if not 0 <= settings.max_unknown <= 1:
        raise ConfigError(f"--max-unknown {settings.max_unknown}: expected a share from 0 to 1")
    names = [f"{one.name}/{one.key}" for one in _columns(run)]
    for pattern in settings.metrics:
        if not any(_matches(name, pattern) for name in names):
            short = [name.partition(",")[0] for name in names]
            known = ", ".join(dict.fromkeys(short)) or "none: its metrics were bypassed"
            raise ConfigError(
                f"{run.label}: no metric matches {pattern!r}{nearest(pattern, short)}; expected "
                f"TASK/METRIC or TASK/METRIC,FILTER with *; there are {known}"
            )


def _columns(run: Run) -> Iterator[_Chosen]:
    for task in run.tasks.values():
        for key, column in task.columns.items():
            yield _Chosen(task.name, (task.name,), key, column, None)
    for group in run.groups.values():
        if all(name in run.tasks for name in group.tasks):
            for key, column in group.columns.items():
                yield _Chosen(group.name, group.tasks, key, column, group)


def _matches(name: str, pattern: str) -> bool:
    short = name.partition(",")[0]
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(short, pattern)


def _chosen(run: Run, settings: ClaimSettings, notes: list[str]) -> Iterator[_Chosen]:
    """Yield the metrics that are asked for and have a number; the others are noted, or refused."""
    for one in _columns(run):
        name = f"{one.name}/{one.key}"
        patterns = [pattern for pattern in settings.metrics if _matches(name, pattern)]
        if settings.metrics and not patterns:
            continue
        if one.column.reported is not None:
            yield one
            continue
        if any(not set(_WILD) & set(pattern) for pattern in patterns):
            raise ClaimError(
                f"{run.label}: {name} has no number (NaN or N/A): it cannot be claimed"
            )
        notes.append(f"left out: {name} has no number (NaN or N/A)")


def _check_whole(run: Run, needed: set[str], settings: ClaimSettings, notes: list[str]) -> None:
    errors = []
    for problem in run.problems:
        concerns = problem.task is None or problem.task in needed or not settings.metrics
        if problem.severity == "error" and concerns:
            errors.append(problem.text)
        elif concerns:
            notes.append(problem.text)
    if not settings.metrics:
        errors += [
            f"task {task.name!r} has no metrics, they were bypassed (--predict_only): judge it "
            "first (eft-eval judge), or name the metrics of other tasks with --metric"
            for task in run.tasks.values()
            if task.bypassed and not task.columns
        ]
    if errors:
        rest = len(errors) - _SHOWN
        raise ClaimError(
            f"{run.label} cannot be exported: {'; '.join(errors[:_SHOWN])}"
            + (f"; and {rest} more reason(s)" if rest > 0 else "")
        )


def _check_limit(run: Run, task: TaskClaim, settings: ClaimSettings) -> None:
    if task.limited and not settings.allow_limit:
        of = "only some" if task.available is None else f"{task.documents} of {task.available}"
        raise ClaimError(
            f"{run.label}: {task.name} has {of} documents (--limit); evaluate all of them, or pass "
            "--allow-limit, and every format says so"
        )


def _task(
    run: Run,
    name: str,
    chosen: Sequence[_Chosen],
    prompts: Mapping[str, JudgePrompt],
    settings: ClaimSettings,
    notes: list[str],
) -> TaskClaim:
    source = run.file_of(chosen[0].tasks[0])
    composite = composite_of(source.config, source.path.name)
    group = chosen[0].group
    if group is None:
        task = run.tasks[name]
        claims = [_claim(task, one, source, prompts, settings) for one in chosen]
        judges = {claim.key.filter: claim.judge for claim in claims}
        for judge in judges.values():
            if judge is not None:
                _check_judge(run, name, judge, settings, notes)
        return claim_of_task(task, source, composite, tuple(claims))
    parts = tuple(
        claim_of_task(run.tasks[part], run.file_of(part), composite, ()) for part in group.tasks
    )
    claims = [_group_claim(one, group.documents.get(one.key), settings.level) for one in chosen]
    return claim_of_group(group, parts, source, composite, tuple(claims))


def _check_judge(
    run: Run, task: str, judge: JudgeClaim, settings: ClaimSettings, notes: list[str]
) -> None:
    if not judge.unknown:
        return
    listed = ", ".join(f"{count} {status}" for status, count in judge.verdicts.items())
    of = f"{judge.total} verdicts of {judge.model}"
    text = f"{task}: {judge.unknown} of {of} are no answer ({listed})"
    if judge.unknown_share > settings.max_unknown:
        raise ClaimError(
            f"{run.label}: {text}; at most {100 * settings.max_unknown:g} % may be: judge it again "
            "(eft-eval judge), or raise --max-unknown, and every format says so"
        )
    notes.append(text)


def _claim(
    task: TaskRun,
    one: _Chosen,
    source: ResultsFile,
    prompts: Mapping[str, JudgePrompt],
    settings: ClaimSettings,
) -> Claim:
    metric, filter_name = one.key
    pipeline = task.pipelines.get(filter_name)
    correction = correction_in(source)
    found = correction.of(task.name, metric) if correction else None
    labels = None
    if correction is not None and found is not None:
        figure = corrected_figure(one.column, found.corrected)
        labels = labels_of(found.corrected, len(correction.annotators))
    else:
        items = pipeline.items if pipeline else ()
        figure = figure_of(one.column, items, task.documents, settings.level)
    lowest, highest = _range(one)
    return Claim(
        key=one.key,
        figure=figure,
        higher_is_better=one.column.higher_is_better,
        lowest=lowest,
        highest=highest,
        judge=judge_of(task, filter_name, prompts),
        possible=possible_range(task, metric, filter_name),
        labels=labels,
        notes=(
            *_remarks(found, figure.missing, figure.clusters),
            *([task.undated] if task.undated else ()),
        ),
    )


def _group_claim(one: _Chosen, documents: int | None, level: float) -> Claim:
    lowest, highest = _range(one)
    return Claim(
        key=one.key,
        figure=figure_of(one.column, (), documents, level),
        higher_is_better=one.column.higher_is_better,
        lowest=lowest,
        highest=highest,
        judge=None,
        possible=None,
        labels=None,
        notes=(f"of the tasks {', '.join(one.tasks)}, as lm-eval aggregates them",),
    )


def _range(one: _Chosen) -> tuple[float | None, float | None]:
    """Return a metric's range, which its score must lie in."""
    found = range_of(one.key.metric)
    if found is None:
        return None, None
    value = one.column.reported
    assert value is not None
    slack = 1e-9  # a mean of ones may be summed to a little more
    if not (found[0] - slack <= value <= found[1] + slack) or math.isnan(value):
        raise ClaimError(
            f"{one.name}/{one.key} is {value:g}, but {one.key.metric} lies from {found[0]:g} to "
            f"{found[1]:g}: it cannot be claimed"
        )
    return found


def _remarks(
    found: CorrectedMetric | None, missing: int | None, clusters: int | None
) -> Iterator[str]:
    if found is not None:
        yield f"corrected by people's labels ({found.reading})"
    if missing:
        yield f"{missing} documents without a number are left out"
    if clusters is not None:
        yield f"prompts repeat: {clusters} clusters"
