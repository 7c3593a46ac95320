"""The folder of a study: what belongs to it, which of its runs are whole, and who works in it."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from eft_eval.errors import ConfigError
from eft_eval.files import make_folder, write_json
from eft_eval.records import read_record_file
from eft_eval.secrets import without_secrets
from eft_eval.study.plan import ArmRun, StudyPlan

if sys.platform != "win32":
    import fcntl

__all__ = ["StudyFolder", "locked"]

_FORMAT = "eft-eval study"
_FILE = "study.json"


class StudyFolder:
    """Where a study lies.

    Args:
        path: The folder.
        plan: The study.
    """

    def __init__(self, path: Path, plan: StudyPlan) -> None:
        self.path = path
        self.plan = plan

    @property
    def has_begun(self) -> bool:
        """Whether it holds a study."""
        return (self.path / _FILE).exists()

    def check(self) -> None:
        """Check that the folder is new, empty, or of this very study.

        Raises:
            ConfigError: It is none of these.
        """
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise ConfigError(f"{self.path} is no folder; choose another --out")
        if not self.has_begun:
            if any(name.name != ".lock" for name in self.path.iterdir()):
                raise ConfigError(
                    f"{self.path} is not empty and holds no study; choose another --out"
                )
            return
        kept = read_record_file(self.path / _FILE, "the settings of a study")
        known, asked = kept.get("study") or {}, self._settings()
        other = [key for key in sorted({*known, *asked}) if known.get(key) != asked.get(key)]
        if kept.get("format") != _FORMAT or other:
            raise ConfigError(
                f"{self.path} holds another study (its {', '.join(other) or 'format'} differ); "
                "choose another --out, or ask for the same to go on with it"
            )

    @contextlib.contextmanager
    def held(self, waiting: Callable[[], None]) -> Iterator[int | None]:
        """Make the folder and keep other processes out of it; yields the lock's file.

        The runs inherit the lock, so that a study that was killed alone is not begun anew before
        the run that it left behind has ended.

        Args:
            waiting: Called where another process works in it.

        Raises:
            ConfigError: See `check`, or it cannot be written.
        """
        self.check()
        with locked(self.path, waiting) as lock:
            self.check()  # another process may have begun another study meanwhile
            if not self.has_begun:
                write_json(self.path / _FILE, {"format": _FORMAT, "study": self._settings()})
            yield None if sys.platform == "win32" else lock

    def place(self, run: ArmRun) -> Path:
        """Return the folder of a run, which every command takes."""
        return self.path / "arms" / run.arm.name / f"seed-{run.seed}"

    def responses(self, run: ArmRun) -> Path:
        """Return where a run that is not whole keeps its finished responses."""
        return self.place(run) / "responses"

    def seconds(self, run: ArmRun) -> float | None:
        """Return how long a run took that is whole; None for any other."""
        file = self.place(run) / "done.json"
        try:
            return float(json.loads(file.read_text("utf-8"))["seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def is_done(self, run: ArmRun) -> bool:
        """Whether a run is whole."""
        return self.seconds(run) is not None

    def finish(self, run: ArmRun, seconds: float) -> None:
        """Note that a run is whole."""
        write_json(self.place(run) / "done.json", {"seconds": round(seconds, 3)})
        shutil.rmtree(self.responses(run), ignore_errors=True)

    def _settings(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(json.dumps(without_secrets(self.plan.identity())))
        return found


@contextlib.contextmanager
def locked(folder: Path, waiting: Callable[[], None]) -> Iterator[int]:
    """Make a folder and keep other processes out of it; yields the number of its lock's file.

    Args:
        folder: Where the work is.
        waiting: Called where another process works in it.

    Raises:
        ConfigError: It cannot be written.
    """
    make_folder(folder)
    try:
        lock = (folder / ".lock").open("a")
    except OSError as error:
        raise ConfigError(f"cannot write {folder}: {error.strerror or error}") from error
    with lock:
        _lock_file(lock.fileno(), waiting)
        yield lock.fileno()


def _lock_file(file: int, waiting: Callable[[], None]) -> None:
    """Lock an open file for this process, by its number; ``waiting`` is called where it waits."""
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):  # a file system without locks
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
