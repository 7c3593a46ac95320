"""Samples files of lm-eval as items with columns of numbers, without their texts or with them.

What is one document is its id and its hash: lm-eval gives several documents one id where
``--samples`` names one twice.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from eft_eval.errors import ConfigError
from eft_eval.records import finite_number
from eft_eval.runs.lines import (
    NO_FILTER,
    doc_digest,
    first_request,
    iter_samples,
    numbered_samples,
    text_hash,
)
from eft_eval.runs.records import Document, ItemSeen, JudgeSeen, Pipeline, Sample
from eft_eval.verdicts.text import verdict_records

__all__ = ["Lines", "LinesRead", "Numbers", "SamplesRead", "read_lines", "read_samples"]

Lines = dict[str, dict[Document, Sample]]
"""Of a samples file, by filter and document, in its order."""

PROMPT = "prompt"


class Numbers(NamedTuple):
    """The numbers of a samples file.

    Attributes:
        values: Per filter and metric the numbers in the order of the filter's items; None where
            there is none.
        unusual: Per filter and metric how many values were NaN or infinite.
        compound: Metrics whose values are no numbers (lists, pairs), by filter and metric.
    """

    values: Mapping[tuple[str, str], tuple[float | None, ...]]
    unusual: Mapping[tuple[str, str], int]
    compound: frozenset[tuple[str, str]]


class SamplesRead(NamedTuple):
    """A samples file without its texts.

    Attributes:
        pipelines: Its filters, by name.
        numbers: Its columns.
        task_hash: lm-eval's hash of all its lines, to compare with the results file's.
        problems: What is wrong with the file.
    """

    pipelines: dict[str, Pipeline]
    numbers: Numbers
    task_hash: str
    problems: list[str]


class LinesRead(NamedTuple):
    """A samples file with its texts.

    Attributes:
        lines: Its samples; of lines on one document the first.
        numbers: Its columns.
        task_hash: lm-eval's hash of all its lines, to compare with the results file's.
        problems: What is wrong with the file.
    """

    lines: Lines
    numbers: Numbers
    task_hash: str
    problems: list[str]


class _Valued(Protocol):
    @property
    def values(self) -> Mapping[str, Any]: ...


class _Line(NamedTuple):
    item: ItemSeen
    values: Mapping[str, Any]
    verdicts: list[Mapping[str, Any]] | None
    scores_text: bool  # whether the model was given what follows the prompt


class _Documents:
    """What is seen of the documents of a samples file, line by line."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._texts: dict[Document, str] = {}
        self._differing: set[Document] = set()
        self._of_filter: dict[str, set[Document]] = {}
        self._repeated: Counter[str] = Counter()

    @property
    def task_hash(self) -> str:
        return self._digest.hexdigest()

    def first(self, sample: Sample, text: str) -> bool:
        """Note a line and its document's text; return whether it is the filter's first on it."""
        self._digest.update("".join(sample.hashes).encode("utf-8", "surrogatepass"))
        known = self._of_filter.setdefault(sample.filter, set())
        if sample.document in known:
            self._repeated[sample.filter] += 1
            return False
        known.add(sample.document)
        if self._texts.setdefault(sample.document, text) != text:
            self._differing.add(sample.document)
        return True

    def problems(self, path: Path) -> Iterator[str]:
        for name, count in self._repeated.items():
            yield (
                f"{path.name}: {count} document(s) appear twice under filter {name!r} (two runs "
                "in one file?)"
            )
        differing = {*self._differing}
        largest = max(self._of_filter.values(), key=len, default=set())
        for known in self._of_filter.values():
            if len(known) == len(largest):  # else documents are lacking, which is said elsewhere
                differing |= known - largest
        if differing:
            yield (
                f"{path.name}: {len(differing)} document(s) are other texts under other filters, "
                f"first doc_id {min(differing)[0]}"
            )


def read_lines(path: Path, filters: Sequence[str] = NO_FILTER) -> LinesRead:
    """Read a samples file with its texts; what contradicts itself in it is listed, not raised.

    Args:
        path: The file.
        filters: See `eft_eval.runs.lines.iter_samples`.

    Raises:
        ConfigError: It cannot be read, is empty, or a line is no sample; says which.
    """
    documents = _Documents()
    lines: Lines = {}
    for sample in iter_samples(path, filters):
        if documents.first(sample, doc_digest(sample.doc)):
            lines.setdefault(sample.filter, {})[sample.document] = sample
    if not lines:
        raise ConfigError(f"{path} is empty")
    numbers = _numbers({name: [*of.values()] for name, of in lines.items()})
    return LinesRead(lines, numbers, documents.task_hash, [*documents.problems(path)])


def read_samples(
    path: Path, cluster: str = PROMPT, filters: Sequence[str] = NO_FILTER
) -> SamplesRead:
    """Read a samples file; what is wrong with it is listed, not raised.

    Args:
        path: The file.
        cluster: What makes items dependent: "prompt" for equal prompts, or a path into a line
            such as "doc.article". One prompt before all the texts that a log-likelihood task
            scores (BLiMP's is empty) tells no items apart, so that each document is its own.
        filters: See `eft_eval.runs.lines.iter_samples`.

    Raises:
        ConfigError: The file cannot be read, or a line has no such field.
    """
    documents = _Documents()
    by_filter: dict[str, list[_Line]] = {}
    broken: list[int] = []
    for number, sample in numbered_samples(path, filters):
        if sample is None:
            broken.append(number)
            continue
        text = doc_digest(sample.doc)
        if documents.first(sample, text):
            line = _line(sample, text, cluster, f"{path}, line {number}")
            by_filter.setdefault(sample.filter, []).append(line)
    problems = []
    if broken:
        last = "the file is cut off, or damaged"
        problems.append(f"{path.name}: {len(broken)} unreadable line(s), first {broken[0]}: {last}")
    problems += documents.problems(path)
    for lines in by_filter.values():
        lines.sort(key=lambda line: line.item.doc_id)
    pipelines = {name: _pipeline(name, of, path, problems) for name, of in by_filter.items()}
    return SamplesRead(pipelines, _numbers(by_filter), documents.task_hash, problems)


def _numbers(by_filter: Mapping[str, Sequence[_Valued]]) -> Numbers:
    values: dict[tuple[str, str], tuple[float | None, ...]] = {}
    unusual: Counter[tuple[str, str]] = Counter()
    compound: set[tuple[str, str]] = set()
    for name, lines in by_filter.items():
        for metric in dict.fromkeys(metric for line in lines for metric in line.values):
            raw = [line.values.get(metric) for line in lines]
            if any(not (value is None or isinstance(value, (int, float))) for value in raw):
                compound.add((name, metric))
                continue
            numbers = tuple(map(finite_number, raw))
            values[name, metric] = numbers
            unusual[name, metric] += numbers.count(None) - raw.count(None)
    odd = {key: count for key, count in unusual.items() if count}
    return Numbers(values, odd, frozenset(compound))


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


def _line(sample: Sample, text: str, cluster: str, where: str) -> _Line:
    verdicts = None if sample.bypassed else verdict_records(sample.filtered)
    scores_text = False
    doc_hash, prompt_hash, _ = sample.hashes
    request = first_request(sample.record)
    if isinstance(prompt := request.get("arg_0"), str):
        prompt_hash = text_hash(prompt)  # what is there, whatever the line says of it
    if cluster != PROMPT:
        word = _field(sample.record, cluster, where)
    else:
        known = verdicts[0].get("query_id") if verdicts else None
        word = str(known or sample.hashes[1])
        scores_text = isinstance(request.get("arg_1"), str)
    item = ItemSeen(sample.doc_id, doc_hash, prompt_hash, word, text)
    return _Line(item, sample.values, verdicts, scores_text)


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
