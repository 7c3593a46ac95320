"""The exceptions of eft-eval, and how they reach a person as one line."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable
from types import TracebackType

__all__ = [
    "ClaimError",
    "ComparabilityError",
    "ConfigError",
    "EftEvalError",
    "nearest",
    "one_line_errors",
    "runs_as_command",
]


class EftEvalError(Exception):
    """Base class of every error that eft-eval raises on purpose."""


class ConfigError(EftEvalError):
    """The user can fix this: a setting, a file, a model or an endpoint is wrong."""


class ComparabilityError(EftEvalError):
    """Two runs, or two scores, must not be compared with each other."""


class ClaimError(EftEvalError):
    """A figure of a run must not be claimed, or not in the form that was asked for."""


def nearest(given: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the known word closest to ``given``, else ``""``."""
    close = difflib.get_close_matches(given, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


_COMMAND_NAMES = {"lm_eval", "lm-eval", "eft-eval"}


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
            print(f"eft-eval: error: {error}", file=sys.stderr)
        else:
            previous(kind, error, trace)

    hook.eft_eval = True  # type: ignore[attr-defined]  # marks the hook as installed
    sys.excepthook = hook
