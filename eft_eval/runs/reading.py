"""Reading a run: results files and samples files to one typed record, with what is wrong in it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from eft_eval.errors import ConfigError
from eft_eval.runs.baseline import is_baseline, run_of_baseline
from eft_eval.runs.belonging import packed_samples, task_hash
from eft_eval.runs.columns import columns_of, filters_of, groups_of
from eft_eval.runs.completeness import check_groups, check_task
from eft_eval.runs.finding import as_results, damage_in, read_json
from eft_eval.runs.metadata import model_arguments
from eft_eval.runs.records import BYPASS, Group, Problem, ResultsFile, Run, TaskRun
from eft_eval.runs.samples import PROMPT, read_samples
from eft_eval.runs.saved import SavedRun, SavedTask, open_run
from eft_eval.runs.shape import without_configuration, without_filter

__all__ = ["read_run", "read_runs"]


def read_runs(sources: Iterable[str | Path], cluster: str = PROMPT) -> list[Run]:
    """Read several runs; see `read_run`."""
    return [read_run(source, cluster) for source in sources]


def read_run(source: str | Path, cluster: str = PROMPT) -> Run:
    """Read one model's run: a baseline file, a results file, a folder or a pattern.

    Where several results files are found, each task is that of the newest file that has it.

    Args:
        source: What to read; see `eft_eval.runs.finding.find_results`.
        cluster: What makes items dependent; see `eft_eval.runs.samples.read_samples`.

    Returns:
        The run. What is incomplete or contradicts itself is listed under `Run.problems`.

    Raises:
        ConfigError: There is no run there, or several models', or a file is damaged.
    """
    path = Path(source)
    run: SavedRun | None = None
    if os.path.isfile(path):  # a name too long is no file either
        content = read_json(path)
        if is_baseline(content):
            if content.get("cluster") != cluster:
                raise ConfigError(
                    f"{path} was blessed with items clustered by {content.get('cluster')!r}, asked "
                    f"is {cluster!r}; pass --cluster {content.get('cluster')}, or bless anew"
                )
            return run_of_baseline(content, path)
        run = SavedRun(str(source), [as_results(path, content)])
    run = run or open_run(source)
    newest = run.files[0]
    tasks: dict[str, TaskRun] = {}
    problems: list[Problem] = []
    with damage_in(newest):
        groups = groups_of(newest.content)
        problems += [*_left_out(newest, groups), *_older_files(run)]
    for name, task in run.tasks.items():
        with damage_in(task.file):
            tasks[name], wrong = _task(run, task, cluster)
        problems += wrong
    same_file = {name: one for name, one in tasks.items() if one.results_file == newest.path}
    problems += check_groups(groups, same_file)
    return Run(
        label=str(source),
        model=newest.model,
        date=newest.date,
        lm_eval_version=str(newest.content.get("lm_eval_version") or ""),
        tasks=tasks,
        groups=groups,
        problems=tuple(problems),
        files=run.files,
    )


def _left_out(file: ResultsFile, known: Mapping[str, Group]) -> Iterator[Problem]:
    """Yield notes on what of a results file cannot be read."""
    if names := without_configuration(file.content):
        text = f"left out, as {file.path.name} has no configuration of it (trimmed?): "
        yield Problem("note", None, text + ", ".join(names))
    if names := without_filter(file.content):
        text = f"left out, as {file.path.name} names no filter (lm-eval 0.4 writes acc,none) of: "
        yield Problem("note", None, text + ", ".join(names))
    if names := [name for name in file.content.get("groups") or () if name not in known]:
        text = f"left out, as {file.path.name} does not say which tasks are in it: "
        yield Problem("note", None, text + ", ".join(names))


def _older_files(run: SavedRun) -> Iterator[Problem]:
    """Yield a note per older results file that the run has tasks from."""
    arguments = model_arguments(run.files[0].config)
    for file in run.files[1:]:
        names = [task.name for task in run.tasks.values() if task.file is file]
        if names:
            text = f"from an older file, {file.path.name}: {', '.join(names)}"
            if model_arguments(file.config) != arguments:
                text += " (its model arguments differ from the newest file's)"
            yield Problem("note", None, text)


def _task(run: SavedRun, saved: SavedTask, cluster: str) -> tuple[TaskRun, list[Problem]]:
    name, config, content = saved.name, saved.config, saved.file.content
    notes: list[Problem] = []
    found = run.samples_of(saved)
    read = None
    if found is not None:
        read = read_samples(found.path, cluster, filters_of(content, name))
        if found.note:
            notes.append(Problem("note", name, found.note))
    elif packed := packed_samples(saved.file, name):
        notes.append(
            Problem("note", name, f"the samples of {name!r} are compressed: {packed.name}")
        )
    expected = task_hash(saved.file, name)
    documents = saved.documents
    if read is not None and expected is not None and read.task_hash == expected:
        # what was hashed is what was evaluated, whatever the count says (--samples, 0.4.4)
        documents = max((len(one.items) for one in read.pipelines.values()), default=documents)
        if saved.documents not in (None, documents):
            text = f"{name}: {documents} documents were evaluated; n-samples says {saved.documents}"
            notes.append(Problem("note", name, text))
    shots = (content.get("n-shot") or {}).get(name, config.get("num_fewshot"))
    task = TaskRun(
        name=name,
        version=str((content.get("versions") or {}).get(name)),
        shots=shots if isinstance(shots, int) else None,
        repeats=int(config.get("repeats") or 1),
        documents=documents,
        generation=json.dumps(config.get("generation_kwargs"), sort_keys=True),
        bypassed=any(one["metric"] == BYPASS for one in config.get("metric_list") or ()),
        columns=columns_of(content, name, read.numbers if read else None),
        pipelines=read.pipelines if read else {},
        results_file=saved.file.path,
        samples_file=found.path if found else None,
        config=config,
        undated=found.note if found else "",
    )
    return task, [*notes, *check_task(task, read, expected)]
