"""The whole report on a judge and people, or on people alone: one typed result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from eft_eval.agreement.paper import PaperFigure
from eft_eval.records import plain, restored
from eft_eval.runs.records import CORRECTED_NAME, ResultsFile
from eft_eval.statistics.alpha import Alpha
from eft_eval.statistics.alternative_test import AlternativeTest
from eft_eval.statistics.ceiling import Ceiling, Scale
from eft_eval.statistics.correction import Corrected
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.means import Mean
from eft_eval.statistics.pairs import PairAgreement
from eft_eval.statistics.panel import PairOfAnnotators, PanelAgreement
from eft_eval.statistics.ratings import Rule
from eft_eval.version import __version__

__all__ = [
    "Agreement",
    "CorrectedMetric",
    "CorrectedRun",
    "Correction",
    "Counted",
    "JudgeAgainstPeople",
    "JudgesDifference",
    "People",
    "Rater",
    "Unused",
    "correction_in",
]


People: TypeAlias = Literal["mean", "majority"]
"""What several people's labels of one response are taken to say together."""


class Rater(NamedTuple):
    """How one annotator, or the judge, answers.

    Attributes:
        name: Pseudonym, or the judge's name.
        n: Items rated.
        rate: Share of these with an error, with Wilson's interval; None under the rule "raw".
        shares: Share of each category; empty under "any error" and above 25 categories.
        mean: Mean rating; None for categories.
    """

    name: str
    n: int
    rate: Interval | None
    shares: tuple[float, ...]
    mean: float | None


class JudgeAgainstPeople(NamedTuple):
    """One judge of a panel, or the panel, against people.

    Attributes:
        name: The judge.
        pair: People's commonest answer (first) against the judge (second).
        difference: Judge minus people's mean rating; None for categories.
    """

    name: str
    pair: PairAgreement
    difference: Mean | None


class JudgesDifference(NamedTuple):
    """How much better one judge agrees with people than another, over the items both rated.

    Attributes:
        first: A judge.
        second: Another.
        gain: Mean of second minus first: of the share that agrees with people's commonest answer;
            of amounts, how much nearer to people's mean the second is.
    """

    first: str
    second: str
    gain: Mean


class Counted(NamedTuple):
    """What was used, and what was not.

    Attributes:
        items: Items with at least one rating by a person.
        ratings: People's ratings of these.
        several: Items that two or more people rated.
        tied: Items on which people's commonest answer is not one: not compared with the judge.
        judged: Items that the judge rated too.
        compared: Items in the comparison of judge and people.
        unscored: Items with a person's rating and no score of the judge, by the verdict's status.
        unlabelled: Responses that the judge scored and nobody rated.
        unsure: Labels that say neither yes nor no, read as missing.
        contradictory: Labels left out because two answers of one person contradict each other.
        chosen: Items that are no random sample: drawn because judge and people differ on them.
        dropped: Rows of the label files that gave no label, by reason.
        remarks: About whole files.
    """

    items: int
    ratings: int
    several: int
    tied: int
    judged: int
    compared: int
    unscored: Mapping[str, int]
    unlabelled: int
    unsure: int
    contradictory: int
    chosen: int
    dropped: Mapping[str, int]
    remarks: tuple[str, ...]


class Unused(NamedTuple):
    """Labels of a metric, of all tasks together, that correct nothing.

    Attributes:
        unsure: Labels that say neither yes nor no.
        contradictory: Labels left out because two answers of one person contradict each other.
        tied: Responses on which people's commonest answer is not one; 0 for people's mean.
    """

    unsure: int
    contradictory: int
    tied: int


class Correction(NamedTuple):
    """What `eft-eval correct` keeps in a results file, as far as it is read again.

    Attributes:
        metrics: The corrected metrics.
        annotators: Whose labels corrected them.
        warnings: What keeps the figures from being read as they stand.
    """

    metrics: tuple[CorrectedMetric, ...]
    annotators: tuple[str, ...]
    warnings: tuple[str, ...]

    def of(self, task: str, metric: str) -> CorrectedMetric | None:
        """Return the correction that the metric ``…_ppi`` of a task is; None for any other."""
        names = ((one, f"{one.metric}{CORRECTED_NAME}") for one in self.metrics)
        return next((one for one, name in names if (one.task, name) == (task, metric)), None)


def correction_in(file: ResultsFile) -> Correction | None:
    """Return what labels corrected in a results file; None where nothing was corrected.

    Raises:
        ConfigError: It is not as eft-eval writes it.
    """
    found = file.content.get("eft_corrected")
    if not isinstance(found, Mapping):
        return None
    return restored(Correction, found, f"{file.path}: eft_corrected")


class CorrectedMetric(NamedTuple):
    """A judged metric of one task of a run, corrected by people's labels.

    Attributes:
        task: The task.
        metric: The metric, such as fact_any_error.
        reading: What of the labels it was corrected by.
        corrected: The corrected mean and what belongs to it.
        by_majority: Whether `rogan_gladen` alone is of people's commonest answers, as it needs
            labels of 0 or 1 and the mean of several people's is neither.
        share: Whether the metric lies from 0 to 1.
        higher: Whether higher is better.
        unused: Labels that correct nothing.
    """

    task: str
    metric: str
    reading: str
    corrected: Corrected
    by_majority: bool
    share: bool
    higher: bool
    unused: Unused


@dataclass(frozen=True)
class CorrectedRun:
    """What was corrected and written.

    Attributes:
        metrics: The corrected metrics.
        annotators: Whose labels corrected them.
        people: How several people's labels of one response were taken together.
        dropped: Rows of the label files that gave no label, by reason.
        remarks: About whole files.
        corrected_from: The results file whose verdicts were corrected; of several the newest.
        results: The new results file; of several the newest.
        others: The other new results files.
        sources: The label files.
        measure: What the run was judged for.
        warnings: What keeps the figures from being read as they stand.
    """

    metrics: tuple[CorrectedMetric, ...]
    annotators: tuple[str, ...]
    people: People
    dropped: Mapping[str, int]
    remarks: tuple[str, ...]
    corrected_from: str
    results: Path
    others: tuple[Path, ...]
    sources: tuple[str, ...]
    measure: str
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON types; a number that does not exist is None."""
        content = {**vars(self), "results": self.results.name}
        del content["others"]
        return {"format": "eft-eval correction", "eft_eval": __version__, **plain(content)}


@dataclass(frozen=True)
class Agreement:
    """How far a judge and people, and people among each other, agree.

    Attributes:
        judge: The judge's name; None for people alone.
        annotators: The people.
        field: What was compared.
        reading: How a label was read, in words.
        rule: "any error" (a count above 0) or "raw".
        scale: Whether ratings are categories or amounts.
        categories: The words that the numbers of `pair` and `raters` stand for; empty for numbers.
        level: Confidence level of every interval.
        seed: Seed of the bootstrap of α.
        counted: What was used, and what was not.
        clusters: Number of clusters, such as prompts; None where no two items share one, and
            every item counts as independent.
        raters: How everybody answers, the judge last.
        pair: The people's commonest answer (first) against the judge (second); None without one.
        each: Every person against the judge, over the items that both rated.
        random_person: The chance that a person drawn at random says what the judge says; unlike
            `pair` it leaves out no item on which people are tied. None without a judge.
        difference: Judge minus people's mean rating, over all items that both rated; None without a
            judge and for categories. Like `random_person` it leaves no tied item out.
        people: Agreement of people among each other; None with one annotator.
        ceiling: Every person, and the judge, against the other people; None with one annotator.
        alpha: Krippendorff's α of the people, by distance; empty with one annotator.
        alpha_with_judge: The same with the judge as one more rater.
        alternative: May the judge replace a person? None with fewer than three people.
        corrected: A run's metrics, corrected by these labels; empty without a run.
        paper: The paper's figure to stand beside; None where it is about something else.
        run: The run's results file; None without one.
        sources: The label files.
        warnings: What keeps a figure from being read as it stands.
        event: What counts under the rule "any error": "error", or what else the labels are about.
        judges: Of a panel each judge, and at last the panel, against people; empty without one.
        judges_differences: Every two of these by how they agree with people.
    """

    judge: str | None
    annotators: tuple[str, ...]
    field: str
    reading: str
    rule: Rule
    scale: Scale
    categories: tuple[str, ...]
    level: float
    seed: int
    counted: Counted
    clusters: int | None
    raters: tuple[Rater, ...]
    pair: PairAgreement | None
    each: tuple[PairOfAnnotators, ...]
    random_person: Mean | None
    difference: Mean | None
    people: PanelAgreement | None
    ceiling: Ceiling | None
    alpha: tuple[Alpha, ...]
    alpha_with_judge: tuple[Alpha, ...]
    alternative: AlternativeTest | None
    corrected: tuple[CorrectedMetric, ...] = ()
    paper: PaperFigure | None = None
    run: str | None = None
    sources: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    event: str = "error"
    judges: tuple[JudgeAgainstPeople, ...] = ()
    judges_differences: tuple[JudgesDifference, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON types; a number that does not exist is None."""
        found = {"format": "eft-eval agreement", "eft_eval": __version__, **plain(self)}
        if not self.judges:
            del found["judges"], found["judges_differences"]
        return found

    def __repr__(self) -> str:
        kappa = f", kappa={self.pair.kappa.interval.estimate:.3f}" if self.pair else ""
        return (
            f"Agreement({self.field!r}, judge={self.judge!r}, annotators={len(self.annotators)}, "
            f"items={self.counted.items}{kappa}, warnings={len(self.warnings)})"
        )
