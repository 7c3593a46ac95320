"""The command that starts vLLM's OpenAI-compatible server over a composite: pure, without vLLM."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from eft_eval.composite.model import CompositeModel
from eft_eval.engine.loading import Member
from eft_eval.errors import ConfigError
from eft_eval.vllm.arguments import engine_arguments
from eft_eval.vllm.refusals import check_arguments, check_length, check_ranks

__all__ = ["ServeCommand", "check_port", "serve_command"]

_PORT = "8000"  # vLLM's, unless told


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
    check_ranks(composite, given)
    values, notes = engine_arguments(composite)
    values.setdefault("served_model_name", composite.name)
    # else vLLM penalises repetition where the tuned checkpoint asks for it, in greedy answers, too
    values["override_generation_config"] = {"repetition_penalty": 1.0}
    notes = (*notes, *_unheeded(composite))
    words = ["serve", values.pop("model")]
    for name, value in values.items():
        if name not in given:
            words += [f"--{name.replace('_', '-')}", _word(value)]
    return ServeCommand([*words, *flags], notes)


def check_port(flags: Sequence[str]) -> None:
    """Raise ConfigError where another program listens where vLLM's server is to listen."""
    given = _named(flags)
    port = str(given.get("port", _PORT))
    if "uds" in given or not (port.isdecimal() and len(port) <= 5 and int(port) < 2**16):
        return  # no port, or one that vLLM refuses
    host = str(given.get("host", ""))
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, int(port)))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConfigError(
                    f"--port {port} is in use on this machine: give another one"
                ) from None


def _unheeded(composite: CompositeModel) -> tuple[str, ...]:
    """Say which tokens end answers with ``eft``, and not at a server of vLLM's."""
    tuned = composite.tuned
    heeded = {composite.tokenizer.eos_token_id} | _ends(tuned)
    if not (others := sorted(composite.stop_tokens - heeded)):
        return ()
    return (
        f"{tuned.label} ends answers with {', '.join(map(str, others))}, too, which vLLM's server "
        f'does not read off its files: ask with "stop_token_ids": {others}',
    )


def _ends(member: Member) -> set[int]:
    """Return the end tokens that vLLM reads: of generation settings, else of the configuration."""
    settings = member.generation_config
    ids = getattr(member.config if settings is None else settings, "eos_token_id", None)
    return set(ids if isinstance(ids, (list, tuple)) else [ids])


def _named(flags: Sequence[str]) -> dict[str, Any]:
    """Return flags by vLLM's argument names, with the values that stand beside them, else True."""
    short = {
        "-tp": "tensor_parallel_size",
        "-pp": "pipeline_parallel_size",
        "-sc": "speculative_config",
        "-q": "quantization",
    }
    found: dict[str, Any] = {}
    for number, flag in enumerate(flags):
        name, equals, value = flag.partition("=")
        if not name.startswith("-"):
            continue
        key = short.get(name, name.lstrip("-").replace("-", "_"))
        following = flags[number + 1] if number + 1 < len(flags) else True
        found[key] = value if equals else following
    return found


def _word(value: Any) -> str:
    return json.dumps(value) if isinstance(value, (Mapping, list)) else str(value)
