"""A run's corrected metrics in new files beside the old, in the harness's layout."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eft_eval.agreement.correct import Correction, People, correct_metrics
from eft_eval.agreement.label_reading import LabelReading, read_label_table
from eft_eval.agreement.report import CorrectedMetric
from eft_eval.errors import ConfigError
from eft_eval.files import write_lines
from eft_eval.judging.prompts.measures import MEASURES
from eft_eval.labels.records import Item
from eft_eval.records import plain
from eft_eval.runs.newest import date_after, newest_results, read_results, samples_path
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
        corrected_from: The results file whose verdicts were corrected.
        results: The new results file.
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
    sources: tuple[str, ...]
    measure: str
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON types; a number that does not exist is None."""
        content = {**vars(self), "results": self.results.name}
        return {"format": "eft-eval correction", "eft_eval": __version__, **plain(content)}


def correct_run(
    run_dir: Path | str,
    files: Sequence[Path | str],
    reading: LabelReading = LabelReading(),
    correction: Correction = Correction(),
) -> CorrectedRun:
    """Correct the judged metrics of the newest run in a folder; write new files beside the old.

    The new results file has, for each metric, ``METRIC_ppi`` with its standard error, and the
    interval and all that belongs to it under ``eft_corrected``. The samples files are copied
    under the new date, as the harness's files of one run share a date. No file is changed.

    Args:
        run_dir: The folder with results_*.json, or its parent if that has one such folder.
        files: Label files on a random sample of the run's responses.
        reading: How they are read; its judge is an annotator that is no person, and is left out.
        correction: How metrics are corrected.

    Raises:
        ConfigError: The run or the labels cannot be used, or no labelled response has a verdict.
    """
    old = newest_results(Path(run_dir))
    results = read_results(old)
    table = read_label_table(files, run_dir, reading).people()
    items, labels = table.items or (), table.labels
    if table.measure == "factuality":
        _check_counts(results, items)
    if not any(item.verdict_status for item in items):
        raise ConfigError(f"{old} has no verdicts; judge it first: eft-eval judge {run_dir}")
    metrics = correct_metrics(table, correction)
    for one in metrics:
        if math.isnan(one.corrected.prediction_powered.estimate):
            raise ConfigError(
                f"{one.task}: no labelled response has a score of the judge; nothing is corrected"
            )
    date = date_after(old)
    found = CorrectedRun(
        metrics=metrics,
        annotators=labels.annotators,
        people=correction.people,
        dropped=labels.drop_counts(),
        remarks=labels.remarks,
        corrected_from=old.name,
        results=old.with_name(f"results_{date}.json"),
        sources=labels.sources,
        measure=table.measure,
        warnings=_harder(metrics, labels.drop_counts()),
    )
    for task in results["configs"]:
        _copy_samples(samples_path(old, task), samples_path(old, task, date))
    _update(results, found)
    text = json.dumps(results, indent=2, ensure_ascii=False)
    write_lines(found.results, [text])  # last: a results file stands for a complete run
    return found


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


def _check_counts(results: dict[str, Any], items: Sequence[Item]) -> None:
    """Raise if a task was named whose judge does something else than count errors."""
    for task in dict.fromkeys(item.stratum for item in items):
        scale = (results["configs"][task].get("metadata") or {}).get("eft_scale")
        measured = results["results"].get(task) or {}
        counts = any(name.startswith("fact_") and not _is_corrected(name) for name in measured)
        if scale != "count" and not counts:
            raise ConfigError(
                f"{task}: its judge counts no factual errors, and its metrics are none of "
                f"{', '.join(name for name in MEASURES if name != 'factuality')}: nothing is "
                "corrected"
            )


def _copy_samples(old: Path, new: Path) -> None:
    if not old.exists():
        return  # a task without saved samples
    try:
        with old.open(encoding="utf-8", newline="") as lines:
            write_lines(new, lines)
    except OSError as error:
        raise ConfigError(f"cannot copy {old}: {error}") from error


def _update(results: dict[str, Any], found: CorrectedRun) -> None:
    """Put the corrected metrics into the results, in place of those of an earlier correction."""
    for task, entry in results["results"].items():
        for name in [one for one in entry if _is_corrected(one)]:
            del entry[name]
        higher = (results.get("higher_is_better") or {}).get(task) or {}
        for name in [one for one in higher if _is_corrected(one)]:
            del higher[name]
        config = results["configs"].get(task) or {}
        if config.get("metric_list"):
            config["metric_list"] = [
                one for one in config["metric_list"] if not _is_corrected(str(one.get("metric")))
            ]
    for one in found.metrics:
        name, entry = f"{one.metric}_ppi", results["results"][one.task]
        error = one.corrected.standard_error
        for pipeline in _pipelines(entry, one.metric):
            entry[f"{name},{pipeline}"] = one.corrected.prediction_powered.estimate
            entry[f"{name}_stderr,{pipeline}"] = error if error > 0 else "N/A"
        higher = results.setdefault("higher_is_better", {}).setdefault(one.task, {})
        higher[name] = one.higher
        listed = results["configs"][one.task].setdefault("metric_list", [])
        if name not in [metric.get("metric") for metric in listed]:
            listed.append(
                {
                    "metric": name,
                    "aggregation": "prediction_powered",
                    "higher_is_better": one.higher,
                }
            )
    results["eft_corrected"] = found.to_dict()


def _is_corrected(name: str) -> bool:
    return name.partition(",")[0].removesuffix("_stderr") in _CORRECTED


def _pipelines(entry: Mapping[str, Any], metric: str) -> list[str]:
    """Return the filters under which a task's results have a metric."""
    prefix = f"{metric},"
    return [key.removeprefix(prefix) for key in entry if key.startswith(prefix)] or ["none"]
