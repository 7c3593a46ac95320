"""Writes that appear complete or not at all, so that a crash leaves nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from eft_eval.errors import ConfigError

__all__ = ["write_json", "write_lines", "write_whole"]


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` make a file or fill a folder that takes its name, or replaces it, when whole.

    Raises:
        ConfigError: It cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(part, path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error}") from error
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file, on the disk before it takes its name."""

    def write(part: Path) -> None:
        # a lone surrogate of a reply becomes \udXXX, which is its JSON escape
        with part.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())

    write_whole(path, write)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file."""
    write_lines(path, [json.dumps(content, indent=1), "\n"])
