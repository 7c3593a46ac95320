"""The items of a run: every response in lm-eval's samples files, and seeded samples of them."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.judging.prompts.measures import MEASURES
from eft_eval.labels.records import Item
from eft_eval.labels.texts import clean_text, text_hash
from eft_eval.records import finite_number
from eft_eval.runs.judged import judging_in
from eft_eval.runs.records import Sample as RunSample
from eft_eval.runs.samples import Lines
from eft_eval.runs.saved import SavedRun, SavedTask, open_run
from eft_eval.verdicts.text import read_verdicts, verdicts_in
from eft_eval.verdicts.verdict import Verdict

__all__ = [
    "Responses",
    "Sample",
    "Wanted",
    "measures_in",
    "panel_judges",
    "read_items",
    "read_responses",
    "sample_items",
]

_COUNTS_ERRORS = "fact_errors"  # the metric of every task whose judge counts errors


class Sample(NamedTuple):
    """Items drawn from a run: in shuffled order, of how many, with which seed."""

    items: tuple[Item, ...]
    of: int
    seed: int


def sample_items(items: Iterable[Item], n: int | None = None, *, seed: int = 0) -> Sample:
    """Return a simple random sample without replacement, in shuffled order; all where n is None.

    An item's place is decided by the SHA-256 of seed and id: the same on every machine and in
    every version, whatever the order of the items given, and a smaller sample is the beginning of
    a larger one. Where there are fewer than n items, all are returned.

    Raises:
        ConfigError: n is below 1.
    """
    if n is not None and n < 1:
        raise ConfigError(f"cannot draw a sample of {n} items; ask for 1 or more")
    shuffled = sorted(items, key=lambda item: _place(seed, item.item_id))
    return Sample(tuple(shuffled[:n]), len(shuffled), seed)


def _place(seed: int, item_id: str) -> bytes:
    return hashlib.sha256(f"{seed}:{item_id}".encode()).digest()


class Wanted(NamedTuple):
    """Which responses of a run are taken, and what is said of them.

    Attributes:
        tasks: Tasks to take; None for all whose judge is of the measure.
        measure: Whose verdicts to take: factuality, helpfulness or harm.
        query: Path of the question in a sample, such as ``doc.instruction``; None for what the
            judge was shown, else the document's ``question``, else the whole prompt.
        judged: Whether the verdicts are taken at all.
        judge: Of a run that a panel judged, whose verdicts to take, by the judge's model; None for
            the panel's.
    """

    tasks: Sequence[str] | None = None
    measure: str = "factuality"
    query: str | None = None
    judged: bool = True
    judge: str | None = None


class Responses(NamedTuple):
    """The responses of a run.

    Attributes:
        items: Those that there are.
        missing: How many never came.
        prompts: How many items show the whole prompt, as their documents have no question.
    """

    items: list[Item]
    missing: int
    prompts: int


def read_items(
    run: SavedRun | Path | str,
    *,
    tasks: Sequence[str] | None = None,
    measure: str = "factuality",
    query: str | None = None,
    judge: str | None = None,
) -> list[Item]:
    """Return the responses of a run; those that never came are none.

    Args:
        run: An opened run, whose files are not read again, or what `open_run` takes.
        tasks: Tasks to take; by default all whose judge counts factual errors.
        measure: Whose verdicts to take: factuality, helpfulness or harm. The values of the last
            two are those of the metric, from 0 to 1.
        query: Path of the question in a sample, see `Wanted`.
        judge: Of a panel, whose verdicts, see `Wanted`.

    Raises:
        ConfigError: There is no such run or task, or its samples cannot be used.
    """
    return read_responses(run, Wanted(tasks, measure, query, judge=judge)).items


def read_responses(run: SavedRun | Path | str, wanted: Wanted = Wanted()) -> Responses:
    """Return the responses of a run, with what is missing counted.

    Raises:
        ConfigError: There is no such run or task, or its samples cannot be used.
    """
    run = run if isinstance(run, SavedRun) else open_run(run)
    tasks, measure = wanted.tasks, wanted.measure
    found = Responses([], 0, 0)
    for task in [run.task(name) for name in tasks or run.tasks]:
        path = run.samples_file(task)
        if tasks is None and path is None:
            continue
        lines = run.lines(task)
        assert path is not None, "there are lines"
        samples = _of_task(task, path, lines, wanted)
        if not samples:
            continue
        of_task = _items(path, task, samples, wanted)
        if measure != "factuality" and wanted.judged:
            factor = _metric_factor(of_task.items, samples, measure, path)
            of_task = of_task._replace(items=list(_scaled(of_task.items, factor)))
        found = Responses(
            [*found.items, *of_task.items],
            found.missing + of_task.missing,
            found.prompts + of_task.prompts,
        )
    if not found.items:
        raise ConfigError(_none(run, wanted, found.missing))
    return found


def _none(run: SavedRun, wanted: Wanted, missing: int) -> str:
    if missing:
        return f"{run.label}: none of its {missing} responses ever came"
    if wanted.measure != "factuality" and wanted.judged:
        return f"{run.label}: no task with samples is judged for {wanted.measure}"
    return (
        f"{run.label}: no task with samples counts factual errors (its tasks: "
        f"{', '.join(run.tasks)}); name a task, or run lm_eval with --log_samples"
    )


def _of_task(task: SavedTask, path: Path, lines: Lines, wanted: Wanted) -> list[RunSample]:
    """Return the samples of a task that is taken, one per document; none where it is not."""
    if not wanted.judged and wanted.measure != "factuality":
        first = next(iter(lines.values()), {})
        is_text = task.config.get("output_type") == "generate_until"
        return [*first.values()] if wanted.tasks or is_text else []
    samples = _chosen(path, _of_one_judge(lines, wanted.judge), wanted.measure)
    if wanted.measure != "factuality" or wanted.tasks is not None:
        return samples
    return samples if _counts_errors(task, samples[0]) else []


def _counts_errors(task: SavedTask | None, sample: RunSample) -> bool:
    scale = None if task is None else task.metadata.get("eft_scale")
    return scale == "count" or _COUNTS_ERRORS in sample.values


def measures_in(run: SavedRun | Path | str, tasks: Sequence[str] | None = None) -> list[str]:
    """Return what the tasks of a run are judged for: names of `MEASURES`, in order."""
    run = run if isinstance(run, SavedRun) else open_run(run)
    chosen = [task for name, task in run.tasks.items() if not tasks or name in tasks]
    names = {key.partition(",")[0] for task in chosen for key in task.entry}
    scales = {task.metadata.get("eft_scale") for task in chosen}
    return [
        name
        for name, one in MEASURES.items()
        if names & one.scores.keys() or (name == "factuality" and "count" in scales)
    ]


def panel_judges(run: SavedRun, tasks: Sequence[str] | None = None) -> dict[str, str]:
    """Return the judges of the panels that judged a run's tasks: their models by their names.

    Raises:
        ConfigError: A results file is not as eft-eval writes it.
    """
    found: dict[str, str] = {}
    for name in tasks or run.tasks:
        task = run.task(name)
        described = judging_in(task.config, str(task.file.path))
        for one in ((described.judges if described else None) or {}).values():
            found[one.name] = one.model
    return found


def _metric_factor(
    items: Sequence[Item], samples: Sequence[RunSample], measure: str, path: Path
) -> float:
    """Return what a verdict's value is multiplied with to be the metric that the samples hold.

    Judges answer in percent; the demo's answers with the metric itself.

    Raises:
        ConfigError: Neither gives the metric.
    """
    metric = next(iter(MEASURES[measure].scores))
    possible = [0.01, 1.0]
    groups = _groups(items)
    for sample in samples:
        scored = [one for one in groups.get(_where(path, sample), ()) if one is not None]
        recorded = sample.values.get(metric)
        if scored and isinstance(recorded, (int, float)):
            mean, number = sum(scored) / len(scored), finite_number(recorded)
            possible = [
                one
                for one in possible
                if number is not None and math.isclose(one * mean, number, abs_tol=1e-9)
            ]
    if not possible:
        raise ConfigError(f"{path}: the metric {metric} is not the mean of its verdicts")
    return possible[0]


def _groups(items: Sequence[Item]) -> dict[str, list[float | None]]:
    """Return the verdicts of each document, by its place."""
    groups: dict[str, list[float | None]] = {}
    for item in items:
        groups.setdefault(item.source.rpartition(", repeat ")[0], []).append(item.verdict_value)
    return groups


def _where(path: Path, sample: RunSample) -> str:
    return f"{path.name}, doc_id {sample.doc_id}"


def _scaled(items: Sequence[Item], factor: float) -> Iterator[Item]:
    for item in items:
        value = item.verdict_value
        yield item if value is None else replace(item, verdict_value=value * factor)


def _of_one_judge(lines: Lines, judge: str | None) -> Lines:
    """Return the lines without those of other judges of a panel, or without the panel's."""
    found = {name: verdicts_in(next(iter(of.values())).filtered) for name, of in lines.items()}
    panels = {v.judge_model for one in found.values() for v in one or () if v.votes is not None}
    if not panels:
        return lines
    wanted = {judge} if judge is not None else panels
    return {
        name: of
        for name, of in lines.items()
        if found[name] is None or {v.judge_model for v in found[name] or ()} <= wanted
    }


def _chosen(path: Path, lines: Lines, measure: str) -> list[RunSample]:
    """Return a task's samples, one per document; none where no judge is of the measure."""
    first = {name: next(iter(of.values())) for name, of in lines.items()}
    if measure != "factuality":
        metric = next(iter(MEASURES[measure].scores))
        names = [name for name, sample in first.items() if metric in sample.values][:1]
        return [*lines[names[0]].values()] if names else []
    # of several judges, the one that counts factual errors: labels are about these
    chosen = [name for name, sample in first.items() if _counts_errors(None, sample)]
    if not chosen:  # a judged file also has the lines of filters that are no judges
        chosen = [name for name, sample in first.items() if verdicts_in(sample.filtered)]
    names = chosen or [*lines][:1]  # without verdicts each filter has the same responses
    if len(names) != 1:
        raise ConfigError(f"{path} has the verdicts of several judges: {sorted(names)}")
    return [*lines[names[0]].values()]


def _items(path: Path, task: SavedTask, samples: Sequence[RunSample], wanted: Wanted) -> Responses:
    repeats = int(task.config.get("repeats") or 1)
    seen: Counter[str] = Counter()
    found, missing, prompts = [], 0, 0
    for sample in samples:
        where = _where(path, sample)
        question, is_prompt = _question(task, sample, wanted.query, where)
        responses = sample.judged
        if not isinstance(responses, list) or not responses:
            raise ConfigError(f"{where}: the sample has no responses")
        # ranks may have appended a clone's answer beyond the repeats
        responses = responses[:repeats]
        verdicts = _verdicts(sample, len(responses), where) if wanted.judged else []
        for repeat, response in enumerate(responses):
            if response is None:  # as lm-eval's API models leave it where a request failed
                missing += 1
                continue
            source = f"{where}, repeat {repeat}"
            verdict = verdicts[repeat] if verdicts else None
            found.append(_item(task.name, question, str(response), source, verdict, seen))
            prompts += is_prompt
    return Responses(found, missing, prompts)


def _question(
    task: SavedTask, sample: RunSample, query: str | None, where: str
) -> tuple[str, bool]:
    """Return what people are shown as the question, and whether that is the whole prompt.

    Raises:
        ConfigError: The sample has nothing at the path that is asked for, or no question at all.
    """
    steps = _judge_step(task, sample.filter)
    path = query or steps.get("query")
    if path is not None:
        value: Any = sample.record
        for part in str(path).split("."):
            there = value
            if isinstance(value, Mapping) and part in value:
                value = value[part]
            elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
                value = value[int(part)]
            else:
                has = ", ".join(map(str, there)) if isinstance(there, Mapping) else repr(there)[:60]
                raise ConfigError(
                    f"{where}: there is no {path!r}; at {part!r} there is: {has}; set it with "
                    "--map query=PATH, such as query=doc.question"
                )
        return str(value), False
    name = str(steps.get("question") or "question")
    given = sample.doc.get(name) if isinstance(sample.doc, Mapping) else None
    if isinstance(given, str):
        return given, False
    if not sample.prompt:
        raise ConfigError(
            f"{where}: the document has no {name}, and there is no prompt; --map query=PATH says "
            "where the question is"
        )
    return sample.prompt, True


def _judge_step(task: SavedTask, name: str) -> Mapping[str, Any]:
    """Return the settings of the judge of a filter; empty where that is no judge."""
    for pipeline in task.config.get("filter_list") or ():
        steps = pipeline.get("filter") if isinstance(pipeline, Mapping) else None
        if steps and pipeline.get("name") == name and isinstance(steps[0], Mapping):
            return steps[0]
    return {}


def _verdicts(sample: RunSample, count: int, where: str) -> list[Verdict | None]:
    """Return a document's verdicts, one per response; None for a run that was not judged."""
    filtered = sample.filtered[0] if sample.filtered else None
    if not isinstance(filtered, str) or sample.bypassed:
        return [None] * count
    try:
        verdicts = read_verdicts(filtered)
    except (ValueError, TypeError, AttributeError, EftEvalError) as error:
        raise ConfigError(f"{where}: its verdicts cannot be read: {error}") from error
    if len(verdicts) != count:
        raise ConfigError(f"{where}: {count} responses, but {len(verdicts)} verdicts")
    return list(verdicts)


def _item(
    task: str,
    question: str,
    response: str,
    source: str,
    verdict: Verdict | None,
    seen: Counter[str],
) -> Item:
    question, response = clean_text(question), clean_text(response)
    digest = text_hash(question, response)
    prompt = hashlib.sha256(question.encode()).hexdigest()[:16]  # as the tasks' prompt_id
    repeat = seen[prompt]
    seen[prompt] += 1
    return Item(
        item_id=f"{re.sub(r'[^A-Za-z0-9_]', '_', task)}-{prompt}-r{repeat}-{digest[:8]}",
        question=question,
        response=response,
        text_sha256=digest,
        stratum=task,
        cluster=prompt,
        verdict_value=None if verdict is None or verdict.value is None else float(verdict.value),
        source=source,
        verdict_status=None if verdict is None else verdict.status.value,
        judge=None if verdict is None else verdict.judge_model,
        votes=_votes(verdict),
    )


def _votes(verdict: Verdict | None) -> tuple[float, ...]:
    given = (verdict.votes or {}).values() if verdict is not None else ()
    return tuple(float(vote) for vote in given if vote is not None)
