"""What labelling is about: items, labels, and what had to be dropped."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from eft_eval.errors import ConfigError, nearest
from eft_eval.records import data_frame
from eft_eval.statistics.ratings import Rule
from eft_eval.verdicts.verdict import most_votes

__all__ = [
    "UNKNOWN",
    "Dropped",
    "Item",
    "Label",
    "LabelMatrix",
    "LabelSet",
    "Origin",
    "without_duplicates",
]


@dataclass(frozen=True)
class Item:
    """One response to be labelled.

    Attributes:
        item_id: Safe in files and web pages; holds task, prompt, repeat and a hash of the texts.
        question: What the model was asked, as people see it.
        response: What it answered, as people see it.
        text_sha256: Hash of both texts, see `text_hash`.
        stratum: The task.
        cluster: Equal for the responses to one question.
        verdict_value: The judge's score; None where it gave none.
        source: File, document and repeat that the response is from.
        verdict_status: How the judge's reply ended; None for a response that was never judged.
        judge: The judge's model; of a panel what it is called.
        votes: Of a panel its judges' scores.
    """

    item_id: str
    question: str
    response: str
    text_sha256: str
    stratum: str
    cluster: str
    verdict_value: float | None
    source: str
    verdict_status: str | None = None
    judge: str | None = None
    votes: tuple[float, ...] = ()

    @property
    def score(self) -> float:
        """The judge's score; NaN where it gave none."""
        return math.nan if self.verdict_value is None else self.verdict_value

    def rating(self, rule: Rule) -> float:
        """Return the score as a rule reads it; NaN where there is none.

        A panel's "any error" is what most of its judges say, and none where as many say the one
        as the other.
        """
        if rule == "raw" or math.isnan(self.score):
            return self.score
        votes = self.votes or (self.score,)
        found = most_votes(float(vote > 0) for vote in votes)
        return math.nan if found is None else found


@dataclass(frozen=True)
class Label:
    """One annotator's answer on one item.

    Attributes:
        item_id: The item.
        annotator: A pseudonym: A1, A2, …
        field: What was asked, such as error_count.
        value: A number, or words.
        text_sha256: Hash of the texts the annotator saw, where the file holds them.
        where: File and row.
    """

    item_id: str
    annotator: str
    field: str
    value: float | str
    text_sha256: str | None
    where: str


class Origin(NamedTuple):
    """Where an item is from, as far as a label file says.

    Attributes:
        stratum: The task; "" if unknown.
        cluster: Equal for items that are not independent, such as the responses to one question;
            "" if unknown.
        random: Whether the item is from a random sample of the run: False for one that was picked
            because judge and people differ on it; None if unknown.
    """

    stratum: str
    cluster: str
    random: bool | None


UNKNOWN = Origin("", "", None)


@dataclass(frozen=True)
class Dropped:
    """A row, or a part of one, that gave no label: where, why (to be counted), and the detail.

    Attributes:
        where: File and row.
        reason: Why, in words that can be counted.
        detail: The item, the field and the answer, as far as they are known.
        field: What was asked; "" for a whole row.
    """

    where: str
    reason: str
    detail: str = ""
    field: str = ""


class LabelMatrix(NamedTuple):
    """The labels of one field as numbers.

    ``values[i, a]`` is annotator a's label on item i, NaN where there is none. If ``words`` is
    not empty the labels are words, and the numbers are indices into it.
    """

    item_ids: tuple[str, ...]
    annotators: tuple[str, ...]
    values: npt.NDArray[np.float64]  # [items, annotators]
    words: tuple[str, ...]

    def panel(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return the labels by annotator, in the order of the items."""
        return {name: self.values[:, i] for i, name in enumerate(self.annotators)}


@dataclass(frozen=True)
class LabelSet:
    """The labels of one import.

    Attributes:
        labels: The labels, at most one per item, annotator and field.
        dropped: Rows, or parts of rows, that gave no label.
        remarks: About files and columns, not about rows.
        origins: Where the items are from, by item id, as far as the files say.
        judge: Which of the annotators is the judge, if one was named.
        sources: The files and folders that were read, without people's names.
    """

    labels: tuple[Label, ...]
    dropped: tuple[Dropped, ...] = ()
    remarks: tuple[str, ...] = ()
    origins: Mapping[str, Origin] = field(default_factory=dict)
    judge: str | None = None
    sources: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that have labels."""
        return tuple(sorted({label.field for label in self.labels}))

    @property
    def annotators(self) -> tuple[str, ...]:
        """The annotators' pseudonyms, A2 before A10."""
        found = {label.annotator for label in self.labels}
        return tuple(sorted(found, key=lambda name: (len(name), name)))

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The items that have labels."""
        return tuple(sorted({label.item_id for label in self.labels}))

    def of(self, field: str) -> LabelSet:
        """Return the labels of one field, with all that was dropped.

        Raises:
            ConfigError: No label is of this field.
        """
        if self.labels and field not in self.fields:
            known = ", ".join(self.fields)
            raise ConfigError(
                f"no label of the field {field!r}{nearest(field, self.fields)}; there are: {known}"
            )
        return replace(self, labels=tuple(one for one in self.labels if one.field == field))

    def about(self, items: Iterable[Item]) -> LabelSet:
        """Return the labels with the items' own origins; how they were drawn stays as it was."""
        labelled, known = {one.item_id for one in self.labels}, self.origins
        origins = {
            one.item_id: Origin(one.stratum, one.cluster, known.get(one.item_id, UNKNOWN).random)
            for one in items
            if one.item_id in labelled
        }
        return replace(self, origins=origins)

    def matrix(
        self,
        field: str,
        *,
        item_ids: Sequence[str] | None = None,
        coding: Mapping[str, float] | None = None,
    ) -> LabelMatrix:
        """Return the labels of one field as items × annotators.

        Args:
            field: The field.
            item_ids: Rows, in this order; by default all items with a label of the field.
            coding: Numbers for words, such as ``{"yes": 1, "no": 0, "unsure": math.nan}``; by
                default a word's place in the alphabet of the words found.

        Raises:
            ConfigError: No label is of this field, or the coding lacks a word.
        """
        chosen = self.of(field)
        rows = {
            name: row for row, name in enumerate(chosen.item_ids if item_ids is None else item_ids)
        }
        columns = {name: column for column, name in enumerate(chosen.annotators)}
        words = tuple(sorted({one.value for one in chosen.labels if isinstance(one.value, str)}))
        codes = {word: float(i) for i, word in enumerate(words)} if coding is None else coding
        if unknown := [word for word in words if word not in codes]:
            raise ConfigError(f"{field}: no number is given for {', '.join(map(repr, unknown))}")
        values = np.full((len(rows), len(columns)), math.nan)
        for label in chosen.labels:
            if label.item_id in rows:
                number = codes[label.value] if isinstance(label.value, str) else label.value
                values[rows[label.item_id], columns[label.annotator]] = number
        named = words if coding is None else ()
        return LabelMatrix(tuple(rows), tuple(columns), values, named)

    def drop_counts(self, fields: Iterable[str] | None = None) -> dict[str, int]:
        """Return how often each reason to drop occurred, most frequent first.

        Args:
            fields: Count only answers to these, and whole rows; by default all.
        """
        counted = None if fields is None else {*fields, ""}
        found = (one for one in self.dropped if counted is None or one.field in counted)
        return dict(Counter(one.reason for one in found).most_common())

    def to_frame(self) -> Any:
        """Return the labels as a pandas data frame, one row each."""
        return data_frame(map(asdict, self.labels), [field.name for field in fields(Label)])

    def __repr__(self) -> str:
        return (
            f"LabelSet({len(self.labels)} labels of {len(self.item_ids)} items by "
            f"{len(self.annotators)} annotators, {len(self.dropped)} dropped)"
        )


def without_duplicates(
    labels: Iterable[Label], dropped: Iterable[Dropped] = (), remarks: Iterable[str] = ()
) -> LabelSet:
    """Return a set with at most one label per item, annotator and field.

    Of equal labels the first is kept, with a remark; labels that differ are all dropped.
    """
    groups: dict[tuple[str, str, str], list[Label]] = {}
    for label in labels:
        groups.setdefault((label.item_id, label.annotator, label.field), []).append(label)
    kept, lost, repeated = [], list(dropped), 0
    for group in groups.values():
        if len({label.value for label in group}) == 1:
            kept.append(group[0])
            repeated += len(group) - 1
            continue
        first = group[0]
        lost.extend(
            Dropped(
                label.where,
                "one annotator gave different labels to one item and field",
                f"{first.annotator}, {first.item_id}, {first.field}",
                first.field,
            )
            for label in group
        )
    notes = list(remarks)
    if repeated:
        notes.append(f"labels that occur again with the same value, counted once: {repeated}")
    return LabelSet(tuple(kept), tuple(lost), tuple(notes))
