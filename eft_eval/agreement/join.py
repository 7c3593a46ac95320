"""Labels and a run's verdicts, joined by item, into the report of `agree.agree`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from eft_eval.agreement.agree import Method, agree
from eft_eval.agreement.answers import (
    OF_ERRORS,
    Answers,
    judge_side,
    people_side,
    ratings_of,
    read_answers,
    read_shares,
)
from eft_eval.agreement.correct import Correction, correct_metrics
from eft_eval.agreement.judges import Compared, differences_of_judges, each_judge
from eft_eval.agreement.label_reading import LabelReading, LabelTable, read_label_table
from eft_eval.agreement.preferences import as_categories, named, read_preferences
from eft_eval.agreement.report import Agreement, CorrectedMetric, Counted
from eft_eval.errors import ConfigError
from eft_eval.labels.records import UNKNOWN, Item, LabelSet
from eft_eval.labels.scheme import ALL_FIELDS
from eft_eval.runs.saved import SavedRun
from eft_eval.statistics.ceiling import Scale
from eft_eval.statistics.ratings import Values

__all__ = ["agree_files", "agree_labels"]


def agree_files(
    files: Sequence[Path | str],
    run: SavedRun | Path | str | None = None,
    reading: LabelReading = LabelReading(),
    method: Method = Method(),
) -> Agreement:
    """Return the agreement of label files, with a run's judge or one of the annotators.

    Args:
        files: Label files of any known format, see `read_labels`.
        run: A judged run: its verdicts are the judge's answers, and only labels about its
            responses, with the same texts, are used.
        reading: How labels are read.
        method: How they are compared.

    Raises:
        ConfigError: A file or the run cannot be used, or nothing can be compared.
    """
    table = read_label_table(files, run, reading)
    return replace(_agree(table, method), run=table.run, sources=table.labels.sources)


def agree_labels(
    labels: LabelSet,
    items: Sequence[Item] | None = None,
    reading: LabelReading = LabelReading(),
    method: Method = Method(),
) -> Agreement:
    """Return the agreement of imported labels; the judge is ``labels.judge``, else a run's.

    Args:
        labels: Imported labels.
        items: All responses of a judged run; None without one.
        reading: How the labels are read.
        method: How they are compared.

    Raises:
        ConfigError: The labels cannot be read so, or the run was never judged.
    """
    joined = labels if items is None else labels.about(items)
    return _agree(LabelTable(joined, items, reading), method)


def _agree(table: LabelTable, method: Method) -> Agreement:
    answers = _answers(table, method)
    by_run = table.judged_by_run
    people = people_side(table, answers)
    if not people:
        raise ConfigError(
            f"the only annotator of {answers.field} is the judge, {table.labels.judge}"
        )
    name, judge = judge_side(table, answers)
    if judge is not None and by_run and table.measure == "preference":
        words, (judge, *others) = named(as_categories(judge), *people.values())
        people = dict(zip(people, others, strict=True))
        answers = answers._replace(words=words)
    rows = [table.labels.origins.get(item_id, UNKNOWN) for item_id in answers.item_ids]
    # an item without a cluster is one of its own
    clusters = [row.cluster or f"item {i}" for i, row in enumerate(rows)]
    found = agree(
        people,
        judge,
        clusters=clusters,
        strata=[row.stratum or "unknown" for row in rows],
        method=replace(
            method,
            rule=answers.rule,
            scale=answers.scale,
            judge_name=name,
            event=_event(table, answers, method),
        ),
    )
    corrected: tuple[CorrectedMetric, ...] = ()
    if by_run and not table.chosen:
        corrected = correct_metrics(table, Correction(level=method.level))
    warnings = [*answers.warnings, *found.warnings]
    if _is_guess(answers, method.scale) and not by_run:
        warnings.insert(
            0,
            f"{answers.field}: its numbers are read as amounts; if they are codes of categories, "
            "give --scale nominal",
        )
    if len(people) > 1 and found.counted.several == 0 and table.reading.files.item is None:
        warnings.append(
            "no item has the labels of two people: if another column or data field holds the "
            "items' ids, name it with --item"
        )
    chosen = sum(row.random is False for row in rows)
    if chosen:
        warnings.insert(
            0,
            f"{chosen} items were picked because judge and people differ on them (eft-eval gold "
            "sample): these figures are about such items, not about the run",
        )
    counted = _by_status(found.counted, answers, table.items or ()) if by_run else found.counted
    judges: dict[str, Values] = {}
    if by_run and table.judges and judge is not None:
        judges = {one: ratings_of(items, answers) for one, items in table.judges.items()}
        judges[name] = judge
    shared = clusters if found.clusters is not None else None
    how = Compared(answers.rule, answers.scale == "numeric", shared, method.level)
    return replace(
        found,
        field=answers.field,
        reading=answers.reading,
        categories=answers.words,
        counted=counted._replace(
            unsure=answers.unsure,
            contradictory=answers.contradictory,
            chosen=chosen,
            dropped=table.labels.drop_counts(answers.fields),
            remarks=table.labels.remarks,
        ),
        corrected=corrected,
        warnings=tuple(warnings),
        judges=each_judge(people, judges, how),
        judges_differences=differences_of_judges(people, judges, how),
    )


def _answers(table: LabelTable, method: Method) -> Answers:
    """Return the labels as they are compared: as shares where the run's verdicts are shares."""
    by_run = table.judged_by_run
    if by_run and table.measure == "preference":
        if method.rule == "any error" or method.scale == "numeric":
            raise ConfigError("a preference is A, B or tie; it is compared as it is (raw, nominal)")
        return read_preferences(table.labels, table.reading)
    if by_run and table.measure != "factuality":
        if method.rule == "any error" or method.scale == "nominal":
            raise ConfigError(
                f"{table.measure} is an amount from 0 to 1; it is compared as it is (raw)"
            )
        answers = read_shares(table.labels, table.reading)
    else:
        answers = read_answers(table.labels, table.reading, rule=method.rule, counts=by_run)
    answers = _with_scale(answers, method.scale)
    if by_run and answers.words:
        raise ConfigError(
            f"{answers.field} holds words and the run's verdicts are counts; name the word that "
            "counts as an error with --positive"
        )
    return answers


def _event(table: LabelTable, answers: Answers, method: Method) -> str:
    """Return what a rating above 0 means: an error, only where labels or verdicts are of errors."""
    if answers.field in OF_ERRORS or (table.judged_by_run and table.measure == "factuality"):
        return "error"
    if table.reading.positive is not None:
        return repr(table.reading.positive)
    return table.measure if table.judged_by_run else method.event


def _is_guess(answers: Answers, scale: Scale | None) -> bool:
    """Whether numbers of a field of unknown meaning are taken for amounts."""
    ours = {field.name for field in ALL_FIELDS}
    return scale is None and answers.scale == "numeric" and answers.field not in ours


def _with_scale(answers: Answers, scale: Scale | None) -> Answers:
    if scale is None or scale == answers.scale:
        return answers
    if answers.rule == "any error":
        raise ConfigError(f"{scale} is for the rule raw: any error or none is nominal by itself")
    if answers.words:
        raise ConfigError(f"{answers.field} holds words, which are no amounts")
    return answers._replace(scale=scale, reading=f"{answers.field} as codes of categories")


def _by_status(counted: Counted, answers: Answers, items: Sequence[Item]) -> Counted:
    """Return the counts with the verdicts' statuses, and with responses that nobody labelled."""
    unrated = np.asarray(np.isnan(np.stack([*answers.panel.values()])).all(axis=0))
    rated = {name for name, no in zip(answers.item_ids, unrated, strict=True) if not no}
    statuses = Counter(
        "judges tied" if item.verdict_value is not None else item.verdict_status or "not judged"
        for item in items
        if item.item_id in rated and np.isnan(item.rating(answers.rule))
    )
    unlabelled = sum(item.verdict_value is not None and item.item_id not in rated for item in items)
    return counted._replace(unscored=dict(statuses), unlabelled=unlabelled)
