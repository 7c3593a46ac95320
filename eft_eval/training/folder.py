"""The folder of a pair: what belongs to it, what is whole of it, and who works in it.

OUT/training.json          what is trained, and on what
OUT/SIDE/checkpoints/      where a training that was stopped goes on; gone when it is whole
OUT/SIDE/log.jsonl         loss, margin and accuracy of every step
OUT/SIDE/adapter/          the adapter, as peft saves it
OUT/SIDE/held_out.jsonl    margins of the held-out pairs
OUT/SIDE/done.json         that the side is whole, and its figures
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from eft_eval.errors import ConfigError
from eft_eval.files import new_folder, write_json, write_lines
from eft_eval.records import plain, read_record_file, restored
from eft_eval.secrets import without_secrets
from eft_eval.study.folder import locked
from eft_eval.tasks.sources import read_rows
from eft_eval.training.figures import Figures

__all__ = ["PairFolder", "SideFolder"]

_FORMAT = "eft-eval train-pair"
_FILE = "training.json"
_FREE = ("micro-batch-size", "gradient-checkpointing")  # memory for time; the same training
_WHOLE = "whole.json"  # in a checkpoint: all of its files, by their sizes


class SideFolder:
    """Where one of the two models is made.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.adapter = path / "adapter"
        self.log = path / "log.jsonl"

    @property
    def is_tuned(self) -> bool:
        """Whether its adapter is there."""
        return (self.adapter / "adapter_config.json").is_file()

    @property
    def figures(self) -> Figures | None:
        """What was measured; None of a side that is not whole."""
        file = self.path / "done.json"
        if not file.exists():
            return None
        return restored(Figures, read_record_file(file, "the figures of a training"), str(file))

    def finish(self, figures: Figures, held_out: Iterable[Mapping[str, Any]]) -> None:
        """Note that the side is whole, and drop what only a training needs."""
        write_lines(self.path / "held_out.jsonl", map(_line, held_out))
        write_json(self.path / "done.json", plain(figures))
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def last_checkpoint(self) -> Path | None:
        """Return the newest checkpoint that was written to its end; others are removed."""
        whole = self._whole()
        for folder in self.checkpoints.glob("checkpoint-*"):
            if folder not in whole.values():
                shutil.rmtree(folder)
        return whole[max(whole)] if whole else None

    def last_step(self) -> int:
        """Return the step of the newest checkpoint that is whole, 0 without one."""
        return max(self._whole(), default=0)

    def _whole(self) -> dict[int, Path]:
        return {
            int(folder.name.rpartition("-")[2]): folder
            for folder in self.checkpoints.glob("checkpoint-*")
            if _is_whole(folder)
        }

    def mark(self, step: int) -> None:
        """Note that the checkpoint of a step is whole."""
        folder = self.checkpoints / f"checkpoint-{step}"
        write_json(folder / _WHOLE, _sizes(folder))

    def begin_log(self, steps: Iterable[Mapping[str, Any]]) -> None:
        """Write the log anew, with the steps that a checkpoint has behind it."""
        write_lines(self.log, map(_line, steps))

    def add_to_log(self, step: Mapping[str, Any]) -> None:
        """Add a step to the log."""
        with self.log.open("a", encoding="utf-8") as file:
            file.write(_line(step))

    def logged(self) -> list[dict[str, Any]]:
        """Return the log's steps.

        Raises:
            ConfigError: It is not there, or no log any more.
        """
        steps = [dict(row) for row in read_rows(self.log, str(self.log))]
        if not steps or any(not isinstance(one.get("loss"), float) for one in steps):
            raise ConfigError(f"{self.log} is no log of a training; remove {self.path}")
        return steps

    @contextlib.contextmanager
    def new_adapter(self) -> Iterator[Path]:
        """Yield a folder that becomes the adapter's when it is filled."""
        with new_folder(self.adapter) as part:
            yield part


class PairFolder:
    """Where a pair lies.

    Args:
        path: The folder.
        settings: What is trained and on what, as plain JSON data.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self._settings: dict[str, Any] = json.loads(json.dumps(without_secrets(settings)))

    def side(self, name: str) -> SideFolder:
        """Return the folder of one of the two models."""
        return SideFolder(self.path / name)

    def check(self) -> None:
        """Check that the folder is new, empty, or of this very training.

        Raises:
            ConfigError: It is none of these.
        """
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise ConfigError(f"{self.path} is no folder; choose another --out")
        if not (self.path / _FILE).exists():
            if any(one.name != ".lock" for one in self.path.iterdir()):
                raise ConfigError(
                    f"{self.path} is not empty and holds no training; choose another --out"
                )
            return
        kept = read_record_file(self.path / _FILE, "the settings of a training")
        known = kept.get("training")
        known = known if isinstance(known, dict) else {}
        keys = sorted({*known, *self._settings})
        other = [
            key for key in keys if key not in _FREE and known.get(key) != self._settings.get(key)
        ]
        if kept.get("format") != _FORMAT or other:
            raise ConfigError(
                f"{self.path} holds another training (its {', '.join(other) or 'format'} differ); "
                "choose another --out, or ask for the same to go on with it"
            )

    @contextlib.contextmanager
    def held(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Make the folder and keep other processes out of it.

        Args:
            waiting: Called where another process works in it.

        Raises:
            ConfigError: See `check`, or it cannot be written.
        """
        self.check()
        with locked(self.path, waiting):
            self.check()  # another process may have begun another training meanwhile
            if not (self.path / _FILE).exists():
                write_json(self.path / _FILE, {"format": _FORMAT, "training": self._settings})
            yield


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record) + "\n"


def _sizes(folder: Path) -> dict[str, int]:
    return {
        file.relative_to(folder).as_posix(): file.stat().st_size
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != _WHOLE
    }


def _is_whole(folder: Path) -> bool:
    try:
        known = json.loads((folder / _WHOLE).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return bool(known) and known == _sizes(folder)
