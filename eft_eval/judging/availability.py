"""A look at the judge before the first paid call: is it there, may we ask it, how long still?"""

from __future__ import annotations

from datetime import date, datetime, timezone

from eft_eval.judging.judges.registry import judge_for
from eft_eval.judging.settings import JudgeSettings

__all__ = ["preflight"]


def preflight(settings: JudgeSettings, *, today: date | None = None) -> str | None:
    """Look whether the judge can be asked; costs nothing.

    Args:
        settings: The judge.
        today: The day to measure shutdown dates from, by default the present one (UTC).

    Returns:
        A warning, such as that the model is to be shut down within 90 days; else None.

    Raises:
        ConfigError: It cannot be asked: the key is refused, the endpoint is down or lacks the
            model, a script or a local model's folder is wrong.
    """
    return judge_for(settings).check(today or datetime.now(timezone.utc).date())
