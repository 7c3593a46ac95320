"""The alternative annotator test: may the judge replace a person?

Calderon, Reichart and Dror 2025, "The Alternative Annotator Test for LLM-as-a-Judge: How to
Statistically Justify Replacing Human Annotators with LLMs", arXiv 2501.10970.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from eft_eval.errors import ConfigError, nearest
from eft_eval.statistics.means import NAN
from eft_eval.statistics.ratings import Panel, Ratings, Values, read_judge, read_panel

__all__ = [
    "FEWEST_ANNOTATORS",
    "FEWEST_ITEMS",
    "Alignment",
    "AlternativeTest",
    "AnnotatorTest",
    "alternative_annotator_test",
    "benjamini_yekutieli",
]

Alignment: TypeAlias = Literal["accuracy", "negative rmse"]

FEWEST_ANNOTATORS = 3
"""The article recommends at least three people: with two there is no consensus to represent."""
FEWEST_ITEMS = 30
"""Items that each person needs for the t-test, by the article."""


class AnnotatorTest(NamedTuple):
    """The judge against one person, both measured by the other people.

    Attributes:
        annotator: Who was left out.
        n: Items that this person, at least one other and the judge rated.
        judge_advantage: ρᶠ, share of items where the judge aligns at least as well as the person.
        human_advantage: ρʰ, share where the person aligns at least as well as the judge.
        p_value: Of the one-sided t-test of H0: ρᶠ <= ρʰ - ε; NaN where it was not tested.
        adjusted: The p-value after Benjamini–Yekutieli.
        won: Whether the judge wins: H0 is rejected at the false discovery rate.
    """

    annotator: str
    n: int
    judge_advantage: float
    human_advantage: float
    p_value: float
    adjusted: float
    won: bool


class AlternativeTest(NamedTuple):
    """The result of the alternative annotator test.

    Attributes:
        winning_rate: ω, share of the tested people whom the judge wins against; NaN where the
            data do not allow the test.
        advantage: ρ, mean over people of ρᶠ: the judge is as good as a random person, or better,
            with this probability. Compare judges by it.
        passed: Whether ω >= 0.5; None where the data do not allow the test.
        epsilon: The cost–benefit allowance ε.
        alignment: How agreement with the other people is scored.
        rate: False discovery rate q.
        annotators: Each person's test.
        dropped: Items left out for want of a verdict or of two people.
        warnings: What keeps a figure from being read as it stands.
    """

    winning_rate: float
    advantage: float
    passed: bool | None
    epsilon: float
    alignment: Alignment
    rate: float
    annotators: tuple[AnnotatorTest, ...]
    dropped: int
    warnings: tuple[str, ...]


def alternative_annotator_test(
    panel: Panel,
    judge: Ratings,
    *,
    epsilon: float = 0.1,
    alignment: Alignment = "accuracy",
    rate: float = 0.05,
) -> AlternativeTest:
    """Test whether the judge represents the people better than one of them does.

    Our reading of the definition. For each person j and each item i that j, at least one other
    person and the judge rated, S(x, j) scores an answer x by the *other* people's answers to i:
    "accuracy" is the share of them equal to x, "negative rmse" is ``-√(mean (x - h)²)``. Then
    ``Wᶠ = [S(judge) >= S(j)]`` and ``Wʰ = [S(j) >= S(judge)]``: a tie counts for both. ρᶠ and ρʰ
    are their means, and ``d = Wʰ - Wᶠ`` is tested with a one-sample one-sided t-test of
    ``H0: E d >= ε`` against ``E d < ε``. The p-values of all people are taken together by
    Benjamini–Yekutieli at rate q, as their tests share items. ω is the share of people whose H0
    falls, ρ the mean of ρᶠ, and the judge passes where ω >= 0.5.

    Where all differences d are equal, t is infinite: p is its limit, 0 below ε and else 1.
    Scores that differ by rounding only count as tied. Items are taken as independent.

    Args:
        panel: Ratings by person, over the same items; None where one is missing. Coded
            categories for "accuracy", amounts for "negative rmse".
        judge: The judge's ratings of the same items.
        epsilon: What the judge's lower cost is worth, as a probability. The article suggests 0.2
            against experts, 0.15 against skilled annotators, and 0.1 against crowd workers.
        alignment: How an answer is scored by the other people's.
        rate: False discovery rate q.

    Returns:
        The result. People with fewer than 30 items are not tested (they still serve as the
        others' reference); with fewer than three tested people ω is NaN, and a warning says so.
    """
    if alignment not in get_args(Alignment):
        raise ConfigError(
            f"unknown alignment {alignment!r}{nearest(str(alignment), get_args(Alignment))}; "
            f"known: {', '.join(get_args(Alignment))}"
        )
    if not 0 <= epsilon < 1 or not 0 < rate < 1:
        raise ConfigError(
            f"epsilon is {epsilon} and rate {rate}; expected 0 <= epsilon < 1 and 0 < rate < 1"
        )
    names, values = read_panel(panel)
    verdicts = read_judge(judge, "raw", panel, values.shape[1])
    usable = ~np.isnan(verdicts) & ((~np.isnan(values)).sum(axis=0) >= 2)
    values, verdicts = values[:, usable], verdicts[usable]
    rows, warnings = [], list[str]()
    for row, name in enumerate(names):
        gaps = _gaps(values, row, verdicts, alignment)
        p_value = NAN
        if len(gaps) < FEWEST_ITEMS:
            warnings.append(f"{name} has {len(gaps)} items; a test needs at least {FEWEST_ITEMS}")
        else:
            p_value = _p_value(gaps, epsilon)
            if np.ptp(gaps) == 0:
                warnings.append(f"{name}: every item has the same outcome, p is a limit")
        rows.append(
            AnnotatorTest(
                annotator=name,
                n=len(gaps),
                judge_advantage=float((gaps <= 0).mean()) if len(gaps) else NAN,
                human_advantage=float((gaps >= 0).mean()) if len(gaps) else NAN,
                p_value=p_value,
                adjusted=NAN,
                won=False,
            )
        )
    return _decide(rows, epsilon, alignment, rate, int((~usable).sum()), warnings)


def _decide(
    rows: list[AnnotatorTest],
    epsilon: float,
    alignment: Alignment,
    rate: float,
    dropped: int,
    warnings: list[str],
) -> AlternativeTest:
    tested = [row for row in rows if not math.isnan(row.p_value)]
    adjusted = dict(
        zip(
            [row.annotator for row in tested],
            benjamini_yekutieli([row.p_value for row in tested]),
            strict=True,
        )
    )
    rows = [
        row._replace(adjusted=adjusted[row.annotator], won=adjusted[row.annotator] <= rate)
        if row.annotator in adjusted
        else row
        for row in rows
    ]
    winning = NAN
    if len(tested) < FEWEST_ANNOTATORS:
        warnings.append(
            f"the test needs at least {FEWEST_ANNOTATORS} annotators with {FEWEST_ITEMS} items "
            f"each; {len(tested)} have them: no winning rate"
        )
    else:
        winning = sum(row.won for row in rows) / len(tested)
    advantages = [row.judge_advantage for row in rows if row.annotator in adjusted]
    return AlternativeTest(
        winning_rate=winning,
        advantage=float(np.mean(advantages)) if advantages else NAN,
        passed=None if math.isnan(winning) else winning >= 0.5,
        epsilon=epsilon,
        alignment=alignment,
        rate=rate,
        annotators=tuple(rows),
        dropped=dropped,
        warnings=tuple(warnings),
    )


def _gaps(values: Values, row: int, verdicts: Values, alignment: Alignment) -> Values:
    """Return ``d = Wʰ - Wᶠ`` of the items that person ``row`` rated: 1, 0 or -1 each."""
    rated = ~np.isnan(values[row])
    own, judged = values[row, rated], verdicts[rated]
    others = np.delete(values, row, axis=0)[:, rated]
    if alignment == "accuracy":  # all others count, so the counts compare as the shares do
        more = (others == own).sum(axis=0) - (others == judged).sum(axis=0)
        return np.asarray(np.sign(more), dtype=np.float64)
    own_error = np.sqrt(np.nansum((others - own) ** 2, axis=0))
    judged_error = np.sqrt(np.nansum((others - judged) ** 2, axis=0))
    gaps: Values = judged_error - own_error
    rounding = 1e-9 * np.nanmax(np.abs(values), initial=0.0)
    gaps[np.abs(gaps) <= rounding] = 0
    return np.asarray(np.sign(gaps))


def _p_value(gaps: Values, epsilon: float) -> float:
    """Return P(T <= t) of ``t = (mean d - ε) √n / sd(d)`` with n - 1 degrees of freedom."""
    from scipy.special import stdtr

    distance, n = float(gaps.mean()) - epsilon, len(gaps)
    if np.ptp(gaps) == 0:
        return 0.0 if distance < 0 else 1.0
    return float(stdtr(n - 1, distance * math.sqrt(n) / float(gaps.std(ddof=1))))


def benjamini_yekutieli(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return p-values adjusted for the false discovery rate under any dependence.

    ``min over ranks j >= i of p_(j) · m/j · Σ_{k<=m} 1/k``, at most 1 (Benjamini and Yekutieli
    2001): a hypothesis falls at rate q where its adjusted p-value is at most q.
    """
    found = np.asarray(p_values, dtype=np.float64)
    if not ((found >= 0) & (found <= 1)).all():
        raise ConfigError(f"p-values are {list(p_values)}; expected numbers in [0, 1]")
    ranks = np.arange(1, len(found) + 1)
    order = np.argsort(found)
    scaled = found[order] * len(found) / ranks * (1 / ranks).sum()
    adjusted = np.empty_like(found)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    return tuple(adjusted.tolist())
