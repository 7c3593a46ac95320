"""The items of a run: every response in lm-eval's samples files, and seeded samples of them."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from eft_eval.errors import ConfigError, EftEvalError, nearest
from eft_eval.judging.prompts.measures import MEASURES
from eft_eval.labels.records import Item
from eft_eval.labels.texts import clean_text, text_hash
from eft_eval.runs.lineage import verdicts_in
from eft_eval.runs.newest import newest_results, read_results, samples_path
from eft_eval.verdicts.text import read_verdicts
from eft_eval.verdicts.verdict import Verdict

__all__ = ["Sample", "measures_in", "read_items", "sample_items"]

_Record = dict[str, Any]
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


def read_items(
    run_dir: Path | str, *, tasks: Sequence[str] | None = None, measure: str = "factuality"
) -> list[Item]:
    """Return the responses of the newest run in an lm-eval output folder.

    Args:
        run_dir: The folder with results_*.json, or its parent if that has one such folder.
        tasks: Tasks to take; by default all whose judge counts factual errors.
        measure: Whose verdicts to take: factuality, helpfulness or harm. The values of the last
            two are those of the metric, from 0 to 1.

    Raises:
        ConfigError: There is no such run or task, or its samples cannot be used.
    """
    results = newest_results(Path(run_dir))
    configs = read_results(results)["configs"]
    chosen = list(tasks or configs)
    for task in chosen:
        if task not in configs:
            raise ConfigError(f"{results} has no task {task!r}{nearest(task, configs)}")
    items: list[Item] = []
    for task in chosen:
        path = samples_path(results, task)
        if tasks is None and not path.exists():
            continue
        samples = _read_samples(path, measure)
        if measure != "factuality":
            if samples:
                found = list(_items(path, task, configs[task], samples))
                factor = _metric_factor(found, samples, measure, path)
                items.extend(_scaled(found, factor))
        elif tasks is not None or _counts_errors(configs[task], samples[0]):
            items.extend(_items(path, task, configs[task], samples))
    if not items and measure != "factuality":
        raise ConfigError(f"{results}: no task with samples is judged for {measure}")
    if not items:
        raise ConfigError(
            f"{results}: no task with samples counts factual errors (its tasks: "
            f"{', '.join(configs)}); name a task, or run lm_eval with --log_samples"
        )
    return items


def _counts_errors(config: _Record, sample: _Record) -> bool:
    scale = (config.get("metadata") or {}).get("eft_scale")
    return scale == "count" or _COUNTS_ERRORS in (sample.get("metrics") or ())


def measures_in(run_dir: Path | str, tasks: Sequence[str] | None = None) -> list[str]:
    """Return what the tasks of the newest run are judged for: names of `MEASURES`, in order."""
    path = newest_results(Path(run_dir))
    results = read_results(path)
    entries = [entry for name, entry in results["results"].items() if not tasks or name in tasks]
    names = {key.partition(",")[0] for entry in entries for key in entry}
    scales = {
        (config.get("metadata") or {}).get("eft_scale")
        for name, config in results["configs"].items()
        if not tasks or name in tasks
    }
    return [
        name
        for name, one in MEASURES.items()
        if names & one.scores.keys() or (name == "factuality" and "count" in scales)
    ]


def _metric_factor(
    items: Sequence[Item], samples: Sequence[_Record], measure: str, path: Path
) -> float:
    """Return what a verdict's value is multiplied with to be the metric that the samples hold.

    Judges answer in percent; the demo's answers with the metric itself.

    Raises:
        ConfigError: Neither gives the metric.
    """
    metric = next(iter(MEASURES[measure].scores))
    possible = [0.01, 1.0]
    for sample, group in zip(samples, _groups(items), strict=True):
        scored = [value for value in group if value is not None]
        recorded = sample.get(metric)
        if scored and isinstance(recorded, (int, float)):
            mean = sum(scored) / len(scored)
            possible = [one for one in possible if math.isclose(one * mean, recorded, abs_tol=1e-9)]
    if not possible:
        raise ConfigError(f"{path}: the metric {metric} is not the mean of its verdicts")
    return possible[0]


def _groups(items: Sequence[Item]) -> list[list[float | None]]:
    """Return the verdicts of each document, whose items follow each other."""
    groups: dict[str, list[float | None]] = {}
    for item in items:
        groups.setdefault(item.source.rpartition(", repeat ")[0], []).append(item.verdict_value)
    return list(groups.values())


def _scaled(items: Sequence[Item], factor: float) -> Iterator[Item]:
    for item in items:
        value = item.verdict_value
        yield item if value is None else replace(item, verdict_value=value * factor)


def _read_samples(path: Path, measure: str) -> list[_Record]:
    """Return a task's samples, one per document; none where no judge is of the measure."""
    samples: dict[str, dict[Any, _Record]] = {}  # by filter and document
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                sample = json.loads(line)
                samples.setdefault(sample["filter"], {}).setdefault(sample["doc_id"], sample)
    except FileNotFoundError:
        raise ConfigError(f"there is no {path}; was the run made with --log_samples?") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        read = sum(map(len, samples.values()))
        raise ConfigError(f"cannot read {path}, sample {read}: {error!r}") from error
    if not samples:
        raise ConfigError(f"{path} is empty")
    if measure != "factuality":
        metric = next(iter(MEASURES[measure].scores))
        for of in samples.values():
            if metric in (next(iter(of.values())).get("metrics") or ()):
                return list(of.values())
        return []
    # of several judges, the one that counts factual errors: labels are about these
    chosen = [name for name, of in samples.items() if _counts_errors({}, next(iter(of.values())))]
    if not chosen:  # a judged file also has the lines of filters that are no judges
        chosen = [name for name, of in samples.items() if verdicts_in(next(iter(of.values())))]
    names = chosen if len(samples) > 1 else list(samples)
    if len(names) != 1:
        raise ConfigError(f"{path} has the verdicts of several judges: {sorted(samples)}")
    return list(samples[names[0]].values())


def _items(path: Path, task: str, config: _Record, samples: Sequence[_Record]) -> Iterator[Item]:
    repeats = int(config.get("repeats") or 1)
    seen: Counter[str] = Counter()
    for sample in samples:
        where = f"{path.name}, doc_id {sample['doc_id']}"
        question = (sample.get("doc") or {}).get("question")
        responses = (sample.get("resps") or [[]])[0]
        if not isinstance(question, str):
            raise ConfigError(f"{where}: the document has no question")
        if not isinstance(responses, list) or not responses:
            raise ConfigError(f"{where}: the sample has no responses")
        # ranks may have appended a clone's answer beyond the repeats
        responses = responses[:repeats]
        for repeat, verdict in enumerate(_verdicts(sample, len(responses), where)):
            source = f"{where}, repeat {repeat}"
            yield _item(task, question, str(responses[repeat]), source, verdict, seen)


def _verdicts(sample: _Record, count: int, where: str) -> list[Verdict | None]:
    """Return a document's verdicts, one per response; None for a run that was not judged."""
    filtered = (sample.get("filtered_resps") or [None])[0]
    metrics = sample.get("metrics") or ()
    if not isinstance(filtered, str) or "bypass" in metrics:
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
    )
