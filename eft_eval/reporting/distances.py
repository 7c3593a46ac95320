"""How far composites were from their draft members over traced responses, task by task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from eft_eval.runs.lines import iter_samples
from eft_eval.runs.records import Run
from eft_eval.runs.traces import Trace
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.means import mean_of, within_unit
from eft_eval.statistics.paired import Codes, Values

__all__ = ["Distances", "distances_by_token", "distances_of"]

STEPS = (0.05, 0.2, 0.5)
"""Distances whose shares are told; those that a trace marks."""


class Distances(NamedTuple):
    """Total variation between composite and draft over the tokens of a task's traces.

    Attributes:
        composite: Its name.
        draft: The member it is compared with.
        task: The task whose prompts were traced; empty where no run has them.
        responses: Traced responses.
        tokens: Their tokens.
        mean: Over the tokens, clustered by prompt; ends only from two prompts on.
        median: Over the tokens.
        upper: The ninth decile.
        shares: Of tokens at least so far, for each of `STEPS`.
    """

    composite: str
    draft: str
    task: str
    responses: int
    tokens: int
    mean: Interval
    median: float
    upper: float
    shares: tuple[float, ...]


def distances_of(
    traces: Sequence[Trace], runs: Sequence[Run], level: float = 0.95
) -> tuple[Distances, ...]:
    """Return the distances per composite, draft and task, in the order of the traces.

    Args:
        traces: Of any prompts; a task's are those whose prompt is one of its documents'.
        runs: Where the tasks' prompts are looked for.
        level: Confidence level.
    """
    tasks = _tasks_of({trace.prompt.strip() for trace in traces}, runs)
    groups: dict[tuple[str, str, str], list[Trace]] = {}
    for trace in traces:
        task = tasks.get(trace.prompt.strip(), "")
        groups.setdefault((trace.composite, trace.draft, task), []).append(trace)
    return tuple(_of_group(key, group, level) for key, group in groups.items())


def distances_by_token(traces: Sequence[Trace]) -> tuple[Values, Codes]:
    """Return every token's total variation, 0 to 1, and the number of its prompt; both [tokens]."""
    prompts = {trace.prompt: number for number, trace in enumerate(traces)}
    values = [token.total_variation for trace in traces for token in trace.tokens]
    codes = [prompts[trace.prompt] for trace in traces for _ in trace.tokens]
    return np.array(values, dtype=np.float64), np.array(codes, dtype=np.int64)


def _of_group(key: tuple[str, str, str], group: Sequence[Trace], level: float) -> Distances:
    values, codes = distances_by_token(group)
    mean = within_unit(mean_of(values, codes, level).interval)
    median, upper = np.quantile(values, (0.5, 0.9))
    shares = tuple(float((values >= step).mean()) for step in STEPS)
    return Distances(*key, len(group), len(values), mean, float(median), float(upper), shares)


def _tasks_of(prompts: set[str], runs: Sequence[Run]) -> dict[str, str]:
    """Return by prompt the first task that has it among its documents."""
    found: dict[str, str] = {}
    for run in runs:
        for name, prompt in _prompts(run):
            if prompt in prompts:
                found.setdefault(prompt, name)
            if len(found) == len(prompts):
                return found
    return found


def _prompts(run: Run) -> Iterator[tuple[str, str]]:
    for name, task in run.tasks.items():
        if task.samples_file is not None:
            for sample in iter_samples(task.samples_file, tuple(task.pipelines) or ("none",)):
                yield name, sample.prompt.strip()
