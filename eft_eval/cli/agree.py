"""`eft-eval agree`: how far judge and people agree, and how many labels that takes."""

from __future__ import annotations

import math
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

_MOST_LABELS = 5_000_000  # of a plan


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

    rate: Annotated[
        float | None, typer.Option(help="Expected rate; 0.5, the worst case, without it.")
    ] = None
    deviation: Annotated[
        float | None, typer.Option(help="Expected standard deviation of a label that is a count.")
    ] = None


@dataclass(frozen=True)
class MixOptions:
    """What the cheapest mix of labels and verdicts rests on."""

    correlation: Annotated[
        float | None, typer.Option(help="Of label and verdict, as `eft-eval correct` prints it.")
    ] = None
    label_cost: Annotated[float | None, typer.Option(help="Cost of one label; 1 without it.")] = (
        None
    )
    verdict_cost: Annotated[
        float | None, typer.Option(help="Cost of one verdict; 0 without it.")
    ] = None
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

    _check_plan(half_width, expected, mix, population)
    rate, deviation = 0.5 if expected.rate is None else expected.rate, expected.deviation
    alone = labels_needed(
        half_width, rate=rate, deviation=deviation, population=population, level=level
    )
    if population is None and alone.labels > _MOST_LABELS:
        raise ConfigError(
            f"±{half_width:g} takes {alone.labels:,} labels; expected a --half-width that takes at "
            f"most {_MOST_LABELS:,}"
        )
    cheapest = None
    if mix.correlation is not None:
        assert mix.responses is not None, "checked above"
        cheapest = cheapest_mix(
            half_width,
            label_cost=1.0 if mix.label_cost is None else mix.label_cost,
            verdict_cost=mix.verdict_cost or 0.0,
            correlation=mix.correlation,
            rate=rate,
            deviation=deviation,
            most_verdicts=mix.responses,
            level=level,
        )
        if not cheapest.verdicts and cheapest.labels > mix.responses:
            raise ConfigError(
                f"±{half_width:g} takes {cheapest.labels:,} labels, more than the "
                f"{mix.responses:,} responses that there are; wish a wider interval, or plan for "
                "these alone with --population"
            )
    print_document(label_plan(alone, cheapest, half_width))


def _check_plan(
    half_width: float, expected: ExpectedOptions, mix: MixOptions, population: int | None
) -> None:
    """Check what gives a plan that nobody can mean.

    Raises:
        ConfigError: Options do not go together, or a number makes no plan.
    """
    if mix.correlation is None:
        given = {name: one for name, one in vars(mix).items() if one is not None}
        if given:
            name = next(iter(given)).replace("_", "-")
            raise ConfigError(f"--{name} is of the cheapest mix; give --correlation as well")
    elif population is not None:
        raise ConfigError(
            "--population and --correlation: the cheapest mix is planned for unlimited responses; "
            "leave out one of the two"
        )
    elif mix.responses is None:
        raise ConfigError(
            "--correlation without --responses: give the number of responses, which is the most "
            "verdicts that there can be"
        )
    elif mix.responses < 1:
        raise ConfigError(f"--responses is {mix.responses}; expected 1 or more")
    elif not 0 < mix.correlation < 1:
        raise ConfigError(
            f"--correlation is {mix.correlation:g}; expected one above 0 and below 1: verdicts "
            "that do not rise with the labels save none, and none are the labels themselves"
        )
    if not math.isfinite(half_width):
        raise ConfigError(f"--half-width is {half_width:g}; expected a number, such as 0.05")
    if expected.deviation is not None:
        if expected.rate is not None:
            raise ConfigError("--rate and --deviation: a label is a rate or a count; give one")
        if not 0 < expected.deviation < math.inf:
            raise ConfigError(f"--deviation is {expected.deviation:g}; expected one above 0")
        return
    if expected.rate is not None and not 0 < expected.rate < 1:
        raise ConfigError(
            f"--rate is {expected.rate:g}; expected one above 0 and below 1: at the ends nothing "
            "varies, and one label would do"
        )
    if half_width >= 0.5:
        raise ConfigError(
            f"--half-width is {half_width:g}: ±0.5 is any rate at all; expected a share below 0.5, "
            "such as 0.05 for 5 points"
        )
