"""The gate's bounds, worked out in another way: from the augmented sample, p-values by roots."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.optimize
import scipy.stats


def careful_error(values: Any) -> float:
    """Return the standard error with two more values, as far from the mean as the furthest."""
    values = np.asarray(values, dtype=np.float64)
    mean, n = values.mean(), len(values)
    far = np.abs(values - mean).max()
    more = np.append(values, [mean - far, mean + far])
    return max(float(scipy.stats.sem(values)), float(more.std(ddof=1)) / math.sqrt(n))


def bounds(values: Any, level: float) -> tuple[float, float]:
    """Return the one-sided bounds: t's, further out on the side to which the values are skewed."""
    values = np.asarray(values, dtype=np.float64)
    n, t = len(values), scipy.stats.t.ppf(level, len(values) - 1)
    tilt = float(np.clip(scipy.stats.skew(values) / math.sqrt(n), -0.5, 0.5))
    error, mean = careful_error(values), float(values.mean())
    term = tilt * (2 * t**2 + 1) / 6
    return mean - error * (t + max(-term, 0.0)), mean + error * (t + max(term, 0.0))


def p_below(values: Any, limit: float = 0.0) -> float:
    """Return the p-value of "the mean is below the limit": where the upper bound meets it."""
    return float(
        scipy.optimize.brentq(
            lambda p: bounds(values, 1 - p)[1] - limit, 1e-12, 0.5, xtol=1e-15, rtol=1e-12
        )
    )
