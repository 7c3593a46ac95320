"""`eft-eval trace`: a response token by token, in the terminal and as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from eft_eval.cli.options import grouped


@dataclass(frozen=True)
class SamplingOptions:
    """How the response is made."""

    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest response.")] = 64
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sampling noise.")] = 1234


@grouped
def trace(
    prompt: Annotated[str, typer.Argument(help="What is asked.")],
    recipe: Annotated[
        str, typer.Option(help="Named recipe, YAML file, or base=B,tuned=T,reference=R.")
    ] = "demo",
    response: Annotated[str | None, typer.Option(help="Look at this text, not at its own.")] = None,
    sampling: SamplingOptions = SamplingOptions(),
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the trace here too.")
    ] = None,
) -> None:
    """Show who changed what in a response: how far each token is from the draft member's choice.

    With the recipe `demo`, a question is put as the demo's dialogue.
    """
    from eft_eval.files import check_output, write_output
    from eft_eval.runs.traces import TRACE_FILE

    if json_file is not None:
        check_output(json_file, TRACE_FILE)
    from transformers.utils import logging

    from eft_eval.api import Composite
    from eft_eval.demo.language import dialogue
    from eft_eval.recipe import parse_command_recipe
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.traces import trace as view

    logging.disable_progress_bar()
    plain = "=" not in recipe
    parsed, loading = parse_command_recipe(
        recipe, ("device", "trust_remote_code", "use_fast_tokenizer", "add_bos_token")
    )
    composite = Composite.load(parsed, **loading)
    asked = dialogue(prompt) if plain and recipe.split("-")[0] == "demo" else prompt
    found = composite.trace(asked, response, **vars(sampling))
    print_document(view(found))
    if json_file is not None:
        write_output(json_file, [json.dumps(found.as_dict(), indent=1), "\n"], TRACE_FILE)
