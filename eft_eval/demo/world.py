"""The toy encyclopedia: invented people, towns and hazards with facts, a function of one seed.

Every entity is in the pre-training text. A part is *held out* of fine-tuning, and only held-out
entities are asked about in evaluation. Knows nothing of sentences or models.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum
from functools import cached_property, lru_cache
from typing import NamedTuple

from eft_eval.demo import words
from eft_eval.demo.words import Relation

__all__ = ["WORLD_SEED", "Entity", "Kind", "World", "make_world"]

WORLD_SEED = 2310


class Kind(str, Enum):
    """What an entity is."""

    person = "person"
    town = "town"
    hazard = "hazard"

    @property
    def relations(self) -> tuple[Relation, ...]:
        """The relations that every entity of this kind has, in their canonical order."""
        return {"person": words.PERSON, "town": words.TOWN, "hazard": words.HAZARD}[self.value]


class Entity(NamedTuple):
    """One entity with its facts.

    Attributes:
        kind: Person, town or hazard.
        name: Unique in the world.
        values: One value per relation of the kind, in that order.
        held_out: No fine-tuning text speaks of it.
    """

    kind: Kind
    name: str
    values: tuple[str, ...]
    held_out: bool


@dataclass(frozen=True, eq=False)  # compared and hashed by identity, which is quick
class World:
    """All entities, by kind in order of falling frequency in the pre-training text."""

    seed: int
    size: float
    entities: tuple[Entity, ...]

    def of(self, kind: Kind, held_out: bool | None = None) -> tuple[Entity, ...]:
        """Return the entities of one kind; ``held_out`` picks one of the two parts."""
        return tuple(
            entity
            for entity in self.entities
            if entity.kind is kind and held_out in (None, entity.held_out)
        )

    @cached_property
    def by_name(self) -> dict[str, Entity]:
        """Return the entities by their names."""
        return {entity.name: entity for entity in self.entities}


class _Size(NamedTuple):
    fine_tuning: int
    held_out: int


_SIZES = {
    Kind.person: _Size(fine_tuning=120, held_out=240),
    Kind.town: _Size(fine_tuning=80, held_out=120),
    Kind.hazard: _Size(fine_tuning=64, held_out=256),
}


def make_world(seed: int = WORLD_SEED, size: float = 1.0) -> World:
    """Return the world of ``seed``; the shipped models and tasks use the defaults.

    ``size`` shrinks the number of entities, for quick trials.
    """
    return _make_world(seed, size)  # one world, however the arguments are written


@lru_cache(maxsize=8)
def _make_world(seed: int, size: float) -> World:
    source = random.Random(seed)
    entities: list[Entity] = []
    for kind, full in _SIZES.items():
        fine_tuning, held_out_count = (round(count * size) for count in full)
        names = _names(kind, fine_tuning + held_out_count, source)
        # spread evenly over the ranks, so that both parts are equally frequent in the text
        parts = [index < held_out_count for index in range(len(names))]
        source.shuffle(parts)
        entities += [
            Entity(kind, name, _values(kind, name, source), held_out)
            for name, held_out in zip(names, parts, strict=True)
        ]
    return World(seed, size, tuple(entities))


def _names(kind: Kind, count: int, source: random.Random) -> list[str]:
    """Return ``count`` different names; no family name or town is shared by two entities."""
    if kind is Kind.person:
        starts, ends = words.FAMILY_STARTS, words.FAMILY_ENDS
    elif kind is Kind.town:
        starts, ends = words.TOWN_STARTS, words.TOWN_ENDS
    else:
        starts, ends = tuple(words.HAZARD_POWDERS), tuple(words.HAZARD_LIQUIDS)
    space = " " if kind is Kind.hazard else ""
    names = source.sample([start + space + end for start in starts for end in ends], count)
    if kind is Kind.person:
        return [f"{source.choice(words.GIVEN_NAMES)} {family}" for family in names]
    return names


def _values(kind: Kind, name: str, source: random.Random) -> tuple[str, ...]:
    if kind is Kind.hazard:
        first, second = name.split()
        return words.HAZARD_POWDERS[first], words.HAZARD_LIQUIDS[second]
    return tuple(source.choice(relation.values) for relation in kind.relations)
