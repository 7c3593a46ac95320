"""Bars that show how far judging is, one per judge and judge prompt: on terminals, in notebooks."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from eft_eval.streams import in_notebook, progress_bar

__all__ = ["Bar", "Tell", "bars", "judging_progress"]

Tell = Callable[[int, int], None]
"""To be called with (done, total)."""
Bar = Callable[[str, int], AbstractContextManager[Tell]]
"""Shows a bar of a description and a total while its block runs; yields what to call."""


@contextlib.contextmanager
def bars() -> Iterator[Bar]:
    """Show bars while the block runs, several at once where threads ask for them."""
    if not sys.stderr.isatty():
        yield _notebook_bar if in_notebook() else _no_bar
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True)) as shown:

        @contextlib.contextmanager
        def bar(description: str, total: int) -> Iterator[Tell]:
            task = shown.add_task(description, total=total)
            yield lambda done, total: shown.update(task, completed=done, total=total)

        yield bar


@contextlib.contextmanager
def judging_progress(description: str, total: int) -> Iterator[Tell]:
    """Show a bar while the block runs; yields what to call with (done, total).

    Args:
        description: What is being done.
        total: Items in all.
    """
    with bars() as bar, bar(description, total) as tell:
        yield tell


@contextlib.contextmanager
def _no_bar(description: str, total: int) -> Iterator[Tell]:
    yield lambda _done, _total: None


@contextlib.contextmanager
def _notebook_bar(description: str, total: int) -> Iterator[Tell]:
    with progress_bar(description, total, shown=True) as shown:
        yield lambda done, _total: shown.update(done - shown.n)
