"""A win rate at equal lengths: judges like long responses, and a regression takes that out.

The model is that of AlpacaEval 2 (Dubois et al. 2024, arXiv 2404.04475) without its term for the
difficulty of instructions, which needs many models: ``logit P(win) = a + b·tanh(d / s)``, with d
the first response's length less the second's and s the standard deviation of d.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from eft_eval.errors import ConfigError
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.means import NAN, check_level, t_quantile, unknown
from eft_eval.statistics.ratings import (
    Clusters,
    Codes,
    Ratings,
    Values,
    read_clusters,
    read_ratings,
    select,
)

__all__ = ["FEWEST_DOCUMENTS", "LENGTH_MODEL", "LengthControlled", "length_controlled_rate"]

FEWEST_DOCUMENTS = 30
"""Below this many documents no length-controlled rate is given."""
LENGTH_MODEL = "logistic regression on tanh of the standardised length difference, at difference 0"
"""What the model is called wherever its figure is shown."""
_STEPS = 100
_CLOSE = 1e-12


class LengthControlled(NamedTuple):
    """A win rate at equal lengths.

    Attributes:
        interval: ``σ(a)``, with the interval of ``a ± t·SE(a)`` on the scale of rates; all NaN
            where there is none.
        standard_error: By the delta method, ``p(1-p)·SE(a)``.
        slope: ``b``; above 0 the longer response wins more often.
        n: Number of documents with a score.
        reason: Why there is no rate; empty where there is one.
        warnings: What keeps it from being read as it stands.
    """

    interval: Interval
    standard_error: float
    slope: float
    n: int
    reason: str
    warnings: tuple[str, ...]


def length_controlled_rate(
    scores: Ratings, differences: Ratings, clusters: Clusters | None = None, level: float = 0.95
) -> LengthControlled:
    """Return the win rate that the model gives for responses of equal length.

    The standard errors are robust (a sandwich, with n/(n-2); clustered where clusters are given),
    as scores of 0, 1/4, 1/2, 3/4 and 1 are no coin flips.

    Args:
        scores: Per document from 0 (lost) to 1 (won); missing ones are left out.
        differences: Per document the length of the first response less that of the second.
        clusters: What each document belongs to; None where all are independent.
        level: Confidence level.

    Raises:
        ConfigError: A score is not from 0 to 1, or there are other numbers of differences.
    """
    check_level(level)
    y, d = read_ratings(scores), read_ratings(differences)
    if len(y) != len(d):
        raise ConfigError(f"{len(y)} scores and {len(d)} length differences; expected as many")
    codes = read_clusters(clusters, len(y))
    kept = ~(np.isnan(y) | np.isnan(d))
    y, d, codes = y[kept], d[kept], select(codes, kept)
    if ((y < 0) | (y > 1)).any():
        raise ConfigError("a score is not from 0 to 1; expected the share of a document's wins")
    if reason := _inestimable(y, d):
        return LengthControlled(unknown(level, LENGTH_MODEL), NAN, NAN, len(y), reason, ())
    x = np.tanh(d / d.std(ddof=1))
    design = np.column_stack([np.ones_like(x), x])
    found = _fitted(design, y)
    if found is None:
        reason = "the regression does not converge"
        return LengthControlled(unknown(level, LENGTH_MODEL), NAN, NAN, len(y), reason, ())
    error, freedom = _robust_error(design, y, found, codes)
    intercept = float(found[0])
    rate = _logistic(intercept)
    lower = upper = NAN
    if error > _CLOSE:
        half = t_quantile(level, freedom) * error
        lower, upper = _logistic(intercept - half), _logistic(intercept + half)
    interval = Interval(rate, lower, upper, level, LENGTH_MODEL)
    warnings = []
    if d.min() > 0 or d.max() < 0:
        which = "first" if d.min() > 0 else "second"
        warnings.append(
            f"the {which} response is the longer one in every document: the rate at equal lengths "
            "lies outside of what was seen"
        )
    return LengthControlled(
        interval, rate * (1 - rate) * error, float(found[1]), len(y), "", tuple(warnings)
    )


def _inestimable(y: Values, d: Values) -> str:
    """Return why the model has no finite estimate; empty where it has one."""
    if len(y) < FEWEST_DOCUMENTS:
        return f"{len(y)} documents with a score, and {FEWEST_DOCUMENTS} are needed"
    if np.ptp(d) == 0:
        return f"the lengths differ by {d[0]:g} in every document, which tells nothing of length"
    if (y == 0).all() or (y == 1).all():
        return "the same model wins in every document"
    won, lost = d[y > 0], d[y < 1]
    # estimates are finite where wins and losses overlap (Albert and Anderson 1984)
    if not (lost.max() > won.min() and won.max() > lost.min()):
        return "length alone tells who wins, so that the regression has no finite estimate"
    return ""


def _fitted(design: Values, y: Values) -> Values | None:
    """Return the maximum-likelihood estimate by Newton's method; None where it is not reached."""
    beta = np.zeros(2)
    loss = _loss(design, y, beta)
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-(design @ beta)))
        gradient = design.T @ (y - p)
        try:
            step = np.linalg.solve((design.T * (p * (1 - p))) @ design, gradient)
        except np.linalg.LinAlgError:
            return None
        if float(np.abs(step).max()) < _CLOSE * max(1.0, float(np.abs(beta).max())):
            return beta
        size = 1.0
        while (new := _loss(design, y, beta + size * step)) > loss + _CLOSE and size > _CLOSE:
            size /= 2
        beta, loss = beta + size * step, new
    return beta if float(np.abs(gradient).max()) < 1e-6 else None


def _loss(design: Values, y: Values, beta: Values) -> float:
    linear = design @ beta
    return float((np.logaddexp(0, linear) - y * linear).sum())


def _robust_error(
    design: Values, y: Values, beta: Values, codes: Codes | None
) -> tuple[float, float]:
    """Return the intercept's standard error and its degrees of freedom."""
    n, k = design.shape
    p = 1 / (1 + np.exp(-(design @ beta)))
    bread = np.linalg.inv((design.T * (p * (1 - p))) @ design)
    scores = design * (y - p)[:, np.newaxis]
    factor, freedom = n / (n - k), float(n - k)
    if codes is not None:
        units = len(np.unique(codes))
        if units < 2:
            return NAN, NAN
        sums = np.zeros((int(codes.max()) + 1, k))
        np.add.at(sums, codes, scores)
        scores = sums
        factor, freedom = units / (units - 1) * (n - 1) / (n - k), float(units - 1)
    covariance = factor * bread @ (scores.T @ scores) @ bread
    return math.sqrt(max(float(covariance[0, 0]), 0.0)), freedom


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0
