"""The human ceiling: each person, and the judge, against the other people on the same items."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from eft_eval.errors import ConfigError, nearest
from eft_eval.statistics.means import Mean, check_level, mean_of, share_of
from eft_eval.statistics.ratings import (
    Clusters,
    Codes,
    Panel,
    Ratings,
    Rule,
    Values,
    read_clusters,
    read_judge,
    read_panel,
    select,
)

__all__ = ["AnnotatorCeiling", "Ceiling", "Scale", "leave_one_out"]

Scale: TypeAlias = Literal["nominal", "numeric"]

_Summary: TypeAlias = tuple[Mean, Mean | None, Mean | None]  # human, judge, difference
_LARGEST_NOMINAL = 1000  # distinct ratings: leaving one out counts each of them per item


class AnnotatorCeiling(NamedTuple):
    """One person, and the judge, against the other people on the same items.

    Attributes:
        annotator: Who was left out.
        n: Items that this person, at least one other and the judge rated.
        human: The person's mean score.
        judge: The judge's; None without a judge.
        difference: Judge minus human, paired; None without a judge.
    """

    annotator: str
    n: int
    human: Mean
    judge: Mean | None
    difference: Mean | None


class Ceiling(NamedTuple):
    """What a person reaches against the other people, which is as much as a judge can be asked.

    Attributes:
        measure: "agreement with the majority" (higher is better) or "mean absolute error" to the
            others' mean (lower is better).
        comparisons: Pairs of a person and an item that were compared.
        human: People's mean score over all comparisons; its interval is clustered by item, or by
            the clusters given, since an item is compared once for each person.
        judge: The judge's against the same references; None without a judge.
        difference: Judge minus human, paired; None without a judge.
        annotators: The same for each person left out.
        warnings: What keeps a figure from being read as it stands.
    """

    measure: str
    comparisons: int
    human: Mean
    judge: Mean | None
    difference: Mean | None
    annotators: tuple[AnnotatorCeiling, ...]
    warnings: tuple[str, ...]


def leave_one_out(
    panel: Panel,
    judge: Ratings | None = None,
    *,
    scale: Scale = "nominal",
    rule: Rule = "any error",
    clusters: Clusters | None = None,
    level: float = 0.95,
) -> Ceiling:
    """Leave out one person at a time and compare this person, and the judge, with the others.

    The reference of an item is the others' commonest answer ("nominal") or their mean
    ("numeric"). Where k answers tie, each counts 1/k: the expectation over ties broken at random.
    An item counts where the person left out, at least one other and the judge rated it.

    Args:
        panel: Ratings by person, over the same items; None where one is missing.
        judge: The judge's ratings of the same items.
        scale: Whether ratings are categories or amounts.
        rule: "any error" reads counts as 0 or 1 first; "raw" keeps them.
        clusters: What each item belongs to; None where all are independent.
        level: Confidence level.
    """
    check_level(level)
    if scale not in get_args(Scale):
        raise ConfigError(
            f"unknown scale {scale!r}{nearest(str(scale), get_args(Scale))}; "
            f"known: {', '.join(get_args(Scale))}"
        )
    matrix = read_panel(panel, rule)
    items = matrix.values.shape[1]
    verdicts = None if judge is None else read_judge(judge, rule, panel, items)
    codes = read_clusters(clusters, items)
    human, judged = _scores(matrix.values, verdicts, scale)  # [people, items], NaN: not compared
    if judged is not None:
        human = np.where(np.isnan(judged), np.nan, human)
    rows = tuple(
        AnnotatorCeiling(
            name,
            int((~np.isnan(human[row])).sum()),
            *_held(
                _summary(human[row], None if judged is None else judged[row], codes, level), scale
            ),
        )
        for row, name in enumerate(matrix.names)
    )
    by_item = np.arange(items) if codes is None else codes
    people = len(matrix.names)
    flat = None if judged is None else judged.ravel()
    overall = _held(_summary(human.ravel(), flat, np.tile(by_item, people), level), scale)
    measure = "agreement with the majority" if scale == "nominal" else "mean absolute error"
    warnings = list(overall[0].warnings)
    warnings += [f"{row.annotator} shares no item with the others" for row in rows if not row.n]
    return Ceiling(
        measure, int((~np.isnan(human)).sum()), *overall, annotators=rows, warnings=tuple(warnings)
    )


def _held(found: _Summary, scale: Scale) -> _Summary:
    """Return shares with intervals within [0, 1]; a distance, and a difference, has no such end."""
    human, judge, difference = found
    if scale == "numeric":
        return found
    return share_of(human), None if judge is None else share_of(judge), difference


def _summary(human: Values, judged: Values | None, codes: Codes | None, level: float) -> _Summary:
    kept = ~np.isnan(human)
    codes = select(codes, kept)
    mean = mean_of(human[kept], codes, level)
    if judged is None:
        return mean, None, None
    judge = judged[kept]
    return mean, mean_of(judge, codes, level), mean_of(judge - human[kept], codes, level)


def _scores(values: Values, verdicts: Values | None, scale: Scale) -> tuple[Values, Values | None]:
    """Return every person's and the judge's score against the others, shape [people, items]."""
    present = ~np.isnan(values)
    others = present.sum(axis=0) - present  # others who rated the item, [people, items]
    usable = present & (others >= 1)
    if scale == "nominal":
        human, judged = _majority_scores(values, verdicts)
    else:
        sums = np.nansum(values, axis=0) - np.where(present, values, 0.0)
        means = np.divide(sums, others, out=np.full(values.shape, np.nan), where=others > 0)
        human = np.abs(values - means)
        judged = None if verdicts is None else np.abs(verdicts - means)
    human = np.where(usable, human, np.nan)
    if judged is not None and verdicts is not None:
        judged = np.where(usable & ~np.isnan(verdicts), judged, np.nan)
    return human, judged


def _majority_scores(values: Values, verdicts: Values | None) -> tuple[Values, Values | None]:
    categories = np.unique(values[~np.isnan(values)])
    if len(categories) > _LARGEST_NOMINAL:
        raise ConfigError(
            f"{len(categories)} distinct ratings are too many for categories; "
            "expected scale 'numeric', or up to 1,000 ratings"
        )
    hits = values[:, :, None] == categories  # [people, items, K]
    totals = hits.sum(axis=0)
    human, judged = np.zeros(values.shape), np.zeros(values.shape)
    said = None if verdicts is None else verdicts[:, None] == categories  # [items, K]
    for row, own in enumerate(hits):
        others = totals - own
        modes = others == others.max(axis=1, keepdims=True, initial=0)
        ties = np.maximum(modes.sum(axis=1), 1)  # 0 where nobody rated anything
        human[row] = (modes & own).any(axis=1) / ties
        if said is not None:
            judged[row] = (modes & said).any(axis=1) / ties
    return human, None if verdicts is None else judged
