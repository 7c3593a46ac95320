"""The command that starts vLLM's OpenAI-compatible server over a composite: pure, without vLLM."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from eft_eval.composite.model import CompositeModel
from eft_eval.vllm.arguments import check_arguments, check_length, engine_arguments

__all__ = ["ServeCommand", "serve_command"]


class ServeCommand(NamedTuple):
    """A command of vLLM's.

    Attributes:
        words: What follows ``vllm``.
        notes: What the user should know of it, a line each.
    """

    words: list[str]
    notes: tuple[str, ...]


def serve_command(composite: CompositeModel, flags: Sequence[str] = ()) -> ServeCommand:
    """Return ``vllm serve …`` for a composite.

    Args:
        composite: What is served, under its canonical name unless ``flags`` name another.
        flags: vLLM's own, as they are written on its command line; they win over ours.

    Raises:
        ConfigError: The composite cannot be served, or a flag is one that the recipe decides.
    """
    given = _named(flags)
    check_arguments(given)
    check_length(composite, given)
    values, notes = engine_arguments(composite)
    values.setdefault("served_model_name", composite.name)
    words = ["serve", values.pop("model")]
    for name, value in values.items():
        if name not in given:
            words += [f"--{name.replace('_', '-')}", _word(value)]
    return ServeCommand([*words, *flags], notes)


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
