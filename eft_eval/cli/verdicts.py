"""`eft-eval verdicts`: what the store of verdicts holds, and what may be done with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eft_eval.cli.options import grouped
from eft_eval.streams import say

if TYPE_CHECKING:
    from eft_eval.verdicts.store import VerdictStore

app = typer.Typer(
    help="List, re-parse, export and prune the stored verdicts.",
    no_args_is_help=True,
    add_completion=False,
)

Store = Annotated[Path | None, typer.Option(help="The store; by default EFT_VERDICT_STORE.")]


@dataclass(frozen=True)
class ChoiceOptions:
    """Which verdicts are meant."""

    judge: Annotated[str | None, typer.Option(help="Only of this judge.")] = None
    prompt: Annotated[str | None, typer.Option(help="Only of the judge prompt of this name.")] = (
        None
    )
    status: Annotated[str | None, typer.Option(help="Only with this status.")] = None
    before: Annotated[
        str | None, typer.Option(help="Only stored before this date, YYYY-MM-DD (UTC).")
    ] = None


@app.command("list")
@grouped
def list_(
    choice: ChoiceOptions,
    store: Store = None,
) -> None:
    """Count the stored verdicts by judge, prompt and status, with tokens and cost."""
    from eft_eval.judging.upkeep import Choice, summary
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.verdicts import verdicts

    opened = _open(store)
    found = summary(opened, Choice(**vars(choice)))
    print_document(verdicts(found, opened.path))


@app.command()
@grouped
def reparse(
    write: Annotated[
        bool, typer.Option("--write", help="Add readings that differ; the old ones stay, too.")
    ] = False,
    template: Annotated[
        list[str] | None,
        typer.Option(help="A judge prompt's file of your own, for its scale; repeatable."),
    ] = None,
    choice: ChoiceOptions = ChoiceOptions(),
    store: Store = None,
) -> None:
    """Read the stored replies again with the present parser, and say what changes; asks nobody."""
    from eft_eval.judging.upkeep import Choice, reparse_store

    chosen = Choice(**vars(choice))
    done = reparse_store(_open(store, writable=write), chosen, template or (), write=write)
    say(f"{done.read} verdicts read again, {sum(done.changes.values())} read differently")
    for change, count in done.changes.items():
        say(f"  {count} {change}")
    for name, count in done.unknown.items():
        say(f"  {count} not read: the prompt {name!r} is not known (--template FILE)")
    if done.unreadable:
        say(f"  {done.unreadable} not read: the records are damaged")
    if done.changes and not write:
        say("nothing was written; --write adds the new readings")


@app.command()
@grouped
def export(
    file: Annotated[Path, typer.Argument(help="JSON lines; replaced when whole.")],
    choice: ChoiceOptions = ChoiceOptions(),
    store: Store = None,
) -> None:
    """Write stored verdicts as JSON lines."""
    from eft_eval.judging.upkeep import Choice
    from eft_eval.judging.upkeep import export as write

    done = write(Choice(**vars(choice)).among(_open(store)), file)
    say(f"{done.verdicts} verdicts written to {file}")
    if done.unreadable:
        say(f"{done.unreadable} records cannot be read any more, and were left out")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="JSON lines that export, or a failed store, wrote.")],
    store: Store = None,
) -> None:
    """Store the verdicts of a file; those that are stored already stay as they are."""
    from eft_eval.judging.upkeep import take_in
    from eft_eval.verdicts.store import VerdictStore, default_store_path

    opened = VerdictStore(store or default_store_path())
    say(f"{take_in(opened, file)} verdicts stored in {opened.path}")


@app.command()
@grouped
def prune(
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without, only say what.")] = False,
    choice: ChoiceOptions = ChoiceOptions(),
    store: Store = None,
) -> None:
    """Remove stored verdicts of a judge, prompt, status or time; they will be paid for again."""
    from eft_eval.judging.upkeep import Choice, check_prunable, summary
    from eft_eval.judging.upkeep import prune as remove
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.verdicts import verdicts

    chosen = Choice(**vars(choice))
    opened = _open(store, writable=yes)
    check_prunable(chosen, opened)
    print_document(verdicts(summary(opened, chosen), opened.path))
    if yes:
        say(f"{remove(opened, chosen)} verdicts removed")
    else:
        say("nothing was removed; --yes removes these")


def _open(path: Path | None, *, writable: bool = False) -> VerdictStore:
    from eft_eval.errors import ConfigError
    from eft_eval.verdicts.store import VerdictStore, default_store_path

    found = path or default_store_path()
    if not found.is_file():
        raise ConfigError(f"there is no verdict store {found} (EFT_VERDICT_STORE, --store)")
    return VerdictStore(found, writable=writable)
