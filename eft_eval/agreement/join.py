"""Labels and a run's verdicts, joined by item, into the report of `agreeing.agree`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from eft_eval.agreement.agree import agree
from eft_eval.agreement.answers import Answers, read_answers, read_shares
from eft_eval.agreement.correct import choose_measure, correct_metrics, scored_verdict
from eft_eval.agreement.report import Agreement, CorrectedMetric, Counted
from eft_eval.errors import ConfigError
from eft_eval.labels.reading import read_labels
from eft_eval.labels.records import Item, LabelSet, Origin
from eft_eval.labels.responses import measures_in, read_items
from eft_eval.labels.scheme import FIELDS
from eft_eval.runs.saved import open_run
from eft_eval.statistics.ceiling import Scale
from eft_eval.statistics.ratings import Rule, Values

__all__ = ["agree_files", "agree_labels", "judge_of"]

_UNKNOWN = Origin("", "", None)


def agree_files(
    files: Sequence[Path | str],
    *,
    run_dir: Path | str | None = None,
    judge: str | None = None,
    tasks: Sequence[str] | None = None,
    field: str | None = None,
    rule: Rule | None = None,
    positive: str | None = None,
    missing: Sequence[str] = (),
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    epsilon: float = 0.1,
    measure: str | None = None,
    scale: Scale | None = None,
) -> Agreement:
    """Return the agreement of label files, with a run's judge or one of the annotators.

    Args:
        files: Label files of any known format, see `labels.read_labels`.
        run_dir: A judged run: its verdicts are the judge's answers, and only labels about its
            responses, with the same texts, are used.
        judge: The annotator that is the judge, by its name in the files; the run's own judge
            model means the same as no name.
        tasks: The run's tasks to compare; by default all whose judge counts errors.
        field: The field to compare, see `answers.read_answers`.
        rule: "any error" or "raw".
        positive: The word that counts as 1, for labels that are words.
        missing: Words that are no label, such as "unsure".
        level: Confidence level.
        resamples: Resamples of α's bootstrap.
        seed: Its seed.
        epsilon: Of the alternative annotator test.
        measure: The run's verdicts to compare: factuality, helpfulness or harm; by default
            factuality if the run is judged for it, else what it is judged for.
        scale: "nominal" for numbers that are codes of categories, "numeric" for amounts.

    Raises:
        ConfigError: A file or the run cannot be used, or nothing can be compared.
    """
    items, run = None, None
    if run_dir is not None:
        saved = open_run(run_dir)
        run = saved.name
        measure = choose_measure(measure, measures_in(saved, tasks), run)
        items = read_items(saved, tasks=tasks, measure=measure)
    # the field is chosen after reading: any_error is made of two
    labels = read_labels(files, items=items, judge=judge)
    found = agree_labels(
        labels,
        items,
        field=field,
        rule=rule,
        positive=positive,
        missing=missing,
        level=level,
        resamples=resamples,
        seed=seed,
        epsilon=epsilon,
        measure=measure,
        scale=scale,
    )
    return replace(found, run=run, sources=labels.sources)


def agree_labels(
    labels: LabelSet,
    items: Sequence[Item] | None = None,
    *,
    field: str | None = None,
    rule: Rule | None = None,
    positive: str | None = None,
    missing: Sequence[str] = (),
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    epsilon: float = 0.1,
    measure: str | None = None,
    scale: Scale | None = None,
) -> Agreement:
    """Return the agreement of imported labels; the judge is ``labels.judge``, else a run's.

    Args:
        labels: Imported labels.
        items: All responses of a judged run; None without one.
        field: See `agree_files`, as for the others.
        rule: "any error" or "raw".
        positive: The word that counts as 1.
        missing: Words that are no label.
        level: Confidence level.
        resamples: Resamples of α's bootstrap.
        seed: Its seed.
        epsilon: Of the alternative annotator test.
        measure: What ``items`` were judged for; None is factuality.
        scale: "nominal" for numbers that are codes of categories, "numeric" for amounts.

    Raises:
        ConfigError: The labels cannot be read so, or the run was never judged.
    """
    by_run = items is not None and labels.judge is None
    measure = measure or "factuality"
    if by_run and measure != "factuality":
        if rule == "any error" or scale == "nominal":
            raise ConfigError(f"{measure} is an amount from 0 to 1; it is compared as it is (raw)")
        answers = read_shares(labels, measure, field=field, positive=positive, missing=missing)
    else:
        answers = read_answers(
            labels, field=field, rule=rule, positive=positive, missing=missing, counts=by_run
        )
    guessed = _is_guess(answers, scale)
    answers = _with_scale(answers, scale)
    if by_run and answers.words:
        raise ConfigError(
            f"{answers.field} holds words and the run's verdicts are counts; name the word that "
            "counts as an error with --positive"
        )
    people = {name: one for name, one in answers.panel.items() if name != labels.judge}
    if not people:
        raise ConfigError(f"the only annotator of {answers.field} is the judge, {labels.judge}")
    name, judge = _judge(labels, answers, items if by_run else None)
    origins = _origins(labels, items)
    rows = [origins.get(item_id, _UNKNOWN) for item_id in answers.item_ids]
    found = agree(
        people,
        judge,
        rule=answers.rule,
        scale=answers.scale,
        # an item without a cluster is one of its own
        clusters=[row.cluster or f"item {i}" for i, row in enumerate(rows)],
        strata=[row.stratum or "unknown" for row in rows],
        judge_name=name,
        level=level,
        resamples=resamples,
        seed=seed,
        epsilon=epsilon,
    )
    chosen = sum(row.random is False for row in rows)
    corrected: tuple[CorrectedMetric, ...] = ()
    if items is not None and by_run and not chosen:
        corrected = correct_metrics(
            labels,
            items,
            field=field,
            positive=positive,
            missing=missing,
            level=level,
            measure=measure,
        )
    if guessed and not by_run:
        text = (
            f"{answers.field}: its numbers are read as amounts; if they are codes of categories, "
            "give --scale nominal"
        )
        found = replace(found, warnings=(text, *found.warnings))
    return _with_provenance(found, labels, answers, items if by_run else None, chosen, corrected)


def _is_guess(answers: Answers, scale: Scale | None) -> bool:
    """Whether numbers of a field of unknown meaning are taken for amounts."""
    ours = {field.name for field in FIELDS}
    return scale is None and answers.scale == "numeric" and answers.field not in ours


def _with_scale(answers: Answers, scale: Scale | None) -> Answers:
    if scale is None or scale == answers.scale:
        return answers
    if answers.rule == "any error":
        raise ConfigError(f"{scale} is for the rule raw: any error or none is nominal by itself")
    if answers.words:
        raise ConfigError(f"{answers.field} holds words, which are no amounts")
    return answers._replace(scale=scale, reading=f"{answers.field} as codes of categories")


def judge_of(items: Sequence[Item]) -> str:
    """Return the judge of a run's verdicts.

    Raises:
        ConfigError: The run was never judged, or by several judges.
    """
    judges = sorted({item.judge for item in items if item.judge is not None})
    if not judges:
        raise ConfigError("the run has no verdicts; judge it first: eft-eval judge RUN_DIR")
    if len(judges) > 1:
        raise ConfigError(f"the run has verdicts of several judges: {', '.join(judges)}")
    return judges[0]


def _judge(
    labels: LabelSet, answers: Answers, items: Sequence[Item] | None
) -> tuple[str, Values | None]:
    if labels.judge is not None:
        if labels.judge not in answers.panel:
            raise ConfigError(f"the judge {labels.judge} has no label of {answers.field}")
        return labels.judge, answers.panel[labels.judge]
    if items is None:
        return "judge", None
    scores = {item.item_id: scored_verdict(item) for item in items}
    return judge_of(items), np.array([scores.get(one, math.nan) for one in answers.item_ids])


def _origins(labels: LabelSet, items: Sequence[Item] | None) -> Mapping[str, Origin]:
    """Return where items are from: the run's word, but the label files' on how they were drawn."""
    if items is None:
        return labels.origins
    drawn = {name: origin.random for name, origin in labels.origins.items()}
    return {
        item.item_id: Origin(item.stratum, item.cluster, drawn.get(item.item_id)) for item in items
    }


def _with_provenance(
    found: Agreement,
    labels: LabelSet,
    answers: Answers,
    items: Sequence[Item] | None,
    chosen: int,
    corrected: tuple[CorrectedMetric, ...],
) -> Agreement:
    """Add what only the files know: how labels were read, what was lost, and by which status."""
    counted = found.counted if items is None else _by_status(found.counted, answers, items)
    counted = counted._replace(
        unsure=answers.unsure,
        contradictory=answers.contradictory,
        chosen=chosen,
        dropped=labels.drop_counts(),
        remarks=labels.remarks,
    )
    warnings = list(found.warnings)
    if chosen:
        warnings.insert(
            0,
            f"{chosen} items were picked because judge and people differ on them (eft-eval gold "
            "sample): these figures are about such items, not about the run",
        )
    return replace(
        found,
        field=answers.field,
        reading=answers.reading,
        categories=answers.words,
        counted=counted,
        corrected=corrected,
        warnings=tuple(warnings),
    )


def _by_status(counted: Counted, answers: Answers, items: Sequence[Item]) -> Counted:
    """Return the counts with the verdicts' statuses, and with responses that nobody labelled."""
    unrated = np.asarray(np.isnan(np.stack([*answers.panel.values()])).all(axis=0))
    rated = {name for name, no in zip(answers.item_ids, unrated, strict=True) if not no}
    statuses = Counter(
        item.verdict_status or "not judged"
        for item in items
        if item.item_id in rated and item.verdict_value is None
    )
    unlabelled = sum(item.verdict_value is not None and item.item_id not in rated for item in items)
    return counted._replace(unscored=dict(statuses), unlabelled=unlabelled)
