"""Seeded draws of items for gold labels: disagreements, and agreements on request."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from eft_eval.errors import ConfigError
from eft_eval.statistics.ratings import Ratings, Rule, apply_rule, read_pair

__all__ = ["GoldDraw", "draw_for_gold"]


class GoldDraw(NamedTuple):
    """Items drawn for gold labels.

    Attributes:
        items: Indices of all drawn items in shuffled order, so that a labeller cannot tell a
            disagreement by its place.
        disagreements: Those of them on which the two differ, in ascending order.
        agreements: Those on which they agree.
        of_disagreements: Number of disagreements that were drawn from.
        of_agreements: Number of agreements that were drawn from.
        seed: Seed of the draw.
        warnings: What could not be drawn as asked.
    """

    items: tuple[int, ...]
    disagreements: tuple[int, ...]
    agreements: tuple[int, ...]
    of_disagreements: int
    of_agreements: int
    seed: int
    warnings: tuple[str, ...]


def draw_for_gold(
    judge: Ratings,
    human: Ratings,
    *,
    disagreements: int = 30,
    agreements: int = 0,
    seed: int,
    rule: Rule = "any error",
) -> GoldDraw:
    """Draw items without replacement from the disagreements, and from the agreements on request.

    Args:
        judge: The judge's ratings; items that either lacks are never drawn.
        human: The human's ratings of the same items.
        disagreements: How many disagreements to draw; all where there are fewer.
        agreements: How many agreements to draw.
        seed: Seed of the draw and of the order.
        rule: "any error" compares whether a count is above 0; "raw" the ratings themselves.
    """
    if disagreements < 0 or agreements < 0:
        raise ConfigError(f"{disagreements} and {agreements} items to draw; expected 0 or more")
    first, second = read_pair(judge, human, ("the judge's ratings", "the human's"))
    first = apply_rule(first, rule, "the judge's ratings")
    second = apply_rule(second, rule, "the human's")
    rated = ~(np.isnan(first) | np.isnan(second))
    generator = np.random.default_rng(seed)
    pools = (np.flatnonzero(rated & (first != second)), np.flatnonzero(rated & (first == second)))
    drawn, warnings = [], list[str]()
    for pool, wanted, name in zip(
        pools, (disagreements, agreements), ("disagreements", "agreements"), strict=True
    ):
        drawn.append(generator.permutation(pool)[:wanted])
        if wanted > len(pool):
            warnings.append(f"{wanted} {name} wished, {len(pool)} exist: all are drawn")
    order = generator.permutation(np.concatenate(drawn))
    return GoldDraw(
        items=tuple(order.tolist()),
        disagreements=tuple(np.sort(drawn[0]).tolist()),
        agreements=tuple(np.sort(drawn[1]).tolist()),
        of_disagreements=len(pools[0]),
        of_agreements=len(pools[1]),
        seed=seed,
        warnings=tuple(warnings),
    )
