"""The commands' reference: typer's own Markdown, with the short helps in full."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from typer.cli import get_docs_for_click
from typer.main import get_command

from eft_eval.cli.app import app

HEAD = """<!-- made by `python -m docs.generate`: edit the commands' own help -->

# Commands

stdout is the product, stderr is progress. Exit codes: 0 done; 2 an error, in one line on stderr;
3 verdicts are missing (`judge`), or inconclusive where that is to fail (`compare`); 1 a regression
(`compare`), or what lm-eval ended with (`run`). Start at the [index](../index.md).

"""


def cli_reference() -> str:
    """Return the reference of all commands as Markdown."""
    command: Any = get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="eft-eval")
    for one in _groups(command):
        for name, child in one.commands.items():
            short = f"* `{name}`: {child.get_short_help_str()}\n"
            text = text.replace(short, f"* `{name}`: {child.get_short_help_str(limit=1000)}\n")
    lines = [line.rstrip() for line in text.strip().splitlines()]
    return HEAD + "\n".join(lines).removeprefix("# `eft-eval`\n\n") + "\n"


def _groups(command: Any) -> Iterator[Any]:
    if hasattr(command, "commands"):
        yield command
        for child in command.commands.values():
            yield from _groups(child)
