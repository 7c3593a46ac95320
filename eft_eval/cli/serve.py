"""`eft-eval serve`: vLLM's OpenAI-compatible server over a composite."""

from __future__ import annotations

import os
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer


def serve(
    context: typer.Context,
    recipe: Annotated[
        str, typer.Argument(help="Named recipe, YAML file, or base=B,tuned=T,reference=R.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print vLLM's command, and start nothing.")
    ] = False,
) -> None:
    """Serve a composite with vLLM; flags that follow the recipe are those of `vllm serve`.

    Any OpenAI client, `lm_eval --model local-completions` and judges of other tools can ask it.
    """
    from eft_eval.composite.model import CompositeModel
    from eft_eval.recipe import parse_command_recipe
    from eft_eval.secrets import without_secret_flags
    from eft_eval.streams import say, show
    from eft_eval.vllm.engine import check_device, check_installed
    from eft_eval.vllm.server import check_port, serve_command

    parsed = parse_command_recipe(recipe).recipe
    composite = CompositeModel.load(parsed, device="cpu", engine="vllm")
    words, notes = serve_command(composite, context.args)
    for note in notes:
        say(f"eft-eval: {note}", sys.stderr)
    show(shlex.join(["vllm", *without_secret_flags(words)]) + "\n")
    sys.stdout.flush()
    if dry_run:
        return
    check_installed()
    check_device(composite)
    check_port(context.args)
    # vLLM takes this process over: signals reach it, its exit code is ours
    os.execv(sys.executable, [sys.executable, "-m", *_program(words)])


def _program(words: list[str]) -> list[str]:
    """Return vLLM's module for ``vllm serve``, with its arguments.

    vLLM's command asks for the version of a distribution called vllm; builds for CPUs have other
    names, and their server is started by its module.
    """
    try:
        version("vllm")
    except PackageNotFoundError:
        return ["vllm.entrypoints.openai.api_server", "--model", *words[1:]]
    return ["vllm.entrypoints.cli.main", *words]
