"""Judge prompts: a Jinja template with its metadata as YAML in a leading comment."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast

from eft_eval.errors import ConfigError, nearest
from eft_eval.files import read_text
from eft_eval.verdicts.verdict import Scale

__all__ = ["JudgePrompt", "fence_for", "known_prompts", "load_prompt"]

_SUFFIX = ".jinja"
_METADATA = re.compile(r"\A\s*\{#-?(?P<yaml>.*?)-?#\}", re.DOTALL)
_PAIR = ("response_1", "response_2")
_SUPPLIED = ("response", "query", "fence", *_PAIR)
_CHOICES = {
    "scale": ("count", "percent", "preference"),
    "better": ("lower", "higher"),
    "parser": ("reason_score",),
}
_KEYS = ("name", "version", *_CHOICES, "variables")


@dataclass(frozen=True)
class JudgePrompt:
    """A judge prompt and what its scores mean.

    Attributes:
        name: Its name, as metrics and verdicts show it.
        version: Raised by hand with every edit; the hash tells edits apart in any case.
        scale: ``count`` (an integer >= 0), ``percent`` (0 to 100), or ``preference``: which of two
            responses is better, 1 or 2, or 0 for a tie.
        better: Whether a ``lower`` or a ``higher`` score is the better one.
        parser: How replies are read; ``reason_score`` is `eft_eval.judging.prompts.parsing`.
        variables: What the template shows: ``response``, or for a preference ``response_1`` and
            ``response_2``; and perhaps ``query`` and ``fence``, a word that none of them contains,
            to tell the judge where they begin and end.
        template: The Jinja text below the metadata.
        sha256: Of the whole file's text.
    """

    name: str
    version: int
    scale: Scale
    better: Literal["lower", "higher"]
    parser: str
    variables: tuple[str, ...]
    template: str
    sha256: str

    @property
    def is_pairwise(self) -> bool:
        """Whether it shows two responses and asks which is better."""
        return self.scale == "preference"

    def render(self, **values: str) -> str:
        """Return the text for the judge, unescaped, without blank lines around it.

        Values that the prompt does not show are ignored.

        Raises:
            ConfigError: A variable is missing, or the template fails on these values.
        """
        from eft_eval.templates import TemplateProblem, render

        needed = [name for name in self.variables if name != "fence"]
        missing = [name for name in needed if name not in values]
        if missing:
            raise ConfigError(f"judge prompt {self.name!r} needs a {' and a '.join(missing)}")
        shown = {name: values[name] for name in needed}
        if "fence" in self.variables:
            shown["fence"] = fence_for(*shown.values())
        try:
            return render(self.template, shown).strip()
        except TemplateProblem as problem:
            raise ConfigError(
                f"judge prompt {self.name!r} cannot be rendered: {problem}"
            ) from problem


def fence_for(*texts: str) -> str:
    """Return a word of 12 letters and digits that none of the texts contains.

    It depends on the texts alone, so that the same response gives the same prompt; and nobody
    can write it into a response, which would change it.
    """
    contents = ("\0".join((str(attempt), *texts)) for attempt in itertools.count())
    words = (hashlib.sha256(c.encode("utf-8", "surrogatepass")).hexdigest()[:12] for c in contents)
    return next(word for word in words if not any(word in text for text in texts))


def known_prompts() -> list[str]:
    """Return the names of the shipped prompts, sorted."""
    entries = resources.files("eft_eval.prompts").iterdir()
    return sorted(e.name.removesuffix(_SUFFIX) for e in entries if e.name.endswith(_SUFFIX))


def load_prompt(name_or_path: str) -> JudgePrompt:
    """Load a shipped prompt by its name, or a user's by the path of its ``.jinja`` file.

    Raises:
        ConfigError: The name is unknown, the file cannot be read, its metadata are missing or
            wrong, or the template does not show what it must, or something else.
    """
    if name_or_path in known_prompts():
        shipped = resources.files("eft_eval.prompts").joinpath(name_or_path + _SUFFIX)
        return _parse(shipped.read_text("utf-8"), f"judge prompt {name_or_path!r}")
    path = Path(name_or_path)
    if not (path.suffix == _SUFFIX or path.name != name_or_path or path.is_file()):
        known = known_prompts()
        raise ConfigError(
            f"unknown judge prompt {name_or_path!r}{nearest(name_or_path, known)}; known: "
            f"{', '.join(known)}, or give the path of a {_SUFFIX} file"
        )
    where = f"judge prompt {name_or_path!r}"
    return _parse(read_text(path, f"the {where}"), where)


def _parse(text: str, where: str) -> JudgePrompt:
    found = _METADATA.match(text)
    if not found:
        raise ConfigError(
            f"{where} has no metadata: begin the file with {{#- ... -#}} and the YAML keys "
            f"{', '.join(_KEYS)} in it"
        )
    metadata = _metadata(found["yaml"], where)
    _check_template(text, metadata, where)
    prompt = JudgePrompt(
        name=metadata["name"],
        version=metadata["version"],
        scale=cast(Scale, metadata["scale"]),
        better=cast(Literal["lower", "higher"], metadata["better"]),
        parser=metadata["parser"],
        variables=tuple(metadata["variables"]),
        template=text[found.end() :].lstrip(),
        sha256=hashlib.sha256(text.encode("utf-8")).hexdigest(),
    )
    _try(prompt, where)
    return prompt


def _try(prompt: JudgePrompt, where: str) -> None:
    """Render the prompt once: some mistakes show only then, which must be before a run."""
    values = {name: f"the {name} {fence_for(name)}" for name in prompt.variables}
    rendered = prompt.render(**values)
    for name in prompt.variables:
        if name != "fence" and values[name] not in rendered:
            raise ConfigError(f"{where} lists the variable {name!r}, but does not show it")


def _metadata(text: str, where: str) -> dict[str, Any]:
    from eft_eval.yaml_text import load_yaml

    metadata = load_yaml(text, f"the metadata of {where}")
    if not isinstance(metadata, dict):
        raise ConfigError(f"{where}: its metadata must be YAML keys: {', '.join(_KEYS)}")
    for key in metadata:
        if key not in _KEYS:
            hint = nearest(str(key), _KEYS)
            raise ConfigError(f"{where}: unknown metadata key {key!r}{hint}; known: {_KEYS}")
    for key in _KEYS:
        if key not in metadata:
            choices = f" ({' or '.join(_CHOICES[key])})" if key in _CHOICES else ""
            raise ConfigError(f"{where}: its metadata lacks {key!r}{choices}")
    for key, allowed in _CHOICES.items():
        if metadata[key] not in allowed:
            raise ConfigError(
                f"{where}: {key} is {metadata[key]!r}; it must be {' or '.join(allowed)}"
            )
    if not isinstance(metadata["name"], str) or not metadata["name"]:
        raise ConfigError(f"{where}: name is {metadata['name']!r}; it must be a word")
    if type(metadata["version"]) is not int or metadata["version"] < 1:
        raise ConfigError(f"{where}: version is {metadata['version']!r}; it must be 1, 2, ...")
    if not isinstance(metadata["variables"], list):
        raise ConfigError(f"{where}: variables is {metadata['variables']!r}; it must be a list")
    return metadata


def _check_template(text: str, metadata: Mapping[str, Any], where: str) -> None:
    from eft_eval.templates import TemplateProblem, check_template

    listed: list[Any] = metadata["variables"]
    try:
        used = check_template(text)
    except TemplateProblem as problem:
        raise ConfigError(f"{where}: the template is wrong: {problem}") from problem
    for name in [*listed, *sorted(used)]:
        if name not in _SUPPLIED:
            raise ConfigError(
                f"{where} uses the variable {name!r}; only {', '.join(_SUPPLIED)} can be shown"
            )
    needed = _PAIR if metadata["scale"] == "preference" else ("response",)
    for name in needed:
        if name not in used:
            raise ConfigError(f"{where} does not show {{{{ {name} }}}}; there is nothing to judge")
    if others := sorted({"response", *_PAIR} & used - {*needed}):
        raise ConfigError(
            f"{where} shows {{{{ {others[0]} }}}}, which the scale {metadata['scale']!r} has not; "
            f"it shows {' and '.join(needed)}"
        )
    if metadata["scale"] == "preference" and metadata["better"] != "higher":
        raise ConfigError(
            f"{where}: better is {metadata['better']!r}; of a preference it is higher: what is "
            "counted is how often a response is preferred"
        )
    if used != set(listed):
        raise ConfigError(
            f"{where}: variables lists {sorted(listed)}, but the template uses {sorted(used)}"
        )
