"""How a reply ended: an allow-list of good ends; whatever is not on it is no whole reply.

Servers and gateways name one and the same end in many ways; docs/endpoints.md has the sources.
"""

from __future__ import annotations

import re
from typing import Literal

__all__ = ["GOOD_ENDS", "Ending", "ending_of"]

Ending = Literal["whole", "cut", "refused", "failed", "unknown"]
"""``whole``: all of it is there; ``cut``: a limit; ``refused``: a filter or the model itself;
``failed``: the server broke off; ``unknown``: none of these, and so no whole reply."""

GOOD_ENDS = ("stop", "end_turn", "stop_sequence", "eos", "eos_token", "complete", "completed")

_WORDS: dict[Ending, tuple[str, ...]] = {
    "whole": GOOD_ENDS,
    "cut": (
        "length", "max_tokens", "model_length", "max_output_tokens", "max_completion_tokens",
        "max_new_tokens", "max_length", "token_limit", "model_context_window_exceeded",
        "context_length", "context_length_exceeded", "time_limit", "incomplete", "error_limit",
    ),
    "refused": (
        "content_filter", "content_filtered", "content_filter_error", "content_policy_violation",
        "refusal", "refused", "safety", "image_safety", "recitation", "prohibited_content",
        "blocklist", "spii", "sensitive", "error_toxic", "guardrail_intervened", "guardrails",
        "moderation", "content_moderation", "flagged", "blocked", "invalid_prompt",
        "responsibleaipolicyviolation", "data_inspection_failed", "datainspectionfailed",
    ),
    "failed": (
        "error", "error_unknown", "failed", "abort", "aborted", "cancelled", "canceled", "timeout",
        "timed_out", "network_error", "insufficient_system_resource", "overloaded",
        "server_error", "engine_error",
    ),
}  # fmt: skip
_ENDINGS: dict[str, Ending] = {word: end for end, words in _WORDS.items() for word in words}


def ending_of(finish_reason: str | None) -> Ending:
    """Return what an endpoint's word for the end of a reply means; of none, that is unknown."""
    word = re.sub(r"(?<=[a-z])(?=[A-Z])|[- ]", "_", (finish_reason or "").strip()).lower()
    return _ENDINGS.get(word.removeprefix("finish_reason_"), "unknown")
