"""Judged metrics of a run, corrected by people's labels on a random sample of its responses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from eft_eval.agreement.answers import ANY_ERROR, Answers, read_answers, read_shares
from eft_eval.agreement.label_reading import LabelReading, LabelTable
from eft_eval.agreement.report import CorrectedMetric, Unused
from eft_eval.errors import ConfigError, nearest
from eft_eval.judging.prompts.measures import MEASURES
from eft_eval.labels.records import Item
from eft_eval.statistics.consensus import majority, mean_rating
from eft_eval.statistics.correction import Corrected, correct_mean
from eft_eval.statistics.means import share_of, within_unit

__all__ = ["Correction", "People", "correct_metrics"]

People: TypeAlias = Literal["mean", "majority"]
"""What several people's labels of one response are taken to say together."""


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
    if table.measure == "factuality":
        readings = _readings(table, people)
    else:
        shares = read_shares(table.labels, table.reading)
        metric = next(iter(MEASURES[table.measure].scores))
        readings = [_reading(metric, shares, False, people)]
    found = []
    for task in dict.fromkeys(item.stratum for item in items):
        of_task = [item for item in items if item.stratum == task]
        for reading in readings:
            if any(item.item_id in reading.labels for item in of_task):
                found.append(_correct(task, reading, of_task, correction))
    return tuple(found)


def _readings(table: LabelTable, people: People) -> list[_Reading]:
    labels = table.labels
    first = read_answers(labels, table.reading, counts=True)
    if first.rule == "raw":
        raise ConfigError(
            f"{first.field} holds words; name the one that counts as an error with --positive"
        )
    readings = [_reading("fact_any_error", first, True, people)]
    amounts = "error_count" if first.field == ANY_ERROR else first.field
    if table.reading.positive is None and amounts in labels.fields and amounts != "has_error":
        counts = read_answers(labels, LabelReading(field=amounts), rule="raw")
        # 0 and 1 in a field of unknown meaning may be "an error or none": no numbers of errors
        if amounts == "error_count" or any((one > 1).any() for one in counts.panel.values()):
            readings.append(_reading("fact_errors", counts, False, people))
    return readings


def _reading(metric: str, answers: Answers, binary: bool, people: People) -> _Reading:
    panel = dict(answers.panel)
    if binary:
        panel = {
            name: np.where(np.isnan(one), np.nan, (one > 0).astype(np.float64))
            for name, one in panel.items()
        }
    found = majority(panel) if people == "majority" else mean_rating(panel)
    known = dict(zip(answers.item_ids, found.values.tolist(), strict=True))
    usable = {name: one for name, one in known.items() if not math.isnan(one)}
    return _Reading(metric, answers, usable, found.tied)


def _correct(
    task: str, reading: _Reading, items: Sequence[Item], correction: Correction
) -> CorrectedMetric:
    corrected = _corrected(reading.labels, reading.metric, items, correction)
    by_majority = corrected.rogan_gladen is None and reading.metric == "fact_any_error"
    if by_majority:
        commonest = _reading(reading.metric, reading.answers, True, "majority").labels
        found = _corrected(commonest, reading.metric, items, correction).rogan_gladen
        corrected = corrected._replace(rogan_gladen=found)
    share = reading.metric != "fact_errors"
    if share:
        corrected = corrected._replace(
            prediction_powered=within_unit(corrected.prediction_powered),
            labels_only=share_of(corrected.labels_only),
            verdicts_only=share_of(corrected.verdicts_only),
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
    labels: Mapping[str, float],
    metric: str,
    items: Sequence[Item],
    correction: Correction,
) -> Corrected:
    labelled = [item for item in items if item.item_id in labels]
    others = [item for item in items if item.item_id not in labels]
    shared = len({item.cluster for item in items}) < len(items)
    return correct_mean(
        [labels[item.item_id] for item in labelled],
        [_verdict(item, metric) for item in labelled],
        [_verdict(item, metric) for item in others],
        clusters=[item.cluster for item in labelled] if shared else None,
        other_clusters=[item.cluster for item in others] if shared else None,
        power=correction.power,
        level=correction.level,
    )


def _verdict(item: Item, metric: str) -> float:
    score = item.score
    return score if metric != "fact_any_error" or math.isnan(score) else float(score > 0)
