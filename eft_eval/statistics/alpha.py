"""Krippendorff's α for any number of raters with holes, and its bootstrap interval."""

from __future__ import annotations

from typing import NamedTuple, get_args

import numpy as np

from eft_eval.errors import ConfigError, nearest
from eft_eval.statistics.coincidence import Metric, Units, alphas_of, disagreement_of, units_of
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.means import check_level, unknown
from eft_eval.statistics.ratings import Clusters, Panel, Values, read_clusters, read_panel

__all__ = ["Alpha", "Metric", "krippendorff_alpha"]

_BATCH = 100  # resamples at a time: bounds the memory


class Alpha(NamedTuple):
    """Krippendorff's α of a panel.

    Attributes:
        interval: α with its bootstrap interval; NaN where the data give none.
        metric: The distance between ratings.
        raters: Number of raters.
        items: Items with at least two ratings: only these count.
        ratings: Ratings of these items.
        single: Items left out because they have one rating or none.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.
        warnings: What keeps a figure from being read as it stands.
    """

    interval: Interval
    metric: Metric
    raters: int
    items: int
    ratings: int
    single: int
    resamples: int
    seed: int
    warnings: tuple[str, ...]


def krippendorff_alpha(
    panel: Panel,
    *,
    metric: Metric = "nominal",
    clusters: Clusters | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Alpha:
    """Return Krippendorff's α with a percentile bootstrap interval over items, or clusters.

    ``α = 1 - D_o/D_e = 1 - (n-1) Σ o_ck δ²_ck / Σ n_c n_k δ²_ck`` (Krippendorff 2011, "Computing
    Krippendorff's Alpha-Reliability"), with the coincidences ``o_ck = Σ_u n_uc (n_uk - [c=k]) /
    (m_u - 1)``. The ordinal distance is that between mid-ranks: ``Σ_{g=c..k} n_g - (n_c+n_k)/2``.

    Args:
        panel: Ratings by rater, over the same items; None where one is missing.
        metric: "nominal", "ordinal", "interval" or "ratio" (for ratings of 0 and above).
        clusters: What each item belongs to; the bootstrap then draws whole clusters.
        level: Confidence level.
        resamples: Number of resamples; 0 gives no interval.
        seed: Seed of the resampling.
    """
    check_level(level)
    if metric not in get_args(Metric):
        raise ConfigError(
            f"unknown metric {metric!r}{nearest(str(metric), get_args(Metric))}; "
            f"known: {', '.join(get_args(Metric))}"
        )
    if resamples < 0:
        raise ConfigError(f"resamples is {resamples}; expected 0 or more, such as 1000")
    matrix = read_panel(panel).values
    codes = read_clusters(clusters, matrix.shape[1])
    pairable = (~np.isnan(matrix)).sum(axis=0) >= 2
    method = f"percentile bootstrap over {'items' if codes is None else 'clusters'}"
    interval, warnings = unknown(level, method), list[str]()
    if not pairable.any():
        warnings.append("no item has two ratings: no α")
    else:
        units = units_of(matrix[:, pairable], None if codes is None else codes[pairable])
        interval = _interval(units, metric, level, resamples, seed, method, warnings)
    return Alpha(
        interval=interval,
        metric=metric,
        raters=len(matrix),
        items=int(pairable.sum()),
        ratings=int((~np.isnan(matrix[:, pairable])).sum()),
        single=int((~pairable).sum()),
        resamples=resamples,
        seed=seed,
        warnings=tuple(warnings),
    )


def _interval(
    units: Units,
    metric: Metric,
    level: float,
    resamples: int,
    seed: int,
    method: str,
    warnings: list[str],
) -> Interval:
    disagreement = disagreement_of(units, metric)
    estimate = float(alphas_of(units, units.repeats[None], metric, disagreement)[0])
    if np.isnan(estimate):
        warnings.append(f"every rating is {units.values[0]:g}: α is 0/0")
        return unknown(level, method)
    draws = int(units.repeats.sum()) if units.clusters is None else int(units.clusters.max()) + 1
    if draws < 2 or resamples == 0:
        if resamples:
            warnings.append("one item or cluster: α has no interval")
        return unknown(level, method, estimate)
    generator = np.random.default_rng(seed)
    found = np.concatenate(
        [
            alphas_of(units, _weights(units, draws, size, generator), metric, disagreement)
            for start in range(0, resamples, _BATCH)
            for size in (min(_BATCH, resamples - start),)
        ]
    )
    usable = found[~np.isnan(found)]
    if len(usable) < len(found):
        warnings.append(
            f"{len(found) - len(usable)} of {len(found)} resamples hold one rating only and are "
            "left out: too few items differ"
        )
    if not len(usable) or np.ptp(usable) == 0:
        warnings.append("every resample gives the same α: the data give no interval")
        return unknown(level, method, estimate)
    tail = (1 - level) / 2
    lower, upper = np.quantile(usable, [tail, 1 - tail])
    return Interval(estimate, float(lower), float(upper), level, method)


def _weights(units: Units, draws: int, resamples: int, generator: np.random.Generator) -> Values:
    """Return how often each unit is drawn in each resample, shape [resamples, U]."""
    if units.clusters is None:
        return generator.multinomial(draws, units.repeats / draws, resamples).astype(np.float64)
    drawn = generator.multinomial(draws, np.full(draws, 1 / draws), resamples)
    return drawn[:, units.clusters].astype(np.float64)
