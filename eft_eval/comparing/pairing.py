"""Pairing two runs' columns document by document, averaged by prompt or with clusters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from eft_eval.runs.records import Column, ItemSeen, Pipeline
from eft_eval.statistics.paired import Codes, Values

__all__ = ["ItemKey", "Matched", "Pairs", "keys_of", "match_items", "pair_columns"]

ItemKey = tuple[str, str, int]
"""Task, doc_hash, and a count that tells equal documents apart."""


class Matched(NamedTuple):
    """Which documents two runs share.

    Attributes:
        shared: Positions in the baseline's and in the candidate's items.
        missing: Baseline documents that the candidate lacks.
        extra: Candidate documents that the baseline lacks.
        prompts_changed: Number of shared documents with another prompt.
        other_text: Documents under one hash whose texts differ all the same; they are not shared.
    """

    shared: tuple[tuple[int, int], ...]
    missing: tuple[ItemSeen, ...]
    extra: tuple[ItemSeen, ...]
    prompts_changed: int
    other_text: int = 0


class Pairs(NamedTuple):
    """Two columns over the same units.

    Attributes:
        baseline: Numbers, without holes.
        candidate: The same units' numbers.
        clusters: What each unit belongs to; None where all are independent.
        samples: Samples of a prompt that were averaged into a unit; 1 where none were.
        documents: Number of documents that went in.
        dropped: Documents left out, as one run or both have no number there.
        baseline_missing: Documents without a number in the baseline.
        candidate_missing: Documents without one in the candidate.
    """

    baseline: Values
    candidate: Values
    clusters: Codes | None
    samples: int
    documents: int
    dropped: int
    baseline_missing: int
    candidate_missing: int


def keys_of(items: Sequence[ItemSeen], task: str = "") -> list[ItemKey]:
    """Return what pairs each item: its hash, and which of several equal documents it is."""
    seen: Counter[str] = Counter()
    keys = []
    for item in items:
        keys.append((task, item.doc_hash, seen[item.doc_hash]))
        seen[item.doc_hash] += 1
    return keys


def match_items(baseline: Pipeline, candidate: Pipeline) -> Matched:
    """Return which documents two runs of a filter share."""
    place = {key: index for index, key in enumerate(keys_of(candidate.items))}
    left = keys_of(baseline.items)
    # in the order of the hashes, so that random flips do not depend on the files' order
    order = sorted((key, index) for index, key in enumerate(left) if key in place)
    found = [(index, place[key]) for key, index in order]
    shared = tuple((i, j) for i, j in found if _same_text(baseline.items[i], candidate.items[j]))
    known = set(left)
    return Matched(
        shared=shared,
        missing=tuple(baseline.items[i] for i, key in enumerate(left) if key not in place),
        extra=tuple(candidate.items[i] for key, i in place.items() if key not in known),
        prompts_changed=sum(
            baseline.items[i].prompt_hash != candidate.items[j].prompt_hash for i, j in shared
        ),
        other_text=len(found) - len(shared),
    )


def _same_text(one: ItemSeen, other: ItemSeen) -> bool:
    """Whether two documents of one hash are the same, as far as their texts are there."""
    return not one.text or not other.text or one.text == other.text


def pair_columns(parts: Sequence[tuple[Column, Column, Pipeline, Matched]], average: bool) -> Pairs:
    """Pair two runs' numbers.

    Args:
        parts: Per task (one, or those of a group) the columns of both runs, the baseline's filter
            and what the runs share.
        average: Whether items of a cluster are samples of one prompt, and so are averaged where
            every prompt has as many of them; else, and where the numbers differ, they stay items
            of a cluster. Mean and standard error are the same in both forms.

    A document that several tasks of a group share is one cluster over them.
    """
    left, right, words, texts = [], [], [], []
    documents = dropped = left_missing = right_missing = 0
    for number, (baseline, candidate, pipeline, matched) in enumerate(parts):
        for i, j in matched.shared:
            before, after = baseline.values[i], candidate.values[j]
            documents += 1
            left_missing += before is None
            right_missing += after is None
            if before is None or after is None:
                dropped += 1
                continue
            left.append(before)
            right.append(after)
            words.append((number, pipeline.items[i].cluster))
            texts.append(pipeline.items[i].doc_hash)
    first, second = np.array(left, dtype=np.float64), np.array(right, dtype=np.float64)
    joined = _joined(words, texts)
    codes = _codes(joined)
    samples = 1
    if codes is not None and average and joined == words:
        sizes = np.bincount(codes)
        if sizes.min() == sizes.max():
            samples = int(sizes[0])
            first = np.bincount(codes, weights=first) / samples
            second = np.bincount(codes, weights=second) / samples
            codes = None
    return Pairs(first, second, codes, samples, documents, dropped, left_missing, right_missing)


def _joined(words: list[tuple[int, str]], texts: Sequence[str]) -> list[tuple[int, str]]:
    """Return cluster words, the same for clusters of different tasks that share a document."""
    above: dict[tuple[int, str], tuple[int, str]] = {}

    def top(word: tuple[int, str]) -> tuple[int, str]:
        while word in above:
            word = above[word]
        return word

    first: dict[str, tuple[int, str]] = {}
    for word, text in zip(words, texts, strict=True):
        other = first.setdefault(text, word)
        if other[0] != word[0] and (old := top(word)) != (new := top(other)):
            above[old] = new
    return [top(word) for word in words] if above else words


def _codes(words: Sequence[Hashable]) -> Codes | None:
    """Return cluster ids as numbers in order of appearance; None where every item has its own."""
    known: dict[Hashable, int] = {}
    codes = [known.setdefault(word, len(known)) for word in words]
    return None if len(known) == len(words) else np.array(codes, dtype=np.int64)
