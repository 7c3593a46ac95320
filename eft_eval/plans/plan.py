"""The plan of a run: what it needs, whether it fits, what would make it fit, how long it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from eft_eval.errors import ConfigError
from eft_eval.plans.hardware import DEVICES, GIB, Device, Hardware
from eft_eval.plans.layout import (
    Layout,
    RankMemory,
    Spread,
    laid_out,
    quantised,
    rank_memory,
    with_members,
)
from eft_eval.plans.members import planned_composite
from eft_eval.plans.speed import ACCEPTANCE, Speed, Workload, speed_of
from eft_eval.recipe import Recipe, canonical_name

__all__ = ["Plan", "PlanSettings", "make_plan"]

_EFT_ROWS = 32
_VLLM_ROWS = 256
_MOST = 1_000_000  # ranks, rows
_RANKS = {"eft": tuple(range(1, 9)), "eft-vllm": (1, 2, 4, 8)}


class PlanSettings(NamedTuple):
    """What is said of a run besides recipe, hardware and workload.

    Attributes:
        engine: ``eft`` or ``eft-vllm``.
        ranks: Devices of one copy; None: those that are done soonest.
        batch: Rows decoded together; None: as many as fit, up to what the engine takes.
        acceptance: Chance that a drafted token stands.
    """

    engine: str = "eft"
    ranks: int | None = None
    batch: int | None = None
    acceptance: float = ACCEPTANCE


@dataclass(frozen=True)
class Plan:
    """What a run would take.

    Attributes:
        name: The composite's canonical name.
        engine: What runs it.
        hardware: What it runs on.
        spread: How one copy is spread.
        memory: Of the fullest device.
        speed: Of the whole run.
        remedies: What would make it fit, a line each; empty where it fits.
        notes: What the user should know, a line each.
    """

    name: str
    engine: str
    hardware: Hardware
    spread: Spread
    memory: RankMemory
    speed: Speed
    remedies: tuple[str, ...]
    notes: tuple[str, ...]


def make_plan(recipe: Recipe, hardware: Hardware, work: Workload, settings: PlanSettings) -> Plan:
    """Plan a run; only configurations are read.

    Raises:
        ConfigError: The engine cannot run the composite, a row is longer than its members read, or
            a setting is out of its range.
    """
    _check(settings, hardware)
    layout = laid_out(planned_composite(recipe), settings.engine)
    limit = layout.composite.max_length
    if limit is not None and work.longest > limit:
        raise ConfigError(
            f"a row of {work.longest:,} tokens is asked for; the shortest member reads {limit:,}: "
            "fewer --prompt-tokens or --response-tokens"
        )
    if settings.ranks is not None and (why := layout.unfit(settings.ranks)) is not None:
        raise ConfigError(f"--ranks {settings.ranks}: {why}")
    spread = _spread(layout, hardware, work, settings)
    memory = rank_memory(layout, spread, hardware.device)
    remedies: tuple[str, ...] = ()
    if not memory.fits:
        remedies = tuple(dict.fromkeys(_remedies(recipe, hardware, spread, settings)))
    notes = _notes(layout, hardware, spread)
    speed = speed_of(layout, spread, hardware, work, settings.acceptance)
    if layout.block != 0:
        plain = replace(layout, block=0)
        without = speed_of(plain, spread, hardware, work, settings.acceptance)
        if without.generation_seconds < 0.98 * speed.generation_seconds:
            notes.append(
                f"with so many rows drafts cost more than they save: block=0 gives "
                f"{without.decoding:,.0f} tokens a second"
            )
    return Plan(
        name=canonical_name(recipe),
        engine=settings.engine,
        hardware=hardware,
        spread=spread,
        memory=memory,
        speed=speed,
        remedies=remedies,
        notes=tuple(notes),
    )


def _notes(layout: Layout, hardware: Hardware, spread: Spread) -> list[str]:
    """Return what the user should know of how a composite is spread."""
    notes = [*layout.notes]
    cut = layout.engine == "eft-vllm" and hardware.number > 1
    if cut and (why := layout.unfit(2)) is not None:
        notes.append(f"one device a copy: {why}")
    if (idle := hardware.number % spread.ranks) and hardware.number > spread.ranks:
        notes.append(f"{idle} of {hardware.number} devices are left over")
    if layout.engine == "eft" and not hardware.device.cpu:
        notes += [
            f"{member.label}: placement=cpu: its memory is not counted, its time is a device's"
            for member in layout.composite.distinct
            if member.spec.placement == "cpu"
        ]
    if layout.engine == "eft" and spread.ranks > 1:
        notes.append(
            "placement: auto puts layers on several devices, which then work one after the other"
        )
    return notes


def _check(settings: PlanSettings, hardware: Hardware) -> None:
    for name, value in (("--ranks", settings.ranks), ("--batch", settings.batch)):
        if value is not None and not 1 <= value <= _MOST:
            raise ConfigError(f"{name} is {value}; it must be from 1 to {_MOST:,}")
    if settings.ranks is not None and settings.ranks > min(hardware.number, hardware.per_node):
        raise ConfigError(
            f"--ranks is {settings.ranks}; a copy is spread over the devices of one machine, here "
            f"up to {min(hardware.number, hardware.per_node)}"
        )
    if not 0 <= settings.acceptance <= 1:
        raise ConfigError(f"--acceptance is {settings.acceptance}; it must be between 0 and 1")


def _candidates(layout: Layout, most: int) -> list[int]:
    """Return the numbers of ranks that a copy can be spread over."""
    fitting = [n for n in _RANKS[layout.engine] if n <= most and layout.unfit(n) is None]
    if not fitting:
        raise ConfigError(f"{layout.unfit(most)}; --hardware has {most} in a machine")
    return fitting


def _spread(layout: Layout, hardware: Hardware, work: Workload, settings: PlanSettings) -> Spread:
    """Return the ranks of a copy on which the run is done soonest, with as many rows as fit."""
    most = min(hardware.number, hardware.per_node)
    ranks = [settings.ranks] if settings.ranks else _candidates(layout, most)
    fitting = [
        Spread(number, rows, work.longest)
        for number in ranks
        if (rows := _rows(layout, hardware, work, settings, number)) is not None
    ]

    def seconds(spread: Spread) -> float:
        found = speed_of(layout, spread, hardware, work, settings.acceptance)
        return found.generation_seconds + found.scoring_seconds

    return min(fitting, key=seconds, default=Spread(ranks[-1], settings.batch or 1, work.longest))


def _rows(
    layout: Layout, hardware: Hardware, work: Workload, settings: PlanSettings, ranks: int
) -> int | None:
    """Return how many rows fit on so many ranks; None where not even one does, or not the asked."""

    def fits(rows: int) -> bool:
        spread = Spread(ranks, rows, work.longest)
        return rank_memory(layout, spread, hardware.device).fits

    if settings.batch is not None:
        return settings.batch if fits(settings.batch) else None
    largest = _EFT_ROWS
    if layout.engine == "eft-vllm":
        roomy = hardware.device.memory >= 70 * GIB and "A100" not in hardware.device.name
        largest = 4 * _VLLM_ROWS if roomy else _VLLM_ROWS
    copies = max(1, hardware.number // ranks)
    largest = max(1, min(largest, -(-max(work.responses, work.scored) // copies)))
    if not fits(1):
        return None
    low, high = 1, largest
    while low < high:  # more rows never need less
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _remedies(
    recipe: Recipe, hardware: Hardware, spread: Spread, settings: PlanSettings
) -> Iterator[str]:
    """Yield what would make a composite fit that does not."""
    device = hardware.device
    own = laid_out(planned_composite(recipe), settings.engine)

    def need(layout: Layout, changed: Spread) -> str | None:
        found = rank_memory(layout, changed, device)
        return f"{found.total / GIB:.1f} GiB of each device's" if found.fits else None

    for rows in (spread.rows // 2, spread.rows // 4, 1):
        if 1 <= rows < spread.rows and (found := need(own, spread._replace(rows=rows))):
            yield f"--batch {rows}: {found}"
            break
    for length in (spread.length // 2, spread.length // 4):
        if length > 16 and (found := need(own, spread._replace(length=length))):
            yield f"rows of {length} tokens: {found}"
            break
    if not device.cpu:
        for ranks in _RANKS[settings.engine]:
            if ranks <= spread.ranks or own.unfit(ranks) is not None:
                continue
            if found := need(own, spread._replace(ranks=ranks)):
                yield f"{ranks} devices a copy: {found}"
                break
    if own.draft_copy is not None:
        plain = recipe.model_copy(
            update={"decoding": recipe.decoding.model_copy(update={"block": 0})}
        )
        layout = laid_out(planned_composite(plain), settings.engine)
        if found := need(layout, spread):
            yield f"block=0, without the draft's copy: {found}"
    yield from _narrower(recipe, spread, settings, need)
    if settings.engine == "eft-vllm" and own.unfit(2) is not None:
        yield from _with_eft(recipe, hardware, spread)
    others = [
        f"{fewest}x{name}"
        for name in _OTHERS
        if (fewest := _least_ranks(own, spread, DEVICES[name])) is not None
    ]
    if others:
        yield f"other devices, for a copy: {', '.join(others)}"


_OTHERS = ("A100-80GB", "H200", "B200", "MI300X")


def _least_ranks(layout: Layout, spread: Spread, device: Device) -> int | None:
    """Return the fewest devices of one machine on which a copy fits."""
    for ranks in _RANKS[layout.engine]:
        wanted = spread._replace(ranks=ranks)
        if layout.unfit(ranks) is None and rank_memory(layout, wanted, device).fits:
            return ranks
    return None


def _narrower(
    recipe: Recipe,
    spread: Spread,
    settings: PlanSettings,
    need: Callable[[Layout, Spread], str | None],
) -> Iterator[str]:
    """Yield the widest types of fewer bits with which it fits."""
    composite = planned_composite(recipe)
    if any(
        str(member.dtype) in ("torch.float32", "torch.float64") for member in composite.distinct
    ):
        half = laid_out(planned_composite(with_members(recipe, dtype="bfloat16")), settings.engine)
        if found := need(half, spread):
            yield f"dtype=bfloat16: {found}"
            return
    for bits in ("8bit", "4bit"):
        less = planned_composite(with_members(recipe, quantization=bits))
        if found := need(quantised(less, settings.engine), spread):
            how = f"quantization={bits}" if settings.engine == "eft" else f"checkpoints of {bits}"
            yield f"{how}: {found}"
            return


def _with_eft(recipe: Recipe, hardware: Hardware, spread: Spread) -> Iterator[str]:
    layout = laid_out(planned_composite(recipe), "eft")
    for ranks in range(1, hardware.per_node + 1):
        found = rank_memory(layout, spread._replace(ranks=ranks), hardware.device)
        if found.fits:
            yield f"--engine eft on {ranks} devices: {found.total / GIB:.1f} GiB of each device's"
            return
