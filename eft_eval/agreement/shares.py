"""Labels of helpfulness or harm as numbers from 0 to 1, the scale of these metrics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eft_eval.agreement.answers import ANY_ERROR, Answers, read_answers
from eft_eval.agreement.labels import FIELDS, LabelSet
from eft_eval.errors import ConfigError

__all__ = ["read_shares"]

_OF_ERRORS = {ANY_ERROR, *(field.name for field in FIELDS)}
_EXPECTED = "expected numbers from 0 to 1, percent from 0 to 100, or yes and no"


def read_shares(
    labels: LabelSet,
    measure: str,
    *,
    field: str | None = None,
    positive: str | None = None,
    missing: Sequence[str] = (),
) -> Answers:
    """Return labels of a measure that is a share, from 0 to 1; percent are divided by 100.

    Numbers are percent if any is above 1.

    Args:
        labels: Imported labels.
        measure: helpfulness or harm.
        field: The field; by default the only one there is.
        positive: The word that counts as 1; "yes" where the words are yes and no.
        missing: Words that are no label.

    Raises:
        ConfigError: The labels are of errors, or are no such numbers or words.
    """
    chosen = field or _field(labels, measure)
    if chosen in _OF_ERRORS:
        raise ConfigError(
            f"{chosen} is about factual errors and says nothing of {measure}; {_EXPECTED}"
        )
    found = read_answers(labels, field=chosen, positive=positive, missing=missing)
    if found.words:
        if not {*found.words} <= {"yes", "no"}:
            words = ", ".join(map(repr, found.words[:6]))
            raise ConfigError(
                f"{chosen} holds words ({words}); name the one that counts as 1 with --positive"
            )
        found = read_answers(labels, field=chosen, positive="yes", missing=missing)
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
    panel = {name: one / 100 for name, one in found.panel.items()}
    return found._replace(panel=panel, reading=f"{chosen} in percent, divided by 100")


def _field(labels: LabelSet, measure: str) -> str:
    """Return the only field that is not about factual errors."""
    others = [name for name in labels.fields if name not in _OF_ERRORS]
    if len(others) == 1:
        return others[0]
    if others:
        raise ConfigError(
            f"the labels have several fields; name one with --field: {', '.join(others)}"
        )
    known = ", ".join(labels.fields) or "none"
    raise ConfigError(f"no label is of {measure} (the fields: {known}); {_EXPECTED}")
