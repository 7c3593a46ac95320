"""`eft-eval plan`: memory, time and judge cost of a run, before anything is loaded."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from eft_eval.cli.ahead import BYTES_PER_TOKEN, TaskChanges, asked_of, counter_of, judging_of
from eft_eval.cli.options import grouped
from eft_eval.errors import ConfigError

if TYPE_CHECKING:
    from eft_eval.judging.cost.estimate import Ahead
    from eft_eval.plans.speed import Workload
    from eft_eval.recipe import Recipe

_MOST, _LONGEST = 10**12, 10**7


@dataclass(frozen=True)
class RunOptions:
    """What is asked of the composite."""

    tasks: Annotated[
        str | None, typer.Option(help="Tasks as lm_eval takes them: their own requests count.")
    ] = None
    limit: Annotated[
        float | None, typer.Option(help="Documents per task; below 1, a share of them.")
    ] = None
    prompts: Annotated[
        int, typer.Option(min=1, max=_MOST, help="Without tasks: prompts to be answered.")
    ] = 1000
    prompt_tokens: Annotated[
        int, typer.Option(min=1, max=_LONGEST, help="Without tasks: of a prompt.")
    ] = 256
    response_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=_LONGEST,
            help="Tokens of a response; 256, or the longest that a task allows, unless told.",
        ),
    ] = None


@dataclass(frozen=True)
class EngineOptions:
    """How it is to run."""

    engine: Annotated[str, typer.Option(help="eft or eft-vllm.")] = "eft"
    ranks: Annotated[
        int | None,
        typer.Option(help="Devices of one copy (tensor_parallel_size); by default the quickest."),
    ] = None
    batch: Annotated[
        int | None, typer.Option(help="Rows at once; by default what fits, up to 32 with eft.")
    ] = None
    acceptance: Annotated[
        float | None,
        typer.Option(help="Share of drafts that stand: eft_decoding of a run says it; else 0.5."),
    ] = None


@dataclass(frozen=True)
class CostOptions:
    """Who judges."""

    judge: Annotated[
        str | None,
        typer.Option(help="Count what this judge costs; tasks with a judge have EFT_JUDGE_MODEL."),
    ] = None
    judge_prompt: Annotated[
        str, typer.Option(help="Without tasks: the judge prompt (name or file).")
    ] = "factuality"


@grouped
def plan(
    recipe: Annotated[
        str, typer.Argument(help="Named recipe, YAML file, or base=B,tuned=T,reference=R.")
    ],
    hardware: Annotated[
        str,
        typer.Option(help="8xA100-80GB, CPU (measured), CPU:64GB@40GBps, 8x80GB@2000GBps, …"),
    ],
    how: EngineOptions,
    asked: RunOptions,
    cost: CostOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: bytes and seconds.")] = False,
) -> None:
    """Say what a run needs of memory and time, and what its judge costs; loads no weights.

    Where it does not fit, what would make it fit; exit code 1 then. Time follows from bytes,
    passes and acceptance: an estimate (docs/scale.md).
    """
    from eft_eval.plans.hardware import parse_hardware
    from eft_eval.plans.plan import PlanSettings, make_plan
    from eft_eval.plans.speed import ACCEPTANCE
    from eft_eval.recipe import parse_command_recipe
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.plans import plan as view
    from eft_eval.reports.views.plans import plan_record
    from eft_eval.streams import show

    parsed = parse_command_recipe(recipe).recipe
    machine = parse_hardware(hardware)
    chance = ACCEPTANCE if how.acceptance is None else how.acceptance
    settings = PlanSettings(how.engine, how.ranks, how.batch, chance)
    work, judged = _work(parsed, asked, cost)
    found = make_plan(parsed, machine, work, settings)
    judging, judge = judging_of(judged, work.response_tokens, cost.judge)
    if as_json:
        show(json.dumps(plan_record(found, judging, judge), indent=2) + "\n")
    else:
        print_document(view(found, judging, judge))
    if not found.memory.fits:
        raise typer.Exit(1)


def _work(recipe: Recipe, asked: RunOptions, cost: CostOptions) -> tuple[Workload, Sequence[Ahead]]:
    """Return what is asked of the composite, and of a judge."""
    from eft_eval.judging.cost.estimate import Ahead
    from eft_eval.judging.prompts.prompt import load_prompt
    from eft_eval.plans.speed import Workload

    if asked.limit is not None and not 0 < asked.limit < math.inf:
        raise ConfigError(
            f"--limit is {asked.limit}; expected documents, or a share of them below 1"
        )
    if asked.tasks is not None:
        names = [name for name in asked.tasks.split(",") if name]
        changes = TaskChanges(asked.limit, asked.response_tokens)
        found = asked_of(names, changes, counter_of(recipe))
        return found.workload, found.judged
    if asked.limit is not None:
        raise ConfigError("--limit is of --tasks; without tasks say how many --prompts there are")
    length = asked.response_tokens or 256
    work = Workload(asked.prompts, asked.prompt_tokens, length, 0, 0, asked.prompt_tokens + length)
    if cost.judge is None:
        return work, ()
    prompt = load_prompt(cost.judge_prompt)
    query = "x" * BYTES_PER_TOKEN * asked.prompt_tokens
    return work, [Ahead(prompt.name, prompt.render(query=query, response=""), asked.prompts)]
