"""From a judge's mean to an unbiased one: prediction-powered inference, and Rogan–Gladen beside it.

A few responses have a person's label and a verdict, many more have the verdict alone. The labels
tell how wrong the judge is on average; the many verdicts make the answer precise.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from eft_eval.errors import ConfigError
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.means import (
    FEW_CLUSTERS,
    NAN,
    Mean,
    check_level,
    mean_of,
    normal_quantile,
    spread,
    t_quantile,
    unknown,
)
from eft_eval.statistics.prediction_powered import (
    Quantile,
    Sample,
    is_of_rates,
    standard_error_of,
    tuned_power,
)
from eft_eval.statistics.ratings import (
    Clusters,
    Ratings,
    Values,
    read_clusters,
    read_pair,
    read_ratings,
)
from eft_eval.statistics.rogan_gladen import Prevalence, rogan_gladen_of

__all__ = ["Corrected", "correct_mean"]

_FEW_LABELS = 30


class Corrected(NamedTuple):
    """A judged metric's mean, corrected by labels.

    Attributes:
        prediction_powered: The corrected mean with its interval.
        standard_error: Of the corrected mean.
        power: λ, the verdicts' weight: 0 is the labels alone, 1 plain prediction-powered.
        labels_only: The labelled responses' mean label, which needs no judge.
        verdicts_only: The mean of all verdicts, uncorrected: precise, and off by the bias.
        bias: Mean of verdict minus label on the labelled responses: what the judge adds.
        correlation: Of labels and verdicts on the labelled responses.
        effective_labels: Labels alone that would be as precise: ``n (SE_labels / SE)²``.
        gain: ``effective_labels / n``.
        rogan_gladen: The prevalence corrected by sensitivity and specificity; None unless all
            labels and verdicts are 0 or 1.
        labels: Responses with a label and a verdict, n.
        verdicts: Responses with a verdict alone, N.
        dropped_labels: Labelled responses left out: the label or the verdict is missing.
        dropped_verdicts: Unlabelled responses left out: the verdict is missing.
        warnings: What keeps a figure from being read as it stands.
    """

    prediction_powered: Interval
    standard_error: float
    power: float
    labels_only: Mean
    verdicts_only: Mean
    bias: Mean
    correlation: float
    effective_labels: float
    gain: float
    rogan_gladen: Prevalence | None
    labels: int
    verdicts: int
    dropped_labels: int
    dropped_verdicts: int
    warnings: tuple[str, ...]


def correct_mean(
    labels: Ratings,
    verdicts: Ratings,
    other_verdicts: Ratings,
    *,
    clusters: Clusters | None = None,
    other_clusters: Clusters | None = None,
    power: float | None = None,
    quantile: Quantile = "t",
    level: float = 0.95,
) -> Corrected:
    """Return the prediction-powered mean with its interval.

    ``θ = λ mean(f') + mean(Y - λ f)`` with ``SE² = λ² var(f')/N + var(Y - λ f)/n`` (Angelopoulos
    et al. 2023, Science 382, "Prediction-powered inference"). λ = 1 is that article's; by default
    λ is tuned, ``λ = cov(Y, f) / ((1 + n/N) var(f))`` within [0, 1] (Angelopoulos, Duchi and
    Zrnic 2023, "PPI++", arXiv 2311.01453), so that a useless judge costs nothing.

    Ours beyond the articles, to keep the coverage at n = 30: variances with n - 1, leave-one-out
    residuals (HC3) where λ is tuned on the same labels, one imaginary response spread evenly over
    the four answers where all are 0 or 1, and Welch–Satterthwaite's t; "normal" gives the
    published formula. With clusters, each cluster's influence on θ is summed first, over labelled
    and unlabelled responses together; then ``SE² = Σ_c u_c²`` with C/(C-1) for each of the two.

    The labelled responses must be a random draw from all. The interval of a rate may pass 0 or 1.

    Args:
        labels: People's labels Y; None where one is missing.
        verdicts: The judge's verdicts f on the same responses.
        other_verdicts: The judge's verdicts f' on the responses without a label.
        clusters: What each labelled response belongs to, such as its prompt.
        other_clusters: The same for the other responses; both or neither.
        power: λ in [0, 1]; None tunes it.
        quantile: "t" for ours, "normal" for the published interval.
        level: Confidence level.
    """
    check_level(level)
    if power is not None and not 0 <= power <= 1:
        raise ConfigError(f"power is {power}; expected a number in [0, 1], or None to tune it")
    if quantile not in ("t", "normal"):
        raise ConfigError(f"unknown quantile {quantile!r}; known: t, normal")
    sample, dropped = _read(labels, verdicts, other_verdicts, clusters, other_clusters)
    n, others = len(sample.labels), len(sample.others)
    warnings = list[str]()
    weight = tuned_power(sample, warnings) if power is None else float(power if others else 0)
    error, freedom = standard_error_of(sample, weight, power is None, quantile)
    plain = mean_of(sample.labels, sample.codes, level)
    interval = _interval(sample, weight, error, freedom, quantile, level, warnings)
    effective = n * (plain.standard_error / error) ** 2 if error > 0 else NAN
    every, codes = np.concatenate([sample.verdicts, sample.others]), None
    if sample.codes is not None and sample.other_codes is not None:
        codes = np.concatenate([sample.codes, sample.other_codes])
    return Corrected(
        prediction_powered=interval,
        standard_error=error,
        power=weight,
        labels_only=plain,
        verdicts_only=mean_of(every, codes, level),
        bias=mean_of(sample.verdicts - sample.labels, sample.codes, level),
        correlation=_correlation(sample.labels, sample.verdicts),
        effective_labels=effective,
        gain=effective / n if n else NAN,
        rogan_gladen=rogan_gladen_of(*sample, level) if is_of_rates(sample) else None,
        labels=n,
        verdicts=others,
        dropped_labels=dropped[0],
        dropped_verdicts=dropped[1],
        warnings=tuple(warnings),
    )


def _read(
    labels: Ratings,
    verdicts: Ratings,
    other_verdicts: Ratings,
    clusters: Clusters | None,
    other_clusters: Clusters | None,
) -> tuple[Sample, tuple[int, int]]:
    truth, judged = read_pair(labels, verdicts, ("labels", "their verdicts"))
    others = read_ratings(other_verdicts, "the other verdicts")
    if (clusters is None) != (other_clusters is None):
        raise ConfigError("clusters are given for one of the two samples; expected both or neither")
    codes = None
    if clusters is not None and other_clusters is not None:
        # one numbering: a prompt may have labelled and unlabelled responses
        codes = read_clusters([*clusters, *other_clusters], len(truth) + len(others))
    kept = ~(np.isnan(truth) | np.isnan(judged))
    kept_others = ~np.isnan(others)
    sample = Sample(
        truth[kept],
        judged[kept],
        others[kept_others],
        None if codes is None else codes[: len(truth)][kept],
        None if codes is None else codes[len(truth) :][kept_others],
    )
    return sample, (int((~kept).sum()), int((~kept_others).sum()))


def _interval(
    sample: Sample,
    weight: float,
    error: float,
    freedom: float,
    quantile: Quantile,
    level: float,
    warnings: list[str],
) -> Interval:
    n, others = len(sample.labels), len(sample.others)
    method = "prediction-powered" if sample.codes is None else "prediction-powered, clustered"
    if n == 0:
        warnings.append("no response has a label and a verdict: nothing can be corrected")
        return unknown(level, method)
    if others == 0:
        warnings.append("no verdict without a label: this is the labels' mean alone")
    estimate = float((sample.labels - weight * sample.verdicts).mean())
    estimate += weight * float(sample.others.mean()) if weight else 0.0
    if n > 1 and np.ptp(sample.labels) == 0 and weight == 0:
        warnings.append(f"all {n} labels are {sample.labels[0]:g}: no interval")
        return unknown(level, method, estimate)
    if not error > 0:
        warnings.append(
            f"{n} labels and {others} verdicts are too few, or do not vary: no interval"
        )
        return unknown(level, method, estimate)
    if weight > 0 and np.array_equal(sample.labels, sample.verdicts):
        warnings.append(f"verdicts equal all {n} labels: the judge's errors are hardly known")
    clusters = None if sample.codes is None else len(np.unique(sample.codes))
    if n < _FEW_LABELS:
        warnings.append(f"{n} labels: an interval from fewer than {_FEW_LABELS} is rough")
    if clusters is not None and clusters < FEW_CLUSTERS:
        warnings.append(f"{clusters} labelled clusters: fewer than {FEW_CLUSTERS} are rough")
    factor = normal_quantile(level) if quantile == "normal" else t_quantile(level, freedom)
    return spread(estimate, factor * error, level, method)


def _correlation(labels: Values, verdicts: Values) -> float:
    if len(labels) < 2 or np.ptp(labels) == 0 or np.ptp(verdicts) == 0:
        return NAN
    return float(np.corrcoef(labels, verdicts)[0, 1])
