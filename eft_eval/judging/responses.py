"""Saved runs: the responses in an lm-eval output folder, and what each judge is given of them.

Reads lm-eval's files, yet imports neither lm_eval nor torch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import NoneType
from typing import Any, Literal, NamedTuple

from eft_eval.errors import ConfigError, nearest
from eft_eval.judging.judge import JudgeItem
from eft_eval.judging.prompts.measures import Measure, measure_of
from eft_eval.judging.prompts.prompt import JudgePrompt, load_prompt
from eft_eval.runs.judged import JUDGE_MARK
from eft_eval.runs.lines import doc_digest
from eft_eval.runs.records import Document, Sample
from eft_eval.runs.samples import Lines
from eft_eval.runs.saved import SavedRun, SavedTask
from eft_eval.verdicts.text import query_id, verdicts_in
from eft_eval.verdicts.verdict import Status, Verdict

__all__ = [
    "PAIRS_JUDGE",
    "Assignment",
    "Selection",
    "assign",
    "assign_for_pairs",
    "generates_text",
    "merged_filters",
    "panel_in",
    "panel_members",
    "panel_of",
    "verdicts_of_another_judge",
]

Record = dict[str, Any]
Groups = list[list[Verdict]]
Response = Literal["resps", "filtered_resps"]
_JUDGE = "eft_judge"
PAIRS_JUDGE = "eft_judge_pairs"
"""What the filter of a task of pairs is called: no filter of lm-eval's runs, and none to run."""
_PANEL = "panel"  # of a panel's filter: the names of its judges
_PANEL_PIPELINE = "of"  # of the filter of one judge of a panel: the panel's filter


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


class Assignment(NamedTuple):
    """One judge on one task: what it is given.

    Attributes:
        task: The task's name.
        name: The filter pipeline's, as in the results' ``metric,name``.
        step: The filter's settings, by which judging the new files again asks the same.
        prompt: The judge prompt.
        measure: What it measures.
        samples: One sample per document, of the run that lm-eval wrote.
        items: Per sample, one response per repeat.
        prompt_ids: Per sample, the same word where the prompts are equal.
    """

    task: str
    name: str
    step: Mapping[str, Any]
    prompt: JudgePrompt
    measure: Measure
    samples: list[Sample]
    items: list[list[JudgeItem]]
    prompt_ids: list[str]


def assign(run: SavedRun, selection: Selection | None = None) -> list[Assignment]:
    """Return what is to be judged of a run, loaded and checked.

    Args:
        run: The saved run.
        selection: What to judge of it; by default the run's own tasks with their own prompts.

    Raises:
        ConfigError: Nothing in the run can be judged as asked.
    """
    selection = selection or Selection()
    named = {run.task(name).name for name in selection.tasks}
    chosen = [task for name, task in run.tasks.items() if not named or name in named]
    found = []
    for task in chosen:
        steps = _steps(task.name, task.config, selection)
        if steps and run.samples_file(task) is not None:
            run.lines(task)  # what stays of them is written anew: refused now, not when asked
        for name, step in steps.items():
            found.append(_assignment(task, name, step, run.texts(task), selection))
    if not found:
        hint = "" if selection.prompts else "; --prompt NAME judges any task that generates text"
        tasks = ", ".join(task.name for task in chosen)
        raise ConfigError(f"{run.label} has no task with a judge (filter {_JUDGE}): {tasks}{hint}")
    return found


def assign_for_pairs(run: SavedRun, task: str, prompt: str, selection: Selection) -> Assignment:
    """Return what a judge prompt that shows two responses is given of one run.

    Args:
        run: The saved run.
        task: The task.
        prompt: The judge prompt, a name or a file.
        selection: Which of the task's texts are taken.

    Raises:
        ConfigError: The prompt shows one response, or there are no responses.
    """
    saved = run.task(task)
    steps = [step for one in saved.config.get("filter_list") or [] for step in one["filter"]]
    asked: Record = next((step for step in steps if step["function"] == _JUDGE), {})
    step: Record = {
        "function": PAIRS_JUDGE,
        "measure": "preference",
        **{key: asked[key] for key in ("query", "question") if key in asked},
        "prompt": prompt,
    }
    return _assignment(saved, "preference", step, run.texts(saved), selection)


def generates_text(config: Mapping[str, Any]) -> bool:
    """Whether a task's responses are texts, by its configuration."""
    judged = any(
        step["function"] == _JUDGE
        for pipeline in config.get("filter_list") or []
        for step in pipeline["filter"]
    )
    return judged or config.get("output_type") == "generate_until"


def verdicts_of_another_judge(run: SavedRun, assignment: Assignment, model: str) -> Groups:
    """Return the newest verdicts on the same responses that another judge or prompt gave.

    Looks into the task's file, then into the one that it was judged from, and so on. A file in
    which no response got a verdict does not count.

    Args:
        run: The saved run.
        assignment: What is to be judged of it.
        model: The judge whose verdicts with the assignment's own prompt do not count.

    Returns:
        Per sample one verdict per response.

    Raises:
        ConfigError: There are none, or a file cannot be read.
    """
    own = (model, assignment.prompt.sha256)
    for task in run.lineage(run.task(assignment.task)):
        if run.samples_file(task) is None:
            continue
        found = _verdicts_on(run.lines(task).get(assignment.name, {}), assignment)
        given = [v for group in found or [] for v in group if v.status.has_reply]
        if found and any((v.judge_model, v.prompt_sha256) != own for v in given):
            return found
    raise ConfigError(
        f"task {assignment.task!r}: no file of this run holds another judge's verdicts of a "
        f"filter {assignment.name!r} on these responses, which --bridge compares with; judge "
        "them with the old judge first"
    )


def merged_filters(
    old: Sequence[Mapping[str, Any]] | None,
    assignments: Iterable[Assignment],
    gone: Collection[str] = (),
) -> list[Record]:
    """Return a task's filters with those of its judges, which replace their namesakes.

    Args:
        old: The task's filters.
        assignments: What is judged.
        gone: Names of filters that do not stay unless they are judged.
    """
    steps = {one.name: {"name": one.name, "filter": [dict(one.step)]} for one in assignments}
    kept = {
        one["name"]: dict(one)
        for one in old or ()
        if one["name"] in steps or one["name"] not in gone
    }
    return [*{**kept, **steps}.values()]


def panel_of(given: Assignment, judges: Mapping[str, str]) -> tuple[Assignment, list[Assignment]]:
    """Return what a panel, and each of its judges, is given: a pipeline of its own for each.

    Args:
        given: What is judged.
        judges: The judges' models by the names that their pipelines end in.
    """
    whole = given._replace(step={**given.step, _PANEL: [*judges]})
    each = [
        given._replace(
            name=f"{given.name}{JUDGE_MARK}{name}",
            step={**given.step, "judge": model, _PANEL_PIPELINE: given.name},
        )
        for name, model in judges.items()
    ]
    return whole, each


def panel_members(filters: Sequence[Mapping[str, Any]] | None, names: Collection[str]) -> set[str]:
    """Return the pipelines of the judges of these panels.

    Args:
        filters: A task's filters.
        names: The panels' own pipelines.
    """
    return {str(one["name"]) for one in filters or () if panel_in(one) in names}


def panel_in(pipeline: Mapping[str, Any]) -> str | None:
    """Return the panel's pipeline if this one is of one of its judges."""
    return next(
        (step[_PANEL_PIPELINE] for step in pipeline["filter"] if _PANEL_PIPELINE in step), None
    )


def _steps(task: str, config: Mapping[str, Any], selection: Selection) -> dict[str, Record]:
    """Return the task's judge steps by pipeline name: its own, or those of the prompts asked."""
    own: dict[str, Record] = {}
    others = []  # filters that are no judges
    for pipeline in config.get("filter_list") or []:
        steps = pipeline["filter"]
        if panel_in(pipeline) is not None:
            continue  # one judge of a panel: what is judged is the panel's pipeline
        if any(step["function"] == _JUDGE for step in steps):
            if len(steps) > 1:
                name = pipeline["name"]
                raise ConfigError(f"task {task!r}: filter {name!r} has steps beside {_JUDGE}")
            step = {key: value for key, value in steps[0].items() if key != _PANEL}
            own[pipeline["name"]] = {"prompt": "factuality", **step}
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


def _assignment(
    task: SavedTask, name: str, step: Record, samples: Lines, selection: Selection
) -> Assignment:
    prompt = load_prompt(str(step["prompt"]))
    measure = measure_of(prompt, step.get("measure"))
    if selection.query is not None:
        step = {**step, "query": selection.query}
    path = str(step.get("query") or f"doc.{step.get('question') or 'question'}")
    source = _source(selection, step)
    step = {key: value for key, value in step.items() if key not in ("response", "filter")}
    if source.response == "filtered_resps":
        step["response"] = source.response
        step.update({} if source.filter is None else {"filter": source.filter})
    chosen = _chosen(task.name, samples, source)
    repeats = int(task.config.get("repeats") or 1)
    items = [
        _items(sample, _query(sample, path, prompt, task.name), repeats, task.name, source)
        for sample in chosen
    ]
    items = _marked(items, chosen, samples)
    prompt_ids = [
        query_id(group[0].query) or sample.hashes[1] or str(sample.doc_id)
        for group, sample in zip(items, chosen, strict=True)
    ]
    return Assignment(task.name, name, step, prompt, measure, chosen, items, prompt_ids)


def _source(selection: Selection, step: Record) -> _Source:
    """Return whose texts are judged: as asked, else as this judge was given them before."""
    response = selection.response or ("filtered_resps" if selection.filter else None)
    if response is None:
        response = step.get("response", "resps")
    filter_ = selection.filter
    if filter_ is None and response == "filtered_resps":
        filter_ = step.get("filter")
    return _Source(response, filter_)


def _chosen(task: str, by_filter: Lines, source: _Source) -> list[Sample]:
    """Return one sample per document: the first, or that of the filter asked for."""
    if source.response == "filtered_resps":
        texts = {
            name: lines
            for name, lines in by_filter.items()
            if not any(verdicts_in(line.filtered) for line in lines.values())
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
    first: dict[Document, Sample] = {}
    for samples in by_filter.values():
        first = {**samples, **first}
    return [*first.values()]


def _items(
    sample: Sample, query: str | None, repeats: int, task: str, source: _Source
) -> list[JudgeItem]:
    """Return a sample's responses; ranks may have appended a clone's answer beyond the repeats."""
    given = sample.filtered if source.response == "filtered_resps" else sample.responses
    responses = given[0] if given else []
    if given and isinstance(responses, (str, NoneType)):
        responses = [responses]
    where = f"task {task!r}, doc_id {sample.doc_id}"
    if not isinstance(responses, list) or not responses:
        raise ConfigError(f"{where}: the sample has no responses")
    for text in responses[:repeats]:
        if not isinstance(text, (str, NoneType)):
            raise ConfigError(f"{where}: its {source.response} are no text but {text!r:.60}")
    return [JudgeItem(text, query) for text in responses[:repeats]]


def _marked(
    items: Sequence[list[JudgeItem]], chosen: Sequence[Sample], samples: Lines
) -> list[list[JudgeItem]]:
    """Mark empty responses that the saved run, or a judge's filter of it, calls unfinished."""
    ended: dict[Document, set[int]] = {}
    for by_document in samples.values():
        for document, line in by_document.items():
            ended.setdefault(document, set()).update(line.unfinished)
            for place, verdict in enumerate(verdicts_in(line.filtered) or ()):
                if verdict.status is Status.unfinished:
                    ended.setdefault(document, set()).add(place)
    return [
        [
            item._replace(unfinished=not item.response and place in ended.get(sample.document, ()))
            for place, item in enumerate(group)
        ]
        for group, sample in zip(items, chosen, strict=True)
    ]


def _query(sample: Sample, path: str, prompt: JudgePrompt, task: str) -> str | None:
    """Return the user's query; None where it is not there and the prompt does not show it."""
    value: Any = sample.record
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
                f"task {task!r}, doc_id {sample.doc_id}: judge prompt {prompt.name!r} shows the "
                f"query, but there is no {path!r}; at {part!r} there is: {there}; set it with "
                "--map query=PATH, such as query=doc.FIELD or query=arguments.gen_args_0.arg_0"
            )
    return str(value)


def _verdicts_on(lines: Mapping[Document, Sample], assignment: Assignment) -> Groups | None:
    """Return the verdicts that a samples file holds on the same responses, if it does on all.

    The same are equal texts on the same documents.
    """
    found = []
    for sample, group in zip(assignment.samples, assignment.items, strict=True):
        line = lines.get(sample.document)
        if line is None or line.prompt != sample.prompt:
            return None
        if doc_digest(line.doc) != doc_digest(sample.doc):
            return None
        verdicts = verdicts_in(line.filtered)
        if verdicts is None or len(verdicts) != len(group):
            return None
        if list(line.judged)[: len(group)] != [item.response for item in group]:
            return None
        found.append(verdicts)
    return found
