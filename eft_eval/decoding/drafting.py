"""Which view drafts, and whether drafting is possible at all."""

from __future__ import annotations

from collections.abc import Sequence

from eft_eval.composite.memory import ALIKE
from eft_eval.composite.model import CompositeModel, View
from eft_eval.engine.engine import PlainWay
from eft_eval.streams import logger

__all__ = ["cheapest_view", "draft_view", "plain_reason", "plain_ways"]

log = logger("eft_eval")
_TOLD: set[str] = set()


def draft_view(composite: CompositeModel) -> int:
    """Return the place of the view that drafts: the smallest, of these the heaviest in the sum.

    In up-scaling that is the tuned member, in down-scaling the base. The weight filter is applied
    after all other parts are summed, so with it the tuned member, which comes last, drafts.
    """
    views = composite.views
    if composite.recipe.decoding.weight_top_p is not None:
        return len(views) - 1

    return cheapest_view(views, [float(view.member.engine.num_parameters) for view in views])


def cheapest_view(views: Sequence[View], costs: Sequence[float]) -> int:
    """Return the place of the smallest view, of these of the heaviest in the sum.

    Args:
        views: What is summed.
        costs: What tells which of their members is cheaper to run.
    """
    # padded vocabularies make equal models differ a little
    cheap = [place for place, cost in enumerate(costs) if cost <= ALIKE * min(costs)]
    return max(cheap, key=lambda place: (views[place].coefficient, place))  # tuned ones come last


def plain_reason(composite: CompositeModel, length: int) -> str | None:
    """Return why this composite is decoded plainly, in static batches; None: it need not be.

    Args:
        composite: The model.
        length: Longest sequence to come, in tokens.

    Raises:
        ConfigError: A member's positions would depend on its batch; see `Engine.check_positions`.
    """
    for view in composite.views:
        view.member.engine.check_positions(length)
        if (why := view.member.engine.cannot_roll_back(length)) is not None:
            reason = f"{view.member.label}: {why}"
            _tell(f"decoding plainly, without drafts: {reason}")
            return reason
    return None


def plain_ways(composite: CompositeModel, length: int) -> tuple[PlainWay, ...]:
    """Return how every view generates plainly, and say what that costs.

    Args:
        composite: The model.
        length: Longest sequence to come, in tokens.
    """
    ways = tuple(view.member.engine.plain_way(length) for view in composite.views)
    for view, way in zip(composite.views, ways, strict=True):
        if way.reason is not None:
            _tell(f"{view.member.label}: {way.reason}")
    return ways


def _tell(line: str) -> None:
    if line not in _TOLD:
        _TOLD.add(line)
        log.warning("%s", line)
