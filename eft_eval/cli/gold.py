"""`eft-eval gold`: who is right where judge and people differ (section 4.5 of the paper)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eft_eval.cli.labels import filled_in, write_project
from eft_eval.cli.options import (
    Field,
    Form,
    JsonOut,
    Judge,
    LabelFiles,
    Level,
    Missing,
    Positive,
    RuleOption,
    SeveralFiles,
    Tasks,
    rule_of,
)
from eft_eval.errors import ConfigError

app = typer.Typer(
    help="Who is right where judge and people differ: a blind draw, and gold labels on it.",
    no_args_is_help=True,
    add_completion=False,
)


@app.command(cls=SeveralFiles)
def sample(
    run_dir: Annotated[
        Path, typer.Argument(help="A judged run's folder or results file, or a pattern.")
    ],
    out: Annotated[Path, typer.Option(help="A new folder for the blind project.")],
    labels: LabelFiles = None,
    key: Annotated[
        Path | None,
        typer.Option(help="Who said what, outside the project; OUT.gold-key.json without it."),
    ] = None,
    disagreements: Annotated[int, typer.Option(min=0, help="How many to draw.")] = 30,
    agreements: Annotated[
        int, typer.Option(min=0, help="How many agreements to check as well.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw and of the order.")] = 0,
    form: Annotated[Form, typer.Option("--format", help="For which tool.")] = Form.potato,
    judge: Judge = None,
    field: Field = None,
    rule: RuleOption = None,
    positive: Positive = None,
    missing: Missing = None,
    task: Tasks = None,
    port: Annotated[int, typer.Option(help="Where Potato is to listen.")] = 8000,
) -> None:
    """Draw disagreements of judge and people into a project that hides who said what."""
    from eft_eval.agreement.protocol import sample_gold
    from eft_eval.labels.reading import read_labels
    from eft_eval.labels.responses import read_items
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.gold import gold_sample
    from eft_eval.runs.saved import open_run

    if not labels:
        raise ConfigError("there are no label files; name them with --labels FILE …")
    run = open_run(run_dir)
    items = read_items(run, tasks=task)
    drawn = sample_gold(
        items,
        read_labels(labels, items=items, judge=judge),
        out,
        write_project(form, port),
        run=run.name,
        key=key,
        disagreements=disagreements,
        agreements=agreements,
        seed=seed,
        field=field,
        rule=rule_of(rule),
        positive=positive,
        missing=missing or (),
    )
    print_document(gold_sample(drawn, filled_in(form, out)))


@app.command(name="import")
def import_gold_labels(
    files: Annotated[list[Path], typer.Argument(help="The filled-in project, or its label files.")],
    key: Annotated[Path, typer.Option(help="The gold key that `gold sample` wrote.")],
    adjudicated_by: Annotated[
        str, typer.Option("--by", help="Who adjudicated, such as 'two authors, with web search'.")
    ],
    blind: Annotated[
        bool, typer.Option(help="Whether they could not see who had said what.")
    ] = True,
    level: Level = 0.95,
    json_out: JsonOut = None,
) -> None:
    """Report whom gold labels side with, and what accuracies follow."""
    from eft_eval.agreement.protocol import import_gold
    from eft_eval.records import check_report_path, write_report
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.gold import gold

    if json_out is not None:
        check_report_path(json_out, "eft-eval gold report")
    found = import_gold(files, key, adjudicated_by=adjudicated_by, blind=blind, level=level)
    if json_out is not None:
        write_report(json_out, found.to_dict())
    print_document(gold(found))
