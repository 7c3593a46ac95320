"""The files of a judged run: new results and samples, with a line and metrics per pipeline.

Reads and writes lm-eval's files, yet imports neither lm_eval nor torch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from eft_eval.judging import metrics
from eft_eval.judging.describe import describe_judge, describe_panel
from eft_eval.judging.responses import Assignment, merged_filters, panel_members
from eft_eval.judging.settings import JudgeSettings
from eft_eval.runs.judged import Judging, judging_in
from eft_eval.runs.records import BYPASS, MetricKey, Sample
from eft_eval.runs.saved import SavedRun
from eft_eval.runs.writing import NewMetric, Revision
from eft_eval.verdicts.text import write_verdicts
from eft_eval.verdicts.verdict import Verdict

__all__ = ["Judged", "JudgedRun", "write_judged"]

_Record = dict[str, Any]


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


class Judged(NamedTuple):
    """The verdicts of a judge, or of a panel, on one pipeline's responses.

    Attributes:
        given: What was judged.
        groups: Per sample one verdict per response.
        further: Verdicts of repeated asking.
        notes: What was learnt of the judge's quality, by kind.
        judge: The judge; None for a panel.
    """

    given: Assignment
    groups: list[list[Verdict]]
    further: list[Verdict]
    notes: _Record
    judge: JudgeSettings | None


def write_judged(run: SavedRun, judged: list[Judged], missing: int) -> JudgedRun:
    """Write new files, those of the oldest results file first.

    Args:
        run: The run that was judged.
        judged: What is in the files: per task the pipelines in their order.
        missing: How many responses have no verdict.
    """
    files: list[Path] = []
    results: dict[str, _Record] = {}
    judges: dict[str, Judging] = {}
    for old in reversed(run.files):
        by_task: dict[str, list[Judged]] = {}
        for one in judged:
            if run.tasks[one.given.task].file is old:
                by_task.setdefault(one.given.task, []).append(one)
        if not by_task:
            continue
        revision = Revision(old, run.files)
        for name, of_task in by_task.items():
            judges[name] = _update(revision, name, of_task)
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


def _update(revision: Revision, task: str, judged: list[Judged]) -> Judging:
    """Put a task's metrics into the results, and its judge into the task's configuration."""
    config = revision.config(task)
    names = _replaced(config, judged)

    def replaced(key: MetricKey) -> bool:
        return key.filter in names or key.metric == BYPASS

    revision.replace(task, replaced, [metric for one in judged for metric in _metrics(one)])
    assignments = [one.given for one in judged]
    config["filter_list"] = merged_filters(config.get("filter_list"), assignments, names)
    before = judging_in(config, str(revision.old.path))
    kept = before.kept_for(names, revision.old.path.name) if before else None
    described = replace(_described(judged), kept=kept)
    config["metadata"] = {**(config.get("metadata") or {}), "eft_judge": described.as_dict()}
    return described


def _metrics(judged: Judged) -> Iterator[NewMetric]:
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


def _lines(run: SavedRun, task: str, judged: Iterable[Judged]) -> Iterator[_Record]:
    """Yield a task's sample lines in lm-eval's layout: one per pipeline and document.

    Lines of pipelines that were not judged now come first, as they were.
    """
    judged = [*judged]
    saved = run.tasks[task]
    names = _replaced(saved.config, judged)
    old = run.lines(saved) if run.samples_file(saved) else {}
    for name, by_doc in old.items():
        if name not in names:
            yield from (dict(line.record) for line in by_doc.values() if not line.bypassed)
    for one in judged:
        for index, sample in enumerate(one.given.samples):
            yield _line(one, index, sample)


def _line(judged: Judged, index: int, sample: Sample) -> _Record:
    given, group = judged.given, judged.groups[index]
    values = given.measure.values(group)
    responses = [item.response for item in given.items[index]]
    raw = sample.responses[0] if sample.responses else []
    as_judged = isinstance(raw, list) and raw[: len(responses)] == responses
    old_names = {*sample.record.get("metrics", ()), "judged_responses"}
    kept = {name: value for name, value in sample.record.items() if name not in old_names}
    return {
        **kept,
        **({} if as_judged else {"judged_responses": responses}),
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


def _replaced(config: Mapping[str, Any], judged: Iterable[Judged]) -> set[str]:
    """Return the pipelines that are judged now, and those of the judges of a panel that was."""
    names = {one.given.name for one in judged}
    return names | panel_members(config.get("filter_list"), names)


def _described(judged: list[Judged]) -> Judging:
    """Return what the results file says of a task's judge."""
    by_judge: dict[str, list[Judged]] = {}
    for one in judged:
        if one.judge is not None:
            by_judge.setdefault(one.judge.model, []).append(one)
    described = [_of_judge(of_judge) for of_judge in by_judge.values()]
    panels = [one for one in judged if one.judge is None]
    whole = described[0]
    if panels:
        whole = describe_panel(
            described,
            {one.given.name: one.given.prompt for one in panels},
            {one.given.name: one.given.measure for one in panels},
            {one.given.name: one.groups for one in panels},
        )

    def noted(kind: str) -> _Record | None:
        return {one.given.name: one.notes[kind] for one in judged if kind in one.notes} or None

    return replace(
        whole,
        self_agreement=noted("self_agreement"),
        drift=noted("drift"),
        bridge=noted("bridge"),
        panel=noted("panel"),
    )


def _of_judge(judged: list[Judged]) -> Judging:
    """Return what is said of one judge and the pipelines that have its verdicts."""
    settings = judged[0].judge
    assert settings is not None, "these are a judge's"
    return describe_judge(
        settings,
        {one.given.name: one.given.prompt for one in judged},
        {one.given.name: one.given.measure for one in judged},
        {one.given.name: one.groups for one in judged},
        [item.response or "" for group in judged[0].given.items for item in group],
        [verdict for one in judged for verdict in one.further],
    )
