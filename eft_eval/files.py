"""How files are written: whole or not at all, and never over what is not ours; and texts read.

| what lies there already                       | what a command does                         |
|-----------------------------------------------|---------------------------------------------|
| nothing, or an empty file or folder           | writes                                      |
| a file of the `Kind` that the command writes  | replaces it when the new one is whole       |
| any other file, and any folder                | one line, before anything is read or asked  |
| a pipe or device, such as /dev/stdout         | writes into it                              |

A link is followed: what it leads to counts, and the link stays.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from eft_eval.errors import ConfigError

__all__ = [
    "Kind",
    "check_new_folder",
    "check_output",
    "check_parent",
    "check_readable",
    "described_start",
    "is_stream",
    "json_kind",
    "make_folder",
    "new_folder",
    "put",
    "read_text",
    "replaced_folder",
    "staged",
    "text_kind",
    "user_path",
    "write_json",
    "write_lines",
    "write_output",
    "write_whole",
]

_STARTS = (
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer; run git lfs pull"),
    (b"\x1f\x8b", "gzipped; unpack it"),
    (b"PK\x03\x04", "a zip archive, or an Excel workbook; unpack it, or save it as CSV"),
    (b"PAR1", "a parquet file"),
    (b"ARROW1", "an Arrow file; save it as CSV or JSON"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook (.xls); save it as CSV UTF-8"),
    (b"SQLite format 3\0", "a SQLite database; export its table as CSV"),
    (b"%PDF-", "a PDF"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd; unpack it"),
    (b"\xfd7zXZ\0", "compressed by xz; unpack it"),
    (b"BZh", "compressed by bzip2; unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it"),
    (b"\xff\xfe", "UTF-16 text; save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text; save it as UTF-8"),
)
_START = 2**20  # characters in which a text file shows what it is
_LONGEST = 2**20  # bytes of a file that a person writes


class Kind(NamedTuple):
    """A kind of file that a command writes, and so may replace.

    Attributes:
        name: For "FILE exists and is no NAME".
        known: Whether a file is one.
    """

    name: str
    known: Callable[[Path], bool]


def json_kind(name: str, known: Callable[[Mapping[str, Any]], bool]) -> Kind:
    """Return the kind of JSON files whose object is ``known``."""

    def is_one(path: Path) -> bool:
        content = json.loads(path.read_text("utf-8"))
        return isinstance(content, dict) and known(content)

    return Kind(name, is_one)


def text_kind(name: str, pattern: str) -> Kind:
    """Return the kind of text files that begin with a pattern, in which a dot is any character."""
    found = re.compile(pattern, re.DOTALL)

    def is_one(path: Path) -> bool:
        with path.open(encoding="utf-8") as file:
            return found.match(file.read(_START)) is not None

    return Kind(name, is_one)


def check_output(path: Path, kind: Kind) -> None:
    """Check before any work that a command may write a file there.

    Raises:
        ConfigError: A folder or another kind of file is there, or it cannot be written.
    """
    with _one_line(path):
        if path.is_dir():
            raise ConfigError(f"{path} is a folder; expected the name of a file")
        check_parent(path)
        if path.exists() and not os.access(path, os.W_OK):
            raise ConfigError(f"{path} is write-protected; choose another name")
        if not path.is_file() or path.stat().st_size == 0:
            return
    try:
        known = kind.known(path)
    except (OSError, ValueError, RecursionError):
        known = False
    if not known:
        raise ConfigError(
            f"{path} exists and is no {kind.name}; choose another name, or move it away"
        )


def write_output(path: Path, lines: Iterable[str], kind: Kind) -> None:
    """Write a text file that the user named; see `check_output` for what is refused.

    Raises:
        ConfigError: It must not be replaced, or cannot be written.
    """
    check_output(path, kind)
    write_lines(path, lines)


def check_folder(path: Path) -> None:
    """Check before any work that files can be written into a folder, which may not be there yet.

    Raises:
        ConfigError: It is no folder, cannot be made, or cannot be written into.
    """
    with _one_line(path):
        if path.is_dir():
            check_parent(path / "results")
        elif _is_there(path):
            raise ConfigError(f"cannot write into {path}: it is no folder")
        else:
            _check_new(path)


def check_new_folder(path: Path) -> None:
    """Check before any work that a folder can be made there.

    Raises:
        ConfigError: Something is there that is no empty folder, or it cannot be written.
    """
    with _one_line(path):
        if _is_there(path) and (not path.is_dir() or any(path.iterdir())):
            raise ConfigError(f"{path} exists and is not empty; choose another folder")
        _check_new(path)


def _check_new(path: Path) -> None:
    first = Path(os.path.realpath(path))  # the first folder that is to be made
    while not os.path.lexists(first.parent):
        first = first.parent
    check_parent(first)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to fill, which becomes ``path`` at the end.

    Raises:
        ConfigError: See `check_new_folder`.
    """
    check_new_folder(path)
    real = Path(os.path.realpath(path))
    with _one_line(path):
        real.parent.mkdir(parents=True, exist_ok=True)
        with _beside(real) as part:
            part.mkdir()
            yield part
            if real.exists():
                real.rmdir()  # empty, or this fails
            part.rename(real)


@contextlib.contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to fill, which takes the place of an older one that held the same files.

    Raises:
        ConfigError: The older one holds a file that the new one does not have, or it cannot be
            written.
    """
    if not path.is_dir() or not any(path.iterdir()):
        with new_folder(path) as part:
            yield part
        return
    with _one_line(path), _beside(path) as part:
        part.mkdir()
        yield part
        if foreign := sorted(_files_in(path) - _files_in(part)):
            raise ConfigError(f"{path} holds {foreign[0]}, which is not ours; move it away")
        old = part.with_name("old")
        path.rename(old)
        try:
            part.rename(path)
        except OSError:
            old.rename(path)
            raise


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Yield a folder to write files into that `put` moves to ``folder`` when all are whole.

    Raises:
        ConfigError: It cannot be written.
    """
    with _one_line(folder), _beside(Path(os.path.realpath(folder))) as part:
        part.mkdir()
        yield part


def put(file: Path, path: Path) -> None:
    """Move a staged file to its place, in which a file is replaced.

    Raises:
        ConfigError: A folder has that name, or it cannot be written.
    """
    with _one_line(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda part: os.replace(file, part))


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` make a file that takes its name, or replaces a file, when whole.

    For files of ours; `write_output` is for names that a user gave.

    Raises:
        ConfigError: A folder has that name, or it cannot be written.
    """
    with _one_line(path):
        if is_stream(path):
            write(path)
            return
        real = Path(os.path.realpath(path))
        check_parent(path)
        if real.is_dir():
            raise ConfigError(f"cannot write {path}: a folder has that name")
        with _beside(real) as part:
            write(part)
            os.replace(part, real)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file of ours, on the disk before it takes its name."""

    def write(part: Path) -> None:
        # a lone surrogate of a reply becomes \udXXX, which is its JSON escape
        with part.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            file.writelines(lines)
            file.flush()
            if part.is_file():
                os.fsync(file.fileno())

    write_whole(path, write)


def make_folder(path: Path) -> None:
    """Make a folder of ours, and those above it; one that is there is left as it is.

    Raises:
        ConfigError: It cannot be made.
    """
    with _one_line(path):
        path.mkdir(parents=True, exist_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file of ours."""
    write_lines(path, [json.dumps(content, indent=1), "\n"])


def check_readable(path: Path, *, pipes: bool = False) -> None:
    """Check that reading a file comes to an end.

    Args:
        path: The file; one that is not there passes.
        pipes: Whether it may be a shell's pipe, ``<(command)`` or ``/dev/stdin``; a pipe with a
            name of its own may have no writer, and is refused.

    Raises:
        ConfigError: It is a device, a socket, a pipe or one of the kernel's own files.
    """
    if why := _unreadable(path, pipes):
        raise ConfigError(f"cannot read {path}: it is {why}")


def _unreadable(path: Path, pipes: bool = False) -> str | None:
    with contextlib.suppress(OSError):
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):  # /proc/kmsg says that it is one, and waits
            if Path(os.path.realpath(path)).parts[1:2] in (("proc",), ("sys",)):
                return "the kernel's, and no file"
        elif not stat.S_ISDIR(mode):
            shell = pipes and path.absolute().parts[1:2] in (("dev",), ("proc",))
            if not (shell and stat.S_ISFIFO(mode)):
                return "a device or a pipe, and no file"
    return None


def user_path(name: str | os.PathLike[str]) -> Path:
    """Return a path, a leading ``~`` or ``~USER`` as that home; of nobody known as it stands."""
    return Path(os.path.expanduser(name))


def read_text(path: Path, where: str, most: int = _LONGEST) -> str:
    """Return the text of a UTF-8 file.

    Args:
        path: The file.
        where: What it is, for the error.
        most: Bytes that are read at most.

    Raises:
        ConfigError: It does not exist, cannot be read, is no UTF-8, or is larger.
    """
    try:
        if path.is_dir():
            raise ConfigError(f"cannot read {where}: it is a folder, and no file")
        if why := _unreadable(path):
            raise ConfigError(f"cannot read {where}: it is {why}")
        with path.open("rb") as file:
            raw = file.read(most + 1)
        if len(raw) > most:
            raise ConfigError(f"cannot read {where}: it has more than {most:,} bytes")
        return raw.decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{where} does not exist") from None
    except OSError as error:
        raise ConfigError(f"cannot read {where}: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"cannot read {where}: it is not UTF-8 text; save it as UTF-8") from None


def described_start(raw: bytes) -> str | None:
    """Return what a file is that was to be UTF-8 text, by its first bytes; None where they do."""
    if raw[:200].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page, such as of a sign-in, saved in place of the file"
    return next((words for start, words in _STARTS if raw.startswith(start)), None)


@contextlib.contextmanager
def _one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yield a free place on the same disk, in a hidden folder of our own that goes afterwards."""
    own = Path(tempfile.mkdtemp(prefix=".eft-eval-", suffix=".part", dir=path.parent))
    try:
        yield own / "new"
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _is_there(path: Path) -> bool:
    try:
        os.lstat(path)  # os.path.lexists hides names that are too long
    except FileNotFoundError:
        return False
    return True


def is_stream(path: Path) -> bool:
    """Whether this is written into, not replaced: a pipe, a terminal, what /dev/stdout leads to."""
    system = path.absolute().parts[1:2] in (("dev",), ("proc",))
    return path.exists() and not path.is_dir() and (system or not path.is_file())


def check_parent(path: Path) -> None:
    """Check that there is a folder in which ``path`` can be made.

    Raises:
        ConfigError: There is none.
    """
    real = Path(os.path.realpath(path))
    parent = real.parent
    if real.is_symlink():
        raise ConfigError(f"{path} is a link that leads nowhere but to itself")
    if not parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent} to write {path.name} into")
    if not os.access(parent, os.W_OK | os.X_OK) and not is_stream(path):
        raise ConfigError(f"the folder {parent} is write-protected; choose another for {path.name}")


def _files_in(folder: Path) -> set[str]:
    """Return all that is no plain folder, by its path from ``folder``; links are not followed."""
    found = set()
    for where, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(where, name))]
        found |= {os.path.relpath(os.path.join(where, name), folder) for name in names + links}
    return found
