"""The one reader of YAML that people pass on: recipes, prompts' metadata, scripted judges, studies.

YAML can be small and yet describe more than a machine holds, by aliases of aliases; so size, depth
and what stands in it once every alias is followed are bounded.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple

import yaml

from eft_eval.errors import ConfigError, nearest
from eft_eval.files import read_text, user_path
from eft_eval.secrets import without_secrets

__all__ = ["YAML_ERRORS", "NamedYaml", "ReadYaml", "load_yaml"]

YAML_ERRORS = (
    yaml.YAMLError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What PyYAML raises of a text: of a value that does not fit its tag (``!!bool x``) anything."""

_CHARACTERS = 2**20
_DEPTH = 40
_VALUES = 100_000


def load_yaml(text: str, where: str, most: int = _CHARACTERS, values: int = _VALUES) -> Any:
    """Return what YAML says, in plain types.

    Args:
        text: The YAML.
        where: What it is, for the error.
        most: Characters.
        values: How many values it may have, those behind an alias counted each time.

    Raises:
        ConfigError: It is no YAML, names a key twice, or goes beyond a bound.
    """
    if len(text) > most:
        raise ConfigError(f"{where} has {len(text):,} characters; at most {most:,} are read")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _count(node, {}) > values:
            raise ConfigError(f"{where} holds more than {values:,} values (aliases followed)")
        return loader.construct_document(node)
    except YAML_ERRORS as error:
        why = " ".join(str(error).split())
        if not isinstance(error, (yaml.YAMLError, ValueError)):
            why = f"a value does not fit its tag ({why})"
        raise ConfigError(f"cannot read {where}: it is not YAML: {why}") from error


class ReadYaml(NamedTuple):
    """What was read by name.

    Attributes:
        content: In plain types.
        where: What it is, for errors.
        name: What it is called: the name that was asked for, or the file's without its ending.
    """

    content: Any
    where: str
    name: str


@dataclass(frozen=True)
class NamedYaml:
    """What ships as YAML under names; a path that ends in .yaml is a user's own of the kind.

    Attributes:
        kind: One of them, such as ``recipe``.
        package: Whose folder they lie in.
        folder: The folder.
        advice: What to give instead of a name that there is not; NAMES stands for those there are.
    """

    kind: str
    package: str
    folder: str
    advice: str

    def names(self) -> tuple[str, ...]:
        """Return the names that ship, sorted."""
        files = (resources.files(self.package) / self.folder).iterdir()
        return tuple(
            sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))
        )

    def text(self, name: str) -> str:
        """Return what ships under ``name``, as it is written."""
        return (resources.files(self.package) / self.folder / f"{name}.yaml").read_text("utf-8")

    def read(self, name: str) -> ReadYaml:
        """Return what ships under ``name``, or what the YAML file of that path says.

        Raises:
            ConfigError: There is none, or it is no YAML.
        """
        path, names = user_path(name), self.names()
        if path.suffix in {".yaml", ".yml"}:
            where = f"{self.kind} file {name}"
            return ReadYaml(load_yaml(read_text(path, where), where), where, path.stem)
        if name not in names:
            raise ConfigError(
                f"no {self.kind} is called {without_secrets(name)!r}{nearest(name, names)}; "
                f"{self.advice.replace('NAMES', ', '.join(names))}"
            )
        where = f"{self.kind} {name}"
        return ReadYaml(load_yaml(self.text(name), where), where, name)


class _Loader(yaml.SafeLoader):
    """Composes to a bounded depth, and refuses a key that is there twice."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > _DEPTH:
            raise yaml.YAMLError(f"nested deeper than {_DEPTH}")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many values a node stands for."""
    if id(node) in known:
        if not known[id(node)]:
            raise yaml.YAMLError("an alias stands in what it names")
        return known[id(node)]
    known[id(node)] = 0
    total = 1
    if isinstance(node, yaml.SequenceNode):
        total += sum(_count(one, known) for one in node.value)
    elif isinstance(node, yaml.MappingNode):
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if names and max(names.values()) > 1:
            raise yaml.YAMLError(f"the key {names.most_common(1)[0][0]!r} stands there twice")
        total += sum(_count(key, known) + _count(value, known) for key, value in node.value)
    known[id(node)] = total
    return total
