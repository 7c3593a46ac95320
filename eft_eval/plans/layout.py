"""How a composite is laid over devices, and what each of them holds then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from eft_eval.composite.memory import row_states, score_bytes
from eft_eval.composite.model import View
from eft_eval.decoding.block import LONGEST_BLOCK
from eft_eval.decoding.drafting import cheapest_view
from eft_eval.engine.adapters import AdaptedMember
from eft_eval.engine.cache import GROWTH
from eft_eval.engine.footprint import parameter_count
from eft_eval.engine.states import rows_together
from eft_eval.errors import ConfigError
from eft_eval.plans.hardware import GIB, Device
from eft_eval.plans.members import PlannedComposite, Work, planned_composite, work_of
from eft_eval.recipe import Recipe
from eft_eval.vllm.arguments import common_dtype, drafted_tokens
from eft_eval.vllm.refusals import check_composite, uncut

__all__ = [
    "ENGINES",
    "PASS_TOKENS",
    "Layout",
    "RankMemory",
    "Spread",
    "drops_windows",
    "laid_out",
    "quantised",
    "rank_memory",
    "with_members",
]

ENGINES = ("eft", "eft-vllm")

# of a GPU's memory: what vLLM takes unless told; what torch's allocator does not leave in pieces
_SHARES = {"eft-vllm": 0.92, "eft": 0.95}
_RUNTIME = int(0.9 * GIB)  # of a GPU: context and kernels
# of a CPU: what a process holds beside tiny members (`python -m benchmarks.plans --libraries`)
_LIBRARIES = {"eft": int(0.57 * GIB), "eft-vllm": int(0.79 * GIB)}

_PAGE, _CPU_PAGE = 16, 128  # tokens of which vLLM's caches are made

PASS_TOKENS = 8192
"""Tokens of prompts that are read in one pass, at most."""


class Spread(NamedTuple):
    """How one composite is spread, and over how many rows it runs at once.

    Attributes:
        ranks: Devices of one copy: tensor parallel with eft-vllm, layers apart with eft.
        rows: Rows that are decoded together.
        length: Tokens of the longest row.
    """

    ranks: int
    rows: int
    length: int


@dataclass(frozen=True)
class Layout:
    """A composite in one of the engines.

    Attributes:
        engine: ``eft`` or ``eft-vllm``.
        composite: With the types that the engine computes in.
        works: What every view asks for.
        draft: The place of the view that drafts.
        block: Tokens that it drafts in a round; ``auto``: as many as pay.
        notes: What the user should know, a line each.
    """

    engine: str
    composite: PlannedComposite
    works: tuple[Work, ...]
    draft: int
    block: int | str
    notes: tuple[str, ...] = ()

    @property
    def longest_block(self) -> int:
        """The most tokens that are drafted in a round."""
        return LONGEST_BLOCK if self.block == "auto" else int(self.block)

    @property
    def draft_copy(self) -> Work | None:
        """The draft model that vLLM loads beside the composite."""
        return self.works[self.draft] if self.engine == "eft-vllm" and self.block else None

    def unfit(self, ranks: int) -> str | None:
        """Say why members cannot be spread over so many ranks; None where they can."""
        if self.engine == "eft":
            placed = [(view.member.label, _rank_of(view) or 0) for view in self.composite.views]
            label, last = max(placed, key=lambda one: one[1])
            return f"{label} is placed on device {last}" if last >= ranks else None
        for work in self.works:
            if (why := uncut(work.label, work.heads, ranks)) is not None:
                return why
        return None


def laid_out(composite: PlannedComposite, engine: str) -> Layout:
    """Return a composite as an engine would hold it.

    Raises:
        ConfigError: The engine cannot run it, or there is no such engine.
    """
    if engine not in ENGINES:
        raise ConfigError(f"--engine is {engine!r}; known: {', '.join(ENGINES)}")
    views = composite.views
    if engine == "eft":
        costs = [float(parameter_count(view.member)) for view in views]
        filtered = composite.recipe.decoding.weight_top_p is not None
        draft = len(views) - 1 if filtered else cheapest_view(views, costs)
        block = composite.recipe.decoding.block if len(views) > 1 else 0
        works = tuple(work_of(view.member, engine) for view in views)
        return Layout(engine, composite, works, draft, block)
    check_composite(composite)
    dtype = common_dtype(composite.distinct)
    if any(str(member.dtype) != f"torch.{dtype}" for member in composite.distinct):
        composite = planned_composite(with_members(composite.recipe, dtype=dtype))
    return _in_vllm(composite)


def _in_vllm(composite: PlannedComposite) -> Layout:
    drafted, notes = drafted_tokens(composite)
    views = composite.views
    place = next((i for i, view in enumerate(views) if view.member is composite.tuned), 0)
    works = tuple(work_of(view.member, "eft-vllm") for view in views)
    return Layout("eft-vllm", composite, works, place, drafted, notes)


def quantised(composite: PlannedComposite, engine: str) -> Layout:
    """Return the layout of a composite of quantised members, which vLLM has as checkpoints."""
    return laid_out(composite, engine) if engine == "eft" else _in_vllm(composite)


def with_members(recipe: Recipe, **changes: object) -> Recipe:
    """Return a recipe all of whose members have other settings."""
    return recipe.model_copy(
        update={
            "base": recipe.base.model_copy(update=changes),
            "deltas": tuple(
                delta.model_copy(
                    update={
                        "tuned": delta.tuned.model_copy(update=changes),
                        "reference": delta.reference.model_copy(update=changes),
                    }
                )
                for delta in recipe.deltas
            ),
        }
    )


@dataclass(frozen=True)
class RankMemory:
    """What the fullest device holds, in bytes.

    Attributes:
        weights: Per member.
        caches: Per member, keys, values and recurrent states of all rows.
        draft: Weights and cache of the draft model's own copy.
        scores: Of a round, over the vocabulary.
        activations: Of the longest pass.
        runtime: Of the driver and its kernels; on a CPU, of the libraries.
        available: What a program can have of the device.
    """

    weights: Mapping[str, int] = field(default_factory=dict)
    caches: Mapping[str, int] = field(default_factory=dict)
    draft: int = 0
    scores: int = 0
    activations: int = 0
    runtime: int = 0
    available: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        parts = self.draft + self.scores + self.activations + self.runtime
        return sum(self.weights.values()) + sum(self.caches.values()) + parts

    @property
    def fits(self) -> bool:
        """Whether there is so much."""
        return self.total <= self.available


def drops_windows(layout: Layout, spread: Spread, device: Device) -> bool:
    """Return whether caches keep only what windows see, as rounds of fixed shapes do not."""
    return layout.engine == "eft-vllm" or device.cpu or spread.ranks > 1


def rank_memory(layout: Layout, spread: Spread, device: Device) -> RankMemory:
    """Return what the fullest device holds of a layout."""
    found = [_on_rank(layout, spread, device, rank) for rank in range(spread.ranks)]
    return max(found, key=lambda one: one.total)


def _on_rank(layout: Layout, spread: Spread, device: Device, rank: int) -> RankMemory:
    rows = spread.rows
    vllm = layout.engine == "eft-vllm"
    extra = layout.longest_block + 1
    weights: dict[str, int] = {}
    caches: dict[str, int] = {}
    views = layout.composite.views
    states = row_states(views, layout.longest_block)
    for view, work, state in zip(views, layout.works, states, strict=True):
        share = 1 / spread.ranks if vllm else _share(view, spread.ranks, rank, device)
        weights[work.label] = int((work.weights + _second_tables(layout, work, device)) * share)
        if isinstance(view.member, AdaptedMember):
            below = work_of(view.member.base, layout.engine)
            weights[below.label] = int(below.weights * share)
        if vllm:
            cached = rows * _paged(work, spread, device)
        else:
            whole = -(-(spread.length + extra) // GROWTH) * GROWTH
            tokens = work.cache_of(whole, drops=drops_windows(layout, spread, device))
            cached = int(rows * (tokens + state) * share)
        # a view with a prompt of its own keeps a cache of its own
        caches[work.label] = caches.get(work.label, 0) + cached
    draft = 0
    if (copy := layout.draft_copy) is not None:
        held = copy.weights + _second_tables(layout, copy, device)
        draft = int(held / spread.ranks) + rows * _paged(copy, spread, device)
    flying = 1 if vllm else len(layout.works)  # members' scores that are there at once
    scored = score_bytes(rows, extra - 1, layout.composite.vocabulary, flying)
    return RankMemory(
        weights=weights,
        caches=caches,
        draft=draft,
        scores=scored if rank == 0 or vllm else 0,
        activations=_activations(layout, spread, device),
        runtime=_LIBRARIES[layout.engine] if device.cpu else _RUNTIME,
        available=int(device.memory * _SHARES[layout.engine] if not device.cpu else device.memory),
    )


def _paged(work: Work, spread: Spread, device: Device) -> int:
    """Return the bytes of a row in vLLM's pages; keys and values are cut by their heads."""
    page = _CPU_PAGE if device.cpu else _PAGE
    tokens = -(-spread.length // page) * page
    return int(work.cache_of(tokens) * max(1 / spread.ranks, 1 / max(work.heads.shared, 1)))


def _second_tables(layout: Layout, work: Work, device: Device) -> int:
    """Return the bytes of embeddings and output layer in the order of vLLM's kernels for CPUs.

    They are kept beside the weights, once for each of the two, also where these are tied.
    """
    return 2 * work.head if layout.engine == "eft-vllm" and device.cpu else 0


def _activations(layout: Layout, spread: Spread, device: Device) -> int:
    """Return the bytes of the widest layer's numbers in the longest pass."""
    vllm = layout.engine == "eft-vllm"
    if vllm:
        read = min(PASS_TOKENS, spread.rows * spread.length)
    else:
        read = min(spread.rows, rows_together(spread.length)) * spread.length
    decoded = spread.rows * (layout.longest_block + 1)
    widest = max(work.widest for work in layout.works)
    numbers = 4 if device.cpu else 2
    return int(max(read, decoded) * widest * numbers / (spread.ranks if vllm else 1))


def _share(view: View, ranks: int, rank: int, device: Device) -> float:
    """Return the share of a member of eft's that a device holds."""
    if view.member.spec.placement == "cpu" and not device.cpu:
        return 0.0
    own = _rank_of(view)
    return 1 / ranks if own is None else float(own == rank)


def _rank_of(view: View) -> int | None:
    """Return the device that a member is placed on; None where it may lie on several."""
    placement = view.member.spec.placement
    if placement in (None, "auto"):
        return None
    return int(str(placement).partition(":")[2] or 0)
