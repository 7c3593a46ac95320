"""A scripted judge: written rules answer in place of a model, for dry runs and tests.

The script is a YAML or JSON file: a list of rules, each ``match`` (a regular expression, searched
in the whole text that a judge would be sent; ``.`` matches line ends, too) and ``reply``; further
``finish_reason`` (``stop`` unless given), ``refusal`` in place of a reply, and ``status``, which
fails the request as an endpoint's HTTP status would. ``\\1`` or ``\\g<name>`` in a reply stand for
what the expression's groups found. The first rule that matches answers; where none does, the
request fails, so that a gap in the script is never taken for a verdict.
"""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from eft_eval.errors import ConfigError, nearest
from eft_eval.files import check_readable, read_text
from eft_eval.judging.judges.base import Failure, Judge, Outcome, Reply
from eft_eval.yaml_text import load_yaml

__all__ = ["Rule", "ScriptedJudge", "load_script"]

_LONGEST = 2**26  # characters of a script
_KEYS = ("match", "reply", "finish_reason", "refusal", "status")


@dataclass(frozen=True)
class Rule:
    """One rule of a script; the module says what its parts mean."""

    match: re.Pattern[str]
    reply: str | None = None
    finish_reason: str = "stop"
    refusal: str | None = None
    status: int | None = None

    def answer(self, found: re.Match[str]) -> Outcome:
        """Return what the judge answers to a prompt that the rule matches."""
        if self.status is not None:
            return Failure(f"scripted HTTP status {self.status}", "item")
        text = None if self.reply is None else found.expand(self.reply)
        return Reply(text, self.finish_reason, self.refusal)


class ScriptedJudge(Judge):
    """``scripted:FILE``. The rules' hash is part of the key: an edited script is another judge."""

    @functools.cached_property
    def _path(self) -> Path:
        return Path(self.name)

    @functools.cached_property
    def _rules(self) -> list[Rule]:
        return load_script(self._path)

    def key(self) -> dict[str, Any]:
        """Return the script's hash."""
        check_readable(self._path)
        try:
            return {"script_sha256": hashlib.sha256(self._path.read_bytes()).hexdigest()}
        except OSError as error:
            raise ConfigError(f"cannot read the judge's script {self._path}: {error}") from error

    def check(self, today: date) -> str | None:
        """Read the script."""
        load_script(self._path)
        return None

    async def send(self, prompt: str) -> Outcome:
        """Return the first matching rule's answer."""
        for rule in self._rules:
            if found := rule.match.search(prompt):
                return rule.answer(found)
        return Failure(f"no rule of {self._path} matches this prompt", "item")


def load_script(path: Path) -> list[Rule]:
    """Read and check a script.

    Raises:
        ConfigError: The file cannot be read, or a rule is wrong; the rule is named.
    """
    where = f"the judge's script {path}"
    entries = load_yaml(read_text(path, where, _LONGEST), where, _LONGEST, _LONGEST)
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"the judge's script {path} must be a list of rules: match and reply")
    return [_rule(entry, f"{path}, rule {number}") for number, entry in enumerate(entries, 1)]


def _rule(entry: Any, where: str) -> Rule:
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: is {entry!r}; it must have the keys match and reply")
    for key in entry:
        if key not in _KEYS:
            hint = nearest(str(key), _KEYS)
            raise ConfigError(f"{where}: unknown key {key!r}{hint}; known: {', '.join(_KEYS)}")
    for key in ("match", "reply", "finish_reason", "refusal"):
        if key in entry and not isinstance(entry[key], str):
            raise ConfigError(f"{where}: {key} is {entry[key]!r}; it must be text (in quotes)")
    status = entry.get("status")
    if status is not None and (type(status) is not int or not 400 <= status <= 599):
        raise ConfigError(f"{where}: status is {status!r}; it must be 400 to 599")
    if "match" not in entry or not {"reply", "refusal", "status"} & entry.keys():
        raise ConfigError(f"{where}: needs a match, and a reply, refusal or status")
    try:
        match = re.compile(entry["match"], re.DOTALL)
        # a wrong group number shows only in an expansion, and there need be no match yet
        re.sub(f"(?:{entry['match']})|$", entry.get("reply", ""), "", flags=re.DOTALL)
    except (re.error, IndexError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{where}: {error}") from error
    return Rule(match, **{key: value for key, value in entry.items() if key != "match"})
