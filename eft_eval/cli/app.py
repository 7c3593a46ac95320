"""Commands of `eft-eval`. stdout is the product, stderr is progress.

Exit codes: 0 done, 2 an error of ours in one line, 3 verdicts are missing, a Batch API job is not
complete yet or an arm of a study is not whole, 1 whatever else lm-eval ended with. `compare` has
its own: 1 a regression, 3 inconclusive where that is to fail.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from eft_eval.cli import agree, compare, correct, demo, gold, labels, verdicts
from eft_eval.cli.check_model import check_model
from eft_eval.cli.environment import help_of
from eft_eval.cli.export import export
from eft_eval.cli.judge import judge
from eft_eval.cli.plan import plan
from eft_eval.cli.report import report
from eft_eval.cli.serve import serve
from eft_eval.cli.study import families, study
from eft_eval.cli.trace import trace
from eft_eval.cli.train_pair import train_pair
from eft_eval.cli.view import view
from eft_eval.errors import EftEvalError
from eft_eval.streams import plain_error, say_error
from eft_eval.version import __version__

PURPOSES = {
    "Run": ("run", "recipes", "check-model", "plan", "serve", "demo", "trace"),
    "Study": ("study", "families", "train-pair"),
    "Judge": ("judge", "verdicts"),
    "Trust the judge": ("labels", "agree", "gold", "correct"),
    "Decide": ("compare", "bless", "report", "view"),
    "Share": ("export",),
}
"""The commands by what they are for, in the order of the help."""


class ByPurpose(TyperGroup):
    """Lists the commands by purpose; what is wrong with a command line is told as every error."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for purpose, names in PURPOSES.items():
            for name in names:
                setattr(self.commands[name], "rich_help_panel", purpose)  # noqa: B010  # typer's
                self.commands[name].epilog = help_of(name)

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for names in PURPOSES.values() for name in names]

    def make_context(self, *given: Any, **options: Any) -> Any:
        with _plain_usage_errors():
            return super().make_context(*given, **options)

    def invoke(self, ctx: Any) -> Any:
        with _plain_usage_errors():
            return super().invoke(ctx)


@contextlib.contextmanager
def _plain_usage_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # typer's are of no one public class
        if (message := getattr(error, "format_message", None)) is not None:
            said = plain_error(message())
            error.format_message = lambda: said  # type: ignore[attr-defined]
        raise


app = typer.Typer(
    cls=ByPurpose,
    epilog=help_of(""),
    help="Emulated fine-tuning for lm-evaluation-harness.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(demo.app, name="demo")
app.command()(trace)
app.command()(study)
app.command()(families)
app.command("train-pair")(train_pair)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(serve)
app.command("check-model")(check_model)
app.command()(plan)
app.add_typer(labels.app, name="labels")
app.add_typer(agree.app, name="agree")
app.add_typer(gold.app, name="gold")
app.add_typer(correct.app)
app.add_typer(verdicts.app, name="verdicts")
app.command()(judge)
app.add_typer(compare.app, name="compare")
app.command()(compare.bless)
app.command()(export)
app.command()(report)
app.command()(view)


def main() -> None:
    """Run the command line; an error of ours, or of a file or disk, is one line and exit code 2."""
    _prepare_streams()
    try:
        try:
            app()
        except SystemExit:
            sys.stdout.flush()  # as the interpreter ends nobody could say that it fails
            raise
    except BrokenPipeError:  # who read had enough
        _drop_output()
        sys.exit(1)
    except (EftEvalError, OSError, MemoryError, RecursionError) as error:
        of_lm_eval = sys.argv[:1] == ["lm_eval"] and not isinstance(error, EftEvalError)  # `run`
        if of_lm_eval or os.environ.get("EFT_EVAL_TRACEBACK") == "1":
            raise
        try:
            sys.stdout.flush()
        except OSError:
            _drop_output()
        say_error(error)
        sys.exit(2)


def _drop_output() -> None:
    """Let what stdout still holds go nowhere, so that it cannot fail once more at the end."""
    with contextlib.suppress(OSError, ValueError):  # of a captured stream there is no number
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, sys.stdout.fileno())
        os.close(sink)


def _prepare_streams() -> None:
    """Let no closed stream, and no character that a terminal cannot show, end a command."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed: nothing else may take its number
            sink = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # open to the end
            setattr(sys, name, sink)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Emulated fine-tuning for lm-evaluation-harness."""


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def run(context: typer.Context) -> None:
    """Run lm_eval with the given arguments (--model eft unless another is named).

    The same command line as `lm_eval run`. Works where start-up files are not processed, and
    indexes only eft-eval's tasks where no others are asked, which saves some seconds. Ends with
    exit code 3 where a judge left responses without a verdict.
    """
    from eft_eval.cli.harness import run_harness

    if code := run_harness(list(context.args)):
        raise typer.Exit(code)


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="Show this recipe's YAML.")] = None,
) -> None:
    """List the named recipes with parameter counts and memory needs."""
    from eft_eval.recipe import named_recipe_names, parse_recipe
    from eft_eval.recipe.catalog import named_recipe_text

    if name is not None:
        parse_recipe(name)  # an unknown name is an error with the nearest one
        print(named_recipe_text(name), end="")
        return
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.recipes import recipes as view

    print_document(view({known: parse_recipe(known) for known in named_recipe_names()}))
