"""`eft-eval agree`: how far judge and people agree, and how many labels that takes."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from eft_eval.cli.options import (
    Field,
    JsonOut,
    Judge,
    LabelFiles,
    Level,
    Measure,
    Missing,
    Positive,
    RuleOption,
    SeveralFilesGroup,
    Tasks,
    rule_of,
)
from eft_eval.errors import ConfigError


class ScaleName(str, Enum):
    """What numbers are, under the rule raw."""

    nominal = "nominal"
    numeric = "numeric"


app = typer.Typer(
    cls=SeveralFilesGroup,
    help="How far judge and people agree, with standard errors.",
    invoke_without_command=True,
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def agree(
    context: typer.Context,
    labels: LabelFiles = None,
    run: Annotated[
        Path | None,
        typer.Option(help="Folder of a judged run, whose verdicts are the judge's answers."),
    ] = None,
    judge: Judge = None,
    field: Field = None,
    rule: RuleOption = None,
    scale: Annotated[
        ScaleName | None, typer.Option(help="Whether numbers are codes of categories, or amounts.")
    ] = None,
    positive: Positive = None,
    missing: Missing = None,
    task: Tasks = None,
    measure: Measure = None,
    level: Level = 0.95,
    epsilon: Annotated[
        float, typer.Option(help="Allowance for the judge in the alternative annotator test.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap of α.")] = 0,
    json_out: JsonOut = None,
) -> None:
    """Compare a judge (a run's verdicts, or an annotator) with people, and people with each other.

    A missing, refused, unsure or unreadable answer is counted and shown, and never averaged in.
    """
    if context.invoked_subcommand is not None:
        if labels or run is not None or json_out is not None:
            name = context.invoked_subcommand
            raise ConfigError(f"--labels, --run and --json are not options of `agree {name}`")
        return
    if not labels:
        raise ConfigError("there are no label files; name them with --labels FILE …")
    if task and run is None:
        raise ConfigError("--task names a task of a run; give the run with --run")
    if measure is not None and run is None:
        raise ConfigError("--measure is of a run's verdicts; give the run with --run")
    from eft_eval.agreement.join import agree_files
    from eft_eval.records import check_report_path, write_report
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.agreement import agreement

    if json_out is not None:
        check_report_path(json_out, "eft-eval agreement")
    found = agree_files(
        labels,
        run_dir=run,
        judge=judge,
        tasks=task,
        field=field,
        rule=rule_of(rule),
        positive=positive,
        missing=missing or (),
        level=level,
        seed=seed,
        epsilon=epsilon,
        measure=None if measure is None else measure.value,
        scale=None if scale is None else ("nominal" if scale is ScaleName.nominal else "numeric"),
    )
    if json_out is not None:
        write_report(json_out, found.to_dict())
    print_document(agreement(found))


@app.command()
def plan(
    half_width: Annotated[
        float, typer.Option(help="Wished half-width of the interval: 0.05 is 5 points.")
    ],
    rate: Annotated[float, typer.Option(help="Expected rate; 0.5 is the worst case.")] = 0.5,
    deviation: Annotated[
        float | None, typer.Option(help="Expected standard deviation of a label that is a count.")
    ] = None,
    population: Annotated[
        int | None,
        typer.Option(help="Number of responses, if the answer is to speak of these alone."),
    ] = None,
    correlation: Annotated[
        float | None, typer.Option(help="Of label and verdict, as `eft-eval correct` prints it.")
    ] = None,
    label_cost: Annotated[float, typer.Option(help="Cost of one label.")] = 1.0,
    verdict_cost: Annotated[float, typer.Option(help="Cost of one verdict.")] = 0.0,
    responses: Annotated[
        int | None, typer.Option(help="Most verdicts there can be: the number of responses.")
    ] = None,
    level: Level = 0.95,
) -> None:
    """How many labels for a wished precision; with --correlation also the cheapest mix.

    The mix is of labels and of the judge's verdicts, put together by `eft-eval correct`.
    """
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.corrections import label_plan
    from eft_eval.statistics.label_planning import cheapest_mix, labels_needed

    if correlation is not None and population is not None:
        raise ConfigError(
            "--population and --correlation: the cheapest mix is planned for unlimited responses; "
            "leave out one of the two"
        )
    alone = labels_needed(
        half_width, rate=rate, deviation=deviation, population=population, level=level
    )
    mix = None
    if correlation is not None:
        mix = cheapest_mix(
            half_width,
            label_cost=label_cost,
            verdict_cost=verdict_cost,
            correlation=correlation,
            rate=rate,
            deviation=deviation,
            most_verdicts=responses,
            level=level,
        )
    print_document(label_plan(alone, mix, half_width))
