"""A labelling project of ours: a new folder, and the key to its items."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from eft_eval.errors import ConfigError
from eft_eval.files import check_readable, new_folder
from eft_eval.labels.entries import Asked, Found, Lines, Table
from eft_eval.labels.records import Item, Origin
from eft_eval.labels.scheme import QUESTIONS, Questions
from eft_eval.labels.texts import text_hash
from eft_eval.records import restored

__all__ = [
    "GOLD_KEY_FORMAT",
    "KEY_FORMAT",
    "KEY_NAME",
    "Exported",
    "Exporter",
    "Key",
    "Tool",
    "key_in",
    "new_export",
    "read_key",
]

KEY_NAME = "key.json"
KEY_FORMAT = "eft-eval label key"
GOLD_KEY_FORMAT = "eft-eval gold key"
"""Of the key to a gold project, which says more of each item and lies elsewhere."""
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}", re.ASCII)


class Exported(NamedTuple):
    """What was written, what to do next (for Potato: the one command that starts it), and then."""

    folder: Path
    next_step: str
    then: str = ""


class Exporter(Protocol):
    """Writes items as a labelling project of one tool, with its key; no verdict is written."""

    def __call__(
        self,
        items: Sequence[Item],
        out: Path | str,
        *,
        about: Mapping[str, Any] | None = None,
        questions: Questions = QUESTIONS["factuality"],
    ) -> Exported:
        """Write the items in their order.

        Args:
            items: What to label.
            out: A new or empty folder.
            about: What to note in the key, such as run, sample size and seed.
            questions: What annotators are asked.

        Raises:
            ConfigError: The items or the folder cannot be used.
        """


class Tool(NamedTuple):
    """A labelling tool: how its files are recognised and read, and how a project is written.

    Each reader is told what the user says of the file, and returns None where it is another tool's.

    Attributes:
        export: Writes a project, an `Exporter`; None for a tool that is only read.
        listens: Whether the exporter also takes the port that the tool's server listens at.
        returned: What the labels come back in; "" where they stay in the project's folder.
        from_json: Reads a parsed JSON file.
        from_lines: Reads the numbered objects of a JSON Lines file; None for a broken line.
        from_table: Reads a table.
        stores_in: Finds the files with labels in a project's folder.
    """

    export: Callable[..., Exported] | None = None
    listens: bool = False
    returned: str = ""
    from_json: Callable[[Path, Any, Asked], Found | None] = lambda _path, _content, _asked: None
    from_lines: Callable[[Path, Lines, Asked], Found | None] = lambda _path, _lines, _asked: None
    from_table: Callable[[Path, Table, Asked], Found | None] = lambda _path, _table, _asked: None
    stores_in: Callable[[Path], list[Path]] = lambda _folder: []


class _KeyItem(NamedTuple):
    source: str
    stratum: str
    cluster: str
    text_sha256: str


class _About(NamedTuple):
    random_sample: bool | None = None


class Key(NamedTuple):
    """What an export's key says of its items."""

    items: Mapping[str, _KeyItem]
    about: _About = _About()

    @property
    def hashes(self) -> dict[str, str]:
        """The hashes of the items' texts, by id."""
        return {name: one.text_sha256 for name, one in self.items.items()}

    def origins(self) -> Iterator[tuple[str, Origin]]:
        """Yield where each item is from."""
        for name, one in self.items.items():
            yield name, Origin(one.stratum, one.cluster, self.about.random_sample)


@contextlib.contextmanager
def new_export(items: Sequence[Item], out: Path, about: Mapping[str, Any] | None) -> Iterator[Path]:
    """Yield a folder to write an export into; at the end it becomes ``out``, with its key.

    The key, `KEY_NAME`, maps item ids to where the items are from and to the hashes of their
    texts. No verdict is in it.

    Raises:
        ConfigError: There is nothing to export, an id or a text is not what it should be, or
            ``out`` holds something already or cannot be written.
    """
    _check(items)
    with new_folder(out) as folder:
        _write_key(folder, items, about)
        yield folder


def _check(items: Sequence[Item]) -> None:
    if not items:
        raise ConfigError("there are no items to export")
    counts = Counter(item.item_id for item in items)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ConfigError(f"{len(twice)} item ids occur twice, such as {twice[0]!r}")
    for item in items:
        if not _SAFE_ID.fullmatch(item.item_id):
            raise ConfigError(
                f"item id {item.item_id!r} is not safe in files and web pages; use up to 200 of "
                "A-Z a-z 0-9 _ . : - and begin with a letter or digit"
            )
        if item.text_sha256 != text_hash(item.question, item.response):
            raise ConfigError(f"item {item.item_id}: text_sha256 is not the hash of its texts")


def _write_key(folder: Path, items: Sequence[Item], about: Mapping[str, Any] | None) -> None:
    entries = {
        item.item_id: _KeyItem(item.source, item.stratum, item.cluster, item.text_sha256)._asdict()
        for item in sorted(items, key=lambda item: item.item_id)
    }
    key = {"format": KEY_FORMAT, "about": dict(about or {}), "items": entries}
    (folder / KEY_NAME).write_text(json.dumps(key, indent=1, ensure_ascii=True) + "\n", "utf-8")


def read_key(path: Path) -> Key | None:
    """Return the key of the export that a file lies in, or None.

    Looked for is the key in the file's folder and in the three above: Potato writes its own
    exports three folders below the project.

    Raises:
        ConfigError: There is a key of ours that cannot be read.
    """
    for folder in list(path.absolute().parents)[:4]:
        key = key_in(folder / KEY_NAME)
        if key is not None:
            return key
    return None


def key_in(path: Path) -> Key | None:
    """Return what a key says; None where there is no key of ours.

    Raises:
        ConfigError: There is a key of ours that cannot be read.
    """
    try:
        check_readable(path)
        key = json.loads(path.read_text("utf-8"))
    except (ConfigError, OSError, ValueError, RecursionError):
        return None  # somebody else's key.json, if any
    if not isinstance(key, dict) or key.get("format") not in (KEY_FORMAT, GOLD_KEY_FORMAT):
        return None
    try:
        return restored(Key, key, str(path))
    except ConfigError as error:
        raise ConfigError(
            f"{path} is a damaged key; take the one that was exported ({error})"
        ) from None
