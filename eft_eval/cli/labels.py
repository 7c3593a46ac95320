"""`eft-eval labels`: responses of a run out to annotators, and their labels in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from eft_eval.cli.options import (
    ItemColumn,
    Judge,
    MapLabels,
    MapQuery,
    MeasureName,
    PersonPerFile,
    ProjectOptions,
    Tasks,
    file_reading,
    grouped,
    mapped_query,
    words_of,
)
from eft_eval.errors import ConfigError
from eft_eval.files import check_new_folder
from eft_eval.streams import say

if TYPE_CHECKING:
    from eft_eval.labels.project import Exporter

app = typer.Typer(
    help="Responses out to annotators (Potato, Label Studio, CSV), and their labels in.",
    no_args_is_help=True,
    add_completion=False,
)


@dataclass(frozen=True)
class ResponseOptions:
    """Which responses are labelled, and for what."""

    task: Tasks = None
    measure: Annotated[
        MeasureName | None,
        typer.Option(help="What people are asked for; what the run is judged for without it."),
    ] = None
    map_: MapQuery = None


@dataclass(frozen=True)
class SampleOptions:
    """How many responses are drawn."""

    sample: Annotated[
        int | None,
        typer.Option(min=1, help="Size of a random sample of the responses; all without it."),
    ] = None
    seed: Annotated[int, typer.Option(help="Seed of the sample and of the order.")] = 0


@app.command(name="export")
@grouped
def export_labels(
    run_dir: Annotated[Path, typer.Argument(help="A run's folder or results file, or a pattern.")],
    project: ProjectOptions,
    size: SampleOptions = SampleOptions(),
    which: ResponseOptions = ResponseOptions(),
) -> None:
    """Write a labelling project: question and response, shuffled, the judge's verdict hidden."""
    from eft_eval.labels.responses import Wanted, measures_in, read_responses, sample_items
    from eft_eval.labels.scheme import QUESTIONS
    from eft_eval.runs.saved import open_run

    query = mapped_query(which.map_)
    check_new_folder(project.out)
    saved = open_run(run_dir)
    known = measures_in(saved, which.task)
    measure = words_of(which)["measure"] or _only(known, saved.name)
    responses = read_responses(
        saved, Wanted(which.task, measure, query, measure == "factuality" or measure in known)
    )
    drawn = sample_items(responses.items, size.sample, seed=size.seed)
    about = {
        "run": saved.name,
        "measure": measure,
        "sample": len(drawn.items),
        "of": drawn.of,
        "seed": size.seed,
        "random_sample": True,
    }
    exported = write_project(project)(
        drawn.items, project.out, about=about, questions=QUESTIONS[measure]
    )
    total = f"{len(drawn.items)} of {drawn.of} responses of {saved.name}"
    say(f"{total} (seed {size.seed}), for {measure}: {exported.folder}")
    if responses.missing:
        say(f"{responses.missing} responses never came (null) and are left out")
    if responses.prompts:
        say(
            f"{responses.prompts} responses stand under the whole prompt, as their documents have "
            "no question; --map query=PATH names one"
        )
    if size.sample is not None and size.sample > drawn.of:
        say(f"{size.sample} were asked for; the run has {drawn.of}")
    say(f"next: {exported.next_step}")
    if exported.then:
        say(exported.then)
    options = [f"--map query={quote(query)}"] if query else []
    options += [f"--task {quote(name)}" for name in which.task or ()]
    options += [f"--measure {measure}"] if measure != "factuality" else []
    more = "".join(f" {one}" for one in options)
    say(f"then: eft-eval agree --run {quote(str(run_dir))} --labels {filled_in(project)}{more}")


def _only(known: Sequence[str], run: str) -> str:
    """Return what a run is judged for, as commands that hold labels against it take it."""
    if not known or "factuality" in known:
        return "factuality"
    if len(known) > 1:
        raise ConfigError(f"{run} is judged for {', '.join(known)}; name one with --measure")
    return known[0]


def write_project(project: ProjectOptions) -> Exporter:
    """Return the exporter of a format."""
    from eft_eval.labels.tools import TOOLS

    tool = TOOLS[project.form.value]
    assert tool.export is not None, "forms are of tools that write"
    return partial(tool.export, port=project.port) if tool.listens else tool.export


def filled_in(project: ProjectOptions) -> str:
    """Return what the labels of a project will be read from, as on a command line."""
    from eft_eval.labels.tools import TOOLS

    return TOOLS[project.form.value].returned or quote(str(project.out))


@dataclass(frozen=True)
class FileOptions:
    """What label files do not say themselves."""

    field: Annotated[
        str | None, typer.Option(help="Only this field; the one of tables that name none.")
    ] = None
    map_labels: MapLabels = None
    item: ItemColumn = None
    person_per_file: PersonPerFile = False
    map_: MapQuery = None


@app.command(name="import")
@grouped
def import_labels(
    files: Annotated[list[Path], typer.Argument(help="Label files, or Potato's project folder.")],
    out: Annotated[Path, typer.Option(help="The file to write: NAME.csv or NAME.json.")],
    key: Annotated[
        Path | None,
        typer.Option(help="The run, or the export's folder: labels are checked against its texts."),
    ] = None,
    judge: Judge = None,
    reading: FileOptions = FileOptions(),
) -> None:
    """Read label files of any known format into one, and report every row that cannot be used.

    Annotators become A1, A2, …; --judge keeps the name of one that is no person.
    """
    from eft_eval.labels.project import KEY_NAME
    from eft_eval.labels.reading import read_labels
    from eft_eval.labels.records import Item
    from eft_eval.labels.responses import measures_in, read_items
    from eft_eval.labels.saving import check_saved, save_labels
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.labels import labels as view
    from eft_eval.runs.finding import stamp_of
    from eft_eval.runs.saved import open_run

    check_saved(out)
    about: list[Item] | Path | None = key
    is_key = key is not None and (key / KEY_NAME if key.is_dir() else key).is_file()
    if key is not None and (not is_key or (key.is_file() and stamp_of(key))):
        run = open_run(key)
        # the ids and texts of responses are the same whatever they were judged for
        measure = next(iter(measures_in(run)), "factuality")
        about = read_items(run, measure=measure, query=mapped_query(reading.map_))
    how = file_reading(reading.item, reading.person_per_file, reading.map_labels)
    labels = read_labels(files, items=about, field=reading.field, judge=judge, reading=how)
    if not labels.labels:
        print_document(view(labels, ()))
        raise ConfigError(f"no label could be used, {len(labels.dropped)} rows were dropped")
    print_document(view(labels, save_labels(labels, out)))
