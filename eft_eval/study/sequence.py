"""What normalising at every step costs: samples of Eq. 5, weighted to be samples of Eq. 4.

The weight of a sample is the product of its steps' normalisers. Weights are normalised per prompt
over its samples, one of each seed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eft_eval.errors import ConfigError
from eft_eval.reporting.scores import codes_of, column_of
from eft_eval.runs.conditions import sampling_rule
from eft_eval.runs.records import Document, Run
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.means import mean_of
from eft_eval.statistics.paired import paired_difference
from eft_eval.study.folder import StudyFolder
from eft_eval.study.numbers import ArmRuns, Metric, metrics_of
from eft_eval.study.passes import weights_of
from eft_eval.study.plan import StudyPlan

__all__ = [
    "Reweighed",
    "SequenceWeights",
    "check_sequence",
    "check_temperature",
    "effective_size",
    "sequence_weights",
]


@dataclass(frozen=True)
class Reweighed:
    """A metric of samples as they are, and with their sequence-level weights.

    Attributes:
        metric: Its name.
        plain: Mean over prompts of the mean over samples.
        weighted: Mean over prompts of the weighted mean.
        difference: Weighted minus plain, paired over prompts.
        documents: Documents of which every sample has a number.
    """

    metric: str
    plain: Interval
    weighted: Interval
    difference: Interval
    documents: int


@dataclass(frozen=True)
class SequenceWeights:
    """The sequence-level weights of an arm's samples.

    Attributes:
        arm: The arm.
        samples: Samples of each prompt.
        effective: Effective sample size (Kish's), mean over prompts.
        smallest: The smallest effective size of a prompt.
        spread: Standard deviation of the log-weights of a prompt, mean over prompts.
        per_token: log Z of a step, mean over prompts.
        metrics: How metrics change.
    """

    arm: str
    samples: int
    effective: Interval
    smallest: float
    spread: Interval
    per_token: Interval
    metrics: tuple[Reweighed, ...]


def check_sequence(plan: StudyPlan) -> None:
    """Check that the arms' samples have sequence-level weights.

    Raises:
        ConfigError: An arm filters its weights, or samples by other rules than Eq. 5.
    """
    for arm in plan.arms:
        if arm.recipe.decoding.weight_top_p is not None:
            raise ConfigError(f"arm {arm.name}: sequence has no weights for weight-top-p")
    if plan.design.gen_kwargs:
        raise ConfigError("sequence weighs samples at temperature 1: leave gen-kwargs out")


def effective_size(log_weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Kish's effective sample size, ``(sum w)^2 / sum w^2``, over the first axis."""
    weights = _normalised(log_weights)
    size: NDArray[np.float64] = 1.0 / (weights**2).sum(axis=0)
    return size


def _normalised(log_weights: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(log_weights - log_weights.max(axis=0))
    found: NDArray[np.float64] = weights / weights.sum(axis=0)
    return found


def sequence_weights(folder: StudyFolder, arms: ArmRuns) -> tuple[SequenceWeights, ...]:
    """Return the weights of every arm with a delta that is whole.

    Args:
        folder: Of the study.
        arms: Runs that are whole.

    Raises:
        ConfigError: A response cannot be weighed, or was not sampled at temperature 1.
    """
    for runs in arms.values():
        for task in runs[0].tasks.values():  # what the checkpoint sets is known now, too
            config = runs[0].file_of(task.name).config
            check_temperature(task.name, sampling_rule(json.loads(task.generation), config))
    planned = {arm.name: arm for arm in folder.plan.arms}
    return tuple(
        _weights(folder, name, runs)
        for name, runs in arms.items()
        if not planned[name].recipe.is_base_alone
    )


def check_temperature(task: str, rule: str) -> None:
    """Check that responses are sampled as sequence-level weights need it.

    Args:
        task: Whose they are.
        rule: How their tokens are chosen; see `sampling_rule`.

    Raises:
        ConfigError: Greedily, at another temperature, or from fewer tokens.
    """
    if rule not in ("", "sampled"):
        raise ConfigError(
            f"task {task}: responses are {rule}; sequence weighs samples at temperature 1 "
            "alone: study tasks with do_sample: true and nothing else of the kind"
        )


_Table = Mapping[tuple[str, Document], Sequence[float]]  # by task and document, of every seed


def _weights(folder: StudyFolder, arm: str, runs: Sequence[Run]) -> SequenceWeights:
    level = folder.plan.design.level
    logs: dict[tuple[str, Document], list[float]] = {}
    steps: dict[tuple[str, Document], list[float]] = {}
    prompts: dict[tuple[str, Document], str] = {}
    for run in folder.plan.runs:
        if run.arm.name != arm:
            continue
        for one in weights_of(folder, run):
            place = (one.task, one.document)
            logs.setdefault(place, []).append(one.log_weight)
            steps.setdefault(place, []).append(one.log_weight / one.tokens)
    for task in runs[0].tasks.values():
        for item in next(iter(task.pipelines.values())).items:
            prompts[(task.name, item.document)] = item.cluster
    table = np.array([logs[place] for place in logs]).T  # [seeds, documents]
    sizes = effective_size(table)
    codes = codes_of([prompts[place] for place in logs])
    per_token = np.array([np.mean(steps[place]) for place in logs])
    return SequenceWeights(
        arm=arm,
        samples=len(runs),
        effective=mean_of(sizes, codes, level).interval,
        smallest=float(sizes.min()),
        spread=mean_of(table.std(axis=0, ddof=1), codes, level).interval,
        per_token=mean_of(per_token, codes, level).interval,
        metrics=tuple(
            found
            for metric in metrics_of({arm: runs})
            if (found := _reweighed(metric, runs, logs, level)) is not None
        ),
    )


def _reweighed(metric: Metric, runs: Sequence[Run], logs: _Table, level: float) -> Reweighed | None:
    numbers: dict[Document, list[float]] = {}
    clusters: dict[Document, str] = {}
    for run in runs:
        found = column_of(run, metric.task, metric.key)
        if found is None:
            return None
        for value, item in zip(found[0].values, found[1].items, strict=True):
            clusters[item.document] = item.cluster
            if value is not None and (metric.task, item.document) in logs:
                numbers.setdefault(item.document, []).append(value)
    whole = [doc for doc, values in sorted(numbers.items()) if len(values) == len(runs)]
    if not whole:
        return None
    values = np.array([numbers[doc] for doc in whole]).T  # [seeds, documents]
    weights = _normalised(np.array([logs[(metric.task, doc)] for doc in whole]).T)
    plain, weighted = values.mean(axis=0), (weights * values).sum(axis=0)
    codes = codes_of([clusters[doc] for doc in whole])
    return Reweighed(
        metric=metric.name,
        plain=mean_of(plain, codes, level).interval,
        weighted=mean_of(weighted, codes, level).interval,
        difference=paired_difference(weighted - plain, codes, level).interval,
        documents=len(whole),
    )
