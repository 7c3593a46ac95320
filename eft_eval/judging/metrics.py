"""Verdicts inside lm-eval: as text in a filtered response, as metrics, as means with errors."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from eft_eval.judging.prompts.measures import MEASURES, Measure
from eft_eval.verdicts.text import read_verdicts
from eft_eval.verdicts.verdict import Verdict

__all__ = [
    "FACT_METRICS",
    "PromptValue",
    "fact_values",
    "judge_metrics",
    "judged_values",
    "metric_list",
    "scored_mean",
    "scored_standard_error",
]

FACT_METRICS = tuple(MEASURES["factuality"].metrics)


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
