"""A million prompts on machines of several sizes, as `eft-eval plan` says."""

from __future__ import annotations

from eft_eval.plans.hardware import parse_hardware
from eft_eval.plans.plan import Plan, PlanSettings, make_plan
from eft_eval.plans.speed import Workload
from eft_eval.recipe import parse_recipe

HEAD = """<!-- made by `python -m docs.generate` -->

# A million prompts

What `eft-eval plan RECIPE --hardware H --engine E --prompts 1000000` says: prompts of 256 tokens,
responses of 256, half of the drafts accepted. Arithmetic ([the formula](../scale.md#plans)), not
measured: no GPU was at hand. Named recipes say of what types their members are; `memory` is GiB of
the fullest device. Start at the [index](../index.md).

| recipe | devices | engine | one copy | rows | memory | tokens/s | a million prompts |
|---|---|---|---|---|---|---|---|
"""
RECIPES = ("llama2-up", "falcon-up")
MACHINES = ("1xA100-80GB", "8xA100-80GB", "64xA100-80GB", "1xH200", "8xH200", "64xH200")
WORK = Workload(1_000_000, 256, 256, 0, 0, 512)


def plan_table() -> str:
    """Return docs/reference/plans.md."""
    lines = []
    for recipe in RECIPES:
        for machine in MACHINES:
            for engine in ("eft", "eft-vllm"):
                settings = PlanSettings(engine)
                found = make_plan(parse_recipe(recipe), parse_hardware(machine), WORK, settings)
                lines.append(_row(recipe, found))
    return HEAD + "\n".join(lines) + "\n"


def _row(recipe: str, found: Plan) -> str:
    memory, speed = found.memory, found.speed
    used = f"{memory.total / 2**30:.1f} of {memory.available / 2**30:.1f}"
    start = f"| {recipe} | {found.hardware} | {found.engine}"
    if not memory.fits:
        needs = "; ".join(found.remedies) or "nothing that was tried"
        return f"{start} | – | – | {used} | does not fit | with {needs} |"
    seconds = speed.generation_seconds
    took = f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:,.0f} days"
    copy = f"{found.spread.ranks} device{'s' if found.spread.ranks > 1 else ''}"
    return f"{start} | {copy} | {found.spread.rows} | {used} | {speed.decoding:,.0f} | {took} |"
