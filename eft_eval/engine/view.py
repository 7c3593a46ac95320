"""A member as it sees one prompt form: what a composite sums."""

from __future__ import annotations

from dataclasses import dataclass

from eft_eval.engine.loading import Member

__all__ = ["View"]


@dataclass(frozen=True, eq=False)
class View:
    """A member as it sees one prompt form, and its factor in the sum of Eq. 5.

    A member that appears twice with the same prompt (a reference of two deltas, a base that is
    also a reference) is one view whose factors are added; ``role`` is the first of its roles.
    """

    member: Member
    prompt: str | None
    coefficient: float
    role: str
