"""The command that starts vLLM's OpenAI-compatible server over a composite: pure, without vLLM."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from eft_eval.composite.model import CompositeModel
from eft_eval.vllm.arguments import check_arguments, engine_arguments

__all__ = ["serve_command"]


def serve_command(composite: CompositeModel, flags: Sequence[str] = ()) -> list[str]:
    """Return the words of ``vllm serve …`` for a composite, after ``vllm``.

    Args:
        composite: What is served, under its canonical name unless ``flags`` name another.
        flags: vLLM's own, as they are written on its command line; they win over ours.

    Raises:
        ConfigError: The composite cannot be served, or a flag is one that the recipe decides.
    """
    given = _named(flags)
    check_arguments(given)
    values = engine_arguments(composite).values
    values.setdefault("served_model_name", composite.name)
    words = ["serve", values.pop("model")]
    for name, value in values.items():
        if name not in given:
            words += [f"--{name.replace('_', '-')}", _word(value)]
    return [*words, *flags]


def _named(flags: Sequence[str]) -> dict[str, Any]:
    """Return flags by vLLM's argument names, with the values that stand beside them."""
    short = {"-tp": "tensor_parallel_size", "-pp": "pipeline_parallel_size"}
    found: dict[str, Any] = {}
    for number, flag in enumerate(flags):
        name, equals, value = flag.partition("=")
        if not name.startswith("-"):
            continue
        key = short.get(name, name.lstrip("-").replace("-", "_"))
        following = flags[number + 1] if number + 1 < len(flags) else ""
        found[key] = value if equals else following
    return found


def _word(value: Any) -> str:
    return json.dumps(value) if isinstance(value, (Mapping, list)) else str(value)
