"""Saved runs: the responses in an lm-eval output folder, and what each judge is given of them.

Reads lm-eval's files, yet imports neither lm_eval nor torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from eft_eval.errors import ConfigError, nearest
from eft_eval.judging.judge import JudgeItem
from eft_eval.judging.prompts.measures import Measure, measure_of
from eft_eval.judging.prompts.prompt import JudgePrompt, load_prompt
from eft_eval.runs.lineage import Lines, Record, RunFile, lineage, read_lines, texts_of, verdicts_in
from eft_eval.runs.newest import newest_results, read_results, samples_path
from eft_eval.verdicts.text import query_id
from eft_eval.verdicts.verdict import Status, Verdict

__all__ = [
    "Pipeline",
    "SavedRun",
    "Selection",
    "read_run",
    "verdicts_of_another_judge",
]

Groups = list[list[Verdict]]
Response = Literal["resps", "filtered_resps"]
_JUDGE = "eft_judge"


class Selection(NamedTuple):
    """What of a saved run is judged, and with which prompts.

    Attributes:
        prompts: Judge prompts (names or files); none takes those of the run's own tasks.
        tasks: Names of the tasks to judge; none takes all that can be judged.
        query: Path of the user's query in a line of the samples file, such as ``doc.question``
            or ``arguments.gen_args_0.arg_0``; None takes what the task says, else doc.question.
        response: ``resps``, the raw responses, or ``filtered_resps``, what a filter made of them;
            None takes what the judge was given before, else the raw ones.
        filter: Whose filtered_resps, where the task has several filters; without ``response`` it
            asks for them.
    """

    prompts: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    query: str | None = None
    response: Response | None = None
    filter: str | None = None


class _Source(NamedTuple):
    response: Response
    filter: str | None


class Pipeline(NamedTuple):
    """One judge on one task: what it is given.

    Attributes:
        task: The task's name.
        name: The filter pipeline's, as in the results' ``metric,name``.
        prompt: The judge prompt.
        measure: What it measures.
        samples: One sample record per document, of the run that lm-eval wrote.
        items: Per sample, one response per repeat.
        prompt_ids: Per sample, the same word where the prompts are equal.
    """

    task: str
    name: str
    prompt: JudgePrompt
    measure: Measure
    samples: list[Record]
    items: list[list[JudgeItem]]
    prompt_ids: list[str]


class SavedRun(NamedTuple):
    """The newest run in a folder.

    Attributes:
        file: Its results file.
        results: That file's content, with the judges to come noted in the configurations.
        pipelines: What is to be judged, loaded and checked.
    """

    file: Path
    results: Record
    pipelines: list[Pipeline]


def read_run(run_dir: Path, selection: Selection | None = None) -> SavedRun:
    """Read the newest run in an lm-eval output folder.

    Args:
        run_dir: The folder with results_*.json, or its parent if that has one such folder.
        selection: What to judge of it; by default the run's own tasks with their own prompts.

    Raises:
        ConfigError: The folder has no such run, or nothing in it can be judged as asked.
    """
    file = newest_results(run_dir)
    results = read_results(file)
    pipelines = _pipelines(RunFile(file, results), selection or Selection())
    return SavedRun(file, results, pipelines)


def verdicts_of_another_judge(run: SavedRun, pipeline: Pipeline, model: str) -> Groups:
    """Return the newest verdicts on a pipeline's responses that another judge or prompt gave.

    Looks into the run's file, then into the one that it was judged from, and so on. A file in
    which no response got a verdict does not count.

    Args:
        run: The saved run.
        pipeline: One of its pipelines.
        model: The judge whose verdicts with the pipeline's own prompt do not count.

    Returns:
        Per sample one verdict per response.

    Raises:
        ConfigError: There are none, or a file cannot be read.
    """
    own = (model, pipeline.prompt.sha256)
    for one in lineage(RunFile(run.file, run.results)):
        with contextlib.suppress(FileNotFoundError):
            lines = read_lines(samples_path(one.file, pipeline.task)).get(pipeline.name, {})
            found = _verdicts_on(lines, pipeline)
            given = [v for group in found or [] for v in group if v.status is not Status.api_error]
            if found and any((v.judge_model, v.prompt_sha256) != own for v in given):
                return found
    raise ConfigError(
        f"task {pipeline.task!r}: no file of this run holds another judge's verdicts of a "
        f"filter {pipeline.name!r} on these responses, which --bridge compares with; judge "
        "them with the old judge first"
    )


def _pipelines(run: RunFile, selection: Selection) -> list[Pipeline]:
    """Return what is to be judged; notes its judges in the tasks' configurations."""
    configs: Record = run.results["configs"]
    for name in selection.tasks:
        if name not in configs:
            known = ", ".join(configs)
            raise ConfigError(f"{run.file} has no task {name!r}{nearest(name, configs)}: {known}")
    pipelines = []
    for task, config in configs.items():
        if selection.tasks and task not in selection.tasks:
            continue
        steps = _steps(task, config, selection)
        if not steps:
            continue
        samples = texts_of(task, run)
        pipelines += [
            _pipeline(task, config, name, step, samples, selection) for name, step in steps.items()
        ]
        config["filter_list"] = _merged(config.get("filter_list") or [], steps)
    if not pipelines:
        hint = "" if selection.prompts else "; --prompt NAME judges any task that generates text"
        tasks = ", ".join(selection.tasks or configs)
        raise ConfigError(f"{run.file} has no task with a judge (filter {_JUDGE}): {tasks}{hint}")
    return pipelines


def _merged(old: Sequence[Record], steps: Mapping[str, Record]) -> list[Record]:
    """Return a task's filters with those of the judges to come, which replace their namesakes."""
    new = {name: {"name": name, "filter": [step]} for name, step in steps.items()}
    return [*{**{pipeline["name"]: pipeline for pipeline in old}, **new}.values()]


def _steps(task: str, config: Record, selection: Selection) -> dict[str, Record]:
    """Return the task's judge steps by pipeline name: its own, or those of the prompts asked."""
    own: dict[str, Record] = {}
    others = []  # filters that are no judges
    for pipeline in config.get("filter_list") or []:
        steps = pipeline["filter"]
        if any(step["function"] == _JUDGE for step in steps):
            if len(steps) > 1:
                name = pipeline["name"]
                raise ConfigError(f"task {task!r}: filter {name!r} has steps beside {_JUDGE}")
            own[pipeline["name"]] = {"prompt": "factuality", **steps[0]}
        else:
            others.append(pipeline["name"])
    if not selection.prompts:
        return own
    if not own and config.get("output_type") != "generate_until":
        if task in selection.tasks:
            kind = config.get("output_type")
            raise ConfigError(f"task {task!r} generates no text to judge (output_type {kind!r})")
        return {}
    return _replaced(task, own, others, selection.prompts)


def _replaced(
    task: str, own: Mapping[str, Record], others: Sequence[str], prompts: Sequence[str]
) -> dict[str, Record]:
    """Return one step per prompt: the task's own that measures the same, or a new one."""
    steps: dict[str, Record] = {}
    for given in prompts:
        prompt = load_prompt(given)
        measure = measure_of(prompt)
        same = [name for name, step in own.items() if _measures(step) == measure.name]
        names = [*same, measure.name, prompt.name]
        if {measure.name, prompt.name} & {*others}:
            names.append(f"{prompt.name}_judge")
        name = next((name for name in names if name not in {*steps, *others}), None)
        if name is None:
            raise ConfigError(f"task {task!r}: the judge prompt {given!r} is given twice")
        new = {"function": _JUDGE, "measure": measure.name}
        steps[name] = {**own.get(name, new), "prompt": given}
    return steps


def _measures(step: Record) -> str:
    # the run's own prompt file may be gone by now, which a replacement is to help with
    return str(step.get("measure") or measure_of(load_prompt(str(step["prompt"]))).name)


def _pipeline(
    task: str, config: Record, name: str, step: Record, samples: Lines, selection: Selection
) -> Pipeline:
    prompt = load_prompt(str(step["prompt"]))
    measure = measure_of(prompt, step.get("measure"))
    repeats = int(config.get("repeats") or 1)
    if selection.query is not None:
        step["query"] = selection.query  # judging the new files again must ask the same
    path = str(step.get("query") or f"doc.{step.get('question') or 'question'}")
    source = _source(selection, step)
    records = _chosen(task, samples, source)
    items = [
        _items(record, _query(record, path, prompt, task), repeats, task, source.response)
        for record in records
    ]
    prompt_ids = [
        query_id(group[0].query) or str(record.get("prompt_hash") or record["doc_id"])
        for group, record in zip(items, records, strict=True)
    ]
    return Pipeline(task, name, prompt, measure, records, items, prompt_ids)


def _source(selection: Selection, step: Record) -> _Source:
    """Return whose texts are judged: as asked, else as this judge was given them before.

    Noted in the step, so that judging the new files again asks the same.
    """
    response = selection.response or ("filtered_resps" if selection.filter else None)
    if response is None:
        response = step.get("response", "resps")
    filter_ = selection.filter
    if filter_ is None and response == "filtered_resps":
        filter_ = step.get("filter")
    step.pop("response", None)
    step.pop("filter", None)
    if response == "filtered_resps":
        step["response"] = response
        step.update({} if filter_ is None else {"filter": filter_})
    return _Source(response, filter_)


def _chosen(task: str, by_filter: Lines, source: _Source) -> list[Record]:
    """Return one record per document: the first, or that of the filter asked for."""
    if source.response == "filtered_resps":
        texts = {
            name: lines
            for name, lines in by_filter.items()
            if not any(verdicts_in(line) for line in lines.values())
        }
        if not texts or (source.filter in by_filter and source.filter not in texts):
            raise ConfigError(f"task {task!r}: its filters hold verdicts, not texts")
        by_filter = texts
    known = ", ".join(by_filter)
    if source.filter is not None and source.filter not in by_filter:
        hint = nearest(source.filter, by_filter)
        raise ConfigError(f"task {task!r} has no filter {source.filter!r}{hint}: {known}")
    if source.filter is not None:
        return [*by_filter[source.filter].values()]
    if source.response == "filtered_resps" and len(by_filter) > 1:
        raise ConfigError(f"task {task!r} has several filters; choose with --filter: {known}")
    first: dict[Any, Record] = {}
    for records in by_filter.values():
        first = {**records, **first}
    return [*first.values()]


def _items(
    sample: Record, query: str | None, repeats: int, task: str, response: str
) -> list[JudgeItem]:
    """Return a sample's responses; ranks may have appended a clone's answer beyond the repeats."""
    responses = (sample.get(response) or [[]])[0]
    if isinstance(responses, str):
        responses = [responses]
    where = f"task {task!r}, doc_id {sample['doc_id']}"
    if not isinstance(responses, list) or not responses:
        raise ConfigError(f"{where}: the sample has no responses")
    for text in responses[:repeats]:
        if not isinstance(text, str):
            raise ConfigError(f"{where}: its {response} are no text but {text!r:.60}")
    return [JudgeItem(text, query) for text in responses[:repeats]]


def _query(sample: Record, path: str, prompt: JudgePrompt, task: str) -> str | None:
    """Return the user's query; None where it is not there and the prompt does not show it."""
    value: Any = sample
    for part in path.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif "query" not in prompt.variables:
            return None
        else:
            there = ", ".join(map(str, value)) if isinstance(value, dict) else repr(value)[:60]
            raise ConfigError(
                f"task {task!r}, doc_id {sample['doc_id']}: judge prompt {prompt.name!r} shows the "
                f"query, but there is no {path!r}; at {part!r} there is: {there}; set it with "
                "--map query=PATH, such as query=doc.FIELD or query=arguments.gen_args_0.arg_0"
            )
    return str(value)


def _verdicts_on(by_doc: Mapping[Any, Record], pipeline: Pipeline) -> Groups | None:
    """Return the verdicts that a samples file holds on the same responses, if it does on all."""
    found = []
    for record, group in zip(pipeline.samples, pipeline.items, strict=True):
        line = by_doc.get(record["doc_id"]) or {}
        verdicts = verdicts_in(line)
        responses = line.get("judged_responses") or (line.get("resps") or [[]])[0]
        if verdicts is None or len(verdicts) != len(group):
            return None
        if list(responses)[: len(group)] != [item.response for item in group]:
            return None
        found.append(verdicts)
    return found
