"""`eft-eval check-model`: what a model can do as a member, tried out."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from eft_eval.engine.checking import ModelCheck

_BATCHES = {
    "any": "prompts of any lengths together",
    "equal": "only prompts of one length together",
    "one": "one response at a time",
    "reread": "prompts of any lengths together, without a cache",
    "none": "none",
}


def check_model(
    model: Annotated[
        str, typer.Argument(help="Model or adapter: a folder, or an id on the Hugging Face hub.")
    ],
    dtype: Annotated[str, typer.Option(help="Load it in this type.")] = "auto",
    scale: Annotated[
        int, typer.Option(min=1, help="Try prompts this many times as long as 19, 12, 5 tokens.")
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Try a model out as a member: what is exact, drafted, plain or refused, and why.

    Every trial is compared with passes without a cache over each row alone.
    """
    from transformers.utils import logging

    from eft_eval.engine.adapters import read_adapter
    from eft_eval.engine.checking import check_model as check
    from eft_eval.engine.loading import LoadOptions, Member
    from eft_eval.engine.members import load_members
    from eft_eval.engine.passes import Passes
    from eft_eval.recipe import parse_member, parse_recipe
    from eft_eval.streams import show

    logging.disable_progress_bar()
    spec = parse_member({"model": model, "dtype": dtype}, "eft-eval check-model")
    if spec.gguf_file is None and read_adapter(spec.model, spec.revision) is not None:
        recipe = parse_recipe({"base": {"model": model, "dtype": dtype}})
        member = load_members(recipe, LoadOptions())["base"]
    else:
        member = Member(spec, LoadOptions())
    found = check(Passes(member.model, member.device, member.label), scale)
    if as_json:
        show(json.dumps(dataclasses.asdict(found), indent=2) + "\n")
    else:
        show("\n".join(_lines(found)) + "\n")
    if found.refused is not None:
        raise typer.Exit(1)


def _lines(found: ModelCheck) -> list[str]:
    lines = [f"{found.architecture} (transformers {found.transformers})"]
    if found.refused is not None:
        return [*lines, f"refused: {found.refused}"]
    lines.append(f"drafts: {found.drafts}" + (f" ({found.no_drafts})" if found.no_drafts else ""))
    lines.append(f"plain batches: {_BATCHES[found.batches]}")
    if found.lost:
        lines.append(f"  {found.lost}")
    lines.append(f"scored in batches: {found.scored or 'as each row alone'}")
    if found.longest:
        lines.append(
            f"refused: rows of more than {found.longest} tokens, which change the others of a batch"
        )
    return lines
