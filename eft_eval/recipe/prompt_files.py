"""Members' own prompts that lie in files: ``prompt: FILE.jinja`` becomes the template's text.

What follows the file's name (identity, results, exports) sees the text alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eft_eval.errors import ConfigError
from eft_eval.files import read_text, user_path
from eft_eval.recipe.model import check_prompt_template, is_template

__all__ = ["with_prompt_files"]

_SUFFIXES = (".jinja", ".jinja2", ".j2")
_MOST_BYTES = 2**18
_ROLES = ("base", "tuned", "reference")


def with_prompt_files(data: Mapping[str, Any], folder: Path, where: str) -> dict[str, Any]:
    """Return a recipe's data, nested or flat, in which templates stand in place of their files.

    A file is named by ``@FILE`` or by a path that ends in ``.jinja``, ``.jinja2`` or ``.j2``.
    What is no recipe is left as it is.

    Args:
        data: The data.
        folder: What relative paths are relative to.
        where: What the data is, for errors.

    Raises:
        ConfigError: A file is not there, cannot be read, or holds no template.
    """
    found = dict(data)
    for role in _ROLES:
        found |= _member(found, role, folder, f"{where}: {role}.prompt")
        if (key := f"{role}.prompt") in found:
            found[key] = _text(found[key], folder, f"{where}: {key}")
    if isinstance(deltas := found.get("deltas"), list):
        found["deltas"] = [
            {
                **delta,
                **_member(delta, "tuned", folder, f"{where}: deltas.{number}.tuned.prompt"),
                **_member(delta, "reference", folder, f"{where}: deltas.{number}.reference.prompt"),
            }
            if isinstance(delta, Mapping)
            else delta
            for number, delta in enumerate(deltas)
        ]
    return found


def _member(holder: Mapping[str, Any], role: str, folder: Path, where: str) -> dict[str, Any]:
    member = holder.get(role)
    if not isinstance(member, Mapping) or "prompt" not in member:
        return {}
    return {role: {**member, "prompt": _text(member["prompt"], folder, where)}}


def _text(given: Any, folder: Path, where: str) -> Any:
    """Return the template that ``given`` names; ``given`` itself where it names no file."""
    if not isinstance(given, str) or is_template(given):
        return given
    name = given.strip()
    if "\n" in name or not (name.startswith("@") or name.lower().endswith(_SUFFIXES)):
        return given
    path = folder / user_path(name.removeprefix("@"))
    text = read_text(path, f"{where}: the template file {path}", _MOST_BYTES)
    try:
        check_prompt_template(text)
        if not is_template(text):  # nor does a recipe of somebody else carry a file into results
            raise ValueError("it holds no template over 'prompt' and 'messages'")
    except ValueError as problem:
        raise ConfigError(f"{where}: the template file {path}: {problem}") from None
    return text
