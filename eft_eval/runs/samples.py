"""Samples files of lm-eval: line by line as records, and as items with columns of numbers.

Up to 0.4.2 a file is one JSON array without hashes, which are computed here as later versions do;
up to 0.4.5 lines do not say their filter: a document's first line is of the task's first filter.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from eft_eval.errors import ConfigError
from eft_eval.files import check_readable, described_start
from eft_eval.records import finite_number
from eft_eval.runs.records import ItemSeen, JudgeSeen, Pipeline, Sample
from eft_eval.verdicts.text import verdict_records

__all__ = [
    "Lines",
    "Place",
    "SamplesRead",
    "doc_digest",
    "iter_places",
    "iter_samples",
    "read_lines",
    "read_samples",
    "samples_at",
    "text_hash",
]

Lines = dict[str, dict[int, Sample]]
"""Of a samples file, by filter and document, in its order."""

_OURS = {
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics",
    "doc_hash", "prompt_hash", "target_hash", "judged_responses",
}  # fmt: skip
_HASHES = ("doc_hash", "prompt_hash", "target_hash")
_START = 64  # bytes that tell what a file is
PROMPT = "prompt"
NO_FILTER = ("none",)
_FURTHER = 2**40  # more than any task has documents


class SamplesRead(NamedTuple):
    """A samples file without its texts.

    Attributes:
        pipelines: Its filters, by name.
        values: Per filter and metric the numbers in the order of the filter's items; None where
            there is none.
        unusual: Per filter and metric how many values were NaN or infinite.
        compound: Metrics whose values are no numbers (lists, pairs), by filter and metric.
        task_hash: lm-eval's hash of all its lines, to compare with the results file's.
        problems: What is wrong with the file.
    """

    pipelines: dict[str, Pipeline]
    values: dict[tuple[str, str], tuple[float | None, ...]]
    unusual: dict[tuple[str, str], int]
    compound: frozenset[tuple[str, str]]
    task_hash: str
    problems: list[str]


class Place(NamedTuple):
    """Where a sample stands in its file.

    Attributes:
        start: The first byte of its line; of a file that is one array, its number.
        length: Bytes of the line; 0 in an array.
    """

    start: int
    length: int


class _Line(NamedTuple):
    item: ItemSeen
    values: Mapping[str, Any]
    verdicts: list[Mapping[str, Any]] | None
    scores_text: bool  # whether the model was given what follows the prompt


def iter_samples(path: Path, filters: Sequence[str] = NO_FILTER) -> Iterator[Sample]:
    """Yield the lines of a samples file with their texts.

    Args:
        path: The file.
        filters: Names of the task's filters, in order, for lines that do not say theirs.

    Raises:
        ConfigError: A line is no sample; says which.
    """
    for number, _, record in _records(path, filters):
        if record is None:
            raise ConfigError(f"{path}, line {number}: no sample of lm-eval, or cut off")
        yield _sample(record)


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


def read_lines(path: Path, filters: Sequence[str] = NO_FILTER) -> Lines:
    """Return a samples file with its texts; of lines on one document the first.

    Documents that share an id, as those of ``--samples`` that names one twice, stay apart: the
    later ones have numbers of their own.

    Args:
        path: The file.
        filters: See `iter_samples`.

    Raises:
        ConfigError: It cannot be read, is empty, or a line is no sample; says which.
    """
    by_filter: Lines = {}
    for sample in iter_samples(path, filters):
        of_filter = by_filter.setdefault(sample.filter, {})
        number = sample.doc_id
        while number in of_filter and of_filter[number].hashes[0] != sample.hashes[0]:
            number += _FURTHER
        of_filter.setdefault(number, sample)
    if not by_filter:
        raise ConfigError(f"{path} is empty")
    return by_filter


def read_samples(
    path: Path, cluster: str = PROMPT, filters: Sequence[str] = NO_FILTER
) -> SamplesRead:
    """Read a samples file; what is wrong with it is listed, not raised.

    Args:
        path: The file.
        cluster: What makes items dependent: "prompt" for equal prompts, or a path into a line
            such as "doc.article". One prompt before all the texts that a log-likelihood task
            scores (BLiMP's is empty) tells no items apart, so that each document is its own.
        filters: See `iter_samples`.

    Raises:
        ConfigError: The file cannot be read, or a line has no such field.
    """
    digest = hashlib.sha256()
    by_filter: dict[str, dict[int, _Line]] = {}
    broken: list[int] = []
    repeated: Counter[str] = Counter()
    texts: dict[int, str] = {}
    differing: set[int] = set()
    for number, _, record in _records(path, filters):
        if record is None:
            broken.append(number)
            continue
        sample = _sample(record)
        digest.update("".join(sample.hashes).encode("utf-8", "surrogatepass"))
        of_filter = by_filter.setdefault(sample.filter, {})
        if sample.doc_id in of_filter:
            repeated[sample.filter] += 1
            continue
        line = _line(sample, record, cluster, f"{path}, line {number}")
        if texts.setdefault(sample.doc_id, line.item.text) != line.item.text:
            differing.add(sample.doc_id)
        of_filter[sample.doc_id] = line
    problems = []
    if broken:
        last = "the file is cut off, or damaged"
        problems.append(f"{path.name}: {len(broken)} unreadable line(s), first {broken[0]}: {last}")
    for name, count in repeated.items():
        problems.append(f"{path.name}: {count} document(s) appear twice under filter {name!r}")
    if differing:
        count, first = len(differing), min(differing)
        problems.append(
            f"{path.name}: {count} document(s) are other texts under other filters, first doc_id "
            f"{first}"
        )
    return _collect(path, by_filter, digest.hexdigest(), problems)


def _collect(
    path: Path, by_filter: dict[str, dict[int, _Line]], digest: str, problems: list[str]
) -> SamplesRead:
    pipelines: dict[str, Pipeline] = {}
    values: dict[tuple[str, str], tuple[float | None, ...]] = {}
    unusual: Counter[tuple[str, str]] = Counter()
    compound: set[tuple[str, str]] = set()
    for name, by_id in by_filter.items():
        lines = [by_id[doc_id] for doc_id in sorted(by_id)]
        pipelines[name] = _pipeline(name, lines, path, problems)
        for metric in dict.fromkeys(metric for line in lines for metric in line.values):
            raw = [line.values.get(metric) for line in lines]
            if any(not (value is None or isinstance(value, (int, float))) for value in raw):
                compound.add((name, metric))
                continue
            numbers = tuple(map(finite_number, raw))
            values[name, metric] = numbers
            unusual[name, metric] += numbers.count(None) - raw.count(None)
    odd = {key: count for key, count in unusual.items() if count}
    return SamplesRead(pipelines, values, odd, frozenset(compound), digest, problems)


def _pipeline(name: str, lines: list[_Line], path: Path, problems: list[str]) -> Pipeline:
    items = tuple(line.item for line in lines)
    if all(line.scores_text for line in lines) and len({item.cluster for item in items}) == 1:
        items = tuple(replace(item, cluster=item.doc_hash) for item in items)
    judged = [line.verdicts for line in lines if line.verdicts is not None]
    if not judged:
        return Pipeline(name, items, None, None, None)
    if len(judged) < len(lines):
        problems.append(
            f"{path.name}: {len(lines) - len(judged)} line(s) of {name!r} lack verdicts"
        )
    verdicts = [verdict for group in judged for verdict in group]
    judges = {_judge(verdict) for verdict in verdicts}
    returned = {str(v["judge_model_returned"]) for v in verdicts if v.get("judge_model_returned")}
    if len(judges) > 1:
        several = ", ".join(sorted(f"{model} with {prompt}" for model, prompt, *_ in judges))
        problems.append(f"{path.name}: filter {name!r} mixes verdicts of several judges: {several}")
    judge = JudgeSeen(*min(judges), tuple(sorted(returned))) if judges else None
    statuses = Counter(str(verdict["status"]) for verdict in verdicts)
    repeats = {len(group) for group in judged}
    if len(repeats) > 1:
        problems.append(f"{path.name}: documents of {name!r} have {sorted(repeats)} verdicts")
    return Pipeline(name, items, dict(sorted(statuses.items())), judge, max(repeats))


def _judge(verdict: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return (
        str(verdict.get("judge_model")),
        str(verdict.get("prompt_name")),
        str(verdict.get("prompt_sha256")),
        json.dumps(verdict.get("parameters"), sort_keys=True),
    )


def _line(sample: Sample, record: Mapping[str, Any], cluster: str, where: str) -> _Line:
    verdicts = verdict_records(sample.filtered)
    scores_text = False
    doc_hash, prompt_hash, _ = sample.hashes
    request = _first_request(record)
    if isinstance(prompt := request.get("arg_0"), str):
        prompt_hash = text_hash(prompt)  # what is there, whatever the line says of it
    if cluster != PROMPT:
        word = _field(record, cluster, where)
    else:
        known = verdicts[0].get("query_id") if verdicts else None
        word = str(known or sample.hashes[1])
        scores_text = isinstance(request.get("arg_1"), str)
    item = ItemSeen(sample.doc_id, doc_hash, prompt_hash, word, doc_digest(sample.doc))
    return _Line(item, sample.values, verdicts, scores_text)


def text_hash(text: str) -> str:
    """Return lm-eval's hash of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def doc_digest(doc: Any) -> str:
    """Return a short hash of a document's content, to tell other content under one doc_hash."""
    text = json.dumps(doc, sort_keys=True)
    return hashlib.blake2b(text.encode("ascii"), digest_size=8).hexdigest()


def _first_request(record: Mapping[str, Any]) -> Mapping[str, Any]:
    arguments = record.get("arguments")
    first: Any = next(iter(arguments.values()), None) if isinstance(arguments, dict) else None
    return first if isinstance(first, dict) else {}


def _field(record: Mapping[str, Any], path: str, where: str) -> str:
    value: Any = record
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise ConfigError(
                f"{where} has no field {path!r}, by which items are to be clustered; expected "
                '"prompt", or a path such as "doc.article"'
            )
        value = value[part]
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


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
    if not isinstance(record, dict) or not isinstance(record.get("doc_id"), int):
        return None
    names = record["metrics"] if isinstance(record.get("metrics"), list) else []
    lists = (record.get(name) or [] for name in ("resps", "filtered_resps"))
    whole = all(isinstance(name, str) for name in names)
    if not whole or not all(isinstance(value, list) for value in lists):
        return None
    if isinstance(record.get("arguments"), list):
        record["arguments"] = _named(record["arguments"])
    if not any(name in record for name in _HASHES):
        prompt, target = _first_request(record).get("arg_0", ""), record.get("target", "")
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
        prompt=str(_first_request(record).get("arg_0", "")),
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
