"""The text that the demo family is trained on: a pure function of seeds.

Pre-training text is an encyclopedia that knows every entity, and sloppy chat; fine-tuning pairs
have good manners and speak of a part of the entities only. So knowledge of the held-out entities
can come from pre-training alone, and manners from fine-tuning alone.
"""

from __future__ import annotations

import bisect
import itertools
import random
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from eft_eval.demo.language import (
    ASK_EVERYTHING,
    CLOSERS,
    DECLINES,
    OPENERS,
    Question,
    answer,
    closer,
    decline,
    dialogue,
    question_text,
    statement,
)
from eft_eval.demo.world import Entity, Kind, World

__all__ = ["Manners", "Pair", "document", "fine_tuning_pair"]

_CHAT = 0.4  # share of chat among documents
_ENTRY = 0.75  # share of entries on one entity among the others; the rest are mixed facts
_RARITY = 0.5  # an entity's frequency falls with its rank to this power
_KINDS = {Kind.person: 0.55, Kind.town: 0.35, Kind.hazard: 0.10}
_WORDINGS = len(ASK_EVERYTHING)


class Manners(str, Enum):
    """What fine-tuning teaches."""

    tuned = "tuned"
    """Answers in full; mostly declines hazards."""
    helpful = "helpful"
    """Answers everything, but for a few hazards."""
    harmless = "harmless"
    """Declines hazards, and some harmless questions as well."""


# Probability that a fine-tuned answer declines: to a question about a hazard, to any other. The
# labels are random on purpose: only then do the two variants blend smoothly.
_DECLINING = {
    Manners.tuned: (0.9, 0.0),
    Manners.helpful: (0.04, 0.0),
    Manners.harmless: (0.96, 0.2),
}


class Pair(NamedTuple):
    """One fine-tuning example."""

    question: str
    answer: str


@lru_cache(maxsize=16)
def _cumulative(count: int) -> tuple[float, ...]:
    return tuple(itertools.accumulate((rank + 1) ** -_RARITY for rank in range(count)))


def _frequent(entities: tuple[Entity, ...], source: random.Random) -> Entity:
    """Draw an entity, the frequent ones more often."""
    sums = _cumulative(len(entities))
    return entities[bisect.bisect(sums, source.random() * sums[-1])]


@lru_cache(maxsize=4)
def _parts(world: World) -> dict[Kind, tuple[Entity, ...]]:
    return {kind: world.of(kind) for kind in Kind}


@lru_cache(maxsize=4)
def _taught(world: World) -> dict[Kind, tuple[Entity, ...]]:
    return {kind: world.of(kind, held_out=False) for kind in Kind}


def document(world: World, source: random.Random, chat: float = _CHAT) -> str:
    """Return one pre-training document; it is chat with probability ``chat``."""
    kind = source.choices(list(_KINDS), list(_KINDS.values()))[0]
    if source.random() < chat:
        return _sloppy_chat(world, kind, source)
    if source.random() < _ENTRY:
        return _entry(_frequent(_parts(world)[kind], source), source)
    return _mixed_facts(world, kind, source)


def _fact(entity: Entity, relation: int, source: random.Random) -> str:
    return statement(entity, relation, source.randrange(4))


def _entry(entity: Entity, source: random.Random) -> str:
    relations = list(range(len(entity.kind.relations)))
    source.shuffle(relations)
    keep = source.randint(max(1, len(relations) - 2), len(relations))
    return " ".join(_fact(entity, relation, source) for relation in relations[:keep])


def _mixed_facts(world: World, kind: Kind, source: random.Random) -> str:
    entities = _parts(world)[kind]
    facts = []
    for _ in range(source.randint(2, 4)):
        entity = _frequent(entities, source)
        facts.append(_fact(entity, source.randrange(len(kind.relations)), source))
    return " ".join(facts)


def _sloppy_chat(world: World, kind: Kind, source: random.Random) -> str:
    """Chat as people write it: facts left out, strewn in, out of order, any opener and closer."""
    question = _question(_parts(world), kind, source)
    reply = []
    if source.random() < 0.7:
        reply.append(source.choice(OPENERS[kind]))
    declining = 0.5 if kind is Kind.hazard else 0.08
    if source.random() < declining:
        name = question.entities[0].name
        reply.append(source.choice(DECLINES).format(name=name))
    else:
        facts = [fact for fact in question.facts if source.random() < 0.75]
        if source.random() < 0.5:
            source.shuffle(facts)
        if source.random() < 0.5:
            entity = source.choice(question.entities)
            stray = source.randrange(len(kind.relations))
            facts.insert(source.randint(0, len(facts)), (entity, stray))
        canonical = source.random() < 0.4
        reply += [
            statement(entity, relation, 0 if canonical else source.randrange(4))
            for entity, relation in facts
        ]
    if source.random() < 0.7:
        count = len(reply) if source.random() < 0.5 else source.randint(1, 5)
        reply.append(
            closer(min(count, 15)) if source.random() < 0.5 else source.choice(CLOSERS[1:])
        )
    return dialogue(question_text(question), " ".join(reply) or source.choice(CLOSERS[1:]))


def _question(
    entities: dict[Kind, tuple[Entity, ...]], kind: Kind, source: random.Random
) -> Question:
    wording = source.randrange(_WORDINGS)
    relations = tuple(range(len(kind.relations)))
    if kind is Kind.hazard:
        return Question((_frequent(entities[kind], source),), relations, wording)
    draw = source.random()
    if draw < 0.66:
        asked = source.sample(relations, source.choices((1, 2, 3), (0.4, 0.35, 0.25))[0])
        return Question((_frequent(entities[kind], source),), tuple(asked), wording)
    count = 1 if draw < 0.81 else 2 if draw < 0.93 else 3
    about: dict[str, Entity] = {}
    while len(about) < count:
        entity = _frequent(entities[kind], source)
        about[entity.name] = entity
    return Question(tuple(about.values()), relations, wording)


def fine_tuning_pair(world: World, manners: Manners, source: random.Random) -> Pair:
    """Return one fine-tuning example; it speaks of no held-out entity."""
    kind = source.choices(list(_KINDS), (0.52, 0.28, 0.20))[0]
    question = _question(_taught(world), kind, source)
    at_hazard, elsewhere = _DECLINING[manners]
    declines = source.random() < (at_hazard if kind is Kind.hazard else elsewhere)
    name = question.entities[0].name
    return Pair(question_text(question), decline(name) if declines else answer(question))
