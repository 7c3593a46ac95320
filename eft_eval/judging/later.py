"""Judging a saved run: responses from its samples files, new files beside the old.

Reads and writes lm-eval's files, yet imports neither lm_eval nor torch.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from eft_eval.atomic import write_lines
from eft_eval.errors import ConfigError
from eft_eval.judging import metrics
from eft_eval.judging.availability import preflight
from eft_eval.judging.describe import describe_judge
from eft_eval.judging.judge import JudgeItem, judge_responses
from eft_eval.judging.prompt import JudgePrompt, load_prompt
from eft_eval.judging.settings import JudgeSettings
from eft_eval.judging.store import VerdictStore, default_store_path
from eft_eval.judging.verdict import Status, Verdict
from eft_eval.runs import date_after, newest_results, read_results, samples_path

__all__ = ["judge_run"]

_Record = dict[str, Any]
_log = logging.getLogger("eft_eval.judging")


class _Pipeline(NamedTuple):  # one filter of one task: what its judge is given
    task: str
    name: str
    prompt: JudgePrompt
    samples: list[_Record]  # one per document
    items: list[list[JudgeItem]]  # per sample, one per repeat


_Judged = tuple[_Pipeline, list[list[Verdict]]]  # per sample, one per repeat


def judge_run(run_dir: Path, prompt: str | None = None) -> dict[str, dict[str, float | str]]:
    """Judge the saved responses of the newest run in an lm-eval output folder.

    Nothing is written before all verdicts are there, and no existing file is changed. A response
    that got no verdict counts as fact_missing; calling again asks for those only.

    Args:
        run_dir: The folder with results_*.json, or its parent if that has one such folder.
        prompt: Judge prompt (name or file) in place of the run's own; of the same scale.

    Returns:
        Per task its entry in the new results file: ``metric,filter`` and ``metric_stderr,filter``.

    Raises:
        ConfigError: The folder has no such run, or the judge or the prompt cannot be used.
        EftEvalError: A stored verdict cannot be read.
    """
    old = newest_results(run_dir)
    results = read_results(old)
    pipelines = _pipelines(old, results["configs"], prompt)
    settings = JudgeSettings.from_environment()
    store = VerdictStore(default_store_path())
    if warning := preflight(settings):
        _log.warning("%s", warning)
    judged = [_judge(pipeline, settings, store) for pipeline in pipelines]
    verdicts = _all_verdicts(judged)
    if missing := [v.error for v in verdicts if v.status is Status.api_error]:
        counts = f"{len(missing)} of {len(verdicts)} responses have no verdict ({missing[0]})"
        _log.warning("%s; counted as fact_missing, the same command asks for them again", counts)
    date = date_after(old)
    for task in dict.fromkeys(pipeline.task for pipeline in pipelines):
        of_task = [one for one in judged if one[0].task == task]
        _update(results, task, of_task, settings)
        lines = (json.dumps(line, ensure_ascii=False) + "\n" for line in _sample_lines(of_task))
        write_lines(samples_path(old, task, date), lines)
    results["eft_judged_from"] = old.name
    results.pop("eft_corrected", None)  # labels corrected the old verdicts, not these
    text = json.dumps(results, indent=2, ensure_ascii=False)
    write_lines(old.with_name(f"results_{date}.json"), [text])
    return {pipeline.task: results["results"][pipeline.task] for pipeline in pipelines}


def _pipelines(results: Path, configs: _Record, prompt: str | None) -> list[_Pipeline]:
    """Return what is to be judged, loaded and checked; notes ``prompt`` in the configurations."""
    pipelines = []
    for task, config in configs.items():
        filters = {p["name"]: p["filter"] for p in config.get("filter_list") or []}
        ours = {n: f for n, f in filters.items() if any(s["function"] == "eft_judge" for s in f)}
        samples = _read_samples(results, task) if ours else []
        for name, (step, *others) in ours.items():
            if others:
                raise ConfigError(f"task {task!r}: filter {name!r} has steps beside eft_judge")
            judge_prompt = _prompt(task, config, step, prompt)
            question, repeats = step.get("question") or "question", int(config.get("repeats") or 1)
            items = [_items(sample, question, repeats, task) for sample in samples]
            pipelines.append(_Pipeline(task, name, judge_prompt, samples, items))
    if not pipelines:
        raise ConfigError(f"{results} has no task with a judge (filter eft_judge): {[*configs]}")
    return pipelines


def _prompt(task: str, config: _Record, step: _Record, replacement: str | None) -> JudgePrompt:
    own = str(step.get("prompt") or "factuality")
    prompt = load_prompt(replacement or own)
    # the run's own prompt file may be gone by now, which a replacement is to help with
    scale = (config.get("metadata") or {}).get("eft_scale") or load_prompt(own).scale
    if prompt.scale != scale:
        needed = f"task {task!r} needs a judge prompt of the scale {scale!r}"
        raise ConfigError(f"{needed}; {prompt.name!r} has {prompt.scale!r}")
    step["prompt"] = replacement or own  # judging the new files again must ask the same
    return prompt


def _read_samples(results: Path, task: str) -> list[_Record]:
    """Return the task's samples of the run, the first line of every document."""
    path = samples_path(results, task)
    samples: dict[Any, _Record] = {}
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                sample = json.loads(line)
                samples.setdefault(sample["doc_id"], sample)
    except FileNotFoundError:
        hint = "was the run made with --log_samples or --predict_only?"
        raise ConfigError(f"there is no {path}, so no responses to judge; {hint}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"cannot read {path}, sample {len(samples)}: {error!r}") from error
    if not samples:
        raise ConfigError(f"{path} is empty")
    return list(samples.values())


def _items(sample: _Record, question: str, repeats: int, task: str) -> list[JudgeItem]:
    """Return a sample's responses; ranks may have appended a clone's answer beyond the repeats."""
    responses = (sample.get("resps") or [[]])[0]
    if not isinstance(responses, list) or not responses:
        raise ConfigError(f"task {task!r}, doc_id {sample['doc_id']}: the sample has no responses")
    query = str(sample["doc"][question]) if question in (sample.get("doc") or {}) else None
    return [JudgeItem(str(response), query) for response in responses[:repeats]]


def _judge(pipeline: _Pipeline, settings: JudgeSettings, store: VerdictStore) -> _Judged:
    items = [item for group in pipeline.items for item in group]
    with tqdm(total=len(items), desc=f"Judging {pipeline.task} with {settings.model}") as bar:
        verdicts = judge_responses(
            items, pipeline.prompt, settings, store, lambda done, _: bar.update(done - bar.n)
        )
    rest = iter(verdicts)
    return pipeline, [[next(rest) for _ in group] for group in pipeline.items]


def _all_verdicts(judged: Iterable[_Judged]) -> list[Verdict]:
    return [verdict for _, groups in judged for group in groups for verdict in group]


def _sample_lines(judged: Iterable[_Judged]) -> Iterable[_Record]:
    """Yield a task's sample lines in lm-eval's layout: one per pipeline and document."""
    for pipeline, groups in judged:
        for sample, group in zip(pipeline.samples, groups, strict=True):
            values = metrics.fact_values(group)
            yield {
                **{k: v for k, v in sample.items() if k not in sample.get("metrics", ())},
                "filtered_resps": [metrics.write_verdicts(group)],
                "filter": pipeline.name,
                "metrics": list(values),
                **values,
            }


def _update(results: _Record, task: str, judged: list[_Judged], settings: JudgeSettings) -> None:
    """Put a task's metrics into the results, and its judge into the task's configuration."""
    entry = {key: value for key, value in results["results"][task].items() if "," not in key}
    for pipeline, groups in judged:
        values = [metrics.fact_values(group) for group in groups]
        for name in metrics.FACT_METRICS:
            column = [value[name] for value in values]
            error = metrics.scored_standard_error(column) if len(column) > 1 else "N/A"
            entry[f"{name},{pipeline.name}"] = metrics.scored_mean(column)
            entry[f"{name}_stderr,{pipeline.name}"] = error
    results["results"][task] = entry
    results.setdefault("higher_is_better", {})[task] = dict.fromkeys(metrics.FACT_METRICS, False)
    config = results["configs"][task]
    config["metric_list"] = [
        {"metric": name, "aggregation": "scored_mean", "higher_is_better": False}
        for name in metrics.FACT_METRICS
    ]
    prompts = {pipeline.name: pipeline.prompt for pipeline, _ in judged}
    described = describe_judge(settings, prompts, _all_verdicts(judged))
    config["metadata"] = {**(config.get("metadata") or {}), "eft_judge": described}
