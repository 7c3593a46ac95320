"""Several people's ratings as one rating per item: the commonest answer, or the mean."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from eft_eval.statistics.ratings import Panel, Values, read_panel

__all__ = ["Consensus", "majority", "mean_rating"]


class Consensus(NamedTuple):
    """One rating per item.

    Attributes:
        values: Ratings, shape [items]; NaN where there is none.
        tied: Items without one because two or more answers are equally common.
        several: Items with at least two ratings.
    """

    values: Values
    tied: int
    several: int


def majority(panel: Panel) -> Consensus:
    """Return each item's commonest rating; none where two are equally common."""
    values = read_panel(panel).values
    counts = np.sort(values, axis=0)  # NaN last
    best, best_count = np.full(values.shape[1], np.nan), np.zeros(values.shape[1])
    run, tied = np.zeros(values.shape[1]), np.zeros(values.shape[1], dtype=np.bool_)
    for row, ratings in enumerate(counts):  # sorted: equal ratings are neighbours
        present = ~np.isnan(ratings)
        same = present & (row > 0) & (ratings == counts[row - 1])
        run = np.where(same, run + 1, np.where(present, 1, 0))
        more = present & (run > best_count)
        tied = np.where(more, False, tied | (present & (run == best_count)))
        best, best_count = np.where(more, ratings, best), np.maximum(best_count, run)
    several = (~np.isnan(values)).sum(axis=0) >= 2
    return Consensus(np.where(tied, np.nan, best), int(tied.sum()), int(several.sum()))


def mean_rating(panel: Panel) -> Consensus:
    """Return each item's mean rating: of rates, the chance that a random person says yes."""
    values = read_panel(panel).values
    present = ~np.isnan(values)
    sizes = present.sum(axis=0)
    means = np.divide(
        np.where(present, values, 0.0).sum(axis=0),
        sizes,
        out=np.full(values.shape[1], np.nan),
        where=sizes > 0,
    )
    return Consensus(means, 0, int((sizes >= 2).sum()))
