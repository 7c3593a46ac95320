"""The arithmetic of the whole report: every statistic on one judge and several people.

Pure functions of ratings, which know nothing of files: `join` brings labels and runs here.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from eft_eval.agreement.paper import PAPER_AGREEMENT, paper_figure
from eft_eval.agreement.report import Agreement, Counted, Rater
from eft_eval.errors import ConfigError
from eft_eval.statistics.alpha import Alpha, Metric, krippendorff_alpha
from eft_eval.statistics.alternative_test import (
    FEWEST_ANNOTATORS,
    Alignment,
    AlternativeTest,
    alternative_annotator_test,
)
from eft_eval.statistics.ceiling import Scale, leave_one_out
from eft_eval.statistics.consensus import Consensus, majority, mean_rating
from eft_eval.statistics.kappa import kappa_of
from eft_eval.statistics.means import (
    Mean,
    check_level,
    mean_of,
    mean_with_interval,
    share_of,
    wilson_interval,
)
from eft_eval.statistics.pairs import PairAgreement, pair_agreement
from eft_eval.statistics.panel import PairOfAnnotators, panel_agreement
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

__all__ = ["Method", "agree"]

_MOST_SHARES = 25  # distinct ratings; above this a rater's shares are not listed


@dataclass(frozen=True)
class Method:
    """How ratings are compared.

    Attributes:
        rule: "any error" compares whether a count is above 0, "raw" the ratings themselves; by
            default "any error", and of labels that are no counts of errors "raw".
        scale: "nominal" for categories, "numeric" for amounts; by default "numeric" for "raw".
        event: What a rating above 0 means under "any error"; labels and runs say it themselves.
        judge_name: What to call the judge; labels and runs say it themselves.
        level: Confidence level of every interval.
        resamples: Resamples of α's bootstrap; 0 gives α without an interval.
        seed: Seed of that bootstrap.
        epsilon: What the judge's lower cost is worth, see `alternative_annotator_test`.
    """

    rule: Rule | None = None
    scale: Scale | None = None
    judge_name: str = "judge"
    event: str = "error"
    level: float = 0.95
    resamples: int = 1000
    seed: int = 0
    epsilon: float = 0.1


def agree(
    panel: Panel,
    judge: Ratings | None = None,
    *,
    clusters: Clusters | None = None,
    strata: Iterable[str] | None = None,
    method: Method = Method(),
) -> Agreement:
    """Return how far a judge and people, and people among each other, agree.

    Args:
        panel: People's ratings by name, over the same items, such as a pandas frame with a column
            for each person; None or NaN where one is missing.
        judge: The judge's ratings of the same items; None where it gave none.
        clusters: What each item belongs to, such as its prompt; used where two items share one.
        strata: A name for each item; each name's items are also compared by themselves.
        method: How they are compared.

    Raises:
        ConfigError: The ratings are not of the same items, or cannot be read by this rule.
    """
    check_level(method.level)
    rule, level, name = method.rule or "any error", method.level, method.judge_name
    matrix = read_panel(panel, rule)
    people = dict(zip(matrix.names, matrix.values, strict=True))
    if name in people and judge is not None:
        raise ConfigError(f"{name!r} is an annotator and the judge; give the judge a name")
    items = matrix.values.shape[1]
    ratings = None if judge is None else read_judge(judge, rule, panel, items)
    kind: Scale = method.scale or ("numeric" if rule == "raw" else "nominal")
    ids, count = _repeated(clusters, items, np.asarray(~np.isnan(matrix.values).all(axis=0)))
    found = majority(people)
    pair, everybody = None, people
    if ratings is not None:
        everybody = {**people, name: ratings}
        pair = pair_agreement(
            found.values, ratings, rule=rule, clusters=ids, strata=_several(strata), level=level
        )
        pair = _without_amounts(pair) if kind == "nominal" else pair
    alphas = partial(_alphas, _metrics(rule, kind), ids, method)
    several, of_errors = len(people) > 1, method.event == "error"
    alone = Agreement(
        judge=None,
        annotators=matrix.names,
        field="rating",
        reading="1 above 0, else 0" if rule == "any error" else "as it is",
        rule=rule,
        scale=kind,
        categories=(),
        level=level,
        seed=method.seed,
        counted=_counted(matrix.values, ratings, pair, found),
        clusters=count,
        raters=_raters(everybody, rule, kind, level),
        pair=None,
        each=(),
        random_person=None,
        difference=None,
        people=panel_agreement(people, rule="raw", clusters=ids, level=level) if several else None,
        ceiling=(
            leave_one_out(people, ratings, scale=kind, rule="raw", clusters=ids, level=level)
            if several
            else None
        ),
        alpha=alphas(people) if several else (),
        alpha_with_judge=(),
        alternative=None,
        warnings=_warnings(people, pair, found, of_errors),
        event=method.event,
    )
    if ratings is None:
        return alone
    amounts = kind == "numeric"
    return replace(
        alone,
        judge=name,
        pair=pair,
        each=_each(people, name, ratings, ids, level),
        random_person=_random(matrix.values, ratings, ids, level),
        difference=_difference(people, ratings, ids, level) if amounts else None,
        alpha_with_judge=alphas(everybody),
        alternative=_alternative(people, ratings, kind, method.epsilon),
        paper=paper_figure(PAPER_AGREEMENT) if of_errors and rule == "any error" else None,
    )


def _metrics(rule: Rule, scale: Scale) -> tuple[Metric, ...]:
    # of two categories all distances give the same α
    if rule == "any error" or scale == "nominal":
        return ("nominal",)
    return ("nominal", "ordinal", "interval")


def _alphas(
    metrics: Sequence[Metric],
    clusters: list[Hashable] | None,
    method: Method,
    panel: Mapping[str, Values],
) -> tuple[Alpha, ...]:
    return tuple(
        krippendorff_alpha(
            panel,
            metric=metric,
            clusters=clusters,
            level=method.level,
            resamples=method.resamples,
            seed=method.seed,
        )
        for metric in metrics
    )


def _repeated(
    clusters: Clusters | None, items: int, used: NDArray[np.bool_]
) -> tuple[list[Hashable] | None, int | None]:
    """Return the clusters, and their number, if two of the items used share one."""
    if clusters is None:
        return None, None
    ids = clusters.tolist() if isinstance(clusters, np.ndarray) else list(clusters)
    codes = read_clusters(ids, items)
    assert codes is not None
    count = len(np.unique(codes[used]))
    return (ids, count) if count < int(used.sum()) else (None, None)


def _several(strata: Iterable[str] | None) -> list[str] | None:
    """Return the strata if there are two: of one stratum there is nothing more to say."""
    names = None if strata is None else [str(name) for name in strata]
    return names if names and len(set(names)) > 1 else None


def _without_amounts(pair: PairAgreement) -> PairAgreement:
    """Leave out what is about amounts: codes of categories have no order."""
    strata = {name: replace(one, scale=None) for name, one in pair.strata.items()}
    return replace(pair, scale=None, strata=strata)


def _counted(
    values: Values, judge: Values | None, pair: PairAgreement | None, found: Consensus
) -> Counted:
    rated = ~np.isnan(values).all(axis=0)
    judged = np.zeros_like(rated) if judge is None else ~np.isnan(judge)
    missing = int((rated & ~judged).sum())
    return Counted(
        items=int(rated.sum()),
        ratings=int((~np.isnan(values)).sum()),
        several=found.several,
        tied=found.tied,
        judged=int((rated & judged).sum()),
        compared=0 if pair is None else pair.n,
        unscored={"no rating": missing} if judge is not None and missing else {},
        unlabelled=int((judged & ~rated).sum()),
        unsure=0,
        contradictory=0,
        chosen=0,
        dropped={},
        remarks=(),
    )


def _raters(
    everybody: Mapping[str, Values], rule: Rule, scale: Scale, level: float
) -> tuple[Rater, ...]:
    every = np.concatenate(list(everybody.values()))
    known = np.unique(every[~np.isnan(every)])
    rows = []
    for name, ratings in everybody.items():
        own = ratings[~np.isnan(ratings)]
        rate, mean, shares = None, None, tuple[float, ...]()
        if rule == "any error":
            rate = wilson_interval(float(own.sum()), len(own), level)
        elif len(own):
            mean = float(own.mean()) if scale == "numeric" else None
            if len(known) <= _MOST_SHARES:
                shares = tuple(float((own == one).mean()) for one in known)
        rows.append(Rater(name, len(own), rate, shares, mean))
    return tuple(rows)


def _each(
    people: Mapping[str, Values],
    name: str,
    judge: Values,
    ids: list[Hashable] | None,
    level: float,
) -> tuple[PairOfAnnotators, ...]:
    codes = read_clusters(ids, len(judge))
    rows = []
    for person, ratings in people.items():
        both = ~(np.isnan(ratings) | np.isnan(judge))
        if both.any():
            kappa = kappa_of(ratings[both], judge[both], "none", select(codes, both), level)
            rate = float((ratings[both] == judge[both]).mean())
            rows.append(PairOfAnnotators(person, name, int(both.sum()), rate, kappa))
    return tuple(rows)


def _random(values: Values, judge: Values, ids: list[Hashable] | None, level: float) -> Mean:
    codes: Codes | None = read_clusters(ids, len(judge))
    present = ~np.isnan(values)
    sizes = present.sum(axis=0)
    kept = (sizes > 0) & ~np.isnan(judge)
    shares = (values == judge).sum(axis=0)[kept] / sizes[kept]
    return share_of(mean_of(shares, select(codes, kept), level))


def _difference(
    people: Mapping[str, Values], judge: Values, ids: list[Hashable] | None, level: float
) -> Mean:
    gaps = judge - mean_rating(people).values
    return mean_with_interval(gaps, ids, level)


def _alternative(
    people: Mapping[str, Values], judge: Values, scale: Scale, epsilon: float
) -> AlternativeTest | None:
    if len(people) < FEWEST_ANNOTATORS:
        return None
    alignment: Alignment = "accuracy" if scale == "nominal" else "negative rmse"
    return alternative_annotator_test(people, judge, epsilon=epsilon, alignment=alignment)


def _warnings(
    people: Mapping[str, Values], pair: PairAgreement | None, found: Consensus, of_errors: bool
) -> tuple[str, ...]:
    texts = []
    if pair is None and len(people) == 1:
        texts.append("one annotator and no judge: there is nothing to compare")
    if pair is not None and found.tied:
        texts.append(
            f"on {found.tied} of {found.several} items that several people rated they are tied: "
            "these are not compared with the judge, and the rest is the easier part (see the "
            "agreement with a person drawn at random, which leaves none out)"
        )
    if pair is not None and len(people) == 1:
        published = "; published figures for people on factual errors are 50–82 %"
        texts.append(
            "one annotator: no human ceiling to hold the judge's agreement against"
            f"{published if of_errors else ''}"
        )
    return (*texts, *(pair.warnings if pair is not None else ()))
