"""Which runs are the arms of an emulated fine-tuning study, from what their results say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from eft_eval.errors import ConfigError, nearest
from eft_eval.runs.metadata import Member, members_in, model_arguments
from eft_eval.runs.records import Run

__all__ = ["ARM_NAMES", "Arms", "find_arms"]

ARM_NAMES = {
    "small": "small tuned",
    "large": "large tuned",
    "up": "up-scaled",
    "down": "down-scaled",
}
"""Short names, as options take them, and what the arms are called."""


class Arms(NamedTuple):
    """The arms among some runs.

    Attributes:
        names: Per run the arm it is, else None.
        notes: Why a run that looks like an arm is none.
    """

    names: tuple[str | None, ...]
    notes: tuple[str, ...]


class _Model(NamedTuple):  # a member: where it is from, and how large it is if that is known
    source: str
    revision: str
    parameters: int | None

    @property
    def key(self) -> tuple[str, str]:
        return self.source, self.revision


class _Built(NamedTuple):  # what a run's model is made of
    run: int
    base: _Model
    tuned: _Model
    reference: _Model | None
    alone: bool  # base and reference cancel, or there is but one model


def find_arms(runs: Sequence[Run], named: Mapping[int, str] | None = None) -> Arms:
    """Return which runs are the small and the large tuned model, up-scaled and down-scaled.

    A composite says itself what it is made of: one delta of weight 1 whose reference is smaller
    than its base is up-scaling, larger is down-scaling, and the same model leaves the tuned one
    alone. A base alone is matched by its name, as runs of lm-eval's ``hf`` are by ``pretrained=``.

    Args:
        runs: The runs.
        named: By position in ``runs`` the arm (a key of `ARM_NAMES`) that somebody says it is.

    Raises:
        ConfigError: An unknown arm, or one that two runs are said to be.
    """
    given = _named(runs, named or {})
    built = [found for index, run in enumerate(runs) if (found := _built(index, run))]
    claims: dict[str, list[int]] = defaultdict(list)
    for arm, index in _claims(built):
        if arm not in given.values() and index not in given and index not in claims[arm]:
            claims[arm].append(index)
    names: list[str | None] = [given.get(index) for index in range(len(runs))]
    notes = []
    for arm, indices in claims.items():
        if len(indices) > 1:
            short = next(key for key, name in ARM_NAMES.items() if name == arm)
            several = ", ".join(runs[index].label for index in indices)
            notes.append(f"several runs are {arm}: {several}; choose one with --arm {short}=RUN")
        elif indices:
            names[indices[0]] = arm
    return Arms(tuple(names), tuple(notes))


def _named(runs: Sequence[Run], named: Mapping[int, str]) -> dict[int, str]:
    found: dict[int, str] = {}
    for index, arm in named.items():
        if arm not in ARM_NAMES:
            raise ConfigError(
                f"--arm {arm}={runs[index].label}: unknown arm {arm!r}{nearest(arm, ARM_NAMES)}; "
                f"known: {', '.join(ARM_NAMES)}"
            )
        if ARM_NAMES[arm] in found.values():
            raise ConfigError(f"--arm {arm} is given twice; one run is the {ARM_NAMES[arm]} one")
        found[index] = ARM_NAMES[arm]
    return found


def _claims(built: Sequence[_Built]) -> Iterator[tuple[str, int]]:
    """Yield arm and run; the tuned models are told by the composites that they take part in."""
    up = [one for one in built if _direction(one) > 0]
    down = [one for one in built if _direction(one) < 0]
    alone = [one for one in built if one.alone]
    small = {one.tuned.key for one in up}
    large = {one.tuned.key for one in down}
    small_bases = {one.reference.key for one in up if one.reference} | {o.base.key for o in down}
    large_bases = {one.reference.key for one in down if one.reference} | {o.base.key for o in up}
    if not up and not down:
        sizes = {one.tuned.parameters for one in alone if one.reference}
        if len(sizes) == 2 and None not in sizes:
            low, high = sorted(size for size in sizes if size is not None)
            small = {one.tuned.key for one in alone if one.tuned.parameters == low}
            large = {one.tuned.key for one in alone if one.tuned.parameters == high}
    for one in alone:
        reference = one.reference.key if one.reference else None
        if one.tuned.key in small or reference in small_bases:
            yield "small tuned", one.run
        if one.tuned.key in large or reference in large_bases:
            yield "large tuned", one.run
    yield from (("up-scaled", one.run) for one in up)
    yield from (("down-scaled", one.run) for one in down)


def _direction(one: _Built) -> int:
    """Return 1 for up-scaling, -1 for down-scaling, 0 for neither or where sizes are not known."""
    if one.alone or one.reference is None:
        return 0
    base, reference = one.base.parameters, one.reference.parameters
    if base is None or reference is None:
        return 0
    return (base > reference) - (base < reference)


def _built(index: int, run: Run) -> _Built | None:
    config = run.files[0].config if run.files else {}
    members = {one.role: one for one in members_in(config, run.label)}
    identity = config.get("eft_identity")
    if members and isinstance(identity, Mapping):
        deltas = identity.get("deltas") or []
        if all(one == [identity["base"], identity["base"], 0] for one in deltas):
            only = _model(members["base"])  # a base alone
            return _Built(index, only, only, None, True)
        if len(deltas) != 1 or deltas[0][2] != 1 or identity.get("weight_top_p") is not None:
            return None
        if not {"base", "tuned", "reference"} <= members.keys():
            return None
        base, tuned, reference = (_model(members[n]) for n in ("base", "tuned", "reference"))
        return _Built(index, base, tuned, reference, identity["base"] == deltas[0][1])
    arguments = model_arguments(config)
    if config.get("model") not in ("hf", "vllm") or "pretrained" not in arguments:
        return None
    only = _Model(str(arguments["pretrained"]), _revision(arguments.get("revision")), None)
    return _Built(index, only, only, None, True)


def _model(member: Member) -> _Model:
    return _Model(member.name, _revision(member.revision), member.num_parameters)


def _revision(value: Any) -> str:
    return "" if value in (None, "main") else str(value)
