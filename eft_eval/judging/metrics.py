"""From verdicts to metrics: per response, then over a run, each with a closed-form error."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eft_eval.judging.verdict import Status, Verdict

__all__ = [
    "FACT_METRICS",
    "fact_metrics",
    "fact_values",
    "read_verdicts",
    "scored_mean",
    "write_verdicts",
]

FACT_METRICS = (
    "fact_errors",
    "fact_any_error",
    "fact_abstained",
    "fact_refused",
    "fact_unreadable",
    "fact_missing",
)
_UNREADABLE = (Status.truncated, Status.malformed, Status.out_of_range)


def write_verdicts(verdicts: Sequence[Verdict]) -> str:
    """Return verdicts as a JSON array: lm-eval turns filtered responses into text."""
    return json.dumps([verdict.to_dict() for verdict in verdicts], ensure_ascii=False)


def read_verdicts(text: str) -> list[Verdict]:
    """Read what `write_verdicts` wrote."""
    return [Verdict.from_dict(record) for record in json.loads(text)]


def fact_metrics(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float | None]:
    """Return one prompt's factuality metrics; named in task YAML as ``process_results``.

    Args:
        doc: The prompt, unused.
        results: One element: the verdicts on the prompt's responses, as `write_verdicts` text.
    """
    return fact_values(read_verdicts(results[0]))


def fact_values(verdicts: Sequence[Verdict]) -> dict[str, float | None]:
    """Return the factuality metrics of one prompt over its responses (one per repeat).

    Returns:
        ``fact_errors`` is the mean number of factual errors of the responses that were scored
        and ``fact_any_error`` the share of these with at least one; both None where none was
        scored. The shares of all responses that were abstained on, refused, unreadable
        (truncated, malformed, out of range) or left without a verdict (judge not reached) add up
        to 1 with the share that was scored.
    """
    counts = [v.value for v in verdicts if v.status is Status.scored and v.value is not None]

    def share(*statuses: Status) -> float:
        return sum(verdict.status in statuses for verdict in verdicts) / len(verdicts)

    return {
        "fact_errors": statistics.fmean(counts) if counts else None,
        "fact_any_error": statistics.fmean(count > 0 for count in counts) if counts else None,
        "fact_abstained": share(Status.abstained),
        "fact_refused": share(Status.refused),
        "fact_unreadable": share(*_UNREADABLE),
        "fact_missing": share(Status.api_error),
    }


def scored_mean(values: Sequence[float | None]) -> float:
    """Return the mean of the values that are not None; NaN where all are."""
    scored = [value for value in values if value is not None]
    return statistics.fmean(scored) if scored else math.nan


def scored_standard_error(values: Sequence[float | None]) -> float:
    """Return the standard error of `scored_mean`: s / sqrt(n), s with n - 1; NaN for n < 2."""
    scored = [value for value in values if value is not None]
    if len(scored) < 2:
        return math.nan
    return statistics.stdev(scored) / math.sqrt(len(scored))


# The start-up hook's wrap of lm-eval's stderr_for_metric reads this, in place of a bootstrap.
_closed_form: Callable[[Sequence[float | None]], float] = scored_standard_error
scored_mean.closed_form_stderr = _closed_form  # type: ignore[attr-defined]
