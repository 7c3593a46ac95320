"""The disagreement protocol as files (section 4.5): a blind project, its key, and the outcome.

`sample_gold` draws items on which judge and people differ and writes a labelling project that
tells neither side. Who said what is in a gold key outside the project. `import_gold` joins the
adjudicator's labels with that key.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eft_eval.agreement.answers import judge_side, people_side, read_answers
from eft_eval.agreement.label_reading import LabelTable
from eft_eval.agreement.paper import PAPER_GOLD, PaperFigure, paper_figure
from eft_eval.errors import ConfigError
from eft_eval.files import write_json
from eft_eval.labels.joining import GOLD_PREFIX
from eft_eval.labels.people import scrub
from eft_eval.labels.project import GOLD_KEY_FORMAT, Exported, Exporter
from eft_eval.labels.reading import FileReading, read_labels
from eft_eval.records import plain, read_record_file, restored
from eft_eval.statistics.consensus import majority
from eft_eval.statistics.gold_outcome import GoldOutcome, gold_outcome, gold_outcome_of_counts
from eft_eval.statistics.means import Mean, mean_with_interval, share_of
from eft_eval.statistics.ratings import Rule, apply_rule
from eft_eval.statistics.sampling import GoldDraw, draw_for_gold
from eft_eval.version import __version__

__all__ = ["GoldPlan", "GoldReport", "GoldSample", "import_gold", "sample_gold"]


class GoldSample(NamedTuple):
    """What was drawn and written.

    Attributes:
        exported: The blind project, and how to start it.
        key: The gold key, which the adjudicator must not see.
        draw: What was drawn from what.
        tied: Items on which people are tied: neither agreements nor disagreements.
    """

    exported: Exported
    key: Path
    draw: GoldDraw
    tied: int


@dataclass(frozen=True)
class GoldReport:
    """Whom gold labels side with, and how they came about.

    Attributes:
        outcome: The arithmetic; it takes the disagreements as independent.
        clustered: The share with the judge, clustered by prompt; None where no two adjudicated
            disagreements share one.
        adjudicated_by: Who adjudicated, in the words given.
        adjudicators: Their pseudonyms in the label files.
        blind: Whether they could not see who had said what.
        agreements_checked: Whether items on which judge and people agree were adjudicated too.
        judge: The judge.
        people: Whose labels the judge was held against.
        rule: "any error" or "raw".
        level: Confidence level.
        seed: Seed of the draw.
        drawn: Items drawn.
        unlabelled: Of these, without a usable gold label.
        tied: Of these, such on which several adjudicators are tied.
        people_tied: Items on which people were tied, so that none was drawn; None if the key
            does not say.
        unsure: Gold labels that say neither yes nor no.
        contradictory: Gold labels that contradict themselves.
        dropped: Rows of the label files that gave no label, by reason.
        remarks: About whole files.
        paper: The paper's figure to stand beside.
        run: The run's results file.
        sources: The label files.
    """

    outcome: GoldOutcome
    clustered: Mean | None
    adjudicated_by: str
    adjudicators: tuple[str, ...]
    blind: bool
    agreements_checked: bool
    judge: str
    people: str
    rule: Rule
    level: float
    seed: int
    drawn: int
    unlabelled: int
    tied: int
    people_tied: int | None
    unsure: int
    contradictory: int
    dropped: Mapping[str, int]
    remarks: tuple[str, ...]
    paper: PaperFigure
    run: str
    sources: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON types; a number that does not exist is None."""
        return {"format": "eft-eval gold report", "eft_eval": __version__, **plain(self)}


@dataclass(frozen=True)
class _Drawn:
    """What the gold key says of one drawn item."""

    judge: float
    people: float
    text_sha256: str
    stratum: str
    cluster: str
    source: str


@dataclass(frozen=True)
class _GoldKey:
    """Who said what, and from what was drawn; ``disagreements`` and ``agreements`` in all."""

    run: str
    judge: str
    people: str
    rule: Rule
    seed: int
    disagreements: int
    agreements: int
    items: Mapping[str, _Drawn]
    tied: int | None = None


@dataclass(frozen=True)
class GoldPlan:
    """What is drawn.

    Attributes:
        disagreements: How many disagreements.
        agreements: How many agreements as well.
        seed: Seed of the draw and of the order.
        rule: How ratings are compared: "any error" or "raw"; by default as the labels are.
    """

    disagreements: int = 30
    agreements: int = 0
    seed: int = 0
    rule: Rule | None = None


def sample_gold(
    table: LabelTable,
    out: Path | str,
    export: Exporter,
    *,
    plan: GoldPlan = GoldPlan(),
    key: Path | str | None = None,
) -> GoldSample:
    """Draw items on which judge and people differ, and write the blind project and its gold key.

    The people's side is their commonest answer; items on which they are tied are not drawn from.

    Args:
        table: People's labels and the run's responses, with its verdicts; ``labels.judge`` takes
            the place of these, if set.
        out: The project's folder, new or empty.
        export: `export_potato`, `export_label_studio` or `export_csv`.
        plan: What to draw.
        key: The gold key to write; by default ``OUT.gold-key.json`` beside the project.

    Raises:
        ConfigError: Judge and people differ nowhere, the key would lie in the project or exists,
            or something cannot be read or written.
    """
    out = Path(out)
    named = out.absolute() if out.name in ("", "..") else out  # such as "."
    path = named.with_name(f"{named.name}.gold-key.json") if key is None else Path(key)
    _check_key_path(path, out)
    answers = read_answers(table.labels, table.reading, rule=plan.rule, counts=True)
    if answers.words:
        raise ConfigError(f"{answers.field} holds words; name the one that counts with --positive")
    name, judge = judge_side(table, answers)
    if judge is None or table.items is None:
        raise ConfigError("gold labels need a run, whose responses are shown to the adjudicator")
    people = people_side(table, answers)
    commonest = majority({n: apply_rule(one, answers.rule) for n, one in people.items()})
    draw = draw_for_gold(
        judge,
        commonest.values,
        disagreements=plan.disagreements,
        agreements=plan.agreements,
        seed=plan.seed,
        rule=answers.rule,
    )
    if not draw.items:
        raise ConfigError(
            f"there is nothing to adjudicate: {draw.of_disagreements} disagreements in "
            f"{draw.of_disagreements + draw.of_agreements} items that judge and people rated"
        )
    by_id = {item.item_id: item for item in table.items}
    shown = [by_id[answers.item_ids[i]] for i in draw.items]
    shown = [replace(item, item_id=f"{GOLD_PREFIX}{item.item_id}") for item in shown]
    sides = [(float(judge[i]), float(commonest.values[i])) for i in draw.items]
    gold_key = _GoldKey(
        run=str(table.run),
        judge=name,
        people=f"the commonest answer of {', '.join(people)}",
        rule=answers.rule,
        seed=plan.seed,
        disagreements=draw.of_disagreements,
        agreements=draw.of_agreements,
        items={
            item.item_id: _Drawn(*side, item.text_sha256, item.stratum, item.cluster, item.source)
            for item, side in zip(shown, sides, strict=True)
        },
        tied=commonest.tied,
    )
    # the key first: a project without it would be of no use, nor is a key without its project
    about = {"random_sample": False}
    content = {"format": GOLD_KEY_FORMAT, "about": about, **plain(gold_key)}
    if path.exists() and not _is_same(path, content):
        raise _of_another_draw(path)
    write_json(path, content)
    try:
        exported = export(shown, out, about=about)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return GoldSample(exported, path, draw, commonest.tied)


def _check_key_path(path: Path, out: Path) -> None:
    if out.resolve() in path.resolve().parents:
        raise ConfigError(
            f"{path} lies in the project {out}, where the adjudicator sees it; give --key another "
            "place"
        )
    if path.exists() and not _is_same(path, {"format": GOLD_KEY_FORMAT}):
        raise _of_another_draw(path)
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent} for the gold key")


def _is_same(path: Path, content: Mapping[str, Any]) -> bool:
    """Whether a file has this content, as the key of a draw that was killed before its project."""
    try:
        found = read_record_file(path, "the gold key")
    except ConfigError:
        return False
    return bool({name: found.get(name) for name in content} == json.loads(json.dumps(content)))


def _of_another_draw(path: Path) -> ConfigError:
    return ConfigError(f"{path} exists; it belongs to another draw: choose another name")


def import_gold(
    files: Sequence[Path | str],
    key: Path | str,
    *,
    adjudicated_by: str,
    blind: bool = True,
    level: float = 0.95,
) -> GoldReport:
    """Return whom the gold labels in label files side with.

    Args:
        files: The filled-in project, or label files of it.
        key: The gold key that `sample_gold` wrote.
        adjudicated_by: Who adjudicated, such as "two authors, with web search".
        blind: Whether they could not see who had said what.
        level: Confidence level.

    Raises:
        ConfigError: A file cannot be read, is no gold key, or there is no gold label.
    """
    if not adjudicated_by.strip():
        raise ConfigError("who adjudicated is blank; expected words such as 'two authors'")
    known = _read_gold_key(Path(key))
    drawn, rule = known.items, known.rule
    # no A1: they are other people
    labels = read_labels(files, items=key, reading=FileReading(letter="G"))
    answers = read_answers(labels, rule=rule, counts=True)
    panel = {name: apply_rule(one, rule) for name, one in answers.panel.items()}
    found = majority(panel)
    gold = dict(zip(answers.item_ids, found.values, strict=True))
    truth = np.array([gold.get(name, math.nan) for name in drawn])
    outcome, clustered = _outcome(known, truth, level)
    return GoldReport(
        outcome=outcome,
        clustered=clustered,
        adjudicated_by=scrub(adjudicated_by.strip()),
        adjudicators=tuple(panel),
        blind=blind,
        agreements_checked=outcome.agreements_checked > 0,
        judge=known.judge,
        people=known.people,
        rule=rule,
        level=level,
        seed=known.seed,
        drawn=len(drawn),
        unlabelled=int(np.isnan(truth).sum()),
        tied=found.tied,
        people_tied=known.tied,
        unsure=answers.unsure,
        contradictory=answers.contradictory,
        dropped=labels.drop_counts(answers.fields),
        remarks=labels.remarks,
        paper=paper_figure(PAPER_GOLD),
        run=known.run,
        sources=labels.sources,
    )


def _read_gold_key(path: Path) -> _GoldKey:
    content = read_record_file(path, "the gold key that eft-eval gold sample wrote")
    if content.get("format") != GOLD_KEY_FORMAT:
        raise ConfigError(
            f"{path} is no gold key; give the file ….gold-key.json that eft-eval gold sample wrote"
        )
    key = restored(_GoldKey, content, str(path))
    if not key.items:
        raise ConfigError(f"{path} is a damaged gold key: it has no items")
    return key


def _outcome(
    known: _GoldKey, truth: NDArray[np.float64], level: float
) -> tuple[GoldOutcome, Mean | None]:
    """Return whom gold sides with, and the same clustered by prompt where a prompt repeats."""
    drawn = known.items
    judge, people = (
        apply_rule(np.array(side), known.rule, "the gold key")
        for side in zip(*((one.judge, one.people) for one in drawn.values()), strict=True)
    )
    counted = gold_outcome(judge, people, truth, rule=known.rule, level=level)
    outcome = gold_outcome_of_counts(
        agreements=known.agreements,
        disagreements=known.disagreements,
        with_judge=counted.with_judge,
        with_human=counted.with_human,
        neither=counted.neither,
        agreements_checked=counted.agreements_checked,
        agreements_right=counted.agreements_right,
        level=level,
    )
    settled = (judge != people) & ~np.isnan(truth)
    # an item without a cluster is one of its own
    prompts = np.array([one.cluster or name for name, one in drawn.items()])[settled]
    if len(set(prompts.tolist())) == len(prompts):
        return outcome, None
    sides = (truth == judge)[settled].astype(np.float64)
    return outcome, share_of(mean_with_interval(sides, prompts, level))
