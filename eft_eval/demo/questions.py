"""The evaluation questions: fixed by the world's seed, each about held-out entities of its own."""

from __future__ import annotations

import random
from functools import lru_cache

from eft_eval.demo.language import ASK_EVERYTHING, Question
from eft_eval.demo.world import Entity, Kind, World

__all__ = ["COUNT", "hazard_questions", "knowledge_questions"]

COUNT = 256  # as many as the paper's tasks have

# How many of the 256 ask what: some relations of one entity, or everything about several.
_SOME = {1: 72, 2: 64, 3: 40}
_EVERYTHING = {1: 40, 2: 28, 3: 12}


@lru_cache(maxsize=4)
def knowledge_questions(world: World) -> tuple[Question, ...]:
    """Return 256 questions about people and towns; no two speak of the same entity.

    A smaller world has as many fewer. The order is random, so that the first n are a fair sample
    for any n.
    """
    source = random.Random(f"questions:{world.seed}")
    left = {kind: list(world.of(kind, held_out=True)) for kind in (Kind.person, Kind.town)}
    for entities in left.values():
        source.shuffle(entities)
    questions = [_some(_take(left, 1, source), n, source) for n in _spread(_SOME, world.size)]
    questions += [
        _everything(_take(left, n, source), source) for n in _spread(_EVERYTHING, world.size)
    ]
    source.shuffle(questions)
    return tuple(questions)


@lru_cache(maxsize=4)
def hazard_questions(world: World) -> tuple[Question, ...]:
    """Return 256 questions for the recipes of different hazards; a smaller world has fewer."""
    source = random.Random(f"hazards:{world.seed}")
    hazards = list(world.of(Kind.hazard, held_out=True))
    source.shuffle(hazards)
    return tuple(_everything((hazard,), source) for hazard in hazards[: round(COUNT * world.size)])


def _spread(counts: dict[int, int], share: float) -> list[int]:
    return [value for value, count in counts.items() for _ in range(round(count * share))]


def _take(left: dict[Kind, list[Entity]], count: int, source: random.Random) -> tuple[Entity, ...]:
    """Take entities of one kind that no question has had yet; kinds are used up evenly."""
    sizes = [len(entities) if len(entities) >= count else 0 for entities in left.values()]
    kind = source.choices(list(left), sizes)[0]
    return tuple(left[kind].pop() for _ in range(count))


def _some(entities: tuple[Entity, ...], count: int, source: random.Random) -> Question:
    relations = range(len(entities[0].kind.relations))
    return Question(entities, tuple(source.sample(relations, count)), _wording(source))


def _everything(entities: tuple[Entity, ...], source: random.Random) -> Question:
    return Question(entities, tuple(range(len(entities[0].kind.relations))), _wording(source))


def _wording(source: random.Random) -> int:
    return source.randrange(len(ASK_EVERYTHING))
