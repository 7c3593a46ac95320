"""The one reader of YAML that people pass on: recipes, prompts' metadata, scripted judges.

YAML can be small and yet describe more than a machine holds, by aliases of aliases; so size, depth
and what stands in it once every alias is followed are bounded.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import yaml

from eft_eval.errors import ConfigError

__all__ = ["YAML_ERRORS", "load_yaml"]

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
