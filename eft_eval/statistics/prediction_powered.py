"""The arithmetic of prediction-powered inference of a mean: the weight λ and the standard error."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from eft_eval.statistics.means import NAN
from eft_eval.statistics.ratings import Codes, Values

__all__ = ["Quantile", "Sample", "is_of_rates", "standard_error_of", "tuned_power"]

Quantile: TypeAlias = Literal["t", "normal"]


class Sample(NamedTuple):
    """Labels Y and verdicts f of n responses, verdicts f' of N others, and their clusters."""

    labels: Values
    verdicts: Values
    others: Values
    codes: Codes | None  # [n]
    other_codes: Codes | None  # [N]


def tuned_power(sample: Sample, warnings: list[str]) -> float:
    """Return the tuned λ of PPI++, clipped to [0, 1]; 0 where the verdicts say nothing."""
    n, others = len(sample.labels), len(sample.others)
    if n < 2 or others == 0:
        return 0.0
    every = np.concatenate([sample.verdicts, sample.others])
    pooled = float(every.var(ddof=1))
    if np.ptp(every) == 0:  # exactly; the variance may be off zero by rounding
        warnings.append("all verdicts are equal: they add nothing to the labels")
        return 0.0
    labels = sample.labels - sample.labels.mean()
    verdicts = sample.verdicts - sample.verdicts.mean()
    product = float(labels @ verdicts)
    if product**2 <= 1e-24 * float(labels @ labels) * float(verdicts @ verdicts):
        return 0.0  # uncorrelated, up to rounding
    best = product / n / ((1 + n / others) * pooled)
    if best < 0:
        warnings.append("labels and verdicts are negatively correlated: the verdicts are not used")
    elif best > 1.5:
        warnings.append(
            f"λ would be {best:.2f} and is held at 1: are the verdicts on a narrower scale than "
            "the labels?"
        )
    return min(max(best, 0.0), 1.0)


def standard_error_of(
    sample: Sample, weight: float, tuned: bool, quantile: Quantile
) -> tuple[float, float]:
    """Return the standard error and its degrees of freedom; NaN where the sample is too small.

    Each response has an influence on the estimate; the variance is the sum of their squares, or
    of the squares of the clusters' sums. A cluster with responses of both kinds has one sum.

    Args:
        sample: Labels and verdicts.
        weight: λ.
        tuned: Whether λ was tuned on these labels.
        quantile: "normal" leaves out all that is done for small samples, as published.
    """
    if not len(sample.labels):
        return NAN, NAN
    rectifier = sample.labels - weight * sample.verdicts
    stretch = None
    if tuned and weight > 0 and quantile == "t":
        stretch = _leverage_stretch(sample.verdicts)
    labelled = _part(rectifier, sample.codes, quantile, stretch)
    parts = [labelled]
    if weight > 0:
        parts.append(_part(weight * sample.others, sample.other_codes, quantile, None))
    total = sum(part.variance for part in parts)
    unseen = 0.0
    if weight > 0 and quantile == "t" and is_of_rates(sample):
        unseen = _unseen_errors(float(rectifier.mean()), weight, len(rectifier))
    variance = total
    if weight > 0 and sample.codes is not None and sample.other_codes is not None:
        codes = np.concatenate([sample.codes, sample.other_codes])
        sums = np.bincount(codes, weights=np.concatenate([part.influence for part in parts]))
        variance = float(sums @ sums)
    welch = sum(part.variance**2 / part.freedom for part in parts if part.freedom > 0)
    error = math.sqrt(variance + unseen)
    if error <= 1e-12 * float(np.abs(np.concatenate(sample[:3])).max()):  # zero, up to rounding
        return 0.0, NAN
    return error, total**2 / welch if welch > 0 else NAN


def is_of_rates(sample: Sample) -> bool:
    """Return whether all labels and verdicts are 0 or 1."""
    every = np.concatenate([sample.labels, sample.verdicts, sample.others])
    return bool(np.isin(every, (0.0, 1.0)).all())


def _unseen_errors(mean: float, weight: float, n: int) -> float:
    """Return the variance of one imaginary response, spread over the four (label, verdict) pairs.

    A good judge errs on two or three of 30 labels, and in some samples on none, which would then
    count as no errors ever: without this, 95 % intervals hold the truth in 87–92 % of samples.
    The remedy is that of Agresti and Min (2005, Statistics in Medicine 24) for differences of
    paired rates, at half their weight and without moving the estimate.
    """
    pairs = np.array([0.0, 1.0, -weight, 1.0 - weight])  # label - λ verdict
    return float(((pairs - mean) ** 2).sum()) / 4 / n**2


class _Part(NamedTuple):
    influence: Values
    variance: float
    freedom: float


def _part(values: Values, codes: Codes | None, quantile: Quantile, stretch: Values | None) -> _Part:
    """Return each response's influence on its part's mean, the variance, degrees of freedom."""
    n = len(values)
    units = n if codes is None else len(np.unique(codes))
    freedom = units - (1 if stretch is None else 2)
    if freedom < 1:
        return _Part(np.full(n, NAN), NAN, NAN)
    factor = math.sqrt(units / (units - 1)) if quantile == "t" else 1.0
    influence = factor * (values - values.mean()) / n
    if stretch is not None:
        influence = influence * stretch
    sums = influence if codes is None else np.bincount(codes, weights=influence)
    return _Part(influence, float(sums @ sums), freedom)


def _leverage_stretch(verdicts: Values) -> Values:
    """Return what makes each residual that of an estimate made without this response (HC3).

    A tuned λ is a slope, and a response with a rare verdict draws it to itself, so its residual
    is too small: ``1/(1 - h_i)`` undoes that (MacKinnon and White 1985), relative to a mean's
    ``1/(1 - 1/n)``. Leverage is held at 0.9: one response must not decide the interval.
    """
    n = len(verdicts)
    gaps = (verdicts - verdicts.mean()) ** 2
    leverage = np.minimum(1 / n + gaps / max(float(gaps.sum()), 1e-300), 0.9)
    return np.asarray((1 - 1 / n) / (1 - leverage))
