"""The command that starts vLLM's OpenAI-compatible server over a composite: pure, without vLLM."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from eft_eval.composite.model import CompositeModel
from eft_eval.engine.loading import Member
from eft_eval.errors import ConfigError
from eft_eval.vllm.arguments import engine_arguments
from eft_eval.vllm.refusals import CHECKED, check_arguments, check_length, check_ranks

__all__ = ["ServeCommand", "check_port", "serve_command"]

_PORT = "8000"  # vLLM's, unless told
_SHORT = {
    "-tp": "tensor_parallel_size",
    "-pp": "pipeline_parallel_size",
    "-sc": "speculative_config",
    "-q": "quantization",
}
_OTHERS = ("config", "host", "override_generation_config", "port", "uds")  # that we read, too


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
    values["hf_overrides"]["eft_served"] = True  # prompts are checked by vLLM's server itself
    values.setdefault("served_model_name", composite.name)
    notes = (*notes, *_unheeded(composite))
    words = ["serve", values.pop("model")]
    for name, value in values.items():
        if name not in given:
            words += [f"--{name.replace('_', '-')}", _word(value)]
    neutral = _without_penalty(given)
    if "override_generation_config" in given:  # vLLM takes the last
        return ServeCommand([*words, *flags, *neutral], notes)
    return ServeCommand([*words, *neutral, *flags], notes)


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
    """Return flags by vLLM's argument names, with the values that stand beside them, else True.

    Those of a file that ``--config`` names are among them; the command line wins over it.
    """
    found: dict[str, Any] = {}
    for number, flag in enumerate(flags):
        name, equals, value = flag.partition("=")
        if not name.startswith("-"):
            continue
        following = flags[number + 1] if number + 1 < len(flags) else True
        key = _SHORT.get(name) or _whole_name(name.lstrip("-").replace("-", "_"))
        found[key] = value if equals else following
    return _of_file(found["config"]) | found if "config" in found else found


def _whole_name(name: str) -> str:
    """Return the argument that a name means: vLLM takes the beginning of one for it."""
    if name in CHECKED or name in _OTHERS:
        return name
    first, dot, rest = name.partition(".")
    meant = [one for one in (*CHECKED, *_OTHERS) if len(first) > 1 and one.startswith(first)]
    return meant[0] + dot + rest if len(meant) == 1 else name


def _of_file(path: Any) -> dict[str, Any]:
    """Return the arguments in a file of vLLM's ``--config``."""
    try:
        content = yaml.safe_load(Path(str(path)).read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"--config {path}: cannot be read as YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"--config {path}: expected lines such as `max-model-len: 2048`")
    return {_whole_name(str(key).replace("-", "_")): value for key, value in content.items()}


def _without_penalty(given: Mapping[str, Any]) -> list[str]:
    """Return the flags that leave out a tuned checkpoint's ``repetition_penalty``.

    vLLM would penalise repetition, in greedy answers, too. What the user overrides stays.
    """
    flag, penalty = "override_generation_config", "repetition_penalty"
    word = f"--{flag.replace('_', '-')}"
    if any(name.startswith(f"{flag}.") for name in given):  # vLLM joins those alone
        return [] if f"{flag}.{penalty}" in given else [f"{word}.{penalty}", "1.0"]
    changed = given.get(flag, {})
    try:
        changed = json.loads(changed) if isinstance(changed, str) else changed
    except ValueError:
        changed = None
    if not isinstance(changed, dict):
        raise ConfigError(f"{word} {given[flag]}: expected a JSON object")
    return [word, json.dumps({penalty: 1.0} | changed)]


def _word(value: Any) -> str:
    return json.dumps(value) if isinstance(value, (Mapping, list)) else str(value)
