"""Which sample of its prompt each of lm-eval's generation requests asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["UnfinishedResponse", "drop_padding", "sample_numbers"]


class UnfinishedResponse(str):
    """The empty answer of a response whose reasoning did not end; lm-eval sees an empty text."""


def sample_numbers(requests: Sequence[Any]) -> list[int | None]:
    """Return for each request the number of its sample, from 0; None where it fills up a rank.

    Repeats are the same `Instance` again. Documents of one task with the same prompt get samples
    of their own, those of two tasks the same: one response for every judge. lm-eval asks a rank's
    last request more often than its repeats, where another rank has more to do.
    """
    asked = Counter(id(request) for request in requests)
    first: dict[int, int] = {}
    given: Counter[tuple[str | None, str]] = Counter()
    seen: Counter[int] = Counter()
    numbers: list[int | None] = []
    for request in requests:
        one = id(request)
        repeats = request.repeats or asked[one]
        if one not in first:
            key = (request.task_name, str(request.args[0]))
            first[one] = given[key]
            given[key] += repeats
        numbers.append(first[one] + seen[one] if seen[one] < repeats else None)
        seen[one] += 1
    return numbers


def drop_padding(instances: Iterable[Any]) -> None:
    """Take away the responses that were asked for only to fill up a rank."""
    for instance in instances:
        if instance.repeats:
            del instance.resps[instance.repeats :]
