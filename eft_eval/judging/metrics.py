"""Verdicts inside lm-eval: as text in a filtered response, as metrics, as means with errors."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from eft_eval.judging.measures import MEASURES, Measure
from eft_eval.judging.verdict import Verdict

__all__ = [
    "FACT_METRICS",
    "PromptValue",
    "fact_values",
    "judge_metrics",
    "judged_values",
    "metric_list",
    "query_id",
    "read_verdicts",
    "scored_mean",
    "scored_standard_error",
    "write_verdicts",
]

FACT_METRICS = tuple(MEASURES["factuality"].metrics)
# lm-eval tells process_results neither the filter nor the judge, so the verdicts' text does
_NOTES = ("measure", "query_id")


class PromptValue(float):
    """A prompt's metric that knows its prompt: equal prompts are one cluster in standard errors.

    Args:
        value: The number.
        prompt: What identifies the prompt; empty if that is unknown.
    """

    prompt: str

    def __new__(cls, value: float, prompt: str = "") -> PromptValue:
        made = super().__new__(cls, value)
        made.prompt = prompt
        return made


def write_verdicts(
    verdicts: Sequence[Verdict], measure: str | None = None, query_id: str | None = None
) -> str:
    """Return verdicts as a JSON array: lm-eval turns filtered responses into text.

    Args:
        verdicts: On one prompt's responses.
        measure: What the judge measured; None is factuality.
        query_id: The same for equal prompts; None if the prompt is unknown.
    """
    given = {"measure": measure, "query_id": query_id}
    notes = {name: note for name, note in given.items() if note is not None}
    return json.dumps([{**verdict.to_dict(), **notes} for verdict in verdicts], ensure_ascii=False)


def read_verdicts(text: str) -> list[Verdict]:
    """Read the verdicts that `write_verdicts` wrote."""
    return [
        Verdict.from_dict({name: item for name, item in record.items() if name not in _NOTES})
        for record in json.loads(text)
    ]


def query_id(query: str | None) -> str | None:
    """Return the same word for equal queries; None where the query is not known."""
    if query is None:
        return None
    return hashlib.sha256(query.strip().encode("utf-8", "surrogatepass")).hexdigest()[:16]


def judge_metrics(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float | None]:
    """Return one prompt's metrics of the judge that was asked: task YAML's ``process_results``.

    Args:
        doc: The prompt, unused.
        results: One element: the verdicts on the prompt's responses, as `write_verdicts` text.
    """
    notes = (json.loads(results[0]) or [{}])[0]
    measure = MEASURES[notes.get("measure") or "factuality"]
    return judged_values(measure, read_verdicts(results[0]), notes.get("query_id"))


def judged_values(
    measure: Measure, verdicts: Sequence[Verdict], query_id: str | None
) -> dict[str, float | None]:
    """Return one prompt's metrics, each knowing its prompt; see `Measure.values`."""
    values = measure.values(verdicts)
    return {
        name: value if value is None else PromptValue(value, query_id or "")
        for name, value in values.items()
    }


def fact_values(verdicts: Sequence[Verdict]) -> dict[str, float | None]:
    """Return the factuality metrics of one prompt over its responses; see `Measure.values`."""
    return MEASURES["factuality"].values(verdicts)


def metric_list(measures: Iterable[Measure]) -> list[dict[str, Any]]:
    """Return lm-eval's ``metric_list`` for what a task's judges measure, each metric once."""
    better = {name: higher for measure in measures for name, higher in measure.metrics.items()}
    return [
        {"metric": name, "aggregation": scored_mean, "higher_is_better": higher}
        for name, higher in better.items()
    ]


def scored_mean(values: Sequence[float | None]) -> float:
    """Return the mean of the values that are not None; NaN where all are."""
    scored = [value for value in values if value is not None]
    return statistics.fmean(scored) if scored else math.nan


def scored_standard_error(values: Sequence[float | None]) -> float:
    """Return the standard error of `scored_mean`, clustered by prompt; NaN for one prompt.

    ``SE² = C/(C-1) · Σ_c (Σ_{i∈c} (x_i - x̄))² / n²`` over C prompts (Miller 2024, arXiv
    2411.00640, with the small-sample factor); ``s/√n`` with n - 1 where no prompt repeats. A
    value without a prompt of its own is a cluster of one.
    """
    scored = [value for value in values if value is not None]
    mean = scored_mean(scored)
    sums: dict[str | int, float] = {}
    for index, value in enumerate(scored):
        cluster = getattr(value, "prompt", "") or index
        sums[cluster] = sums.get(cluster, 0.0) + (value - mean)
    count = len(sums)
    if count < 2:
        return math.nan
    squares = math.fsum(total * total for total in sums.values())
    return math.sqrt(count / (count - 1) * squares) / len(scored)


# The start-up hook's wrap of lm-eval's stderr_for_metric reads this, in place of a bootstrap.
_closed_form: Callable[[Sequence[float | None]], float] = scored_standard_error
scored_mean.closed_form_stderr = _closed_form  # type: ignore[attr-defined]  # functions take any
