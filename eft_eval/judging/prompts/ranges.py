"""Which values a metric can have, by its definition; a metric that is not known has no range."""

from __future__ import annotations

import math

from eft_eval.judging.prompts.measures import LENGTH_CONTROLLED_RATE, MEASURES, ORDER_METRICS
from eft_eval.runs.records import CORRECTED_NAME
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.means import Mean, mean_of, wilson_interval, within_unit
from eft_eval.statistics.paired import Codes, Values, is_binary

__all__ = ["UNIT", "best_value", "mean_of_metric", "range_of", "within_range"]

UNIT = (0.0, 1.0)
"""Range of shares and rates."""
_AMOUNT = (0.0, math.inf)
_KNOWN: dict[str, tuple[float, float]] = {
    **dict.fromkeys(
        ("acc", "acc_norm", "acc_mutual_info", "acc_bytes", "exact_match", "f1", "em"), UNIT
    ),
    "mcc": (-1.0, 1.0),
    "perplexity": (1.0, math.inf),
    "word_perplexity": (1.0, math.inf),
    "byte_perplexity": (1.0, math.inf),
    "bits_per_byte": _AMOUNT,
    # of the demo's own judge
    "fact_wrong_entity": _AMOUNT,
    "fact_not_understood": _AMOUNT,
    "declined": UNIT,
    # of pairs of responses, besides the win rate
    **dict.fromkeys((LENGTH_CONTROLLED_RATE, *ORDER_METRICS), UNIT),
}


def range_of(metric: str) -> tuple[float, float] | None:
    """Return the smallest and largest value that a metric can have; None where nobody knows.

    Args:
        metric: Its name; ``…_ppi``, a corrected score, has the range of what was corrected.
    """
    name = metric.removesuffix(CORRECTED_NAME)
    for measure in MEASURES.values():
        if name in measure.scores:
            return _AMOUNT if measure.highest(name) is None else UNIT
        if name in measure.metrics:  # a share of responses without a score
            return UNIT
    return _KNOWN.get(name)


def best_value(metric: str, higher_is_better: bool | None) -> float | None:
    """Return the best value that a metric can have; None where there is none or nobody knows."""
    found = range_of(metric)
    if found is None or higher_is_better is None:
        return None
    best = found[1] if higher_is_better else found[0]
    return best if math.isfinite(best) else None


def mean_of_metric(
    metric: str, values: Values, codes: Codes | None, level: float = 0.95, dropped: int = 0
) -> Mean:
    """Return the mean of a metric over documents.

    Its interval is Wilson's for a rate, t for another mean, clustered t where prompts repeat; a
    count that happens to be 0 or 1 everywhere is no rate. The ends lie within the metric's range.

    Args:
        metric: Its name.
        values: Numbers without holes.
        codes: What each belongs to; None where all are independent.
        level: Confidence level.
        dropped: How many documents have no number.
    """
    mean = mean_of(values, codes, level, dropped)
    is_rate = range_of(metric) in (None, UNIT) and is_binary(values)
    if codes is not None or not is_rate or not len(values):
        return mean._replace(interval=within_range(metric, mean.interval) or mean.interval)
    wilson = wilson_interval(int(values.sum()), len(values), level)
    return mean._replace(interval=wilson, warnings=())


def within_range(metric: str, interval: Interval) -> Interval | None:
    """Return an interval held within the metric's range; None where the data give none (NaN)."""
    if math.isnan(interval.lower):
        return None
    found = range_of(metric)
    if found == UNIT:
        return within_unit(interval)
    lowest = found[0] if found else -math.inf
    return interval._replace(lower=max(lowest, interval.lower))
