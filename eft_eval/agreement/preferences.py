"""Preferences between two responses: people's labels A, B and tie, and a judge's win rates."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from eft_eval.agreement.answers import Answers
from eft_eval.agreement.label_reading import LabelReading
from eft_eval.errors import ConfigError
from eft_eval.labels.records import LabelSet
from eft_eval.labels.scheme import PREFERENCE
from eft_eval.statistics.ratings import Values

__all__ = ["as_categories", "named", "read_preferences", "read_wins"]

_A, _B, _TIE = 0.0, 1.0, 2.0
_NAMES = {_A: "A", _B: "B", _TIE: "tie"}
_CODES = {name.casefold(): code for code, name in _NAMES.items()}
_WINS = {_A: 1.0, _B: 0.0, _TIE: 0.5}


def read_preferences(labels: LabelSet, reading: LabelReading) -> Answers:
    """Return labels of which response is better, as categories; `named` names them.

    Args:
        labels: Imported labels.
        reading: The field, and which words are no label.

    Raises:
        ConfigError: There are no labels, several fields, or labels that are none of A, B and tie.
    """
    if not labels.labels:
        raise ConfigError("there are no usable labels: no preference to compare")
    if reading.positive is not None:
        raise ConfigError("preferences are A, B or tie, each by itself; leave out --positive")
    field = reading.field or _field(labels)
    chosen = labels.of(field)
    chosen = replace(
        chosen,
        labels=tuple(replace(one, value=_word(one.value)) for one in chosen.labels),
    )
    out = {word.casefold() for word in reading.missing}
    for one in chosen.labels:
        if one.value not in _CODES and one.value not in out:
            raise ConfigError(
                f"{field} holds {one.value!r} ({one.where}), which is no preference; expected A, B "
                "or tie, or a file that says what the labels mean: --map-labels FILE, such as "
                "1: A, 2: B, 0: tie"
            )
    coding = {**_CODES, **dict.fromkeys(out, math.nan)}
    matrix = chosen.matrix(field, coding=coding)
    unsure = sum(one.value in out for one in chosen.labels)
    how = f"{field}: A, B or tie; the judge's is the one that won more than half of its orders"
    return Answers(field, how, "raw", "nominal", (), matrix.item_ids, matrix.panel(), unsure, 0)


def read_wins(labels: LabelSet, reading: LabelReading) -> Answers:
    """Return the same labels as A's wins: 1 for A, 0 for B, 1/2 for a tie."""
    found = read_preferences(labels, reading)
    panel = {name: _map(one) for name, one in found.panel.items()}
    how = f"1 where {found.field} is A, 0 where it is B, 1/2 where it is tie"
    return found._replace(panel=panel, scale="numeric", reading=how)


def as_categories(wins: Values) -> Values:
    """Return a judge's win rates of pairs as the categories of `read_preferences`."""
    found = np.full(len(wins), math.nan)
    found[wins > 0.5], found[wins < 0.5], found[wins == 0.5] = _A, _B, _TIE
    return found


def named(*ratings: Values) -> tuple[tuple[str, ...], list[Values]]:
    """Return the names of the categories that are there, and the ratings as places among them."""
    every = np.concatenate(ratings)
    there = np.unique(every[~np.isnan(every)])
    places = [
        np.where(np.isnan(one), np.nan, np.searchsorted(there, one).astype(np.float64))
        for one in ratings
    ]
    return tuple(_NAMES[code] for code in there.tolist()), places


def _word(value: float | str) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).strip().casefold()


def _map(codes: Values) -> Values:
    found = np.full(len(codes), math.nan)
    for code, share in _WINS.items():
        found[codes == code] = share
    return found


def _field(labels: LabelSet) -> str:
    """Return the field of our own sheets, else the only one."""
    others = [name for name in labels.fields if name != "notes"]
    if PREFERENCE in others or len(others) == 1:
        return PREFERENCE if PREFERENCE in others else others[0]
    raise ConfigError(
        f"the labels have several fields; name one with --field: {', '.join(others)}"
        if others
        else "the labels are notes only: no preference"
    )
