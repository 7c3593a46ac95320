"""Judging a saved run: responses from its samples files, new files beside the old.

Reads and writes lm-eval's files, yet imports neither lm_eval nor torch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from eft_eval.errors import EftEvalError
from eft_eval.judging import metrics
from eft_eval.judging.asking import judging_progress
from eft_eval.judging.availability import preflight
from eft_eval.judging.comparison import compare
from eft_eval.judging.cost.budget import Budget
from eft_eval.judging.describe import describe_judge
from eft_eval.judging.judge import JudgeItem, judge_responses, plan
from eft_eval.judging.responses import (
    Assignment,
    Selection,
    assign,
    merged_filters,
    verdicts_of_another_judge,
)
from eft_eval.judging.self_consistency import Aids, ask_drift, ask_repeats
from eft_eval.judging.settings import JudgeSettings
from eft_eval.runs.metadata import Judging, judging_in
from eft_eval.runs.records import MetricKey, Sample
from eft_eval.runs.saved import SavedRun, open_run
from eft_eval.runs.writing import NewMetric, Revision, check_writable
from eft_eval.streams import logger
from eft_eval.verdicts.store import VerdictStore, default_store_path
from eft_eval.verdicts.text import write_verdicts
from eft_eval.verdicts.verdict import Status, Verdict

__all__ = ["JudgedRun", "judge_run"]

_Record = dict[str, Any]
_log = logger("eft_eval.judging")
_BYPASS = "bypass"  # lm-eval's metric of --predict_only


class JudgedRun(NamedTuple):
    """What judging a saved run gave.

    Attributes:
        files: The new results files, newest first: one per file that judged tasks are from.
        results: Per task the metrics of the judges asked now: ``metric,filter`` and
            ``metric_stderr,filter``.
        judges: Per task what its file says of the judge: verdicts, bounds, usage, and what was
            asked for of ``self_agreement``, ``drift`` and ``bridge``, each by filter.
        missing: Responses that got no verdict.
        unstored: Verdicts that are in the file, but not in the store, which failed.
    """

    files: tuple[Path, ...]
    results: dict[str, _Record]
    judges: dict[str, Judging]
    missing: int
    unstored: int = 0


class _Judged(NamedTuple):
    given: Assignment
    groups: list[list[Verdict]]  # per sample, one per repeat
    further: list[Verdict]  # of repeated asking
    notes: _Record  # of the judge's quality


def judge_run(
    run: SavedRun | Path | str,
    selection: Selection | None = None,
    *,
    settings: JudgeSettings | None = None,
    budget: Budget | None = None,
    aids: Aids | None = None,
) -> JudgedRun:
    """Judge the saved responses of a run.

    The new files are written once all responses were asked about, and no existing file is
    changed: for each results file that judged tasks are from, one of its own, which stands in its
    place. A response that got no verdict counts as missing; calling again asks for those only.
    Where all verdicts are stored, the judge need not be there any more. Metrics, sample lines and
    filters of pipelines that are not judged now stay as they were; means over groups of tasks
    that hold a judged one are left out.

    Args:
        run: An opened run, or what `eft_eval.runs.saved.open_run` takes.
        selection: What to judge, with which prompts; by default the run's own tasks with theirs.
        settings: The judge; by default that of the environment.
        budget: What may be spent; None is any sum.
        aids: Repeated asking, drift check and bridge; by default none of them.

    Raises:
        ConfigError: There is no such run, its folder cannot be written, or the judge or a prompt
            cannot be used.
        EftEvalError: A stored verdict cannot be read, or there is not a single verdict; then
            nothing is written.
    """
    run = run if isinstance(run, SavedRun) else open_run(run)
    assignments = assign(run, selection)
    check_writable(run.tasks[one.task].file for one in assignments)
    aids = (aids or Aids()).check()
    settings = settings or JudgeSettings.from_environment()
    old: list[list[list[Verdict]] | None] = [None] * len(assignments)
    if aids.bridge:  # before anybody is asked
        old = [verdicts_of_another_judge(run, one, settings.model) for one in assignments]
    judge = _Judge(settings, budget)
    judged = [
        judge.judge(assignment, aids, before)
        for assignment, before in zip(assignments, old, strict=True)
    ]
    verdicts = [verdict for one in judged for group in one.groups for verdict in group]
    if missing := [v.error for v in verdicts if v.status is Status.api_error]:
        counts = f"{len(missing)} of {len(verdicts)} responses have no verdict ({missing[0]})"
        if all(v.status in (Status.api_error, Status.unfinished) for v in verdicts):
            raise EftEvalError(f"{counts}; nothing is written, the same command asks again")
        _log.warning("%s; counted as missing, the same command asks for them again", counts)
    return _write(run, judged, judge.settings, len(missing))._replace(unstored=judge.unstored)


class _Judge:
    """A judge and its store, ready to be asked."""

    def __init__(self, settings: JudgeSettings, budget: Budget | None) -> None:
        self.settings = settings
        self._budget = budget
        self._store = VerdictStore(default_store_path())
        self._looked_up = False

    @property
    def unstored(self) -> int:
        return self._store.unstored

    def judge(self, given: Assignment, aids: Aids, before: list[list[Verdict]] | None) -> _Judged:
        groups = self.ask(given, 0)
        notes: _Record = {}
        further: list[Verdict] = []

        def again(part: Assignment, repeat: int) -> list[list[Verdict]]:
            asked = self.ask(part, repeat)
            further.extend(verdict for group in asked for verdict in group)
            return asked

        if aids.repeats > 1:
            found = ask_repeats(given, groups, aids.repeats, again)
            notes["self_agreement"] = found.as_dict()
        if aids.drift:
            drift = ask_drift(given, groups, aids.drift, again)
            notes["drift"] = None if drift is None else drift.as_dict()
        if before is not None:
            bridge = compare(before, groups, given.measure, given.prompt_ids)
            notes["bridge"] = bridge.as_dict()
        return _Judged(given, groups, further, notes)

    def ask(self, given: Assignment, repeat: int) -> list[list[Verdict]]:
        items = [item for group in given.items for item in group]
        self._look_up(given, items, repeat)
        label = f"Judging {given.task} ({given.name}) with {self.settings.model}"
        with judging_progress(label, len(items)) as progress:
            verdicts = judge_responses(
                items,
                given.prompt,
                self.settings,
                self._store,
                progress,
                budget=self._budget,
                repeat=repeat,
            )
        rest = iter(verdicts)
        return [[next(rest) for _ in group] for group in given.items]

    def _look_up(self, given: Assignment, items: list[JudgeItem], repeat: int) -> None:
        """See whether the judge is there, once, and only if it must be asked something."""
        if self._looked_up:
            return
        if plan(items, given.prompt, self.settings, self._store, repeat=repeat).missing:
            self._looked_up = True
            if warning := preflight(self.settings):
                _log.warning("%s", warning)


def _write(
    run: SavedRun, judged: list[_Judged], settings: JudgeSettings, missing: int
) -> JudgedRun:
    """Write new files, those of the oldest results file first."""
    files: list[Path] = []
    results: dict[str, _Record] = {}
    judges: dict[str, Judging] = {}
    for old in reversed(run.files):
        by_task: dict[str, list[_Judged]] = {}
        for one in judged:
            if run.tasks[one.given.task].file is old:
                by_task.setdefault(one.given.task, []).append(one)
        if not by_task:
            continue
        revision = Revision(old, run.files)
        for name, of_task in by_task.items():
            judges[name] = _update(revision, name, of_task, settings)
            results[name] = _only(revision.entry(name), {one.given.name for one in of_task})
        revision.content["eft_judged_from"] = old.path.name
        samples = {name: _lines(run, name, of_task) for name, of_task in by_task.items()}
        revision.write(samples)
        files.append(revision.file)
    order = list(dict.fromkeys(one.given.task for one in judged))
    return JudgedRun(
        tuple(reversed(files)),
        {name: results[name] for name in order},
        {name: judges[name] for name in order},
        missing,
    )


def _update(
    revision: Revision, task: str, judged: list[_Judged], settings: JudgeSettings
) -> Judging:
    """Put a task's metrics into the results, and its judge into the task's configuration."""
    names = {one.given.name for one in judged}

    def replaced(key: MetricKey) -> bool:
        return key.filter in names or key.metric == _BYPASS

    revision.replace(task, replaced, [metric for one in judged for metric in _metrics(one)])
    config = revision.config(task)
    config["filter_list"] = merged_filters(config.get("filter_list"), [one.given for one in judged])
    before = judging_in(config, str(revision.old.path))
    kept = before.kept_for(names, revision.old.path.name) if before else None
    described = replace(_described(judged, settings), kept=kept)
    config["metadata"] = {**(config.get("metadata") or {}), "eft_judge": described.as_dict()}
    return described


def _metrics(judged: _Judged) -> Iterator[NewMetric]:
    measure = judged.given.measure
    values = [
        metrics.judged_values(measure, group, name)
        for group, name in zip(judged.groups, judged.given.prompt_ids, strict=True)
    ]
    for name, higher in measure.metrics.items():
        column = [value[name] for value in values]
        yield NewMetric(
            MetricKey(name, judged.given.name),
            metrics.scored_mean(column),
            metrics.scored_standard_error(column) if len(column) > 1 else None,
            higher,
            "scored_mean",
        )


def _lines(run: SavedRun, task: str, judged: Iterable[_Judged]) -> Iterator[_Record]:
    """Yield a task's sample lines in lm-eval's layout: one per pipeline and document.

    Lines of pipelines that were not judged now come first, as they were.
    """
    judged = [*judged]
    names = {one.given.name for one in judged}
    saved = run.tasks[task]
    old = run.lines(saved) if run.samples_file(saved) else {}
    for name, by_doc in old.items():
        if name not in names:
            yield from (dict(line.record) for line in by_doc.values() if not line.bypassed)
    for one in judged:
        for index, sample in enumerate(one.given.samples):
            yield _line(one, index, sample)


def _line(judged: _Judged, index: int, sample: Sample) -> _Record:
    given, group = judged.given, judged.groups[index]
    values = given.measure.values(group)
    responses = [item.response for item in given.items[index]]
    raw = sample.responses[0][: len(responses)] if sample.responses else []
    old_names = {*sample.record.get("metrics", ()), "judged_responses"}
    kept = {name: value for name, value in sample.record.items() if name not in old_names}
    return {
        **kept,
        **({} if raw == responses else {"judged_responses": responses}),
        "filtered_resps": [write_verdicts(group, given.measure.name, given.prompt_ids[index])],
        "filter": given.name,
        "metrics": list(values),
        **values,
    }


def _only(entry: Mapping[str, Any], pipelines: Collection[str]) -> _Record:
    """Return a task's entry with the metrics of these pipelines only, and all that is no metric."""
    return {
        key: value
        for key, value in entry.items()
        if "," not in key or key.partition(",")[2] in pipelines
    }


def _described(judged: list[_Judged], settings: JudgeSettings) -> Judging:
    """Return what the results file says of a task's judge."""
    described = describe_judge(
        settings,
        {one.given.name: one.given.prompt for one in judged},
        {one.given.name: one.given.measure for one in judged},
        {one.given.name: one.groups for one in judged},
        [item.response or "" for group in judged[0].given.items for item in group],
        [verdict for one in judged for verdict in one.further],
    )

    def noted(kind: str) -> _Record | None:
        return {one.given.name: one.notes[kind] for one in judged if kind in one.notes} or None

    return replace(
        described,
        self_agreement=noted("self_agreement"),
        drift=noted("drift"),
        bridge=noted("bridge"),
    )
