"""Judging two saved runs against each other, each pair in both orders; the figures are a new run.

Reads and writes lm-eval's files, yet imports neither lm_eval nor torch.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from eft_eval.judging.cost.budget import Budget
from eft_eval.judging.cost.estimate import Planned
from eft_eval.judging.describe import describe_judge
from eft_eval.judging.judge import plan
from eft_eval.judging.pairs import PairedTask, pair_runs
from eft_eval.judging.preferences import Figures, Orders, figures_of, values_of
from eft_eval.judging.prompts.measures import LENGTH_CONTROLLED_RATE
from eft_eval.judging.rejudge import AskedJudge, say_missing
from eft_eval.judging.responses import Selection
from eft_eval.judging.settings import JudgeSettings
from eft_eval.records import plain
from eft_eval.runs.derived import NewTask, check_run_folder, write_derived
from eft_eval.runs.judged import Judging
from eft_eval.runs.lines import text_hash
from eft_eval.runs.records import LENGTH_CONTROLLED, MetricKey, Sample
from eft_eval.runs.saved import SavedRun
from eft_eval.runs.writing import NewMetric
from eft_eval.statistics.length_control import LENGTH_MODEL
from eft_eval.verdicts.store import VerdictStore
from eft_eval.verdicts.text import write_verdicts
from eft_eval.verdicts.verdict import Status

__all__ = ["JudgedPairs", "TwoRuns", "judge_pairs", "plan_pairs"]

Record = dict[str, Any]


@dataclass(frozen=True)
class TwoRuns:
    """What is compared, and where the figures go.

    Attributes:
        a: Run A, whose win rate is asked for.
        b: Run B.
        selection: Tasks, judge prompts and texts.
        out: Folder of the new run; None is one beside run A's, named after both.
        length_control: Whether the length-controlled win rate is asked for.
    """

    a: SavedRun
    b: SavedRun
    selection: Selection
    out: Path | None = None
    length_control: bool = False

    @property
    def folder(self) -> Path:
        """The new run's folder."""
        if self.out is not None:
            return self.out
        first, second = (_folder(run) for run in (self.a, self.b))
        return first.parent / f"{first.name}_against_{second.name}"

    @property
    def model(self) -> str:
        """What the new run is of."""
        return " against ".join(_public(run.files[0].model) for run in (self.a, self.b))


class JudgedPairs(NamedTuple):
    """What judging two runs gave.

    Attributes:
        files: The new results files, newest first.
        tasks: The pairs.
        figures: Per task of pairs, its figures.
        judges: Per task of pairs, what its file says of the judge.
        missing: Pairs that lack a verdict.
        unstored: Verdicts that are in the file, but not in the store, which failed.
    """

    files: tuple[Path, ...]
    tasks: tuple[PairedTask, ...]
    figures: dict[str, Figures]
    judges: dict[str, Judging]
    missing: int
    unstored: int


class _Judged(NamedTuple):
    task: PairedTask
    groups: list[list[Orders]]  # per document, one per pair
    figures: Figures
    judging: Judging


def plan_pairs(runs: TwoRuns, settings: JudgeSettings, store: VerdictStore) -> list[Planned]:
    """Return what judging would ask, per task; asks nobody.

    Raises:
        ConfigError: The runs, the judge or a prompt cannot be used.
    """
    return [
        Planned(
            task.first._replace(task=task.name),
            0,
            plan(task.items, task.first.prompt, settings, store),
        )
        for task in pair_runs(runs.a, runs.b, runs.selection)
    ]


def judge_pairs(
    runs: TwoRuns, settings: JudgeSettings | None = None, *, budget: Budget | None = None
) -> JudgedPairs:
    """Judge the responses of two runs to the same documents against each other.

    Each pair is shown in both orders, and only a pair that has a score in both counts. The new run
    is written once all were asked about; both runs' files stay as they are. What got no verdict
    counts as missing; calling again asks for that only.

    Args:
        runs: The two runs.
        settings: The judge; by default that of the environment.
        budget: What may be spent; None is any sum.

    Raises:
        ConfigError: The runs share no document, or the judge, a prompt or the folder cannot be
            used.
        EftEvalError: There is not a single verdict; then nothing is written.
    """
    settings = settings or JudgeSettings.from_environment()
    tasks = pair_runs(runs.a, runs.b, runs.selection)
    check_run_folder(runs.folder, runs.model)
    judge = AskedJudge(settings, budget)
    judged = [_described(task, _ask(task, judge), settings, runs) for task in tasks]
    verdicts = [one.verdict for part in judged for group in part.groups for one in group]
    missing = [one.error for one in verdicts if one.status is Status.api_error]
    if missing:
        counts = f"{len(missing)} of {len(verdicts)} pairs lack a verdict ({missing[0]})"
        orders = (v for part in judged for group in part.groups for one in group for v in one)
        say_missing([counts], orders)
    return JudgedPairs(
        files=_write(runs, judged),
        tasks=tuple(tasks),
        figures={one.task.name: one.figures for one in judged},
        judges={one.task.name: one.judging for one in judged},
        missing=len(missing),
        unstored=judge.unstored,
    )


def _public(model: str) -> str:
    """Return a model's name as a part of another: no path of this machine, and no slash."""
    path = PurePath(model)
    local = path.is_absolute() or model.startswith((".", "~")) or len(path.parts) > 2
    return path.name if local else model.replace("/", "__")


def _folder(run: SavedRun) -> Path:
    given = Path(run.label)
    return (given if given.is_dir() else run.files[0].path.parent).resolve()


def _ask(task: PairedTask, judge: AskedJudge) -> list[list[Orders]]:
    """Return per document the verdicts on its pairs."""
    found = judge.ask_about(task.items, task.first.prompt, task.name)
    rest = map(Orders, found[::2], found[1::2])
    return [[next(rest) for _ in group] for group in task.pairs]


def _described(
    task: PairedTask, groups: list[list[Orders]], settings: JudgeSettings, runs: TwoRuns
) -> _Judged:
    figures = figures_of(task, groups, length_control=runs.length_control)
    name, first = task.first.name, task.first
    texts = [
        text or "" for group in task.pairs for pair in group for text in (pair.first, pair.second)
    ]
    judging = describe_judge(
        settings,
        {name: first.prompt},
        {name: first.measure},
        {name: [[verdict for one in group for verdict in one] for group in groups]},
        texts,
    )
    of_metric = {"win_rate": figures.bounds, **figures.order_bounds}
    bounds = {f"{metric},{name}": found for metric, found in of_metric.items()}
    return _Judged(task, groups, figures, replace(judging, bounds=bounds))


def _write(runs: TwoRuns, judged: Sequence[_Judged]) -> tuple[Path, ...]:
    """Write a results file for each of run A's that tasks are from, the oldest first."""
    files = []
    for old in reversed(runs.a.files):
        of_file = [one for one in judged if runs.a.task(one.task.task).file is old]
        if of_file:
            tasks = [_new_task(runs, one) for one in of_file]
            files.append(write_derived(runs.folder, runs.model, old, tasks))
    return tuple(reversed(files))


def _new_task(runs: TwoRuns, judged: _Judged) -> NewTask:
    task, first = judged.task, judged.task.first
    metrics = [*_metrics(judged)]
    config = copy.deepcopy(dict(runs.a.task(task.task).config))
    metadata = {k: v for k, v in (config.get("metadata") or {}).items() if k != "eft_scale"}
    config |= {
        "task": task.name,
        "repeats": max(map(len, task.pairs)),
        "filter_list": [{"name": first.name, "filter": [dict(first.step)]}],
        "metric_list": [
            {
                "metric": one.key.metric,
                "aggregation": one.aggregation,
                "higher_is_better": one.higher_is_better,
            }
            for one in metrics
        ],
        "metadata": {
            **metadata,
            "eft_judge": judged.judging.as_dict(),
            "eft_pairwise": {
                **_sides(runs, task),
                "counts": plain(task.counts),
                "length_model": LENGTH_MODEL if runs.length_control else None,
                "figures": plain(judged.figures),
            },
        },
    }
    return NewTask(
        task.name, task.task, config, metrics, len(task.pairs), _lines(task, judged.groups)
    )


def _sides(runs: TwoRuns, task: PairedTask) -> Record:
    return {
        side: {"model": file.model, "results": file.path.name, "task": task.task}
        for side, file in (("a", runs.a.task(task.task).file), ("b", task.second.file))
    }


def _metrics(judged: _Judged) -> Iterator[NewMetric]:
    name, figures = judged.task.first.name, judged.figures
    directions = judged.task.first.measure.metrics
    for metric, mean in figures.metrics.items():
        error = None if math.isnan(mean.standard_error) else mean.standard_error
        key, better = MetricKey(metric, name), directions.get(metric)
        yield NewMetric(key, mean.interval.estimate, error, better, "scored_mean")
    length = figures.length_controlled
    if length is not None and not length.reason:
        error = length.standard_error if length.standard_error > 0 else None
        key = MetricKey(LENGTH_CONTROLLED_RATE, name)
        yield NewMetric(key, length.interval.estimate, error, True, LENGTH_CONTROLLED)


def _lines(task: PairedTask, groups: Sequence[Sequence[Orders]]) -> Iterator[Record]:
    for number, (first, second) in enumerate(task.samples):
        yield _line(task, number, (first, second), groups[number])


def _line(
    task: PairedTask, number: int, samples: tuple[Sample, Sample], group: Sequence[Orders]
) -> Record:
    """Return a document's line: response B is a part of the document, as it is what A meets."""
    sample, pairs = samples[0], task.pairs[number]
    others = [pair.second for pair in pairs]
    content = sample.doc if isinstance(sample.doc, dict) else {"doc": sample.doc}
    doc = {**content, "responses_b": others}
    values = values_of(group)
    shown = [_as_text(pair.first, pair.second) for pair in pairs]
    return {
        "doc_id": sample.doc_id,
        "doc": doc,
        "target": sample.target,
        "arguments": sample.record.get("arguments"),
        "resps": [[pair.first for pair in pairs]],
        "judged_responses": shown,
        "filtered_resps": [
            write_verdicts(
                [one.verdict for one in group], task.first.measure.name, task.prompt_ids[number]
            )
        ],
        "filter": task.first.name,
        "metrics": list(values),
        "doc_hash": text_hash(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": sample.hashes[1],
        "target_hash": sample.hashes[2],
        **values,
        "orders": [
            {"a_first": one.a_first.to_dict(), "b_first": one.b_first.to_dict()} for one in group
        ],
    }


def _as_text(first: str | None, second: str | None) -> str | None:
    """Return a pair as people are shown it."""
    if first is None or second is None:
        return None
    return f"RESPONSE A:\n\n{first.strip()}\n\nRESPONSE B:\n\n{second.strip()}"
