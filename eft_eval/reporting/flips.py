"""Biggest flips: the documents on which two runs differ most, with their texts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from eft_eval.comparing.comparison import Candidate, Row
from eft_eval.comparing.pairing import match_items
from eft_eval.records import finite_number
from eft_eval.runs.lines import iter_samples
from eft_eval.runs.records import Document, MetricKey, Run, Sample, TaskRun
from eft_eval.verdicts.text import verdict_records

__all__ = ["Change", "Flip", "Flips", "Response", "Reason", "Said", "find_flips"]  # noqa: RUF022  # by meaning

_MOST_RESPONSES = 4
_PIECE = 20_000
"""Characters of a text that are kept: enough for any page; some responses have megabytes."""


class Reason(NamedTuple):
    """What a judge said of a response.

    Attributes:
        status: The verdict's: scored, abstained and so on.
        value: The score; None where there is none.
        text: The judge's reasons; empty where it gave none.
    """

    status: str
    value: float | None
    text: str


class Response(NamedTuple):
    """A response as far as it is kept.

    Attributes:
        text: Its beginning.
        characters: Its whole length.
        reason: The judge's; None where there is none.
    """

    text: str
    characters: int
    reason: Reason | None


class Said(NamedTuple):
    """A run's responses to one document.

    Attributes:
        responses: At most four.
        total: Number of all of them.
    """

    responses: tuple[Response, ...]
    total: int


class Change(NamedTuple):
    """A metric of one document in two runs.

    Attributes:
        metric: Its name.
        baseline: The baseline's number; None where it has none.
        candidate: The candidate's.
        gain: candidate - baseline in the better direction; None where a number is missing, or the
            direction is not known.
        listed: Whether the document is listed for this metric.
    """

    metric: str
    baseline: float | None
    candidate: float | None
    gain: float | None
    listed: bool


class Flip(NamedTuple):
    """A document on which two runs differ.

    Attributes:
        doc_id: lm-eval's number of it, in the candidate.
        prompt: What the model read; the candidate's.
        prompt_characters: Its whole length.
        changes: All metrics of the filter.
        baseline: What the baseline said; None where its file holds no texts.
        candidate: What the candidate said; None where its file holds no texts.
    """

    doc_id: int
    prompt: str
    prompt_characters: int
    changes: tuple[Change, ...]
    baseline: Said | None
    candidate: Said | None


class Flips(NamedTuple):
    """The biggest flips of one candidate in one filter of a task.

    Attributes:
        candidate: Position of the candidate among the candidates.
        task: The task.
        filter: The filter.
        worse: Per gated metric the number of documents that got worse.
        better: Per gated metric the number that got better.
        shown: The documents with the biggest changes, those that got worse first.
    """

    candidate: int
    task: str
    filter: str
    worse: Mapping[str, int]
    better: Mapping[str, int]
    shown: tuple[Flip, ...]


def find_flips(
    baseline: Run, candidate: Run, compared: Candidate, number: int, count: int
) -> tuple[Flips, ...]:
    """Return a candidate's biggest flips in its gated metrics.

    Args:
        baseline: The accepted run.
        candidate: The run under test.
        compared: What `compare_runs` says of them.
        number: Position of the candidate, for the record.
        count: Documents per metric that got worse, and as many that got better; of equal changes
            those with the smallest hash.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in compared.rows:
        if row.is_gated_score and row.task in baseline.tasks and row.test is not None:
            groups.setdefault((row.task, row.filter), []).append(row)
    return tuple(
        _flips(baseline.tasks[task], candidate.tasks[task], name, rows, number, count)
        for (task, name), rows in groups.items()
    )


def _flips(
    old: TaskRun, new: TaskRun, filter_name: str, gated: Sequence[Row], number: int, count: int
) -> Flips:
    matched = match_items(old.pipelines[filter_name], new.pipelines[filter_name])
    chosen: dict[tuple[int, int], set[str]] = {}
    worse, better = {}, {}
    for row in gated:
        sign = -1.0 if row.better == "lower" else 1.0
        columns = (old, new)
        left, right = (one.columns[MetricKey(row.metric, filter_name)].values for one in columns)
        gains = []
        for place, (i, j) in enumerate(matched.shared):
            before, after = left[i], right[j]
            if before is not None and after is not None and before != after:
                gains.append((sign * (after - before), place))
        down = sorted(one for one in gains if one[0] < 0)
        up = sorted((one for one in gains if one[0] > 0), key=lambda one: (-one[0], one[1]))
        worse[row.metric], better[row.metric] = len(down), len(up)
        for _, place in (*down[:count], *up[:count]):
            chosen.setdefault(matched.shared[place], set()).add(row.metric)
    shown = _shown(old, new, filter_name, gated, chosen)
    shown.sort(key=_order)
    return Flips(number, old.name, filter_name, worse, better, tuple(shown))


def _order(flip: Flip) -> tuple[bool, float]:
    """Sort documents that got worse in some metric first; each part by the biggest change."""
    gains = [one.gain or 0.0 for one in flip.changes if one.listed]
    return (False, min(gains)) if min(gains) < 0 else (True, -max(gains))


def _shown(
    old: TaskRun,
    new: TaskRun,
    filter_name: str,
    gated: Sequence[Row],
    chosen: Mapping[tuple[int, int], set[str]],
) -> list[Flip]:
    left, right = old.pipelines[filter_name].items, new.pipelines[filter_name].items
    before = _samples(old, filter_name, {left[i].document for i, _ in chosen})
    after = _samples(new, filter_name, {right[j].document for _, j in chosen})
    directions = {row.metric: row.better for row in gated}
    found = []
    for (i, j), listed in chosen.items():
        first, second = before.get(left[i].document), after.get(right[j].document)
        prompt = (second or first).prompt if second or first else ""  # type: ignore[union-attr]  # one is there
        found.append(
            Flip(
                doc_id=right[j].doc_id,
                prompt=prompt[:_PIECE],
                prompt_characters=len(prompt),
                changes=tuple(_changes(old, new, filter_name, i, j, directions, listed)),
                baseline=_said(first),
                candidate=_said(second),
            )
        )
    return found


def _changes(
    old: TaskRun,
    new: TaskRun,
    filter_name: str,
    i: int,
    j: int,
    directions: Mapping[str, str | None],
    listed: set[str],
) -> Iterable[Change]:
    for key, column in old.columns.items():
        other = new.columns.get(key)
        if key.filter != filter_name or not column.values or other is None or not other.values:
            continue
        before, after = column.values[i], other.values[j]
        gain = None
        better = directions.get(key.metric)
        if before is not None and after is not None and better is not None:
            gain = after - before if better == "higher" else before - after
        yield Change(key.metric, before, after, gain, key.metric in listed)


def _samples(task: TaskRun, filter_name: str, wanted: set[Document]) -> dict[Document, Sample]:
    if task.samples_file is None or not wanted:
        return {}
    return {
        one.document: one
        for one in iter_samples(task.samples_file, tuple(task.pipelines))
        if one.filter == filter_name and one.document in wanted
    }


def _said(sample: Sample | None) -> Said | None:
    if sample is None:
        return None
    texts = list(_texts(sample.responses))
    reasons = _reasons(sample.filtered)
    kept = []
    for place, text in enumerate(texts[:_MOST_RESPONSES]):
        # a judge asked several times has more verdicts than there are responses: one each is shown
        reason = reasons[place] if len(reasons) == len(texts) else None
        kept.append(Response(text[:_PIECE], len(text), reason))
    if reasons and len(reasons) != len(texts):
        kept = [one._replace(reason=reasons[0]) if i == 0 else one for i, one in enumerate(kept)]
    return Said(tuple(kept), len(texts))


def _texts(responses: Iterable[Any]) -> Iterable[str]:
    """Yield responses as text; of log-likelihood requests what lm-eval wrote, as JSON."""
    for of_request in responses:
        for one in of_request if isinstance(of_request, list) else [of_request]:
            yield one if isinstance(one, str) else json.dumps(one, ensure_ascii=False)


def _reasons(filtered: Sequence[Any]) -> list[Reason]:
    """Return a judge's verdicts; none where the filter is no judge."""
    found = []
    for one in verdict_records(filtered) or ():
        found.append(
            Reason(
                str(one.get("status")),
                finite_number(one.get("value")),
                str(one.get("reason") or "")[:_PIECE],
            )
        )
    return found
