"""`eft-eval compare` and `eft-eval bless`: gate a run against an accepted one."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from eft_eval.cli.options import ComparingOptions, grouped
from eft_eval.errors import ComparabilityError, ConfigError, EftEvalError, nearest
from eft_eval.files import check_output, text_kind, write_output
from eft_eval.streams import say


class RunsByDefault(TyperGroup):
    """Reads ``compare BASELINE CANDIDATE`` as ``compare runs BASELINE CANDIDATE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["runs", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=RunsByDefault,
    help="Compare runs with a baseline, document by document: "
    "`eft-eval compare BASELINE CANDIDATE`.",
    no_args_is_help=True,
    add_completion=False,
)


_STARTS = {  # of the forms of a comparison
    "text": r"baseline: .*\ncandidate: ",
    "json": r'\{\s*"format": "eft-eval comparison"',
    "markdown": r"### \S+ (regression|pass|inconclusive|not comparable): .*\nBaseline: .*\n"
    r"Candidate: ",
    "junit": r'<\?xml [^\n]*\n<testsuites name="eft-eval compare"',
    "github": r"::(error|warning|notice) title=",
}
_COMPARISON = text_kind("comparison of eft-eval", "|".join(_STARTS.values()))


class Form(str, Enum):
    """Forms of a comparison."""

    text = "text"
    json = "json"
    markdown = "markdown"
    junit = "junit"
    github = "github"


class FailOn(str, Enum):
    """What ends with an exit code that is not 0."""

    regression = "regression"
    inconclusive = "inconclusive"


@dataclass(frozen=True)
class GateOptions(ComparingOptions):
    """What is gated, and how."""

    gate: Annotated[
        list[str] | None,
        typer.Option(help="TASK/METRIC to gate, with *; repeatable. By default all scores."),
    ] = None
    tolerance: Annotated[
        float | None, typer.Option(help="Largest accepted drop, in the metric's units.")
    ] = None
    alpha: Annotated[float | None, typer.Option(help="One-sided error probability: 0.05.")] = None
    fail_on: Annotated[
        FailOn | None, typer.Option(help="With `inconclusive`, that ends with exit code 3.")
    ] = None
    seed: Annotated[int | None, typer.Option(help="Seed of the random sign flips: 0.")] = None

    def given(self) -> dict[str, Any]:
        """The settings that were given; None for the others."""
        fail_on = self.fail_on
        return {
            **super().given(),
            "tolerance": self.tolerance,
            "alpha": self.alpha,
            "gated": tuple(self.gate) if self.gate else None,
            "fail_on_inconclusive": None if fail_on is None else fail_on is FailOn.inconclusive,
            "seed": self.seed,
        }


@app.command("runs")
@grouped
def runs(
    baseline: Annotated[
        str, typer.Argument(help="A baseline file, a run's folder or results file, or a pattern.")
    ],
    candidates: Annotated[
        list[str], typer.Argument(help="The run under test; several give a table.")
    ],
    gate: GateOptions,
    form: Annotated[Form, typer.Option("--format", help="What to print.")] = Form.text,
    out: Annotated[
        list[str] | None,
        typer.Option(help="FORM=FILE: write a form to a file as well; repeatable."),
    ] = None,
) -> None:
    """Compare runs with a baseline and gate them.

    Exit codes: 0 pass, or inconclusive; 1 regression; 2 usage, or not comparable, which every form
    says with its reason; 3 inconclusive with --fail-on inconclusive, or as responses have no score.
    """
    targets = [_target(one) for one in out or []]
    with _crash_is_no_regression():
        found, error = _compare(baseline, candidates, gate)
        _show(found, form, targets)
    if error is not None and found.exit_code == 2:
        raise error
    raise typer.Exit(found.exit_code)


def _compare(
    baseline: str, candidates: list[str], gate: GateOptions
) -> tuple[Any, EftEvalError | None]:
    """Return the comparison, and why it, or one of its candidates, could not be made."""
    from eft_eval.comparing.compare import compare_runs, not_comparable
    from eft_eval.runs.reading import read_run, read_runs

    settings = gate.settings()
    try:
        found = compare_runs(
            read_run(baseline, settings.cluster),
            read_runs(candidates, settings.cluster),
            settings,
            strict=False,
        )
    except EftEvalError as error:
        return not_comparable(baseline, candidates, settings, error), error
    reasons = [reason for one in found.candidates for reason in one.reasons]
    return found, ComparabilityError("; ".join(reasons)) if reasons else None


@contextlib.contextmanager
def _crash_is_no_regression() -> Iterator[None]:
    """Keep Python's exit code 1 for crashes from being read as a regression."""
    try:
        yield
    except (EftEvalError, MemoryError, RecursionError):
        raise
    except OSError as error:
        raise ConfigError(f"the comparison cannot be shown: {error}") from error
    except Exception as error:  # whatever it is, it is no verdict
        traceback.print_exc()
        raise typer.Exit(2) from error


def _target(text: str) -> tuple[Form, Path]:
    name, equals, file = text.partition("=")
    known = [form.value for form in Form]
    if not equals or not file or name not in known:
        raise ConfigError(
            f"--out {text}: expected FORM=FILE with FORM one of {', '.join(known)}"
            f"{nearest(name, known) if equals else ''}"
        )
    path = Path(file)
    check_output(path, _COMPARISON)
    return Form(name), path


def _show(found: Any, form: Form, targets: list[tuple[Form, Path]]) -> None:
    from eft_eval.reports.ci.forms import FORMS
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.comparison import comparison

    for kind, path in targets:
        write_output(path, [FORMS[kind.value](found)], _COMPARISON)
    if form is Form.text:
        if any(not one.reasons for one in found.candidates):  # else the error says it all
            print_document(comparison(found))
    else:
        sys.stdout.write(FORMS[form.value](found))
    sys.stdout.flush()  # a full disk shows here, not after the exit code


@dataclass(frozen=True)
class DifferenceOptions:
    """How two runs are expected to differ."""

    disagreement: Annotated[
        float, typer.Option(help="Share of documents on which two runs differ (0-or-1 metrics).")
    ] = 0.2
    deviation: Annotated[
        float | None, typer.Option(help="Standard deviation of the paired differences instead.")
    ] = None
    cluster_size: Annotated[float, typer.Option(help="Mean documents per cluster.")] = 1.0
    correlation: Annotated[float, typer.Option(help="Of differences within a cluster (ICC).")] = 0.0


@app.command("plan")
@grouped
def plan(
    resolution: Annotated[
        float, typer.Option(help="Smallest drop that matters, in the metric's units: 0.05.")
    ],
    expected: DifferenceOptions,
    alpha: Annotated[float, typer.Option(help="One-sided error probability.")] = 0.05,
    power: Annotated[float, typer.Option(help="Probability of deciding.")] = 0.8,
    metrics: Annotated[int, typer.Option(help="Number of gated metrics.")] = 1,
) -> None:
    """How many documents a wished resolution takes."""
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.comparison import compare_plan
    from eft_eval.statistics.document_planning import plan_comparison

    found = plan_comparison(resolution, alpha=alpha, power=power, metrics=metrics, **vars(expected))
    print_document(compare_plan(found))


def bless(
    run: Annotated[str, typer.Argument(help="A run's folder or results file, or a pattern.")],
    out: Annotated[Path, typer.Option(help="The baseline file, to be committed.")],
    cluster: Annotated[
        str, typer.Option(help='Dependent items: "prompt", or a path such as doc.article.')
    ] = "prompt",
    allow_incomplete: Annotated[
        bool,
        typer.Option(
            "--allow-incomplete",
            help="Take a run with responses without a verdict, or many without a score.",
        ),
    ] = False,
) -> None:
    """Write a run as the accepted baseline: aggregates and numbers per document, no texts."""
    from eft_eval.comparing.bless import bless as write_baseline
    from eft_eval.comparing.unscored import unscored_texts

    blessed = write_baseline(run, out, cluster, allow_incomplete=allow_incomplete)
    for problem in blessed.problems:
        say(f"eft-eval: note: {problem.text}", sys.stderr)
    for text in unscored_texts(blessed):
        say(f"eft-eval: note: {text}", sys.stderr)
    counts = ", ".join(
        f"{task.name} ({max((len(p.items) for p in task.pipelines.values()), default=0)})"
        for task in blessed.tasks.values()
    )
    say(f"{out}: {blessed.model}, {blessed.date}: {counts}")
