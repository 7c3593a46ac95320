"""What reaches a terminal or a log: single lines in which nothing is obeyed or secret."""

from __future__ import annotations

import logging
import os
import sys
from types import TracebackType
from typing import Any, TextIO

from eft_eval.characters import one_line, printable, shortened, visible
from eft_eval.errors import EftEvalError
from eft_eval.secrets import without_credentials

__all__ = [
    "in_notebook",
    "logger",
    "one_line_errors",
    "plain_error",
    "progress_bar",
    "runs_as_command",
    "say",
    "say_error",
    "show",
]

_COMMAND_NAMES = {"lm_eval", "lm-eval", "eft-eval"}


def say(text: str, file: TextIO | None = None) -> None:
    """Print one line, in one line however long it is; to standard output by default."""
    print(printable(one_line(text)), file=file, flush=file is not None)


def show(text: str) -> None:
    """Print a text of many lines on standard output, nothing of which is obeyed."""
    sys.stdout.write(printable(visible(text)))


def say_error(error: Exception) -> None:
    """Print an error as one line of standard error."""
    text = str(error) if isinstance(error, EftEvalError) else " ".join(str(error).split())
    if isinstance(error, MemoryError):
        text = f"out of memory {text}".rstrip()
    say(f"eft-eval: error: {shortened(without_credentials(text))}", sys.stderr)


def plain_error(text: str) -> str:
    """Return an error in words as `say_error` would say it."""
    return printable(one_line(shortened(without_credentials(text))))


def logger(name: str) -> logging.Logger:
    """Return the logger of that name, whose lines are as those of `say`."""
    found = logging.getLogger(name)
    if _plain not in found.filters:
        found.addFilter(_plain)
    return found


def _plain(record: logging.LogRecord) -> bool:
    record.msg = plain_error(record.getMessage())
    record.args = ()
    return True


def in_notebook() -> bool:
    """Whether the code runs in a notebook's kernel, whose standard error is no terminal."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in shell.config


def progress_bar(description: str, total: int, shown: bool | None = None) -> Any:
    """Return a bar of tqdm's, drawn as a widget in a notebook; a context with ``update(steps)``.

    Args:
        description: What is being done.
        total: Steps in all.
        shown: Whether it is drawn; None: in a notebook.
    """
    from tqdm.auto import tqdm

    return tqdm(
        total=total, desc=description, disable=not (in_notebook() if shown is None else shown)
    )


def runs_as_command() -> bool:
    """Whether this process is the command `lm_eval` or `eft-eval`, not somebody's script."""
    name = os.path.basename(sys.argv[0] if sys.argv else "")
    if name.removesuffix(".exe") in _COMMAND_NAMES:
        return True
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return getattr(spec, "name", "") in {"lm_eval.__main__", "eft_eval.__main__"}


def one_line_errors() -> None:
    """Let an uncaught `EftEvalError` end a command with one line in place of a traceback.

    Only the commands `lm_eval` and `eft-eval` are affected, the exit code stays 1, and
    ``EFT_EVAL_TRACEBACK=1`` brings the traceback back.
    """
    if not runs_as_command() or getattr(sys.excepthook, "eft_eval", False):
        return
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, EftEvalError) and os.environ.get("EFT_EVAL_TRACEBACK") != "1":
            say_error(error)
        else:
            previous(kind, error, trace)

    hook.eft_eval = True  # type: ignore[attr-defined]  # marks the hook as installed
    sys.excepthook = hook
