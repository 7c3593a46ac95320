"""Two saved runs' responses to the same documents, as pairs; what differs is left out and counted.

Reads lm-eval's files, yet imports neither lm_eval nor torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from eft_eval.errors import ConfigError
from eft_eval.judging.judge import JudgeItem
from eft_eval.judging.responses import Assignment, Selection, assign_for_pairs, generates_text
from eft_eval.runs.records import Sample
from eft_eval.runs.saved import SavedRun, SavedTask

__all__ = ["DEFAULT_PROMPT", "Pair", "PairCounts", "PairedTask", "pair_runs"]

DEFAULT_PROMPT = "pairwise_helpfulness"


class Pair(NamedTuple):
    """Two responses to one document.

    Attributes:
        first: Response A; None where it never came.
        second: Response B.
        query: What both answer; None where it is not known.
        unfinished: Whether one of them is reasoning that did not end.
    """

    first: str | None
    second: str | None
    query: str | None
    unfinished: bool

    def item(self, *, swapped: bool) -> JudgeItem:
        """Return what the judge is shown: A first, or B first where swapped."""
        shown = (self.second, self.first) if swapped else (self.first, self.second)
        absent = None in shown
        return JudgeItem(
            None if absent else shown[0], self.query, self.unfinished, "" if absent else shown[1]
        )

    @property
    def is_equal(self) -> bool:
        """Whether both responses are there and the same, white space around them apart."""
        there = self.first is not None and self.second is not None and not self.unfinished
        return there and str(self.first).strip() == str(self.second).strip()

    @property
    def length_difference(self) -> float | None:
        """Characters of A less those of B, without white space around them; None without both."""
        if self.first is None or self.second is None or self.unfinished:
            return None
        return float(len(self.first.strip()) - len(self.second.strip()))


@dataclass(frozen=True)
class PairCounts:
    """How the documents of two runs pair, and what is odd about the pairs.

    Attributes:
        documents: Documents of both runs, with one text.
        pairs: Pairs of responses to them.
        only_first: Documents of run A alone; left out.
        only_second: Documents of run B alone; left out.
        other_text: Documents whose id both runs have, with other texts; left out.
        unpaired: Responses beyond the other run's number of repeats; left out.
        prompts_changed: Documents that the two models were asked with other prompts.
        absent: Pairs of which a response never came.
        unfinished: Pairs of which a response is reasoning that did not end.
        empty_first: Empty responses of A.
        empty_second: Empty responses of B.
        equal: Pairs of equal responses.
    """

    documents: int
    pairs: int
    only_first: int = 0
    only_second: int = 0
    other_text: int = 0
    unpaired: int = 0
    prompts_changed: int = 0
    absent: int = 0
    unfinished: int = 0
    empty_first: int = 0
    empty_second: int = 0
    equal: int = 0


@dataclass(frozen=True)
class PairedTask:
    """One task of both runs, for one judge prompt.

    Attributes:
        name: Of the task of pairs: the task's, and the prompt's.
        task: The task's.
        first: What is judged of run A, whose samples, prompt and measure count.
        second: The task in run B.
        samples: Per document, run A's and run B's sample.
        pairs: Per document, one pair for each repeat.
        prompt_ids: Per document, the same word where the prompts are equal.
        counts: How they pair.
    """

    name: str
    task: str
    first: Assignment
    second: SavedTask
    samples: Sequence[tuple[Sample, Sample]]
    pairs: Sequence[Sequence[Pair]]
    prompt_ids: Sequence[str]
    counts: PairCounts

    @property
    def items(self) -> list[JudgeItem]:
        """What the judge is asked: per pair, with A first and with B first.

        In this order, so that what is cut short leaves whole pairs.
        """
        every = [pair for group in self.pairs for pair in group]
        return [pair.item(swapped=swapped) for pair in every for swapped in (False, True)]


def pair_runs(a: SavedRun, b: SavedRun, selection: Selection) -> list[PairedTask]:
    """Return the responses of two runs to the same documents, by task and judge prompt.

    A document is the same where its id, its content and the query are.

    Args:
        a: Run A, whose win rate is asked for.
        b: Run B.
        selection: What is judged; without prompts, with `DEFAULT_PROMPT`.

    Raises:
        ConfigError: It is one run, no task or no document is in both, or all responses are equal.
    """
    found = []
    for task in _tasks(a, b, selection):
        _check_two(a, b, task)
        for prompt in selection.prompts or (DEFAULT_PROMPT,):
            found.append(_paired(a, b, task, prompt, selection))
    names = [one.name for one in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"two judge prompts give the task {twice}; give them other names")
    return found


def _tasks(a: SavedRun, b: SavedRun, selection: Selection) -> list[str]:
    if selection.tasks:
        for name in selection.tasks:
            for run in (a, b):
                if not generates_text(run.task(name).config):
                    kind = run.task(name).config.get("output_type")
                    raise ConfigError(
                        f"{run.label}: task {name!r} generates no text to judge (output_type "
                        f"{kind!r})"
                    )
        return [*dict.fromkeys(selection.tasks)]
    common = [name for name in a.tasks if name in b.tasks]
    tasks = [name for name in common if generates_text(a.task(name).config)]
    if not tasks:
        what = "no task that generates text" if common else "no task"
        raise ConfigError(
            f"{a.label} and {b.label} have {what} in common: {', '.join(a.tasks)}; and "
            f"{', '.join(b.tasks)}"
        )
    return tasks


def _check_two(a: SavedRun, b: SavedRun, task: str) -> None:
    oldest = [[*run.lineage(run.task(task))][-1].file.path.resolve() for run in (a, b)]
    if oldest[0] == oldest[1]:
        raise ConfigError(
            f"{a.label} and {b.label} are one run ({oldest[0].name}); give two, whose responses "
            "are to be compared"
        )


def _paired(a: SavedRun, b: SavedRun, task: str, prompt: str, selection: Selection) -> PairedTask:
    first = assign_for_pairs(a, task, prompt, selection)
    second = assign_for_pairs(b, task, prompt, selection)
    places = {key: index for index, key in enumerate(map(_key, *_sides(second)))}
    keys = [*map(_key, *_sides(first))]
    shared = [(index, places[key]) for index, key in enumerate(keys) if key in places]
    _check_shared(a, b, task, shared, (keys, [*places]))
    samples = [(first.samples[i], second.samples[j]) for i, j in shared]
    sides = [(first.items[i], second.items[j]) for i, j in shared]
    pairs = [[*map(_pair, *side)] for side in sides]
    counts = _counts(pairs, sides, samples, (keys, [*places]))
    if counts.equal == counts.pairs:
        raise ConfigError(
            f"task {task!r}: all {counts.pairs} responses of {a.label} and {b.label} are equal; "
            "there is nothing to compare"
        )
    return PairedTask(
        name=_name(task, first.prompt.name),
        task=task,
        first=first,
        second=b.task(task),
        samples=samples,
        pairs=pairs,
        prompt_ids=[first.prompt_ids[i] for i, _ in shared],
        counts=counts,
    )


_Key = tuple[int, str, "str | None"]


def _sides(of: Assignment) -> tuple[Sequence[Sample], Sequence[list[JudgeItem]]]:
    return of.samples, of.items


def _key(sample: Sample, items: Sequence[JudgeItem]) -> _Key:
    content: Any = sample.doc
    return sample.doc_id, json.dumps(content, sort_keys=True), items[0].query


def _pair(first: JudgeItem, second: JudgeItem) -> Pair:
    unfinished = first.unfinished or second.unfinished
    return Pair(first.response, second.response, first.query, unfinished)


def _check_shared(
    a: SavedRun,
    b: SavedRun,
    task: str,
    shared: Sequence[tuple[int, int]],
    keys: tuple[Sequence[_Key], Sequence[_Key]],
) -> None:
    if not shared:
        both = {key[0] for key in keys[0]} & {key[0] for key in keys[1]}
        why = f"; {len(both)} have one id, and other texts" if both else ""
        raise ConfigError(
            f"task {task!r}: {a.label} ({len(keys[0])} documents) and {b.label} "
            f"({len(keys[1])}) have no document in common{why}"
        )


def _counts(
    pairs: Sequence[Sequence[Pair]],
    sides: Sequence[tuple[Sequence[JudgeItem], Sequence[JudgeItem]]],
    samples: Sequence[tuple[Sample, Sample]],
    keys: tuple[Sequence[_Key], Sequence[_Key]],
) -> PairCounts:
    every = [pair for group in pairs for pair in group]
    left, right = ({*one} for one in keys)
    ids = {key[0] for key in left - right} & {key[0] for key in right - left}
    return PairCounts(
        documents=len(pairs),
        pairs=len(every),
        only_first=sum(key[0] not in ids for key in left - right),
        only_second=sum(key[0] not in ids for key in right - left),
        other_text=len(ids),
        unpaired=sum(abs(len(one) - len(other)) for one, other in sides),
        prompts_changed=sum(one.prompt != other.prompt for one, other in samples),
        absent=sum(None in (pair.first, pair.second) for pair in every),
        unfinished=sum(pair.unfinished for pair in every),
        empty_first=sum(_is_empty(pair.first) and not pair.unfinished for pair in every),
        empty_second=sum(_is_empty(pair.second) and not pair.unfinished for pair in every),
        equal=sum(pair.is_equal for pair in every),
    )


def _is_empty(text: str | None) -> bool:
    return text is not None and not text.strip()


def _name(task: str, prompt: str) -> str:
    word = re.sub(r"[^A-Za-z0-9_.-]", "_", prompt)
    return f"{task}_{word}" if word.startswith("pairwise") else f"{task}_pairwise_{word}"
