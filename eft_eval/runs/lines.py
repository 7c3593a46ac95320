"""Lines of lm-eval's samples files as records.

Up to 0.4.2 a file is one JSON array without hashes, which are computed here as later versions do;
up to 0.4.5 lines do not say their filter: a document's first line is of the task's first filter.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eft_eval.errors import ConfigError
from eft_eval.files import check_readable, described_start
from eft_eval.runs.records import Sample

__all__ = [
    "NO_FILTER",
    "Place",
    "doc_digest",
    "first_request",
    "iter_places",
    "iter_samples",
    "numbered_samples",
    "samples_at",
    "text_hash",
]

_OURS = {
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics",
    "doc_hash", "prompt_hash", "target_hash", "judged_responses",
}  # fmt: skip
_HASHES = ("doc_hash", "prompt_hash", "target_hash")
_START = 64  # bytes that tell what a file is
_LARGEST_ID = 2**53  # up to which tables and browsers hold whole numbers
NO_FILTER = ("none",)


class Place(NamedTuple):
    """Where a sample stands in its file.

    Attributes:
        start: The first byte of its line; of a file that is one array, its number.
        length: Bytes of the line; 0 in an array.
    """

    start: int
    length: int


def iter_samples(path: Path, filters: Sequence[str] = NO_FILTER) -> Iterator[Sample]:
    """Yield the lines of a samples file with their texts.

    Args:
        path: The file.
        filters: Names of the task's filters, in order, for lines that do not say theirs.

    Raises:
        ConfigError: A line is no sample; says which.
    """
    for number, sample in numbered_samples(path, filters):
        if sample is None:
            raise ConfigError(f"{path}, line {number}: no sample of lm-eval, or cut off")
        yield sample


def iter_places(
    path: Path, filters: Sequence[str] = NO_FILTER
) -> Iterator[tuple[Place, Sample | None]]:
    """Yield the samples of a file with where each stands; None for a line that is none.

    Args:
        path: The file.
        filters: See `iter_samples`.

    Raises:
        ConfigError: The file cannot be read.
    """
    for _, place, record in _records(path, filters):
        yield place, None if record is None else _sample(record)


def samples_at(path: Path, places: Sequence[tuple[Place, str]]) -> list[Sample]:
    """Return the samples at some places, each with the filter that `iter_places` told.

    Raises:
        ConfigError: The file cannot be read, or is not as it was.
    """
    check_readable(path)
    whole: Any = None
    found = []
    try:
        with path.open("rb") as raw:
            for place, name in places:
                if place.length:
                    raw.seek(place.start)
                    content = _parsed(_text(raw.read(place.length)))
                else:
                    whole = whole or _parsed(_text(raw.read())) or [None]
                    content = whole[place.start] if place.start < len(whole) else None
                record = _record(content)
                if record is None:
                    raise ConfigError(f"{path} has changed; load the page again")
                found.append(_sample({**record, "filter": name}))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    return found


def numbered_samples(path: Path, filters: Sequence[str]) -> Iterator[tuple[int, Sample | None]]:
    """Yield the number and the sample of each line, or item of an array; None where it is none."""
    for number, _, record in _records(path, filters):
        yield number, None if record is None else _sample(record)


def text_hash(text: str) -> str:
    """Return lm-eval's hash of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def doc_digest(doc: Any) -> str:
    """Return a short hash of a document's content, to tell other content under one doc_hash."""
    text = json.dumps(doc, sort_keys=True)
    return hashlib.blake2b(text.encode("ascii"), digest_size=8).hexdigest()


def first_request(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments of a line's first request by their names; empty where there is none."""
    arguments = record.get("arguments")
    first: Any = next(iter(arguments.values()), None) if isinstance(arguments, dict) else None
    return first if isinstance(first, dict) else {}


def _records(
    path: Path, filters: Sequence[str]
) -> Iterator[tuple[int, Place, dict[str, Any] | None]]:
    """Yield number, place and sample of each line, or item of an array; None where it is none."""
    seen: Counter[int] = Counter()
    for number, place, content in _contents(path):
        record = _record(content)
        if record is not None and not isinstance(record.get("filter"), str):
            nth = seen[record["doc_id"]]
            seen[record["doc_id"]] += 1
            record["filter"] = filters[min(nth, len(filters) - 1)]
        yield number, place, record


def _contents(path: Path) -> Iterator[tuple[int, Place, Any]]:
    check_readable(path)
    try:
        with path.open("rb") as raw:
            start = raw.peek(_START)[:_START]
            if words := described_start(start):
                raise ConfigError(f"{path} is {words}")
            if start.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
                whole = _parsed(_text(raw.read()))
                if isinstance(whole, list):
                    for number, item in enumerate(whole):
                        yield number + 1, Place(number, 0), item
                    return
                raw.seek(0)
            at = 0
            for number, line in enumerate(raw, start=1):
                if (text := _text(line)).strip():
                    yield number, Place(at, len(line)), _parsed(text)
                at += len(line)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error


def _text(raw: bytes) -> str:
    """Return text without a byte order mark; a broken line must not hide the others."""
    return raw.removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # the latter: brackets nested by the thousand
        return None


def _record(record: Any) -> dict[str, Any] | None:
    """Return a sample with all that later versions of lm-eval write; None for what is none."""
    if not isinstance(record, dict):
        return None
    if isinstance(number := record.get("doc_id"), float) and number.is_integer():
        record["doc_id"] = int(number)  # as tables of floats write it
    if not isinstance(record.get("doc_id"), int) or abs(record["doc_id"]) > _LARGEST_ID:
        return None
    if record.get("resps", ()) is None:
        record["resps"] = [None]  # a response that never came; trimmed lines have no place for it
    names = record["metrics"] if isinstance(record.get("metrics"), list) else []
    lists = (record.get(name) or [] for name in ("resps", "filtered_resps"))
    whole = all(isinstance(name, str) for name in names)
    if not whole or not all(isinstance(value, list) for value in lists):
        return None
    if isinstance(record.get("arguments"), list):
        record["arguments"] = _named(record["arguments"])
    if not any(name in record for name in _HASHES):
        prompt, target = first_request(record).get("arg_0", ""), record.get("target", "")
        doc = json.dumps(record.get("doc"), indent=2, ensure_ascii=False)
        for name, text in zip(_HASHES, (doc, str(prompt), str(target)), strict=True):
            record[name] = text_hash(text)
    return record if all(isinstance(record.get(name), str) for name in _HASHES) else None


def _named(arguments: list[Any]) -> dict[str, dict[str, Any]]:
    """Return requests, each a list of arguments, under the names that later versions give them."""
    return {
        f"gen_args_{number}": {
            f"arg_{place}": one
            for place, one in enumerate(request if isinstance(request, list) else [request])
        }
        for number, request in enumerate(arguments)
    }


def _sample(record: Mapping[str, Any]) -> Sample:
    listed = record.get("metrics")
    names = listed if isinstance(listed, list) else [key for key in record if key not in _OURS]
    return Sample(
        doc_id=record["doc_id"],
        filter=str(record.get("filter", "none")),
        doc=record.get("doc"),
        prompt=str(first_request(record).get("arg_0", "")),
        target=str(record.get("target", "")),
        responses=tuple(record.get("resps") or ()),
        filtered=tuple(record.get("filtered_resps") or ()),
        values={name: record.get(name) for name in names},
        hashes=(
            record.get("doc_hash", ""),
            record.get("prompt_hash", ""),
            record.get("target_hash", ""),
        ),
        record=record,
    )
