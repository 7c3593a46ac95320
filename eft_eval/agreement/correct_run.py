"""A run's corrected metrics in new files beside the old, in the harness's layout."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eft_eval.agreement.correct import Correction, People, correct_metrics
from eft_eval.agreement.label_reading import LabelReading, read_label_table
from eft_eval.agreement.report import CorrectedMetric
from eft_eval.errors import ConfigError
from eft_eval.judging.prompts.measures import MEASURES
from eft_eval.labels.records import Item
from eft_eval.records import plain
from eft_eval.runs.records import CORRECTED, MetricKey
from eft_eval.runs.saved import SavedRun, open_run
from eft_eval.runs.writing import NewMetric, Revision
from eft_eval.version import __version__

__all__ = ["CorrectedRun", "correct_run"]

_CORRECTED = {f"{name}_ppi" for measure in MEASURES.values() for name in measure.scores}


@dataclass(frozen=True)
class CorrectedRun:
    """What was corrected and written.

    Attributes:
        metrics: The corrected metrics.
        annotators: Whose labels corrected them.
        people: How several people's labels of one response were taken together.
        dropped: Rows of the label files that gave no label, by reason.
        remarks: About whole files.
        corrected_from: The results file whose verdicts were corrected; of several the newest.
        results: The new results file; of several the newest.
        others: The other new results files.
        sources: The label files.
        measure: What the run was judged for.
        warnings: What keeps the figures from being read as they stand.
    """

    metrics: tuple[CorrectedMetric, ...]
    annotators: tuple[str, ...]
    people: People
    dropped: Mapping[str, int]
    remarks: tuple[str, ...]
    corrected_from: str
    results: Path
    others: tuple[Path, ...]
    sources: tuple[str, ...]
    measure: str
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON types; a number that does not exist is None."""
        content = {**vars(self), "results": self.results.name}
        del content["others"]
        return {"format": "eft-eval correction", "eft_eval": __version__, **plain(content)}


def correct_run(
    run: SavedRun | Path | str,
    files: Sequence[Path | str],
    reading: LabelReading = LabelReading(),
    correction: Correction = Correction(),
) -> CorrectedRun:
    """Correct the judged metrics of a run; write new files beside the old.

    For each results file that corrected tasks are from, there is a new one in its place. It has,
    for each metric, ``METRIC_ppi`` with its standard error, and the interval and all that belongs
    to it under ``eft_corrected``. The samples files are copied under the new date. No file is
    changed.

    Args:
        run: An opened run, or what `eft_eval.runs.saved.open_run` takes.
        files: Label files on a random sample of the run's responses.
        reading: How they are read; its judge is an annotator that is no person, and is left out.
        correction: How metrics are corrected.

    Raises:
        ConfigError: The run or the labels cannot be used, or no labelled response has a verdict.
    """
    run = run if isinstance(run, SavedRun) else open_run(run)
    table = read_label_table(files, run, reading).people()
    items, labels = table.items or (), table.labels
    if table.measure == "factuality":
        _check_counts(run, items)
    if not any(item.verdict_status for item in items):
        raise ConfigError(
            f"{run.label} has no verdicts; judge it first: eft-eval judge {run.label}"
        )
    metrics = correct_metrics(table, correction)
    for one in metrics:
        if math.isnan(one.corrected.prediction_powered.estimate):
            raise ConfigError(
                f"{one.task}: no labelled response has a score of the judge; nothing is corrected"
            )
    found = CorrectedRun(
        metrics=metrics,
        annotators=labels.annotators,
        people=correction.people,
        dropped=labels.drop_counts(),
        remarks=labels.remarks,
        corrected_from="",
        results=Path(),
        others=(),
        sources=labels.sources,
        measure=table.measure,
        warnings=_harder(metrics, labels.drop_counts()),
    )
    written: list[Path] = []
    for old in reversed(run.files):
        of_file = tuple(one for one in metrics if run.tasks[one.task].file is old)
        if of_file:
            revision = Revision(old, run.files)
            found = replace(found, corrected_from=old.path.name, results=revision.file)
            _update(revision, replace(found, metrics=of_file))
            revision.write()
            written.append(revision.file)
    return replace(found, others=tuple(written[:-1]))


def _harder(metrics: Sequence[CorrectedMetric], dropped: Mapping[str, int]) -> tuple[str, ...]:
    """Warn if labels are missing where they may be missing for a reason."""
    unused = [one.unused for one in metrics]
    counts = {
        "unsure": max((one.unsure for one in unused), default=0),
        "contradictory": max((one.contradictory for one in unused), default=0),
        "tied": max((one.tied for one in unused), default=0),
        "dropped rows": sum(dropped.values()),
    }
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    if not said:
        return ()
    return (
        f"not used: {said}; if these are the harder responses, the labels that are left are no "
        "random sample, and the corrected figures and their intervals do not hold",
    )


def _check_counts(run: SavedRun, items: Sequence[Item]) -> None:
    """Raise if a task was named whose judge does something else than count errors."""
    for task in dict.fromkeys(item.stratum for item in items):
        scale, measured = run.tasks[task].metadata.get("eft_scale"), run.tasks[task].entry
        counts = any(name.startswith("fact_") and not _is_corrected(name) for name in measured)
        if scale != "count" and not counts:
            raise ConfigError(
                f"{task}: its judge counts no factual errors, and its metrics are none of "
                f"{', '.join(name for name in MEASURES if name != 'factuality')}: nothing is "
                "corrected"
            )


def _update(revision: Revision, found: CorrectedRun) -> None:
    """Put the corrected metrics into the results, in place of those of an earlier correction."""
    revision.drop_corrections()
    for task in dict.fromkeys(one.task for one in found.metrics):
        of_task = [one for one in found.metrics if one.task == task]
        entry = revision.entry(task)
        new = [metric for one in of_task for metric in _new_metrics(one, entry)]
        revision.replace(task, lambda _: False, new)
    revision.content["eft_corrected"] = found.to_dict()


def _new_metrics(one: CorrectedMetric, entry: Mapping[str, Any]) -> Iterator[NewMetric]:
    error = one.corrected.standard_error
    for pipeline in _pipelines(entry, one.metric):
        yield NewMetric(
            MetricKey(f"{one.metric}_ppi", pipeline),
            one.corrected.prediction_powered.estimate,
            error if error > 0 else None,
            one.higher,
            CORRECTED,
        )


def _is_corrected(name: str) -> bool:
    return name.partition(",")[0].removesuffix("_stderr") in _CORRECTED


def _pipelines(entry: Mapping[str, Any], metric: str) -> list[str]:
    """Return the filters under which a task's results have a metric."""
    prefix = f"{metric},"
    return [key.removeprefix(prefix) for key in entry if key.startswith(prefix)] or ["none"]
