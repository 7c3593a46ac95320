"""Which view drafts, and whether drafting is possible at all."""

from __future__ import annotations

import logging

from eft_eval.composite import Composite, View
from eft_eval.decoding.views import cannot_roll_back

__all__ = ["draft_view", "plain_reason"]

log = logging.getLogger("eft_eval")
_TOLD: set[str] = set()


def draft_view(composite: Composite) -> int:
    """Return the place of the view that drafts: the cheapest, of these the heaviest in the sum.

    In up-scaling that is the tuned member, in down-scaling the base. The weight filter is applied
    after all other parts are summed, so with it the tuned member, which comes last, drafts.
    """
    views = composite.views
    if composite.recipe.decoding.weight_top_p is not None:
        return len(views) - 1

    def rank(place: int) -> tuple[float, float, int]:
        return _cost(views[place]), -views[place].coefficient, -place  # tuned views come last

    return min(range(len(views)), key=rank)


def _cost(view: View) -> float:
    """Return the parameters that a token passes through; equal shapes cost the same."""
    return float(view.member.model.num_parameters())


def plain_reason(composite: Composite, length: int) -> str | None:
    """Return why this composite is decoded plainly, in static batches; None: it need not be.

    Args:
        composite: The model.
        length: Longest sequence to come, in tokens.
    """
    for view in composite.views:
        if (why := cannot_roll_back(view, length)) is not None:
            reason = f"{view.member.label}: {why}"
            if reason not in _TOLD:
                _TOLD.add(reason)
                log.warning("decoding plainly, without drafts: %s", reason)
            return reason
    return None
