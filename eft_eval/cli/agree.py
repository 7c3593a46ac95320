"""`eft-eval agree`: how far judge and people agree, and how many labels that takes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from eft_eval.cli.options import (
    JsonOut,
    Level,
    MeasuredLabelOptions,
    RuleOption,
    SeveralFilesGroup,
    grouped,
    reported,
    words_of,
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


@dataclass(frozen=True)
class MethodOptions:
    """How ratings are compared."""

    rule: RuleOption = None
    scale: Annotated[
        ScaleName | None,
        typer.Option(help="Whether numbers are codes of categories, or amounts."),
    ] = None
    level: Level = 0.95
    epsilon: Annotated[
        float, typer.Option(help="Allowance for the judge in the alternative annotator test.")
    ] = 0.1
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap of α.")] = 0


@app.callback()
@grouped
def agree(
    context: typer.Context,
    labels: MeasuredLabelOptions,
    run: Annotated[
        Path | None,
        typer.Option(
            help="A judged run's folder, file or pattern: its verdicts are the judge's answers."
        ),
    ] = None,
    method: MethodOptions = MethodOptions(),
    json_out: JsonOut = None,
) -> None:
    """Compare a judge (a run's verdicts, or an annotator) with people, and people with each other.

    A missing, refused, unsure or unreadable answer is counted and shown, and never averaged in.
    """
    if context.invoked_subcommand is not None:
        if labels.labels or run is not None or json_out is not None:
            name = context.invoked_subcommand
            raise ConfigError(f"--labels, --run and --json are not options of `agree {name}`")
        return
    files = labels.files
    if labels.task and run is None:
        raise ConfigError("--task names a task of a run; give the run with --run")
    if labels.measure is not None and run is None:
        raise ConfigError("--measure is of a run's verdicts; give the run with --run")
    from eft_eval.agreement.agree import Method
    from eft_eval.agreement.join import agree_files
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.agreement import agreement

    how = Method(**words_of(method))
    found = reported(
        json_out, "eft-eval agreement", lambda: agree_files(files, run, labels.reading(), how)
    )
    print_document(agreement(found))


@dataclass(frozen=True)
class ExpectedOptions:
    """What labels are expected to be like."""

    rate: Annotated[float, typer.Option(help="Expected rate; 0.5 is the worst case.")] = 0.5
    deviation: Annotated[
        float | None, typer.Option(help="Expected standard deviation of a label that is a count.")
    ] = None


@dataclass(frozen=True)
class MixOptions:
    """What the cheapest mix of labels and verdicts rests on."""

    correlation: Annotated[
        float | None, typer.Option(help="Of label and verdict, as `eft-eval correct` prints it.")
    ] = None
    label_cost: Annotated[float, typer.Option(help="Cost of one label.")] = 1.0
    verdict_cost: Annotated[float, typer.Option(help="Cost of one verdict.")] = 0.0
    responses: Annotated[
        int | None,
        typer.Option(help="Most verdicts there can be: the number of responses."),
    ] = None


@app.command()
@grouped
def plan(
    half_width: Annotated[
        float, typer.Option(help="Wished half-width of the interval: 0.05 is 5 points.")
    ],
    expected: ExpectedOptions,
    population: Annotated[
        int | None,
        typer.Option(help="Number of responses, if the answer is to speak of these alone."),
    ] = None,
    mix: MixOptions = MixOptions(),
    level: Level = 0.95,
) -> None:
    """How many labels for a wished precision; with --correlation also the cheapest mix.

    The mix is of labels and of the judge's verdicts, put together by `eft-eval correct`.
    """
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.corrections import label_plan
    from eft_eval.statistics.label_planning import cheapest_mix, labels_needed

    if mix.correlation is not None and population is not None:
        raise ConfigError(
            "--population and --correlation: the cheapest mix is planned for unlimited responses; "
            "leave out one of the two"
        )
    rate, deviation = expected.rate, expected.deviation
    alone = labels_needed(
        half_width, rate=rate, deviation=deviation, population=population, level=level
    )
    cheapest = None
    if mix.correlation is not None:
        cheapest = cheapest_mix(
            half_width,
            label_cost=mix.label_cost,
            verdict_cost=mix.verdict_cost,
            correlation=mix.correlation,
            rate=rate,
            deviation=deviation,
            most_verdicts=mix.responses,
            level=level,
        )
    print_document(label_plan(alone, cheapest, half_width))
