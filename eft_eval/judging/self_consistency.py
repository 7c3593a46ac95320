"""How far a judge can be trusted: does it agree with itself, and has it drifted since?

Asking goes through `judge_responses`, so that every further verdict is stored like the first.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NamedTuple

from eft_eval.errors import ConfigError
from eft_eval.judging.comparison import Comparison, compare, rule_of, split_value
from eft_eval.judging.prompts.measures import Measure
from eft_eval.judging.responses import Assignment
from eft_eval.records import plain
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.kappa import cohen_kappa
from eft_eval.statistics.means import mean_with_interval
from eft_eval.verdicts.verdict import Verdict

__all__ = ["Aids", "SelfAgreement", "ask_drift", "ask_repeats", "self_agreement"]

Ask = Callable[[Assignment, int], list[list[Verdict]]]
"""Asks for all responses of a pipeline; the number tells repeated askings apart."""


class Aids(NamedTuple):
    """What is done beside judging, to see what the judge is worth.

    Attributes:
        repeats: How often the judge is asked in all about each response, at least 1.
        drift: To how many prompts the responses are asked about again today, to compare with what
            is stored.
        bridge: Whether the verdicts are compared with those in the run's file.

    Raises:
        ConfigError: A number is out of its range.
    """

    repeats: int = 1
    drift: int = 0
    bridge: bool = False

    def check(self) -> Aids:
        """Return these settings if they can be followed."""
        if not 1 <= self.repeats <= 100:
            raise ConfigError(f"--repeat is {self.repeats}; it must be 1 to 100 askings in all")
        if self.drift < 0:
            raise ConfigError(f"--drift is {self.drift}; it must be a number of prompts")
        return self


@dataclass(frozen=True)
class SelfAgreement:
    """A judge against itself, over several askings about the same responses.

    Attributes:
        repeats: How often it was asked.
        n: Responses that it scored every time; all figures are of these.
        incomplete: Responses that it scored only some of the times.
        rule: What ``agreement`` and ``kappa`` compare: ``any error``, or ``above 50 %``.
        agreement: Mean share of pairs of askings on the same side of the rule.
        kappa: Mean of Cohen's κ over pairs of askings; None where none is defined.
        exact: Mean share of pairs of askings with exactly the same value.
        sd: Standard deviation of a score within a response, pooled, in the metric's unit.
        metric: The score that ``sd`` is in.
    """

    repeats: int
    n: int
    incomplete: int
    rule: str
    agreement: Interval
    kappa: float | None
    exact: float
    sd: float
    metric: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values for a results file; what is not known is None."""
        named: dict[str, Any] = plain(self)
        return named


def self_agreement(
    askings: Sequence[Sequence[Verdict]],
    measure: Measure,
    prompt_ids: Sequence[str],
    level: float = 0.95,
) -> SelfAgreement:
    """Return how a judge agrees with itself.

    Args:
        askings: Per asking (at least two) its verdicts, in the same order of responses.
        measure: What is measured.
        prompt_ids: Per response its prompt's identity; equal ones are one cluster.
        level: Confidence level of the interval.
    """
    metric, score = next(iter(measure.scores.items()))
    rows, clusters, incomplete = [], [], 0
    for verdicts, prompt in zip(zip(*askings, strict=True), prompt_ids, strict=True):
        values = [float(v.value) for v in verdicts if v.value is not None]
        if len(values) == len(askings):
            rows.append(values)
            clusters.append(prompt)
        elif values:
            incomplete += 1
    pairs = [*itertools.combinations(range(len(askings)), 2)]
    sides = [[split_value(value, measure) for value in row] for row in rows]
    known = clusters if len({*clusters}) < len(clusters) else None
    agreement = mean_with_interval(_pair_shares(sides, pairs), known, level)
    kappas = [
        cohen_kappa([row[a] for row in sides], [row[b] for row in sides]).interval.estimate
        for a, b in pairs
    ]
    defined = [kappa for kappa in kappas if not math.isnan(kappa)]
    variances = [statistics.variance([score(value) for value in row]) for row in rows]
    return SelfAgreement(
        repeats=len(askings),
        n=len(rows),
        incomplete=incomplete,
        rule=rule_of(measure),
        agreement=agreement.interval,
        kappa=statistics.fmean(defined) if defined else None,
        exact=statistics.fmean(_pair_shares(rows, pairs)) if rows else math.nan,
        sd=math.sqrt(statistics.fmean(variances)) if variances else math.nan,
        metric=metric,
    )


def ask_repeats(
    pipeline: Assignment, first: list[list[Verdict]], repeats: int, ask: Ask
) -> SelfAgreement:
    """Ask the judge until it was asked ``repeats`` times in all, and compare.

    Args:
        pipeline: What is judged.
        first: The verdicts of the first asking, which give the scores.
        repeats: At least 2.
        ask: Asks for all of a pipeline's responses.
    """
    askings = [first, *(ask(pipeline, repeat) for repeat in range(1, repeats))]
    flat = [[verdict for group in groups for verdict in group] for groups in askings]
    ids = [
        name for name, group in zip(pipeline.prompt_ids, pipeline.items, strict=True) for _ in group
    ]
    return self_agreement(flat, pipeline.measure, ids)


def ask_drift(
    pipeline: Assignment, stored: list[list[Verdict]], count: int, ask: Ask
) -> Comparison | None:
    """Ask again about a fixed choice of responses, and compare with what is stored.

    The choice follows the verdicts' keys, so it is the same every time; asked once a day at most.

    Args:
        pipeline: What is judged.
        stored: Its verdicts, one per response.
        count: How many prompts' responses to ask about.
        ask: Asks for all of a pipeline's responses.

    Returns:
        Stored against new verdicts; None where nothing is stored.
    """
    order = sorted(
        (hashlib.sha256(group[0].key.encode()).hexdigest(), index)
        for index, group in enumerate(stored)
        if all(v.status.has_reply for v in group)
    )
    chosen = [index for _, index in order[:count]]
    if not chosen:
        return None
    part = pipeline._replace(
        samples=[pipeline.samples[index] for index in chosen],
        items=[pipeline.items[index] for index in chosen],
        prompt_ids=[pipeline.prompt_ids[index] for index in chosen],
    )
    # the date as a number: no repeat of `ask_repeats`, and another one tomorrow
    today = int(datetime.now(timezone.utc).strftime("%Y%m%d"))
    again = ask(part, today)
    return compare([stored[i] for i in chosen], again, pipeline.measure, part.prompt_ids)


def _pair_shares(rows: Sequence[Sequence[float]], pairs: Sequence[tuple[int, int]]) -> list[float]:
    """Return per response the share of pairs of askings with equal values."""
    return [statistics.fmean(float(row[a] == row[b]) for a, b in pairs) for row in rows]
