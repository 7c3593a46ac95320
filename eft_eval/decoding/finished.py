"""Finished responses on disk, so that a run that was killed goes on where it was.

Knows tokens, not text and not tasks. A folder holds a file per process: a line of JSON per
response, appended as it ends. Every line carries a digest over the run's identity and its own
content, so that a line that is cut off, damaged or of another run is made again, never used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from eft_eval.decoding.requests import Finish, Generation
from eft_eval.errors import ConfigError
from eft_eval.files import make_folder
from eft_eval.streams import logger

if sys.platform != "win32":
    import fcntl

__all__ = ["FinishedResponses", "response_key"]

log = logger("eft_eval")
_SYNC_SECONDS = 1.0


def response_key(content: Any) -> str:
    """Return what identifies a response within a run: a hash of all that it depends on."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class FinishedResponses:
    """The responses of one composite that some process finished, and those that this one adds.

    Args:
        folder: Where they lie; made where there is none.
        identity: All that every response depends on, as JSON data.

    Attributes:
        folder: Where they lie.
        used: Keys of the responses that were found or added.

    Raises:
        ConfigError: The folder cannot be made or written.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        make_folder(folder)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigError(
                f"the folder {folder} is write-protected; choose another for finished responses "
                "(--model_args resume=DIR), or keep none (resume=false)"
            )
        self.folder = folder
        self.used: set[str] = set()
        self._identity = dict(identity)
        self._digest = response_key(identity)
        self._file: int | None = None
        self._synced = 0.0
        self._torn = self._told = False
        self._known, damaged = self._read()
        if damaged:
            log.warning(
                "%s: %d damaged line(s) are not used; their responses are made again",
                folder,
                damaged,
            )

    def find(self, key: str) -> Generation | None:
        """Return a finished response, if there is one."""
        found = self._known.get(key)
        if found is not None:
            self.used.add(key)
        return found

    def add(self, key: str, made: Generation) -> None:
        """Keep a response; where it cannot be written, say so once and go on."""
        self.used.add(key)
        record = {"key": key, "tokens": made.tokens, "finish": made.finish}
        line = json.dumps({**record, "check": self._check(record)})
        try:
            self._append(line.encode() + b"\n")
        except OSError as error:
            self._torn = True  # the next line begins anew
            if not self._told:
                self._told = True
                log.warning(
                    "cannot keep finished responses in %s: %s; the run goes on, but what is not "
                    "kept would be made again after a crash",
                    self.folder,
                    error.strerror or error,
                )

    def close(self) -> None:
        """Let other processes know that nothing more is added for now."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.fsync(self._file)
            os.close(self._file)
            self._file = None

    def forget(self, used: Iterable[str]) -> None:
        """Take away responses whose run is over; what other runs left, or still write, stays."""
        self.close()
        done = {*used}
        for path in self._paths():
            with contextlib.suppress(OSError):
                self._forget_in(path, done)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    # ------------------------------------------------------------------ files

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self._digest[:16]}-*.jsonl"))

    def _read(self) -> tuple[dict[str, Generation], int]:
        known: dict[str, Generation] = {}
        damaged = 0
        for path in self._paths():
            try:
                for _, record in self._records(path):
                    if record is None:
                        damaged += 1
                    else:
                        known[record["key"]] = Generation(record["tokens"], record["finish"])
            except OSError as error:
                log.warning("cannot read %s: %s; it is not used", path, error.strerror or error)
        return known, damaged

    def _records(self, path: Path) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
        """Yield a file's lines but the first, and what they say; None where that is damaged.

        The last line of a process that was killed may lack its end, and then is none.
        """
        with path.open("rb") as file:
            file.readline()  # says to people what the file is
            for line in file:
                if line.strip() and line.endswith(b"\n"):
                    yield line, self._record(line)

    def _record(self, line: bytes) -> dict[str, Any] | None:
        try:
            record = json.loads(line)
            whole = record.pop("check") == self._check(record)
            sound = record["finish"] in get_args(Finish) and isinstance(record["key"], str)
            ids = all(isinstance(token, int) for token in record["tokens"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return record if whole and sound and ids else None

    def _check(self, record: Mapping[str, Any]) -> str:
        return response_key([self._digest, record])[:16]

    def _append(self, line: bytes) -> None:
        if self._file is None:
            self._file = self._new_file()
        _write(self._file, b"\n" + line if self._torn else line)
        self._torn = False
        now = time.monotonic()
        if now - self._synced > _SYNC_SECONDS:
            os.fsync(self._file)
            self._synced = now

    def _new_file(self) -> int:
        """Open a file of this process's own, which says what it is and is locked while it lives."""
        path = self.folder / f"{self._digest[:16]}-{secrets.token_hex(4)}.jsonl"
        about = {
            "eft_eval": "finished responses of a run that has not ended; safe to delete",
            "identity": self._identity,
        }
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY, 0o666)
        try:
            _lock(file)
            _write(file, json.dumps(about, default=str).encode() + b"\n")
        except OSError:  # a full disk has room for names of files
            os.close(file)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        return file

    def _forget_in(self, path: Path, done: set[str]) -> None:
        with path.open("rb") as file:
            if not _lock(file.fileno()):
                return  # somebody adds to it
            about = file.readline()
            records = self._records(path)
            left = [line for line, one in records if one is not None and one["key"] not in done]
            if not left:
                path.unlink()
                return
            part = path.with_suffix(".part")
            part.write_bytes(b"".join([about, *left]))
            os.replace(part, path)


def _write(file: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(file, rest) :]


def _lock(file: int) -> bool:
    """Lock an open file against other processes until it is closed; False where one holds it."""
    if sys.platform == "win32":  # a file that is open cannot be replaced there
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
