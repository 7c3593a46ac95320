"""Comparing runs: a baseline and its candidates in, one `Comparison` out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from eft_eval.comparing.changes import changes_between, warnings_of
from eft_eval.comparing.comparability import judge_changes, reasons_against
from eft_eval.comparing.comparison import (
    Candidate,
    Change,
    Comparison,
    Decision,
    Outcome,
    Row,
    RunName,
)
from eft_eval.comparing.gate import Gated, decide_all, worst
from eft_eval.comparing.pairing import Matched, match_items
from eft_eval.comparing.rows import Compared, Target, compare_target
from eft_eval.comparing.settings import GateSettings
from eft_eval.comparing.targets import check_patterns, demands_on, gated_of, targets_of
from eft_eval.comparing.unscored import is_share, share_rows
from eft_eval.errors import ComparabilityError, EftEvalError
from eft_eval.runs.records import Run, TaskRun

__all__ = ["compare_runs", "not_comparable"]

_SHOWN_REASONS = 5


def compare_runs(
    baseline: Run,
    candidates: Sequence[Run],
    settings: GateSettings | None = None,
    *,
    strict: bool = True,
) -> Comparison:
    """Compare candidates with a baseline, metric by metric, on the same documents.

    Args:
        baseline: The accepted run, or a baseline file's.
        candidates: The runs under test; the first is the usual one.
        settings: What the gate demands.
        strict: Whether a candidate that may not be compared is an error; else it is part of the
            comparison, with its reasons.

    Raises:
        ComparabilityError: The runs are not of the same documents, prompts, task versions or
            judge, or are incomplete.
        ConfigError: A setting names no metric, or one that cannot be gated.
    """
    settings = settings or GateSettings()
    assert candidates
    targets = targets_of(baseline)
    check_patterns(settings, targets, baseline)
    gated = gated_of(baseline, targets, settings)
    if not gated:
        if errors := [one.text for one in baseline.problems if one.severity == "error"]:
            raise ComparabilityError(f"{baseline.label}: {'; '.join(errors)}")
        raise ComparabilityError(
            f"{baseline.label} has no metric that can be gated: scores with a direction and "
            f"samples (--log_samples) are needed{_why(baseline)}"
        )
    figures: list[_Figures | Candidate] = []
    for one in candidates:
        try:
            figures.append(_figures(baseline, one, targets, gated, settings))
        except ComparabilityError as error:
            if strict:
                raise
            figures.append(_not_comparable(_name(one), str(error), changes_between(baseline, one)))
    decisions = iter(
        decide_all([one.gated for one in figures if isinstance(one, _Figures)], settings.alpha)
    )
    return _comparison(
        _name(baseline),
        [one if isinstance(one, Candidate) else one.decided_by(next(decisions)) for one in figures],
        settings,
    )


def not_comparable(
    baseline: str, candidates: Sequence[str], settings: GateSettings, error: EftEvalError
) -> Comparison:
    """Return the record of a comparison that could not be made at all.

    Args:
        baseline: What the baseline was called.
        candidates: What the candidates were called.
        settings: What the gate demands.
        error: Why.
    """
    found = [_not_comparable(RunName(one, "", "", "run"), str(error), ()) for one in candidates]
    return _comparison(RunName(baseline, "", "", "run"), found, settings)


def _not_comparable(run: RunName, reason: str, changes: tuple[Change, ...]) -> Candidate:
    sentence = f"Not comparable: {reason}."
    return Candidate(
        run, "not comparable", sentence, (), tuple(warnings_of(changes)), changes, (reason,)
    )


def _comparison(
    baseline: RunName, found: Sequence[Candidate], settings: GateSettings
) -> Comparison:
    outcome = worst([one.outcome for one in found])
    incomplete = any(row.decision and row.decision.incomplete for one in found for row in one.rows)
    fails = incomplete or settings.fail_on_inconclusive
    codes = {"regression": 1, "not comparable": 2, "inconclusive": 3 if fails else 0, "pass": 0}
    return Comparison(
        baseline=baseline,
        candidates=tuple(found),
        outcome=outcome,
        exit_code=codes[outcome],
        alpha=settings.alpha,
        level=settings.level,
        flips=settings.flips,
        seed=settings.seed,
        cluster=settings.cluster,
        fail_on_inconclusive=settings.fail_on_inconclusive,
    )


def _name(run: Run) -> RunName:
    return RunName(run.label, run.model, run.date, run.kind)


def _why(baseline: Run) -> str:
    """Return what is noted of a baseline without gated metrics, besides absent samples files."""
    texts = [one.text for one in baseline.problems if "no samples file" not in one.text]
    return f" ({'; '.join(texts[:_SHOWN_REASONS])})" if texts else ""


@dataclass(frozen=True)
class _Figures:
    """A candidate's figures before the gate has spoken."""

    run: Run
    compared: tuple[Compared, ...]
    decided: tuple[Compared, ...]
    shares: tuple[Row, ...]
    notes: tuple[str, ...]
    changes: tuple[Change, ...]

    @property
    def gated(self) -> list[Gated]:
        """What the gate decides on."""
        return [_gated(one) for one in self.decided]

    def decided_by(self, decisions: Sequence[Decision]) -> Candidate:
        """Return the candidate with the gate's decisions on its gated metrics."""
        by_target = {id(one): made for one, made in zip(self.decided, decisions, strict=True)}
        shares = {row.name: row for row in self.shares}
        rows = [one.row(by_target.get(id(one))) for one in self.compared]
        rows = [_with_share(row, shares.get(row.name)) for row in rows]
        known = {row.name for row in rows}
        rows += [row for row in self.shares if row.name not in known and not _passes(row)]
        rows.sort(key=_place)  # stable
        made = [row.decision for row in rows if row.decision is not None]
        outcome = worst([one.outcome for one in made])
        notes = (*warnings_of(self.changes), *self.notes)
        sentence = _sentence(outcome, rows)
        return Candidate(_name(self.run), outcome, sentence, tuple(rows), notes, self.changes)


def _with_share(row: Row, share: Row | None) -> Row:
    """Return the row of a share with the decision on it, unless it is gated as a metric."""
    if share is None or share.decision is None or row.decision is not None:
        return row
    return replace(row, decision=share.decision)


def _passes(row: Row) -> bool:
    return row.decision is not None and row.decision.outcome == "pass"


def _place(row: Row) -> int:
    """Gated scores first, then shares of responses without a score, then what is only shown."""
    return 2 if row.decision is None else int(is_share(row.metric))


def _figures(
    baseline: Run,
    candidate: Run,
    targets: Sequence[Target],
    gated: Sequence[Target],
    settings: GateSettings,
) -> _Figures:
    needed: dict[str, set[str]] = {}
    for target in gated:
        for name in target.tasks:
            needed.setdefault(name, set()).add(target.key.filter)
    matched, notes = _comparable(baseline, candidate, needed, settings)
    compared: list[Compared] = []
    for target in targets:
        demands = demands_on(target, settings)
        one = compare_target(baseline, candidate, target, matched, demands, settings)
        if one is not None:
            compared.append(one)
    decided = [one for one in compared if one.target in gated]
    _check_paired(decided, candidate)
    shares = tuple(share_rows(baseline, candidate, needed, settings))
    return _Figures(
        run=candidate,
        compared=tuple(compared),
        decided=tuple(decided),
        shares=shares,
        notes=tuple(notes),
        changes=changes_between(baseline, candidate),
    )


def _check_paired(decided: Sequence[Compared], candidate: Run) -> None:
    """Raise if a gated figure could not be paired: that is no answer, and no regression."""
    for one in decided:
        if one.pairs is None and not one.absent:
            name = f"{one.target.name}/{one.target.key}"
            why = (
                "the group's figure is not the mean over all its documents (weight_by_size), or "
                "a task's is no mean"
                if one.target.is_group
                else f"it is no mean of one number per document in {candidate.label}"
            )
            raise ComparabilityError(f"{name} cannot be gated: {why}; gate other metrics (gated)")


def _gated(one: Compared) -> Gated:
    assert one.demands.tolerance is not None
    ends = one.gain_ends
    return Gated(
        name=f"{one.target.name}/{one.target.key.metric}",
        gain=one.gain,
        documents=one.documents,
        tolerance=one.demands.tolerance,
        accept_inconclusive=bool(one.demands.accept_inconclusive),
        absent=one.absent,
        least=ends and ends[0],
        most=ends and ends[1],
        unknown=one.extremes.bounds.unknown if ends and one.extremes else 0,
    )


def _comparable(
    baseline: Run, candidate: Run, needed: Mapping[str, set[str]], settings: GateSettings
) -> tuple[dict[str, dict[str, Matched]], list[str]]:
    """Return what the runs share, by task and filter, of all that may be compared.

    Args:
        baseline: The accepted run.
        candidate: The run under test.
        needed: Filters of gated metrics, by task.
        settings: Whether prompts may differ.

    Raises:
        ComparabilityError: A task with a gated metric, or its filter, may not.
    """
    concerned = {*needed, *(() if settings.gated else _lost(baseline))}
    against = [
        f"{run.label}: {problem.text}"
        for run in (baseline, candidate)
        for problem in run.problems
        if problem.severity == "error" and (problem.task is None or problem.task in concerned)
    ]
    notes = [
        f"{run.label}: {problem.text}"
        for run in (baseline, candidate)
        for problem in run.problems
        if problem.severity == "note" or problem.task not in needed
    ]
    matched: dict[str, dict[str, Matched]] = {}
    for name, task in baseline.tasks.items():
        other = candidate.tasks.get(name)
        if other is None:
            continue  # its metrics are missing, which the gate says
        shared = _matched(task, other)
        reasons = list(reasons_against(task, other, shared, settings.allow_prompt_change))
        if not other.bypassed and not (task.pipelines and other.pipelines):
            reasons.append(_no_samples(candidate if task.pipelines else baseline, name))
        for filter_name, changes in judge_changes(task, other, shared).items():
            if filter_name in needed.get(name, ()):
                reasons += changes
            else:  # the task's other filters are of the same judges all the same
                notes += [f"not compared: {change}" for change in changes]
                del shared[filter_name]
        if reasons and name in needed:
            against += reasons
        elif reasons:
            notes += [f"not compared: {reason}" for reason in reasons]
        else:
            matched[name] = shared
    if extra := _only_in_candidate(baseline, candidate):
        notes.append(f"only in the candidate, and not compared: {', '.join(extra)}")
    if not baseline.tasks.keys() & candidate.tasks.keys():
        against.append("they have no task in common")
    if against:
        listed = "; ".join(against[:_SHOWN_REASONS])
        rest = len(against) - _SHOWN_REASONS
        raise ComparabilityError(
            f"{baseline.label} and {candidate.label} cannot be compared: {listed}"
            + (f"; and {rest} more reason(s)" if rest > 0 else "")
        )
    return matched, list(dict.fromkeys(notes))


def _no_samples(run: Run, task: str) -> str:
    """Return what is missing: samples, or just the unpacking of them."""
    said = (one.text for one in run.problems if one.task == task and "compressed" in one.text)
    if packed := next(said, ""):
        return f"{run.label}: {packed}: unpack it"
    return f"task {task!r} has no samples in {run.label} (--log_samples)"


def _lost(baseline: Run) -> set[str]:
    """Return the tasks whose samples file holds nothing, and which would else be gated."""
    return {
        name
        for name, task in baseline.tasks.items()
        if task.samples_file is not None and not task.pipelines
    }


def _only_in_candidate(baseline: Run, candidate: Run) -> list[str]:
    """Return tasks, and metrics of shared tasks, that the baseline does not have."""
    found = [name for name in candidate.tasks if name not in baseline.tasks]
    for name, task in candidate.tasks.items():
        known = baseline.tasks[name].columns if name in baseline.tasks else task.columns
        found += [f"{name}/{key}" for key in task.columns if key not in known]
    return found


def _matched(task: TaskRun, other: TaskRun) -> dict[str, Matched]:
    return {
        name: match_items(pipeline, other.pipelines[name])
        for name, pipeline in task.pipelines.items()
        if name in other.pipelines
    }


def _sentence(outcome: Outcome, rows: Sequence[Row]) -> str:
    decisions = [row.decision for row in rows if row.decision is not None]
    scores = sum(row.decision is not None and not is_share(row.metric) for row in rows)
    metrics = f"{scores} gated metric" + ("s" if scores != 1 else "")
    if outcome == "pass":
        accepted = sum(one.accepted for one in decisions)
        policy = f" ({accepted} undecided, accepted by policy)" if accepted else ""
        return f"Pass: no regression in {metrics}{policy}."
    hit = [row for row in rows if row.decision and row.decision.outcome == outcome]
    of_scores = sum(not is_share(row.metric) for row in hit)
    parts = [f"{of_scores} of {metrics}"] if of_scores else []
    if len(hit) > of_scores:
        parts.append(f"{len(hit) - of_scores} share(s) without a score")
    reasons = "; ".join(row.decision.reason for row in hit if row.decision)
    word = "Regression" if outcome == "regression" else "Inconclusive"
    return f"{word} in {' and '.join(parts)}: {reasons}."
