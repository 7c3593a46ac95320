"""What the page is told, as plain JSON types: runs, lists of documents, one document.

Every text is shown as it is apart from what would be unseen or obeyed, which is spelt out.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import ref

from eft_eval.browser.folder import Evaluation, Folder, Traced
from eft_eval.browser.index import SamplesIndex, statuses_of
from eft_eval.browser.selection import Selection, paired, select
from eft_eval.characters import visible
from eft_eval.errors import ConfigError
from eft_eval.reports.numbers import number
from eft_eval.reports.views.traces import MOST_TOKENS, token_view
from eft_eval.runs.columns import columns_of, filters_of
from eft_eval.runs.provenance import facts_of
from eft_eval.runs.records import BYPASS, Column, Run, Sample
from eft_eval.runs.saved import SavedTask
from eft_eval.secrets import without_secrets
from eft_eval.verdicts.text import verdict_records

__all__ = ["PAGE", "Answers", "spelt"]

PAGE = 50
"""Documents on a page."""
_BEGINNING = 200  # characters of a prompt in a list
_PATIENCE = 0.5  # seconds that an answer waits for an index
_AT_ONCE = 60.0  # seconds that a single document's place is waited for
_KEPT = 8  # indexes, of 100,000 documents some 100 MB each

_Pair = tuple[ref[SamplesIndex], ref[SamplesIndex], str]


class Answers:
    """Answers over one folder.

    Attributes:
        folder: The folder.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._indexes: OrderedDict[Path, SamplesIndex] = OrderedDict()
        self._pairs: OrderedDict[_Pair, dict[int, int]] = OrderedDict()
        self._lock = Lock()

    def runs(self) -> dict[str, Any]:
        """Return all evaluations of the folder, and what is wrong in it."""
        self.folder.look()
        runs = [
            {
                "id": one.id,
                "place": one.place,
                "model": one.file.model,
                "date": one.file.date,
                "tasks": [*one.run.tasks],
                "documents": _total(one),
                "judged_from": str(one.file.content.get("eft_judged_from") or ""),
            }
            for one in self.folder.evaluations.values()
        ]
        return {"folder": str(self.folder.root), "runs": runs, "notes": [*self.folder.notes]}

    def run(self, run: str) -> dict[str, Any]:
        """Return one evaluation: where it comes from, its tasks with their scores.

        Raises:
            ConfigError: There is no such run.
        """
        found = self._evaluation(run)
        content = found.file.content
        seen = Run(
            label=found.place,
            model=found.file.model,
            date=found.file.date,
            lm_eval_version=str(content.get("lm_eval_version") or ""),
            tasks={},
            groups={},
            problems=(),
            files=(found.file,),
        )
        tasks = []
        for name, task in found.run.tasks.items():
            scores = columns_of(content, name, None).values()
            tasks.append(
                {"name": name, "documents": task.documents, "scores": [*map(_score, scores)]}
            )
        facts = [[fact.name, fact.value] for fact in facts_of(seen)]
        return {"id": run, "model": found.file.model, "facts": facts, "tasks": tasks}

    def documents(
        self, run: str, task: str, wanted: Selection, other: str = "", first: int = 0
    ) -> dict[str, Any]:
        """Return a page of a task's documents; of an index that is not complete as far as it is.

        Args:
            run: Id of the run.
            task: Name of the task.
            wanted: Which documents; an empty filter is the task's first.
            other: Id of the run to compare with; empty: none.
            first: Number of the first document among those that are wanted.

        Raises:
            ConfigError: There is no such run, task or file, or the selection is wrong.
        """
        found = self._evaluation(run)
        saved = found.run.task(_raw(task, found.run.tasks))
        index = self._index(found, saved)
        index.wait(lambda: bool(index.by_filter), _AT_ONCE)
        names = dict.fromkeys((*filters_of(found.file.content, saved.name), *index.by_filter))
        names = {name: None for name in names if name in index.by_filter or not index.complete}
        name = _raw(wanted.filter, names) or next(iter(names), "")
        wanted = wanted._replace(filter=name)
        second = self._other(other, task)
        of_filter = index.by_filter
        if wanted.is_all and second is None:
            index.wait(lambda: len(of_filter.get(name, ())) >= first + PAGE, _PATIENCE)
        else:
            index.wait(lambda: False, _PATIENCE)
        first_entry = next((index.entries[i] for i in of_filter.get(name, ())), None)
        metrics = [*_metrics(first_entry.values)] if first_entry else []
        wanted = wanted._replace(metric=_raw(wanted.metric, metrics))
        complete, pairs = index.complete, None
        if second is not None:
            second.wait(lambda: False, _PATIENCE)
            complete = complete and second.complete
            pairs = self._paired(index, second, name) if complete else {}
        ready = complete or not wanted.change
        numbers = select(index, wanted, second, pairs) if ready else []
        shown = numbers[first : first + PAGE]
        columns = columns_of(found.file.content, saved.name, None)
        return {
            "filters": [*names],
            "filter": name,
            "statuses": index.statuses(name),
            "metrics": [
                {"name": metric, "better": _better(columns, metric, name)} for metric in metrics
            ],
            "complete": complete,
            "read": len(index.entries),
            "expected": saved.documents,
            "total": len(numbers),
            "first": first,
            "page": PAGE,
            "notes": [one.problem for one in (index, second) if one and one.problem],
            "documents": [
                _row(sample, at, index, second, pairs)
                for sample, at in zip(index.samples(shown), shown, strict=True)
            ],
        }

    def document(self, run: str, task: str, at: int, other: str = "") -> dict[str, Any]:
        """Return one document with all that was sent, said and judged.

        Args:
            run: Id of the run.
            task: Name of the task.
            at: Its number among the samples.
            other: Id of the run to compare with; empty: none.

        Raises:
            ConfigError: There is no such run, task, file or document.
        """
        found = self._evaluation(run)
        index = self._index(found, found.run.task(_raw(task, found.run.tasks)))
        index.wait(lambda: len(index.entries) > at, _AT_ONCE)
        if at >= len(index.entries) and not index.complete:
            raise ConfigError(f"{index.path.name} is still being read; open the document again")
        if not 0 <= at < len(index.entries):
            raise ConfigError(f"{index.path.name} has no sample {at}")
        (sample,) = index.samples([at])
        sides = [{"run": found.file.model, "place": found.place, **_said(sample)}]
        second = self._other(other, task)
        if second is not None:
            sides.append(self._other_side(other, index, second, at))
        return {
            "doc_id": sample.doc_id,
            "filter": sample.filter,
            "prompt": sample.prompt,
            "requests": [*_requests(sample)],
            "target": sample.target,
            "doc": _json(sample.doc),
            "hashes": dict(
                zip(("doc_hash", "prompt_hash", "target_hash"), sample.hashes, strict=True)
            ),
            "sides": sides,
            "traces": [_traced(one, sample) for one in self._traces(sample)],
        }

    def _other_side(
        self, other: str, index: SamplesIndex, second: SamplesIndex, at: int
    ) -> dict[str, Any]:
        for one in (index, second):
            one.wait(lambda: False, _AT_ONCE)
        found = self._evaluation(other)
        head = {"run": found.file.model, "place": found.place}
        if not (index.complete and second.complete):
            return {**head, "missing": "the files are still being read; open the document again"}
        number = self._paired(index, second, index.entries[at].filter).get(at)
        if number is None:
            return {**head, "missing": "this run has no such document"}
        (sample,) = second.samples([number])
        changed = sample.hashes[1] != index.entries[at].item.prompt_hash
        return {**head, **_said(sample), "prompt": sample.prompt if changed else ""}

    def _traces(self, sample: Sample) -> Iterator[Traced]:
        asked = sample.prompt.strip()
        yield from (one for one in self.folder.traces if one.trace.prompt.strip() == asked)

    def _evaluation(self, run: str) -> Evaluation:
        if run not in self.folder.evaluations:
            self.folder.look()
        if run not in self.folder.evaluations:
            raise ConfigError("there is no such run in the folder; go back to the list of runs")
        return self.folder.evaluations[run]

    def _other(self, other: str, task: str) -> SamplesIndex | None:
        if not other:
            return None
        found = self._evaluation(other)
        return self._index(found, found.run.task(_raw(task, found.run.tasks)))

    def _index(self, found: Evaluation, task: SavedTask) -> SamplesIndex:
        path = self.folder.samples_of(found, task)
        if path is None:
            raise ConfigError(
                f"{found.place} has no samples of task {task.name!r}: the run was made without "
                "--log_samples, or the file was moved away"
            )
        with self._lock:
            index = self._indexes.pop(path, None)
            if index is None or not index.is_current():
                index = SamplesIndex(path, filters_of(found.file.content, task.name))
            self._indexes[path] = index
            while len(self._indexes) > _KEPT:
                self._indexes.popitem(last=False)
        return index

    def _paired(self, mine: SamplesIndex, other: SamplesIndex, name: str) -> dict[int, int]:
        key = (ref(mine), ref(other), name)
        with self._lock:
            if key not in self._pairs:
                self._pairs[key] = paired(mine, other, name)
            while len(self._pairs) > _KEPT:
                self._pairs.popitem(last=False)
            return self._pairs[key]


def _raw(name: str, known: Iterable[str]) -> str:
    """Return the name that the page shows as this one."""
    return next((one for one in known if visible(one) == name), name)


def _total(found: Evaluation) -> int | None:
    counts = [task.documents for task in found.run.tasks.values()]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _better(columns: Mapping[Any, Column], metric: str, name: str) -> str:
    for key, column in columns.items():
        if key == (metric, name) and column.higher_is_better is not None:
            return "higher" if column.higher_is_better else "lower"
    return ""


def _score(column: Column) -> dict[str, str]:
    error = column.reported_error
    return {
        "metric": column.key.metric,
        "filter": column.key.filter,
        "value": number(column.reported),
        "error": "" if error is None else f"± {number(error)}",
        "better": _better({column.key: column}, *column.key),
    }


def _row(
    sample: Sample,
    at: int,
    index: SamplesIndex,
    second: SamplesIndex | None,
    pairs: Mapping[int, int] | None,
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "at": at,
        "doc_id": sample.doc_id,
        "prompt": sample.prompt.strip()[:_BEGINNING],
        "statuses": [*statuses_of(sample)],
        "values": _values(index.entries[at].values),
    }
    if second is not None and pairs is not None:
        there = second.entries[pairs[at]] if at in pairs else None
        row["other"] = (
            {"statuses": [*there.statuses], "values": _values(there.values)} if there else None
        )
    return row


def _values(values: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: number(value, ".6g") if value is None or isinstance(value, float) else _json(value)
        for name, value in _metrics(values).items()
    }


def _metrics(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what has a value; that of predictions is a note of their own."""
    return {name: value for name, value in values.items() if name != BYPASS}


def _requests(sample: Sample) -> Iterator[dict[str, str]]:
    """Yield the requests as they were sent: the prompt, then what is scored, or the settings."""
    arguments = sample.record.get("arguments")
    for name, one in arguments.items() if isinstance(arguments, Mapping) else ():
        given = [*one.values()] if isinstance(one, Mapping) else [one]
        texts = [_shown(part) for part in given]
        yield {"name": str(name), "prompt": texts[0] if texts else "", "rest": "\n".join(texts[1:])}


def _shown(part: Any) -> str:
    return part if isinstance(part, str) else _json(without_secrets(part))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, sort_keys=False)


def _said(sample: Sample) -> dict[str, Any]:
    """Return what a run said to a document, what became of it, and what a judge said of that."""
    verdicts = verdict_records(sample.filtered)
    judged = sample.record.get("judged_responses") if verdicts else None
    return {
        "responses": [*_responses(sample)],
        "judged": [_text(one) for one in judged or ()],
        "filtered": [] if verdicts else [_text(one) for one in sample.filtered],
        "verdicts": [_verdict(one) for one in verdicts or ()],
        "unfinished": sorted(sample.unfinished),
        "values": _values({name: _number(value) for name, value in sample.values.items()}),
    }


def _responses(sample: Sample) -> Iterator[str]:
    for of_request in sample.responses:
        for one in of_request if isinstance(of_request, list) else [of_request]:
            yield _text(one)


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, (int, float)) and abs(value) < 1e300 else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _verdict(one: Mapping[str, Any]) -> dict[str, str]:
    """Return a verdict; its reply as it came only where that says more than score and reason."""
    value = one.get("value")
    reason, raw = str(one.get("reason") or ""), str(one.get("raw") or "")
    judge = [str(one.get("judge_model_returned") or one.get("judge_model") or "")]
    judge += [str(one[name]) for name in ("prompt_name", "measure") if one.get(name)]
    return {
        "status": str(one.get("status")),
        "value": "" if value is None else _json(value),
        "reason": reason,
        "raw": raw,
        "error": str(one.get("error") or ""),
        "judge": ", ".join(judge),
    }


def _traced(found: Traced, sample: Sample) -> dict[str, Any]:
    trace = found.trace
    said = [one.strip() for one in _responses(sample)]
    text = trace.response.strip()
    tokens = [token_view(one)._asdict() for one in trace.tokens[:MOST_TOKENS]]
    left = len(trace.tokens) - MOST_TOKENS
    return {
        "place": found.place,
        "title": f"{trace.composite}, against its {trace.draft} member alone",
        "of_response": text in said or any(one and text.startswith(one) for one in said),
        "tokens": tokens,
        "cut": f"cut: the first {MOST_TOKENS:,} of {len(trace.tokens):,} tokens"
        if left > 0
        else "",
    }


def spelt(value: Any) -> Any:
    """Return plain JSON types whose texts hide nothing."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {visible(str(name)): spelt(one) for name, one in value.items()}
    return [spelt(one) for one in value] if isinstance(value, (list, tuple)) else value
