"""Judging a saved run: responses from its samples files, new files beside the old.

Reads and writes lm-eval's files, yet imports neither lm_eval nor torch.
"""

from __future__ import annotations

import functools
import json
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from eft_eval.errors import EftEvalError
from eft_eval.files import write_lines, write_whole
from eft_eval.judging import metrics
from eft_eval.judging.asking import judging_progress
from eft_eval.judging.availability import preflight
from eft_eval.judging.comparison import compare
from eft_eval.judging.cost.budget import Budget
from eft_eval.judging.describe import describe_judge
from eft_eval.judging.judge import JudgeItem, judge_responses, plan
from eft_eval.judging.responses import (
    Pipeline,
    SavedRun,
    Selection,
    read_run,
    verdicts_of_another_judge,
)
from eft_eval.judging.self_consistency import Aids, ask_drift, ask_repeats
from eft_eval.judging.settings import JudgeSettings
from eft_eval.runs import merging
from eft_eval.runs.lineage import Lines, read_lines
from eft_eval.runs.newest import date_after, samples_path
from eft_eval.verdicts.store import VerdictStore, default_store_path
from eft_eval.verdicts.text import write_verdicts
from eft_eval.verdicts.verdict import Status, Verdict

__all__ = ["JudgedRun", "judge_run"]

_Record = dict[str, Any]
_log = logging.getLogger("eft_eval.judging")


class JudgedRun(NamedTuple):
    """What judging a saved run gave.

    Attributes:
        file: The new results file.
        results: Per task the metrics of the judges asked now: ``metric,filter`` and
            ``metric_stderr,filter``.
        judges: Per task what that file says of the judge: verdicts, bounds, usage, and what was
            asked for of ``self_agreement``, ``drift`` and ``bridge``, each by filter.
        missing: Responses that got no verdict.
    """

    file: Path
    results: dict[str, _Record]
    judges: dict[str, _Record]
    missing: int


class _Judged(NamedTuple):
    pipeline: Pipeline
    groups: list[list[Verdict]]  # per sample, one per repeat
    further: list[Verdict]  # of repeated asking
    notes: _Record  # of the judge's quality


def judge_run(
    run_dir: Path,
    selection: Selection | None = None,
    *,
    settings: JudgeSettings | None = None,
    budget: Budget | None = None,
    aids: Aids | None = None,
) -> JudgedRun:
    """Judge the saved responses of the newest run in an lm-eval output folder.

    The new files are written once all responses were asked about, and no existing file is
    changed. A response that got no verdict counts as missing; calling again asks for those only.
    Where all verdicts are stored, the judge need not be there any more. Metrics, sample lines and
    filters of pipelines that are not judged now stay as they were; means over groups of tasks
    that hold a judged one are left out.

    Args:
        run_dir: The folder with results_*.json, or its parent if that has one such folder.
        selection: What to judge, with which prompts; by default the run's own tasks with theirs.
        settings: The judge; by default that of the environment.
        budget: What may be spent; None is any sum.
        aids: Repeated asking, drift check and bridge; by default none of them.

    Raises:
        ConfigError: The folder has no such run, or the judge or a prompt cannot be used.
        EftEvalError: A stored verdict cannot be read, or there is not a single verdict; then
            nothing is written.
    """
    run = read_run(run_dir, selection)
    aids = (aids or Aids()).check()
    settings = settings or JudgeSettings.from_environment()
    old: list[list[list[Verdict]] | None] = [None] * len(run.pipelines)
    if aids.bridge:  # before anybody is asked
        old = [verdicts_of_another_judge(run, one, settings.model) for one in run.pipelines]
    judge = _Judge(settings, budget)
    judged = [
        judge.judge(pipeline, aids, before)
        for pipeline, before in zip(run.pipelines, old, strict=True)
    ]
    verdicts = [verdict for one in judged for group in one.groups for verdict in group]
    if missing := [v.error for v in verdicts if v.status is Status.api_error]:
        counts = f"{len(missing)} of {len(verdicts)} responses have no verdict ({missing[0]})"
        if len(missing) == len(verdicts):
            raise EftEvalError(f"{counts}; nothing is written, the same command asks again")
        _log.warning("%s; counted as missing, the same command asks for them again", counts)
    return _write(run, judged, judge.settings, len(missing))


class _Judge:
    """A judge and its store, ready to be asked."""

    def __init__(self, settings: JudgeSettings, budget: Budget | None) -> None:
        self.settings = settings
        self._budget = budget
        self._store = VerdictStore(default_store_path())
        self._looked_up = False

    def judge(self, pipeline: Pipeline, aids: Aids, before: list[list[Verdict]] | None) -> _Judged:
        groups = self.ask(pipeline, 0)
        notes: _Record = {}
        further: list[Verdict] = []

        def again(part: Pipeline, repeat: int) -> list[list[Verdict]]:
            asked = self.ask(part, repeat)
            further.extend(verdict for group in asked for verdict in group)
            return asked

        if aids.repeats > 1:
            found = ask_repeats(pipeline, groups, aids.repeats, again)
            notes["self_agreement"] = found.as_dict()
        if aids.drift:
            drift = ask_drift(pipeline, groups, aids.drift, again)
            notes["drift"] = None if drift is None else drift.as_dict()
        if before is not None:
            bridge = compare(before, groups, pipeline.measure, pipeline.prompt_ids)
            notes["bridge"] = bridge.as_dict()
        return _Judged(pipeline, groups, further, notes)

    def ask(self, pipeline: Pipeline, repeat: int) -> list[list[Verdict]]:
        items = [item for group in pipeline.items for item in group]
        self._look_up(pipeline, items, repeat)
        label = f"Judging {pipeline.task} ({pipeline.name}) with {self.settings.model}"
        with judging_progress(label, len(items)) as progress:
            verdicts = judge_responses(
                items,
                pipeline.prompt,
                self.settings,
                self._store,
                progress,
                budget=self._budget,
                repeat=repeat,
            )
        rest = iter(verdicts)
        return [[next(rest) for _ in group] for group in pipeline.items]

    def _look_up(self, pipeline: Pipeline, items: list[JudgeItem], repeat: int) -> None:
        """See whether the judge is there, once, and only if it must be asked something."""
        if self._looked_up:
            return
        if plan(items, pipeline.prompt, self.settings, self._store, repeat=repeat).missing:
            self._looked_up = True
            if warning := preflight(self.settings):
                _log.warning("%s", warning)


def _write(
    run: SavedRun, judged: list[_Judged], settings: JudgeSettings, missing: int
) -> JudgedRun:
    """Write the new files, the results last; a task not judged keeps its samples."""
    results, date = run.results, date_after(run.file)
    tasks = [*dict.fromkeys(one.pipeline.task for one in judged)]
    for task in results["configs"]:
        of_task = [one for one in judged if one.pipeline.task == task]
        old, new = samples_path(run.file, task), samples_path(run.file, task, date)
        if of_task:
            _update(run, task, of_task, settings)
            samples = _sample_lines(read_lines(old) if old.exists() else {}, of_task)
            lines = (json.dumps(line, ensure_ascii=False) + "\n" for line in samples)
            write_lines(new, lines)
        elif old.exists():
            write_whole(new, functools.partial(shutil.copyfile, old))
    pipelines = {
        task: {o.pipeline.name for o in judged if o.pipeline.task == task} for task in tasks
    }
    merging.drop_group_means(results, pipelines)
    results["eft_judged_from"] = run.file.name
    file = run.file.with_name(f"results_{date}.json")
    write_lines(file, [json.dumps(results, indent=2, ensure_ascii=False)])
    return JudgedRun(
        file,
        {task: merging.only(results["results"][task], pipelines[task]) for task in tasks},
        {task: results["configs"][task]["metadata"]["eft_judge"] for task in tasks},
        missing,
    )


def _sample_lines(old: Lines, judged: Iterable[_Judged]) -> Iterable[_Record]:
    """Yield a task's sample lines in lm-eval's layout: one per pipeline and document.

    Lines of pipelines that were not judged now come first, as they were.
    """
    judged = [*judged]
    names = {one.pipeline.name for one in judged}
    for name, by_doc in old.items():
        if name not in names:
            yield from (line for line in by_doc.values() if not merging.is_bypassed(line))
    for pipeline, groups, *_ in judged:
        for index, sample in enumerate(pipeline.samples):
            values = pipeline.measure.values(groups[index])
            responses = [item.response for item in pipeline.items[index]]
            raw = (sample.get("resps") or [[]])[0][: len(responses)]
            old_names = {*sample.get("metrics", ()), "judged_responses"}
            kept = {name: value for name, value in sample.items() if name not in old_names}
            yield {
                **kept,
                **({} if raw == responses else {"judged_responses": responses}),
                "filtered_resps": [_as_text(pipeline, groups[index], index)],
                "filter": pipeline.name,
                "metrics": list(values),
                **values,
            }


def _as_text(pipeline: Pipeline, group: list[Verdict], index: int) -> str:
    prompt_id = pipeline.prompt_ids[index]
    return write_verdicts(group, pipeline.measure.name, prompt_id)


def _update(run: SavedRun, task: str, judged: list[_Judged], settings: JudgeSettings) -> None:
    """Put a task's metrics into the results, and its judge into the task's configuration."""
    results = run.results
    entry = merging.without(results, task, {one.pipeline.name for one in judged})
    better: dict[str, bool] = {}
    for pipeline, groups, *_ in judged:
        values = [
            metrics.judged_values(pipeline.measure, group, name)
            for group, name in zip(groups, pipeline.prompt_ids, strict=True)
        ]
        for name in pipeline.measure.metrics:
            column = [value[name] for value in values]
            error = metrics.scored_standard_error(column) if len(column) > 1 else "N/A"
            entry[f"{name},{pipeline.name}"] = metrics.scored_mean(column)
            entry[f"{name}_stderr,{pipeline.name}"] = error
        better.update(pipeline.measure.metrics)
    merging.list_metrics(results, task, entry, better)
    metadata = results["configs"][task].get("metadata") or {}
    described = _described(judged, settings)
    names = {one.pipeline.name for one in judged}
    if kept := merging.kept_judges(metadata.get("eft_judge"), names, run.file.name):
        described["kept"] = kept
    results["configs"][task]["metadata"] = {**metadata, "eft_judge": described}


def _described(judged: list[_Judged], settings: JudgeSettings) -> _Record:
    """Return what the results file says of a task's judge."""
    described = describe_judge(
        settings,
        {one.pipeline.name: one.pipeline.prompt for one in judged},
        {one.pipeline.name: one.pipeline.measure for one in judged},
        {one.pipeline.name: one.groups for one in judged},
        [item.response for group in judged[0].pipeline.items for item in group],
        [verdict for one in judged for verdict in one.further],
    )
    for kind in ("self_agreement", "drift", "bridge"):
        notes = {one.pipeline.name: one.notes[kind] for one in judged if kind in one.notes}
        if notes:
            described[kind] = notes
    return described
