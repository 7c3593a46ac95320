"""Prompts of a served composite: refused where they hold a token that some member cannot read.

Only vLLM's processes import this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from vllm.exceptions import VLLMValidationError
from vllm.renderers.base import BaseRenderer

__all__ = ["check_prompts", "unread_token"]

_VALIDATE = BaseRenderer.validate_token_ids


def check_prompts() -> None:
    """Have vLLM refuse, as it refuses tokens of no vocabulary, those that not every member has.

    vLLM admits what the largest vocabulary has: that of the tokenizer, which is the tuned member's.
    """
    if BaseRenderer.validate_token_ids is _VALIDATE:
        BaseRenderer.validate_token_ids = _also_unread(_VALIDATE)


def unread_token(config: Any, tokens: Sequence[int]) -> int | None:
    """Return a token that some member of a served composite lacks, None where there is none.

    Args:
        config: The engine's own configuration; that of another model has no such tokens.
        tokens: Ids of a prompt.
    """
    if not getattr(config, "eft_served", False):
        return None
    lacking = frozenset(config.eft_excluded)
    found = (token for token in tokens if token >= config.eft_vocabulary or token in lacking)
    return next(found, None)


def _also_unread(validate: Callable[..., None]) -> Callable[..., None]:
    @wraps(validate)
    def validated(
        renderer: BaseRenderer, token_ids: Sequence[int], *, parameter: str | None = None
    ) -> None:
        validate(renderer, token_ids, parameter=parameter)
        token = unread_token(renderer.model_config.hf_config, token_ids)
        if token is not None:
            name = renderer.tokenizer.convert_ids_to_tokens([token])[0]
            raise VLLMValidationError(
                f"the prompt holds token {token} ({name!r}), which not every member of the "
                "composite has: write it without",
                parameter=parameter,
            )

    return validated
