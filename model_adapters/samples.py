"""Which sample of its prompt each of lm-eval's generation requests asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from eft_eval.composite.mathematics import hash_of

__all__ = ["UnfinishedResponse", "drop_padding", "sample_numbers"]


class UnfinishedResponse(str):
    """The empty answer of a response whose reasoning did not end; lm-eval sees an empty text."""


class _Document(NamedTuple):
    """A generation request as every rank may know it."""

    task: str | None
    prompt: int  # a hash
    order: tuple[int, int]
    repeats: int


def sample_numbers(
    requests: Sequence[Any],
    of_all_ranks: Callable[[list[Any]], list[list[Any]]] | None = None,
    rank: int = 0,
) -> list[int | None]:
    """Return for each request the number of its sample, from 0; None where it fills up a rank.

    Repeats are the same `Instance` again. Documents of one task with the same prompt get samples
    of their own, in the documents' order whichever ranks they are on; those of two tasks the same:
    one response for every judge. lm-eval asks a rank's last request more often than its repeats,
    where another rank has more to do.

    Args:
        requests: This rank's.
        of_all_ranks: Returns what all ranks give to it; None: no other rank counts.
        rank: This one.
    """
    asked = Counter(id(request) for request in requests)
    own = {id(one): _document(one, asked[id(one)]) for one in requests}
    documents = [*own.values()]
    ranks = [documents] if of_all_ranks is None else of_all_ranks(documents)
    everywhere = [(one, who, at) for who, of in enumerate(ranks) for at, one in enumerate(of)]
    everywhere.sort(key=lambda found: found[0].order)
    given: Counter[tuple[str | None, int]] = Counter()
    first: dict[tuple[int, int], int] = {}
    for one, who, at in everywhere:
        first[who, at] = given[one.task, one.prompt]
        given[one.task, one.prompt] += one.repeats
    place = 0 if of_all_ranks is None else rank
    starts = {one: first[place, at] for at, one in enumerate(own)}
    seen: Counter[int] = Counter()
    numbers: list[int | None] = []
    for request in requests:
        one = id(request)
        there = seen[one] < own[one].repeats
        numbers.append(starts[one] + seen[one] if there else None)
        seen[one] += 1
    return numbers


def _document(request: Any, asked: int) -> _Document:
    order = (-1 if request.doc_id is None else request.doc_id, request.idx)
    prompt = hash_of(str(request.args[0]))
    return _Document(request.task_name, prompt, order, request.repeats or asked)


def drop_padding(instances: Iterable[Any]) -> None:
    """Take away the responses that were asked for only to fill up a rank."""
    for instance in instances:
        if instance.repeats:
            del instance.resps[instance.repeats :]
