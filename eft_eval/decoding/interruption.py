"""Ctrl-C and SIGTERM while responses are made: the round at work is finished first."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

from typing_extensions import Self

from eft_eval.streams import runs_as_command, say

__all__ = ["Interruption"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_DEFAULT = (signal.SIG_DFL, signal.default_int_handler)


class Interruption:
    """Notes a signal that would end the process; the second one ends it at once.

    Signals that the program handles itself are left to it, and so are those of threads other than
    the main one.

    Attributes:
        signal: The signal that came, if one did.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for one in _SIGNALS:
                if signal.getsignal(one) in _DEFAULT:
                    self._before[one] = signal.signal(one, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self._restore()

    def stop(self, how_to_go_on: str) -> None:
        """End the process as the signal would, with one line on how to go on.

        Raises:
            SystemExit: 130 after Ctrl-C and 143 after SIGTERM, in the commands.
            KeyboardInterrupt: After Ctrl-C in other programs.
        """
        assert self.signal is not None
        self._restore()
        what = "Ctrl-C" if self.signal is signal.SIGINT else self.signal.name
        say("", sys.stderr)  # after a progress bar
        say(f"eft-eval: stopped by {what}: {how_to_go_on}", sys.stderr)
        if runs_as_command():
            raise SystemExit(128 + self.signal)
        signal.raise_signal(self.signal)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)
        self._before = {}
