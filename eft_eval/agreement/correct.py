"""Judged metrics of a run, corrected by people's labels on a random sample of its responses.

`correct_metrics` gives the figures; `correct_run` also writes them into new files beside the old.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from eft_eval.agreement.answers import ANY_ERROR, Answers, read_answers, read_shares
from eft_eval.agreement.label_reading import LabelReading, LabelTable, read_label_table
from eft_eval.agreement.preferences import read_wins
from eft_eval.agreement.report import CorrectedMetric, CorrectedRun, People, Unused
from eft_eval.errors import ConfigError, nearest
from eft_eval.judging.prompts.measures import MEASURES
from eft_eval.labels.records import Item
from eft_eval.runs.judged import judging_in
from eft_eval.runs.records import CORRECTED, CORRECTED_NAME, MetricKey
from eft_eval.runs.saved import SavedRun, open_run
from eft_eval.runs.writing import NewMetric, Revision, check_writable
from eft_eval.statistics.consensus import majority, mean_rating
from eft_eval.statistics.correction import Corrected, correct_mean
from eft_eval.statistics.means import within
from eft_eval.statistics.ratings import Rule, Values, apply_rule

__all__ = ["Correction", "correct_metrics", "correct_run"]

_ANY = "fact_any_error"


class _Reading(NamedTuple):
    """One metric: what labels say of an item, and what a verdict says."""

    metric: str
    answers: Answers
    labels: Mapping[str, float]  # by item id
    tied: int


@dataclass(frozen=True)
class Correction:
    """How metrics are corrected.

    Attributes:
        people: "mean" takes several people's labels of a response as their mean (a random
            person's label); "majority" as the commonest, and none where they tie.
        power: λ, the verdicts' weight, see `correct_mean`; None tunes it.
        level: Confidence level.
    """

    people: People = "mean"
    power: float | None = None
    level: float = 0.95


def correct_metrics(
    table: LabelTable, correction: Correction = Correction()
) -> tuple[CorrectedMetric, ...]:
    """Return each labelled task's judged metrics, corrected; see `correct_mean`.

    fact_any_error is the share of responses with an error, fact_errors the mean number of errors,
    which needs labels that are counts; helpfulness and harm are means from 0 to 1. All are over
    responses that the judge scored. The labelled responses must be a random sample of the task's.

    Args:
        table: People's labels and all responses of a run with its verdicts.
        correction: How they are corrected.

    Raises:
        ConfigError: The labels are no random sample, or cannot be read.
    """
    people = correction.people
    if people not in get_args(People):
        known = ", ".join(get_args(People))
        raise ConfigError(f"unknown people {people!r}{nearest(people, get_args(People))}: {known}")
    if table.chosen:
        raise ConfigError(
            f"{table.chosen} labelled items were picked because judge and people differ on them "
            "(eft-eval gold sample): they say nothing of all responses; give labels of a random "
            "sample (eft-eval labels export)"
        )
    items = table.items or ()
    readings = _readings(table, people)
    found = []
    for task in dict.fromkeys(item.stratum for item in items):
        of_task = [item for item in items if item.stratum == task]
        for reading in readings:
            if any(item.item_id in reading.labels for item in of_task):
                found.append(_correct(task, reading, of_task, correction))
    return tuple(found)


def _readings(table: LabelTable, people: People) -> list[_Reading]:
    labels = table.labels
    if table.measure != "factuality":
        metric = next(iter(MEASURES[table.measure].scores))
        read = read_wins if table.measure == "preference" else read_shares
        return [_reading(metric, read(labels, table.reading), people)]
    first = read_answers(labels, table.reading, counts=True)
    if first.rule == "raw":
        raise ConfigError(
            f"{first.field} holds words; name the one that counts as an error with --positive"
        )
    readings = [_reading(_ANY, first, people)]
    amounts = "error_count" if first.field == ANY_ERROR else first.field
    if table.reading.positive is None and amounts in labels.fields and amounts != "has_error":
        counts = read_answers(labels, LabelReading(field=amounts), rule="raw")
        # 0 and 1 in a field of unknown meaning may be "an error or none": no numbers of errors
        if amounts == "error_count" or any((one > 1).any() for one in counts.panel.values()):
            readings.append(_reading("fact_errors", counts, people))
    return readings


def _fields_read(table: LabelTable) -> set[str]:
    """Return the fields of the labels that the metrics are corrected by."""
    return {name for one in _readings(table, "mean") for name in one.answers.fields}


def _reading(metric: str, answers: Answers, people: People) -> _Reading:
    panel = {name: _of(metric, one, answers.field) for name, one in answers.panel.items()}
    found = majority(panel) if people == "majority" else mean_rating(panel)
    known = dict(zip(answers.item_ids, found.values.tolist(), strict=True))
    usable = {name: one for name, one in known.items() if not math.isnan(one)}
    return _Reading(metric, answers, usable, found.tied)


def _of(metric: str, values: Values, what: str) -> Values:
    """Return ratings as the metric counts them: of any error 1 for a count above 0."""
    return apply_rule(values, "any error" if metric == _ANY else "raw", what)


def _correct(
    task: str, reading: _Reading, items: Sequence[Item], correction: Correction
) -> CorrectedMetric:
    corrected = _corrected(reading.labels, reading.metric, items, correction)
    by_majority = corrected.rogan_gladen is None and reading.metric == _ANY
    if by_majority:
        commonest = _reading(_ANY, reading.answers, "majority").labels
        found = _corrected(commonest, reading.metric, items, correction).rogan_gladen
        corrected = corrected._replace(rogan_gladen=found)
    share = reading.metric != "fact_errors"
    highest = 1.0 if share else math.inf
    labels, verdicts = corrected.labels_only, corrected.verdicts_only
    corrected = corrected._replace(
        prediction_powered=within(corrected.prediction_powered, 0.0, highest),
        labels_only=labels._replace(interval=within(labels.interval, 0.0, highest)),
        verdicts_only=verdicts._replace(interval=within(verdicts.interval, 0.0, highest)),
    )
    answers = reading.answers
    better = {name: higher for one in MEASURES.values() for name, higher in one.metrics.items()}
    return CorrectedMetric(
        task=task,
        metric=reading.metric,
        reading=answers.reading,
        corrected=corrected,
        by_majority=by_majority,
        share=share,
        higher=better[reading.metric],
        unused=Unused(answers.unsure, answers.contradictory, reading.tied),
    )


def _corrected(
    labels: Mapping[str, float], metric: str, items: Sequence[Item], correction: Correction
) -> Corrected:
    rule: Rule = "any error" if metric == _ANY else "raw"
    scores = apply_rule(np.array([item.rating(rule) for item in items]), rule, "the verdicts")
    labelled = np.array([item.item_id in labels for item in items])
    clusters = np.array([item.cluster for item in items])
    shared = len(set(clusters.tolist())) < len(items)
    return correct_mean(
        [labels[item.item_id] for item in items if item.item_id in labels],
        scores[labelled],
        scores[~labelled],
        clusters=clusters[labelled] if shared else None,
        other_clusters=clusters[~labelled] if shared else None,
        power=correction.power,
        level=correction.level,
    )


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
    check_writable(run.tasks[name].file for name in {item.stratum for item in items})
    if table.measure == "factuality":
        _check_counts(run, items)
    if not any(item.verdict_status for item in items):
        raise ConfigError(
            f"{run.label} has no verdicts; judge it first: eft-eval judge {run.label}"
        )
    metrics = correct_metrics(table, correction)
    if not metrics:
        raise ConfigError(
            "no label says how many errors there are, or whether: all are unsure, contradictory or "
            "tied; nothing is corrected"
        )
    for one in metrics:
        if math.isnan(one.corrected.prediction_powered.estimate):
            raise ConfigError(
                f"{one.task}: no labelled response has a score of the judge; nothing is corrected"
            )
    dropped = labels.drop_counts(_fields_read(table))
    found = CorrectedRun(
        metrics=metrics,
        annotators=labels.annotators,
        people=correction.people,
        dropped=dropped,
        remarks=labels.remarks,
        corrected_from="",
        results=Path(),
        others=(),
        sources=labels.sources,
        measure=table.measure,
        warnings=(*_unscored(items), *_harder(metrics, dropped)),
    )
    written: list[Path] = []
    for old in reversed(run.files):
        of_file = tuple(one for one in metrics if run.tasks[one.task].file is old)
        if of_file:
            revision = Revision(old, run.files)
            found = replace(found, corrected_from=old.path.name, results=revision.file)
            judges = {item.judge for item in items if item.judge is not None}
            _update(revision, replace(found, metrics=of_file), judges)
            revision.write()
            written.append(revision.file)
    return replace(found, others=tuple(written[:-1]))


def _unscored(items: Sequence[Item]) -> tuple[str, ...]:
    """Warn if the judge left responses without a score, for which the figures do not stand."""
    statuses = Counter(
        item.verdict_status or "not judged"
        for item in items
        if item.verdict_value is None and item.verdict_status != "abstained"
    )
    if not statuses:
        return ()
    number, total = sum(statuses.values()), len(items)
    listed = ", ".join(f"{count} {name}" for name, count in statuses.items())
    return (
        f"{number} of {total} responses have no score ({listed}): the corrected figures and their "
        f"intervals are of the other {total - number} alone",
    )


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
        names = {name.partition(",")[0].removesuffix("_stderr") for name in measured}
        counts = any(one.startswith("fact_") and not one.endswith(CORRECTED_NAME) for one in names)
        if scale != "count" and not counts:
            raise ConfigError(
                f"{task}: its judge counts no factual errors, and its metrics are none of "
                f"{', '.join(name for name in MEASURES if name != 'factuality')}: nothing is "
                "corrected"
            )


def _update(revision: Revision, found: CorrectedRun, judges: Collection[str]) -> None:
    """Put the corrected metrics into the results, in place of those of an earlier correction.

    Of a panel, only the pipelines that have the verdicts of ``judges``.
    """
    revision.drop_corrections()
    for task in dict.fromkeys(one.task for one in found.metrics):
        of_task = [one for one in found.metrics if one.task == task]
        described = judging_in(revision.config(task), str(revision.old.path))
        each = (described.judges if described else None) or {}
        chosen = {name for name, one in each.items() if one.model in judges}
        left_out = each.keys() - chosen
        if chosen and described is not None:  # the panel's own verdicts were not corrected
            left_out |= (described.panel or {}).keys()
        entry = {
            key: value
            for key, value in revision.entry(task).items()
            if key.partition(",")[2] not in left_out
        }
        new = [metric for one in of_task for metric in _new_metrics(one, entry)]
        revision.replace(task, lambda _: False, new)
    revision.content["eft_corrected"] = found.to_dict()


def _new_metrics(one: CorrectedMetric, entry: Mapping[str, Any]) -> Iterator[NewMetric]:
    error = one.corrected.standard_error
    for pipeline in _pipelines(entry, one.metric):
        yield NewMetric(
            MetricKey(f"{one.metric}{CORRECTED_NAME}", pipeline),
            one.corrected.prediction_powered.estimate,
            error if error > 0 else None,
            one.higher,
            CORRECTED,
        )


def _pipelines(entry: Mapping[str, Any], metric: str) -> list[str]:
    """Return the filters under which a task's results have a metric."""
    prefix = f"{metric},"
    return [key.removeprefix(prefix) for key in entry if key.startswith(prefix)] or ["none"]
