"""Which judge a name means."""

from __future__ import annotations

from eft_eval.judging.cost.budget import Budget
from eft_eval.judging.judges.base import Sender
from eft_eval.judging.settings import JudgeSettings

__all__ = ["sender_for"]


def sender_for(settings: JudgeSettings, budget: Budget | None = None) -> Sender:
    """Return what asks this judge; made where an event loop runs.

    Raises:
        ConfigError: The judge's model or script cannot be used.
    """
    if settings.kind == "scripted":
        from eft_eval.judging.judges.scripted import ScriptedSender

        return ScriptedSender(settings)
    if settings.kind == "hf":
        from eft_eval.judging.judges.local import LocalSender

        return LocalSender(settings)
    from eft_eval.judging.judges.endpoint import EndpointSender

    return EndpointSender(settings, budget)
