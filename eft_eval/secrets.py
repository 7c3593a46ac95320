"""What is never shown of a run's arguments: keys, tokens and passwords, wherever they stand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["without_secrets"]

_HIDDEN = "(not shown)"
_WORDS = "key|token|secret|passw|credential|auth|header|cookie"
_NAME = re.compile(_WORDS, re.IGNORECASE)
_HARMLESS = re.compile(
    r"tokenizer|tokens$|token_ids?$|(bos|eos|pad|unk|end|special|prefix)_token|keys?_?(to|map)",
    re.IGNORECASE,
)
_PLAIN = re.compile(r"-?[\d.]+|true|false|none|null", re.IGNORECASE)
_USER = re.compile(r"(?<=://)[^/@\s]+@")
_PAIR = re.compile(
    rf"""(?P<head>(?P<name>[\w-]*(?:{_WORDS})[\w-]*)["']?\s*[=:]\s*["']?(?:(?:bearer|basic)\s+)?)"""
    r"""(?P<value>(?!\(not shown\))[^\s"'&,;{}\[\]#]+)""",
    re.IGNORECASE,
)
_SHAPES = re.compile(r"(?<=bearer )[\w.~+/=-]+|\bsk-[\w-]{16,}|\bhf_\w{20,}", re.IGNORECASE)


def without_secrets(value: Any) -> Any:
    """Return arguments with what may be a secret left out, by its name or by its form.

    Args:
        value: Plain JSON types. In a text, the user of an address, values of names such as
            ``api_key=``, and what is formed as a token are masked.
    """
    if isinstance(value, Mapping):
        return {
            name: _HIDDEN if _is_secret(str(name), one) else without_secrets(one)
            for name, one in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [without_secrets(one) for one in value]
    if not isinstance(value, str):
        return value
    text = _USER.sub("***@", value)
    return _SHAPES.sub("***", _PAIR.sub(_masked, text))


def _is_secret(name: str, value: Any) -> bool:
    if value is None or isinstance(value, (bool, int, float)):
        return False
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return False
    return _NAME.search(name) is not None and _HARMLESS.search(name) is None


def _masked(found: re.Match[str]) -> str:
    hidden = _is_secret(found["name"], found["value"])
    return f"{found['head']}***" if hidden else found[0]
