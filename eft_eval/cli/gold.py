"""`eft-eval gold`: who is right where judge and people differ (section 4.5 of the paper)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from eft_eval.cli.labels import filled_in, write_project
from eft_eval.cli.options import (
    JsonOut,
    LabelOptions,
    Level,
    ProjectOptions,
    RuleOption,
    SeveralFiles,
    grouped,
    reported,
    words_of,
)
from eft_eval.files import check_new_folder
from eft_eval.streams import say

app = typer.Typer(
    help="Who is right where judge and people differ: a blind draw, and gold labels on it.",
    no_args_is_help=True,
    add_completion=False,
)


@dataclass(frozen=True)
class BlindProjectOptions(ProjectOptions):
    """Where the blind project is written, and for which tool."""

    out: Annotated[Path, typer.Option(help="A new folder for the blind project.")]


@dataclass(frozen=True)
class DrawOptions:
    """What is drawn."""

    disagreements: Annotated[int, typer.Option(min=0, help="How many to draw.")] = 30
    agreements: Annotated[
        int, typer.Option(min=0, help="How many agreements to check as well.")
    ] = 0
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw and of the order.")] = 0
    rule: RuleOption = None


@app.command(cls=SeveralFiles)
@grouped
def sample(
    run_dir: Annotated[
        Path, typer.Argument(help="A judged run's folder or results file, or a pattern.")
    ],
    project: BlindProjectOptions,
    labels: LabelOptions,
    key: Annotated[
        Path | None,
        typer.Option(help="Who said what, outside the project; OUT.gold-key.json without it."),
    ] = None,
    draw: DrawOptions = DrawOptions(),
) -> None:
    """Draw disagreements of judge and people into a project that hides who said what."""
    files = labels.files
    from eft_eval.agreement.label_reading import read_label_table
    from eft_eval.agreement.protocol import GoldPlan, sample_gold
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.gold import gold_sample

    check_new_folder(project.out)
    table = read_label_table(files, run_dir, replace(labels.reading(), measure="factuality"))
    drawn = sample_gold(
        table,
        project.out,
        write_project(project),
        plan=GoldPlan(**words_of(draw)),
        key=key,
    )
    print_document(gold_sample(drawn))
    # commands in one line each, however narrow the terminal is
    say(f"next: {drawn.exported.next_step}")
    say(f"then: eft-eval gold import {filled_in(project)} --key {quote(str(drawn.key))} --by WHO")


@dataclass(frozen=True)
class AdjudicationOptions:
    """Who said who is right, and how."""

    adjudicated_by: Annotated[
        str, typer.Option("--by", help="Who adjudicated, such as 'two authors, with web search'.")
    ]
    blind: Annotated[bool, typer.Option(help="Whether they could not see who had said what.")] = (
        True
    )


@app.command(name="import")
@grouped
def import_gold_labels(
    files: Annotated[list[Path], typer.Argument(help="The filled-in project, or its label files.")],
    key: Annotated[Path, typer.Option(help="The gold key that `gold sample` wrote.")],
    adjudication: AdjudicationOptions,
    level: Level = 0.95,
    json_out: JsonOut = None,
) -> None:
    """Report whom gold labels side with, and what accuracies follow."""
    from eft_eval.agreement.protocol import import_gold
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.gold import gold

    by, blind = adjudication.adjudicated_by, adjudication.blind
    found = reported(
        json_out,
        "eft-eval gold report",
        lambda: import_gold(files, key, adjudicated_by=by, blind=blind, level=level),
    )
    print_document(gold(found))
