"""What a model can do as a member, in words: the trials of loading, and those of scoring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import transformers

from eft_eval.engine.passes import Passes
from eft_eval.engine.positions import (
    attention_reach,
    counts_by_token,
    longest_row,
    same_scale_until,
)
from eft_eval.engine.trial import Trial

__all__ = ["ModelCheck", "check_model"]


@dataclass(frozen=True)
class ModelCheck:
    """What was found; every reason is None where nothing is lost.

    Attributes:
        architecture: The model's class.
        transformers: The version that ran it.
        refused: Why it cannot be a member at all.
        drafts: ``always``, ``within N tokens`` or ``never``: whether tokens can be taken back.
        no_drafts: Why not always.
        batches: Which prompts share a batch where nothing is drafted; ``reread``: any, and every
            token reads its row anew.
        lost: What that costs, and why.
        scored: Why a batch of unlike rows is scored otherwise than each row alone.
        longest: The most tokens of a row, where longer ones are refused.
    """

    architecture: str
    transformers: str
    refused: str | None = None
    drafts: str = "never"
    no_drafts: str | None = None
    batches: Literal["any", "equal", "one", "reread", "none"] = "none"
    lost: str | None = None
    scored: str | None = None
    longest: int | None = None


def check_model(model: Passes, scale: int = 1) -> ModelCheck:
    """Try a loaded model out against passes without a cache.

    Args:
        model: What runs the passes.
        scale: Multiplies the lengths of the trial's prompts (19, 12 and 5 tokens).
    """
    name, version = model.name, transformers.__version__
    trial = Trial(model, scale)
    if (refused := trial.causal()) is not None:
        return ModelCheck(name, version, refused=refused)
    drafts, no_drafts = _drafts(model, trial)
    way = trial.plain(mixed=counts_by_token(model.text))
    return ModelCheck(
        name,
        version,
        drafts=drafts,
        no_drafts=no_drafts,
        batches=way.rows if way.cache else "reread",
        lost=way.reason,
        scored=trial.batch(),
        longest=longest_row(model.text),
    )


def _drafts(model: Passes, trial: Trial) -> tuple[str, str | None]:
    """Return whether tokens can be taken back, and why not always."""
    reach, limit = attention_reach(model.text), same_scale_until(model.text)
    if reach == 0:
        if (why := trial.recurrent()) is None:
            return "always", None
        return "never", f"some of its layers are no attention over all tokens ({why})"
    windows_fail = trial.windows() if reach is not None else None
    if (reach is None or windows_fail) and (why := trial.rows(reach)) is not None:
        return "never", why
    if reach is not None and windows_fail is not None:
        reason = f"some of its layers see {reach} tokens back ({windows_fail})"
    else:
        reach, reason = None, None
    if limit is not None and (reach is None or limit < reach):
        return f"within {limit} tokens", f"beyond {limit} tokens it scales by the cache's length"
    return ("always", None) if reach is None else (f"within {reach} tokens", reason)
