"""What is never shown: keys, tokens and passwords, known by name, by form or by value.

| function              | for                           | what is left out                     |
|-----------------------|-------------------------------|--------------------------------------|
| `without_secrets`     | arguments                     | what a name calls secret, and forms  |
| `without_credentials` | prose: errors, prompts        | forms: users of addresses, tokens    |
| `without_secret_flags`| a command                     | what a flag calls secret, and forms  |
| `without_values`      | what somebody else may echo   | the very secrets that they were sent |
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote, urlsplit

__all__ = [
    "secrets_of",
    "without_credentials",
    "without_secret_flags",
    "without_secrets",
    "without_values",
]

_HIDDEN = "(not shown)"
_LEAST_SECRET = 8  # shorter keys (EMPTY, ollama) are words, and no secrets
_WORDS = "key|token|secret|passw|passphrase|pwd|credential|auth|header|cookie|signature|bearer"
_NAME = re.compile(f"{_WORDS}|(^|[_-])(pass|sig)$", re.IGNORECASE)
_HARMLESS = re.compile(
    r"tokeni[sz]|tokens$|token_ids?$|keys?_?(to|map)|keyword|keyboard|author(?!i)|"
    r"(bos|eos|eot|pad|unk|end|start|special|prefix|sep|cls|mask|image)_token",
    re.IGNORECASE,
)
_PROSE = ("chat_template", "description", "prompt", "stop", "system_instruction", "until")
_PLAIN = re.compile(r"-?[\d.]+|true|false|none|null", re.IGNORECASE)
_SCHEME = r"(?:(?:bearer|basic|token|digest|negotiate)\s+)?"
_USER = re.compile(r"(?<=://)[^/?#\s\"']*@")
_HEAD = re.compile(  # starts where a word starts, and is short: the time is that of the text
    rf"""(?<![\w-])(?P<name>[\w-]{{1,100}})["']?\s*[=:]\s*["']?{_SCHEME}""", re.IGNORECASE
)
_VALUE = re.compile(r"""(?!\(not shown\))[^\s"'&,;{}\[\]#]+""")
_QUERY = re.compile(r"[?&](?P<name>[\w.-]{1,100})=")
_SHAPES = re.compile(
    r"(?i:(?<=bearer )|(?<=basic ))[\w.~+/-]{8,}=*"
    r"|\b(?:sk-[\w-]{16,}|(?:hf|gsk|r8)_[A-Za-z0-9]{20,}"
    r"|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|xox[abeprs]-[\w-]{10,}|AKIA[A-Z0-9]{16}"
    r"|AIza[\w-]{30,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*)"
)


def without_secrets(value: Any) -> Any:
    """Return arguments with what may be a secret left out, by its name or by its form.

    Args:
        value: Plain JSON types. In a text, the user of an address, values of names such as
            ``api_key=``, and what is formed as a token are masked.
    """
    if isinstance(value, Mapping):
        return {name: _argument(str(name), one) for name, one in value.items()}
    return _everywhere(value, without_secrets, lambda text: _by_name(_HEAD, text))


def without_credentials(value: Any) -> Any:
    """Return a text, or the texts of plain JSON types, without users of addresses and tokens.

    No name decides, so that words such as "Token: x" of a prompt stay as they are.
    """
    if isinstance(value, Mapping):
        return {name: without_credentials(one) for name, one in value.items()}
    return _everywhere(value, without_credentials, lambda text: _by_name(_QUERY, text))


def without_secret_flags(words: Sequence[str]) -> list[str]:
    """Return the words of a command with what may be a secret left out.

    What stands behind a flag such as ``--api-key``, up to the next flag, is one.
    """
    shown, secret = [], False
    for word in words:
        if word.startswith("-"):
            secret = "=" not in word and _is_secret(word.lstrip("-").replace("-", "_"), "x")
        shown.append(_HIDDEN if secret and not word.startswith("-") else without_secrets(word))
    return shown


def without_values(text: str, secrets: Iterable[str]) -> str:
    """Return a text without these secrets; see `secrets_of`."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def secrets_of(address: str | None, key: str | None) -> tuple[str, ...]:
    """Return a key, and user and password of an address, in every form that one may echo.

    Args:
        address: A URL.
        key: A key; one shorter than eight characters is a word such as ``EMPTY``, and none.
    """
    parts = urlsplit(address or "")
    userinfo = parts.netloc.rpartition("@")[0]
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    known = {parts.password, password, parts.username, user}
    if userinfo:
        known |= {f"{userinfo}@", _base64(f"{user}:{password}")}
    if key is not None and len(key) >= _LEAST_SECRET:
        known |= {key, quote(key, safe=""), _base64(key)}
    return tuple(sorted((one for one in known if one), key=lambda one: (-len(one), one)))


def _argument(name: str, value: Any) -> Any:
    if name.rpartition(".")[2] in _PROSE:
        return without_credentials(value)
    return _HIDDEN if _is_secret(name, value) else without_secrets(value)


def _everywhere(value: Any, inside: Callable[[Any], Any], by_name: Callable[[str], str]) -> Any:
    if isinstance(value, (list, tuple)):
        return [inside(one) for one in value]
    if not isinstance(value, str):
        return value
    return _SHAPES.sub("***", by_name(_USER.sub("***@", value)))


def _is_secret(name: str, value: Any) -> bool:
    if value is None or isinstance(value, (bool, int, float)):
        return False
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return False
    return _NAME.search(name) is not None and _HARMLESS.search(name) is None


def _by_name(heads: re.Pattern[str], text: str) -> str:
    parts, at = [], 0
    for head in heads.finditer(text):
        if head.start() < at or not _is_secret(head["name"], "x"):
            continue
        value = _VALUE.match(text, head.end())
        if value is not None and _is_secret(head["name"], value[0]):
            parts += [text[at : head.end()], "***"]
            at = value.end()
    return "".join([*parts, text[at:]])


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode().rstrip("=")
