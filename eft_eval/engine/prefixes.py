"""Rows that begin alike, as trees: each shared prefix is read once.

Knows tokens, positions and masks, no models. A tree's nodes are the tokens of its rows, a shared
prefix once; each sees those on its way from the root. Nodes whose logits are wanted come last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from eft_eval.engine.windows import Window

__all__ = ["Forest", "common_prefix", "forests", "order_by_prefix", "trees_after"]

_WORTH_IT = 0.75  # nodes over padded tokens, beyond which rows are read as they are
_SHARED = 0.5  # of a row, so that it joins the tree of the row before it
_LARGEST = 2  # nodes of a tree over tokens of the longest row: attention grows with the square
_MOST_NODES = 8192  # of a tree: so does its mask, which rows as they are do without


class Forest(NamedTuple):
    """Some trees of one pass, padded on the left.

    Attributes:
        tokens: Shape [trees, nodes].
        positions: Each node's place in its rows, [trees, nodes].
        ancestors: Which nodes each node sees, itself included, [trees, nodes, nodes].
        keep: The last nodes, whose logits are wanted.
        places: Per row: its number, its tree, and where its logits lie among those kept.
    """

    tokens: Tensor
    positions: Tensor
    ancestors: Tensor
    keep: int
    places: list[tuple[int, int, list[int]]]

    def mask(self, window: Window) -> Tensor:
        """Return what a layer's nodes see, [trees, 1, nodes, nodes]."""
        within = window.mask(self.positions[:, None, :], self.positions[:, :, None])
        own = torch.eye(self.tokens.shape[1], dtype=torch.bool)  # padding sees itself, not nothing
        return ((self.ancestors & within) | own)[:, None]


class _Tree:
    """The tokens of rows in lexical order, each from where it leaves the row before it."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.depths: list[int] = []
        self.rows: dict[int, list[int]] = {}  # a row's nodes
        self.ends: dict[int, list[int]] = {}  # those whose logits it wants
        self.wanted: set[int] = set()
        self._joins: list[tuple[list[int], int, int]] = []

    def add(self, row: int, tokens: Sequence[int], shared: int, length: int) -> None:
        """Add a row that shares its first tokens with the last one; want its last ``length``."""
        before = next(reversed(self.rows.values()))[:shared] if self.rows else []
        start, end = len(self.tokens), len(self.tokens) + len(tokens) - shared
        self.tokens += tokens[shared:]
        self.depths += range(shared, len(tokens))
        self._joins.append((before, start, end))
        self.rows[row] = [*before, *range(start, end)]
        self.ends[row] = self.rows[row][-length:]
        self.wanted.update(self.ends[row])

    def ancestors(self) -> Tensor:
        """Return which nodes each node sees, [nodes, nodes]."""
        size = len(self.tokens)
        seen = torch.zeros(size, size, dtype=torch.bool)
        for before, start, end in self._joins:
            seen[start:end, before] = True
            own = torch.ones(end - start, end - start, dtype=torch.bool)
            seen[start:end, start:end] = own.tril()
        return seen

    def order(self) -> list[int]:
        """Return the nodes, the wanted ones last."""
        return sorted(range(len(self.tokens)), key=lambda node: (node in self.wanted, node))


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two sequences begin with alike."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def order_by_prefix(rows: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], int]:
    """Return each row's rank: those that share half of their tokens together, long ones first."""
    groups: list[list[tuple[int, ...]]] = []
    for row in sorted(set(rows)):
        if groups and _alike(groups[-1][-1], row, common_prefix(groups[-1][-1], row)):
            groups[-1].append(row)
        else:
            groups.append([row])
    groups.sort(key=lambda group: -max(map(len, group)))
    return {row: rank for rank, row in enumerate(row for group in groups for row in group)}


def _alike(one: Sequence[int], other: Sequence[int], shared: int) -> bool:
    return shared > 0 and shared >= _SHARED * min(len(one), len(other))


def forests(inputs: Sequence[Sequence[int]], lengths: Sequence[int]) -> Iterator[Forest]:
    """Yield passes over shared prefixes; nothing where they save too little or are too large.

    Args:
        inputs: Rows of tokens.
        lengths: Per row, the last tokens whose logits are wanted.
    """
    longest, most = max(map(len, inputs)), len(inputs) * max(lengths)
    if longest > _MOST_NODES:
        return
    trees = _trees(inputs, lengths)
    if len(trees) * max(len(tree.tokens) for tree in trees) > _WORTH_IT * len(inputs) * longest:
        return
    trees.sort(key=lambda tree: -len(tree.wanted))
    together: list[_Tree] = []
    for tree in trees:  # never more logits at a time than the rows as they are would have
        if together and (len(together) + 1) * len(together[0].wanted) > most:
            yield _forest(together)
            together = []
        together.append(tree)
    yield _forest(together)


def trees_after(
    shared: int, inputs: Sequence[Sequence[int]], lengths: Sequence[int]
) -> Iterator[Forest]:
    """Yield passes over what follows a prefix that all rows have in common, a tree each.

    Args:
        shared: Tokens of the prefix, which the passes come after.
        inputs: Rows of tokens, the prefix included.
        lengths: Per row, the last tokens whose logits are wanted, all of them after the prefix.
    """
    rows = [list(tokens[shared:]) for tokens in inputs]
    largest = min(max(_LARGEST * max(map(len, rows)), max(map(len, inputs))), _MOST_NODES)
    tree, last = _Tree(), list[int]()
    for row in sorted(range(len(rows)), key=rows.__getitem__):
        same = common_prefix(last, rows[row])
        if tree.tokens and len(tree.tokens) + len(rows[row]) - same > largest:
            yield _forest([tree], shared)
            tree, same = _Tree(), 0
        tree.add(row, rows[row], same, lengths[row])
        last = rows[row]
    yield _forest([tree], shared)


def _trees(inputs: Sequence[Sequence[int]], lengths: Sequence[int]) -> list[_Tree]:
    rows = [list(tokens) for tokens in inputs]
    largest = min(_LARGEST * max(map(len, rows)), _MOST_NODES)
    trees: list[_Tree] = []
    last: list[int] = []
    for row in sorted(range(len(rows)), key=rows.__getitem__):
        tokens = rows[row]
        shared = common_prefix(last, tokens)
        if (
            not trees
            or not _alike(last, tokens, shared)
            or len(trees[-1].tokens) + len(tokens) - shared > largest
        ):
            trees.append(_Tree())
            shared = 0
        trees[-1].add(row, tokens, shared, lengths[row])
        last = tokens
    return trees


def _forest(trees: Sequence[_Tree], after: int = 0) -> Forest:
    size, keep = max(len(tree.tokens) for tree in trees), max(len(tree.wanted) for tree in trees)
    tokens = torch.zeros(len(trees), size, dtype=torch.long)
    positions = torch.zeros_like(tokens)
    ancestors = torch.zeros(len(trees), size, size, dtype=torch.bool)
    places = []
    for number, tree in enumerate(trees):
        order = tree.order()
        first = size - len(order)
        tokens[number, first:] = torch.tensor(tree.tokens)[order]
        positions[number, first:] = torch.tensor(tree.depths)[order] + after
        ancestors[number, first:, first:] = tree.ancestors()[order][:, order]
        column = {node: first + place - (size - keep) for place, node in enumerate(order)}
        places += [(row, number, [column[n] for n in end]) for row, end in tree.ends.items()]
    return Forest(tokens, positions, ancestors, keep, places)
