"""Rogan and Gladen's correction of a prevalence by the judge's sensitivity and specificity."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from eft_eval.statistics.interval import Interval
from eft_eval.statistics.means import NAN, normal_quantile, unknown, wilson_interval
from eft_eval.statistics.ratings import Codes, Values

__all__ = ["Prevalence"]


class Prevalence(NamedTuple):
    """A prevalence corrected by sensitivity and specificity.

    Attributes:
        interval: The corrected prevalence; estimate and ends are held within [0, 1].
        standard_error: By the delta method.
        raw: The estimate before it is held within [0, 1].
        apparent: Share of the unlabelled responses that the judge marks, with Wilson's interval.
        sensitivity: Share of the truly marked that the judge marks.
        specificity: Share of the truly unmarked that the judge does not mark.
        warnings: What keeps a figure from being read as it stands.
    """

    interval: Interval
    standard_error: float
    raw: float
    apparent: Interval
    sensitivity: Interval
    specificity: Interval
    warnings: tuple[str, ...]


def rogan_gladen_of(
    labels: Values,
    verdicts: Values,
    others: Values,
    codes: Codes | None,
    other_codes: Codes | None,
    level: float,
) -> Prevalence:
    """Return ``π = (p + Sp - 1)/(Se + Sp - 1)`` with the delta method's interval.

    Rogan and Gladen 1978, American Journal of Epidemiology 107: ``var π = [p(1-p)/N +
    π² Se(1-Se)/n₁ + (1-π)² Sp(1-Sp)/n₀] / (Se + Sp - 1)²``, with p from the N unlabelled
    responses, Se from the n₁ labels of 1 and Sp from the n₀ of 0. With clusters, each response's
    influence on π is summed within its cluster first.

    Args:
        labels: Labels, 0 or 1, shape [n].
        verdicts: Verdicts on the same responses, shape [n].
        others: Verdicts on the unlabelled responses, shape [N].
        codes: Cluster codes, shape [n]; None where responses are independent.
        other_codes: Cluster codes in the same numbering, shape [N].
        level: Confidence level.
    """
    method = "Rogan–Gladen, delta method"
    ones = labels == 1
    positive, negative = int(ones.sum()), int((~ones).sum())
    marked = int(verdicts[ones].sum())
    cleared = int((verdicts[~ones] == 0).sum())
    apparent = wilson_interval(others.sum(), len(others), level)
    sensitivity = wilson_interval(marked, positive, level)
    specificity = wilson_interval(cleared, negative, level)
    informative = sensitivity.estimate + specificity.estimate - 1
    warnings = _warnings(sensitivity, specificity, positive, negative, len(others))
    if not informative > 0:  # NaN too
        if informative <= 0:
            warnings.append(
                f"sensitivity + specificity = {informative + 1:.2f}: the judge is no better than "
                "chance, nothing can be corrected"
            )
        rates = (apparent, sensitivity, specificity)
        return Prevalence(unknown(level, method), NAN, NAN, *rates, tuple(warnings))
    raw = (apparent.estimate + specificity.estimate - 1) / informative
    labelled = np.where(
        ones,
        -raw * (verdicts - sensitivity.estimate) / max(positive, 1),
        (1 - raw) * ((1 - verdicts) - specificity.estimate) / max(negative, 1),
    )
    unlabelled = (others - apparent.estimate) / len(others)
    influence = np.concatenate([labelled, unlabelled]) / informative
    if codes is not None and other_codes is not None:
        every = np.concatenate([codes, other_codes])
        influence = np.bincount(every, weights=influence).astype(np.float64)
    error = math.sqrt(float(influence @ influence))
    if not 0 <= raw <= 1:
        warnings.append(f"the corrected prevalence is {raw:.3f}, held within 0 and 1")
    half = normal_quantile(level) * error
    interval = unknown(level, method, _held(raw))
    if error > 0:
        interval = Interval(_held(raw), _held(raw - half), _held(raw + half), level, method)
    return Prevalence(interval, error, raw, apparent, sensitivity, specificity, tuple(warnings))


def _held(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _warnings(
    sensitivity: Interval, specificity: Interval, positive: int, negative: int, others: int
) -> list[str]:
    texts = []
    for name, rate, n, answer in (
        ("sensitivity", sensitivity, positive, 1),
        ("specificity", specificity, negative, 0),
    ):
        if n == 0:
            texts.append(f"no label is {answer}: the {name} is unknown")
        elif rate.estimate in (0, 1):
            texts.append(
                f"{name} is {rate.estimate:.0%} on {n} labels: the delta method takes it as sure"
            )
    if others == 0:
        texts.append("no verdict without a label: no apparent prevalence to correct")
    return texts
