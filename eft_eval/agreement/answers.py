"""From label sets to ratings: which field is compared, and how its labels are read as numbers.

Nothing is guessed: what cannot be read as a rating is missing, and counted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from eft_eval.agreement.label_reading import LabelReading, LabelTable
from eft_eval.errors import ConfigError, nearest
from eft_eval.labels.records import Item, LabelSet
from eft_eval.labels.scheme import (
    ALL_FIELDS,
    AS_WRITTEN,
    FIELDS,
    NO_ANSWER,
    is_written_number,
)
from eft_eval.statistics.ceiling import Scale
from eft_eval.statistics.ratings import Rule, Values

__all__ = [
    "ANY_ERROR",
    "OF_ERRORS",
    "Answers",
    "judge_side",
    "people_side",
    "ratings_of",
    "read_answers",
    "read_shares",
]

ANY_ERROR = "any_error"
"""Read from has_error and error_count together."""
_COUNT, _CHOICE = "error_count", "has_error"
OF_ERRORS = {ANY_ERROR, *(field.name for field in FIELDS)}
"""The fields of labels that are about factual errors."""
_TEXTS = {field.name for field in FIELDS if field.kind == "text"}
_UNSURE = -1.0
_RIGHT = ("correct", "accura", "true", "truth", "right", "valid")
_DENIED = {"not", "non", "no", "un"}
_GOLD = re.compile(r"\b(ground truth|true (label|value|count))s?\b")  # says nothing of right
_FAULTS = re.compile(
    r"\b(errors|mistakes|faults|hallucinations|issues|corrections|problems|error counts?)\b"
)
_IN_PERCENT = re.compile(r"percent|pct|%", re.IGNORECASE)
_MANY = 8  # labels from which it is no chance that none is 0
_STEPS = 10  # of the longest scale of ratings
_SENTENCE, _LONG = 4, 40  # words, or signs, from which a label is a sentence


class Answers(NamedTuple):
    """The labels of one field as ratings of the same items.

    Attributes:
        field: What is compared.
        reading: How a label is read, in words.
        rule: "any error" compares whether there is one; "raw" the labels themselves.
        scale: Whether the ratings compared are categories or amounts.
        words: The words that the numbers stand for; empty where labels are numbers.
        item_ids: The items, in the order of the ratings.
        panel: Ratings by annotator, a judge among them; NaN where there is none.
        unsure: Labels that say neither yes nor no, read as missing.
        contradictory: Labels left out because error_count and has_error contradict each other.
        warnings: What keeps the ratings from being taken as they stand.
    """

    field: str
    reading: str
    rule: Rule
    scale: Scale
    words: tuple[str, ...]
    item_ids: tuple[str, ...]
    panel: Mapping[str, Values]
    unsure: int
    contradictory: int
    warnings: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the labels that were read."""
        if self.field == ANY_ERROR:
            return (_CHOICE, _COUNT)
        return (_COUNT, _CHOICE) if self.field == _COUNT else (self.field,)


def read_answers(
    labels: LabelSet,
    reading: LabelReading = LabelReading(),
    *,
    rule: Rule | None = None,
    counts: bool = False,
) -> Answers:
    """Return the labels of one field as ratings.

    Args:
        labels: Imported labels.
        reading: The field, and what its words mean.
        rule: "any error" or "raw"; by default "any error" for error counts, "raw" for others.
        counts: Whether numbers of a field of unknown meaning are counts of errors, as they are
            when they are compared with those of a judge.

    Raises:
        ConfigError: There are no labels, there is no such field or there are several, or the
            labels cannot be read by this rule.
    """
    if not labels.labels:
        raise ConfigError(_no_labels(labels))
    chosen = reading.field or _default_field(labels, rule)
    if counts and chosen in _PERCENT:
        raise ConfigError(
            f"{chosen} is no count of errors, which the judge's verdicts are; give --measure "
            f"{chosen.removesuffix('_percent')}, or name another field with --field"
        )
    of_words = reading.positive is not None or reading.missing
    if of_words and chosen in (ANY_ERROR, _COUNT, _CHOICE):
        raise ConfigError(
            f"{chosen} has answers of its own; --positive and --missing are for words"
        )
    if rule == "raw" and chosen in (ANY_ERROR, _CHOICE):
        raise ConfigError(f"{chosen} is yes or no; the rule raw needs counts, such as {_COUNT}")
    if chosen == ANY_ERROR:
        return _any_error(labels)
    if chosen == _CHOICE:
        return _any_error(labels.of(_CHOICE))._replace(
            field=_CHOICE, reading='error where has_error is "yes"; "unsure" is no label'
        )
    matrix = labels.matrix(chosen)
    if matrix.words:
        return _words(labels, chosen, reading, rule)
    if of_words:
        raise ConfigError(f"{chosen} holds numbers; --positive and --missing are for words")
    if lost := [one for one in labels.dropped if one.reason == f"{chosen}: {AS_WRITTEN}"]:
        raise _as_written(chosen, lost[0].detail)
    by_rule: Rule = rule or ("any error" if chosen == _COUNT or counts else "raw")
    if chosen != _COUNT and by_rule == "any error" and not reading.files.meanings.classes:
        _check_counts(chosen, matrix.values)
    words = f"error where {chosen} is above 0" if by_rule == "any error" else f"{chosen} as it is"
    scale: Scale = "nominal" if by_rule == "any error" else "numeric"
    panel, unsure, contradictory = matrix.panel(), 0, 0
    if chosen == _COUNT and _CHOICE in labels.fields:
        coding = {"yes": 1.0, "no": 0.0, "unsure": _UNSURE}
        said = _panel(labels, _CHOICE, matrix.item_ids, matrix.annotators, coding)
        for name, counted in matrix.panel().items():
            doubted = ~np.isnan(counted) & (said[name] == _UNSURE)
            differ = ~np.isnan(counted) & (said[name] >= 0) & ((counted > 0) != said[name])
            unsure += int(doubted.sum())
            contradictory += int(differ.sum())
            panel[name] = np.where(differ | doubted, math.nan, counted)
    return Answers(chosen, words, by_rule, scale, (), matrix.item_ids, panel, unsure, contradictory)


def _check_counts(field: str, given: Values) -> None:
    """Raise if numbers of a field of people's own cannot be counts of errors.

    Raises:
        ConfigError: None is 0, as on a scale from 1 to 5; or the name says what is right.
    """
    numbers = given[~np.isnan(given)]
    name = re.sub(r"[^a-z]+", " ", field.casefold())
    if _FAULTS.search(name):
        return
    parts = _GOLD.sub("", name).split()
    way = "--map-labels FILE says which label is how many errors, such as {1: 0, 0: 1}"
    if not _DENIED & {*parts} and any(part.startswith(_RIGHT) for part in parts):
        raise ConfigError(
            f"{field} seems to say what is right, and numbers count errors here; {way}"
        )
    if len(numbers) >= _MANY and numbers.min() > 0:
        raise ConfigError(
            f"{field}: none of {len(numbers)} labels is 0, they are {numbers.min():g} to "
            f"{numbers.max():g}: a rating is no count of errors; {way}, and a "
            f"column {_COUNT} holds counts"
        )


def _default_field(labels: LabelSet, rule: Rule | None) -> str:
    known = set(labels.fields)
    if rule == "raw" and _COUNT in known:
        return _COUNT
    if known & {_COUNT, _CHOICE}:
        return ANY_ERROR
    others = sorted(known - _TEXTS)
    if len(others) == 1:
        return others[0]
    if not others:
        raise ConfigError(f"the labels are notes only ({', '.join(sorted(known))}): no answers")
    raise ConfigError(f"the labels have several fields; name one with --field: {', '.join(others)}")


def _no_labels(labels: LabelSet) -> str:
    why = "; ".join(f"{count} × {reason}" for reason, count in labels.drop_counts().items())
    return f"there are no usable labels ({why or 'the files are empty'})"


def _any_error(labels: LabelSet) -> Answers:
    """Read has_error, and error_count where that is blank; both must say the same."""
    items, people = _items_and_people(labels)
    coding = {"yes": 1.0, "no": 0.0, "unsure": _UNSURE}
    chosen = _panel(labels, _CHOICE, items, people, coding)
    counts = _panel(labels, _COUNT, items, people, None)
    panel, unsure, contradictory = {}, 0, 0
    for name in people:
        said, found = chosen[name], counts[name] > 0
        counted = ~np.isnan(counts[name])
        differ = counted & (said >= 0) & ((said == 1) != found)
        rating = np.where(np.isnan(said), np.where(counted, found, np.nan), said)
        unsure += int((said == _UNSURE).sum())
        contradictory += int(differ.sum())
        panel[name] = np.where(differ | (rating == _UNSURE), np.nan, rating)
    reading = (
        f'error where {_CHOICE} is "yes", or {_COUNT} is above 0 where {_CHOICE} is blank; '
        '"unsure" is no label'
    )
    if _CHOICE not in labels.fields:
        reading = f"error where {_COUNT} is above 0"
    return Answers(
        ANY_ERROR, reading, "any error", "nominal", (), items, panel, unsure, contradictory
    )


def _items_and_people(labels: LabelSet) -> tuple[tuple[str, ...], tuple[str, ...]]:
    used = [one for one in labels.labels if one.field in (_COUNT, _CHOICE)]
    if not used:
        known = ", ".join(labels.fields)
        raise ConfigError(f"no label of {_CHOICE} or {_COUNT}; there are: {known}")
    whole = LabelSet(tuple(used))
    return whole.item_ids, whole.annotators


def _panel(
    labels: LabelSet,
    field: str,
    items: tuple[str, ...],
    people: tuple[str, ...],
    coding: Mapping[str, float] | None,
) -> dict[str, Values]:
    """Return everybody's answers to a field, all missing where nobody gave any."""
    empty = {name: np.full(len(items), math.nan) for name in people}
    if field not in labels.fields:
        return empty
    return {**empty, **labels.matrix(field, item_ids=items, coding=coding).panel()}


def _words(labels: LabelSet, field: str, reading: LabelReading, rule: Rule | None) -> Answers:
    positive, missing = reading.positive, reading.missing
    chosen = labels.of(field)
    chosen = replace(
        chosen, labels=tuple(replace(one, value=str(one.value).casefold()) for one in chosen.labels)
    )  # "Yes" and "yes" are one answer
    known = sorted({str(one.value) for one in chosen.labels})
    for given in (*missing, *(() if positive is None else (positive,))):
        if given.casefold() not in known and not (
            given in missing and given.casefold() in NO_ANSWER
        ):
            raise ConfigError(
                f"no label of {field} is {given!r}{nearest(given, known)}; there are: "
                f"{', '.join(map(repr, known[:20]))}"
            )
    if rule == "any error" and positive is None:
        raise ConfigError(
            f"{field} holds words ({', '.join(map(repr, known[:6]))}); name the one that counts "
            "as an error with --positive"
        )
    out = {word.casefold() for word in missing}
    kept = [word for word in known if word not in out]
    coding = dict.fromkeys(out, math.nan)
    by_rule: Rule = "raw"
    how, words = f"{field} as it is", tuple(kept)
    if positive is None:
        coding |= {word: float(i) for i, word in enumerate(kept)}
    else:
        coding |= {word: float(word == positive.casefold()) for word in kept}
        how, words, by_rule = f"1 where {field} is {positive!r}, else 0", (), "any error"
    if positive is None:
        _check_classes(field, chosen, kept)
    matrix = chosen.matrix(field, coding=coding)
    unsure = sum(one.value in out for one in chosen.labels)
    if missing:
        how += f"; {', '.join(map(repr, missing))} is no label"
    panel, said = matrix.panel(), _sentence_warning(field, kept, positive)
    return Answers(field, how, by_rule, "nominal", words, matrix.item_ids, panel, unsure, 0, said)


def _sentences(words: Sequence[str]) -> list[str]:
    return [word for word in words if len(word.split()) >= _SENTENCE or len(word) >= _LONG]


def _check_classes(field: str, labels: LabelSet, words: Sequence[str]) -> None:
    """Raise if labels are texts of their own, which are no categories.

    Raises:
        ConfigError: Most labels are sentences, and hardly one is given twice; or they are numbers
            as people write them.
    """
    if words and all(map(is_written_number, words)):
        raise _as_written(field, repr(words[0]))
    found = _sentences(words)
    if found and len(found) > len(words) / 2 and len(words) > max(4, len(labels.labels) / 2):
        raise ConfigError(
            f"{field} holds {len(words)} different sentences, such as {found[0][:60]!r}: these are "
            "no categories; give their classes with --map-labels FILE, or another field with "
            "--field"
        )


def _as_written(field: str, example: str) -> ConfigError:
    return ConfigError(
        f"{field} holds numbers with a comma or a percent sign, such as {example}: write "
        "0.5 or 50, or give their classes with --map-labels FILE"
    )


def _sentence_warning(field: str, words: Sequence[str], positive: str | None) -> tuple[str, ...]:
    """Return a warning where categories are sentences."""
    if not (found := _sentences(words)):
        return ()
    taken = "all others than the one that counts are taken together"
    if positive is None:
        taken = f"each wording is taken for a category of its own ({len(words)} in all)"
    return (
        f"{field} holds sentences, such as {found[0][:60]!r}: {taken}; --map-labels FILE gives "
        "them classes",
    )


_PERCENT = {field.name for field in ALL_FIELDS if field.kind == "percent"}
_EXPECTED = "expected numbers from 0 to 1, percent from 0 to 100, or yes and no"


def read_shares(labels: LabelSet, reading: LabelReading) -> Answers:
    """Return labels of a measure that is a share, from 0 to 1; percent are divided by 100.

    Numbers are percent if any is above 1; of words, "yes" counts as 1 where they are yes and no.

    Args:
        labels: Imported labels.
        reading: The measure, helpfulness or harm; the field, and what its words mean.

    Raises:
        ConfigError: The labels are of errors, or are no such numbers or words.
    """
    measure = str(reading.measure)
    chosen = reading.field or _field(labels, measure)
    if chosen in OF_ERRORS:
        raise ConfigError(
            f"{chosen} is about factual errors and says nothing of {measure}; {_EXPECTED}"
        )
    reading = replace(reading, field=chosen)
    found = read_answers(labels, reading)
    if chosen in _PERCENT:
        return _in_percent(found)
    if found.words:
        if not {*found.words} <= {"yes", "no"}:
            words = ", ".join(map(repr, found.words[:6]))
            raise ConfigError(
                f"{chosen} holds words ({words}); name the one that counts as 1 with --positive"
            )
        found = read_answers(labels, replace(reading, positive="yes"))
    if found.rule == "any error":  # words, one of which counts
        return found._replace(rule="raw", scale="numeric")
    every = np.concatenate([*found.panel.values()])
    every = every[~np.isnan(every)]
    if every.size and (every.min() < 0 or every.max() > 100):
        worst = every.min() if every.min() < 0 else every.max()
        raise ConfigError(f"{chosen} holds {worst:g}, which is no {measure}; {_EXPECTED}")
    if not every.size or every.max() <= 1:
        return found
    if ((every > 0) & (every < 1)).any():
        raise ConfigError(
            f"{chosen} holds numbers below 1 and above 1: percent, or from 0 to 1? {_EXPECTED}"
        )
    whole = bool((every == np.floor(every)).all())
    if every.max() <= _STEPS and whole and not _IN_PERCENT.search(chosen):
        low, high = every.min(), every.max()
        raise ConfigError(
            f"{chosen} holds whole numbers from {low:g} to {high:g}: percent, or a rating? "
            f"{_EXPECTED}; --map-labels FILE gives each rating its share, such as {{1: 0, 5: 1}}, "
            f"and a column {measure}_percent holds percent"
        )
    return _in_percent(found)


def _in_percent(found: Answers) -> Answers:
    panel = {name: one / 100 for name, one in found.panel.items()}
    return found._replace(panel=panel, reading=f"{found.field} in percent, divided by 100")


def _field(labels: LabelSet, measure: str) -> str:
    """Return the field of our own sheets, else the only one that is not about factual errors."""
    if (own := f"{measure}_percent") in labels.fields:
        return own
    others = [name for name in labels.fields if name not in OF_ERRORS]
    if len(others) == 1:
        return others[0]
    if others:
        raise ConfigError(
            f"the labels have several fields; name one with --field: {', '.join(others)}"
        )
    known = ", ".join(labels.fields) or "none"
    raise ConfigError(f"no label is of {measure} (the fields: {known}); {_EXPECTED}")


def people_side(table: LabelTable, answers: Answers) -> dict[str, Values]:
    """Return the ratings of everybody but the annotator that is the judge."""
    return {name: one for name, one in answers.panel.items() if name != table.labels.judge}


def judge_side(table: LabelTable, answers: Answers) -> tuple[str, Values | None]:
    """Return the judge's name and its ratings, None where there is neither run nor judge.

    Raises:
        ConfigError: The annotator that is the judge rated nothing; or the run was never judged,
            or by several judges.
    """
    if table.labels.judge is not None:
        if table.labels.judge not in answers.panel:
            raise ConfigError(f"the judge {table.labels.judge} has no label of {answers.field}")
        return table.labels.judge, answers.panel[table.labels.judge]
    if table.items is None:
        return "judge", None
    judges = sorted({item.judge for item in table.items if item.judge is not None})
    if not judges:
        raise ConfigError("the run has no verdicts; judge it first: eft-eval judge RUN_DIR")
    if len(judges) > 1:
        raise ConfigError(f"the run has verdicts of several judges: {', '.join(judges)}")
    return judges[0], ratings_of(table.items, answers)


def ratings_of(items: Sequence[Item], answers: Answers) -> Values:
    """Return a judge's scores of the items that have labels, as these are compared."""
    ratings = {item.item_id: item.rating(answers.rule) for item in items}
    return np.array([ratings.get(one, math.nan) for one in answers.item_ids])
