"""`eft-eval correct`: a run's judged metrics, corrected by people's labels."""

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
    SeveralFiles,
    grouped,
    reported,
    words_of,
)

app = typer.Typer(add_completion=False)


class PeopleName(str, Enum):
    """How several people's labels of one response are taken together."""

    mean = "mean"
    majority = "majority"


@dataclass(frozen=True)
class PeoplesLabelOptions(MeasuredLabelOptions):
    """The same with another word on the judge: here all labels are people's."""

    judge: Annotated[
        str | None, typer.Option(help="An annotator of the files that is no person: left out.")
    ] = None


@dataclass(frozen=True)
class CorrectionOptions:
    """How metrics are corrected."""

    people: Annotated[
        PeopleName, typer.Option(help="How several people's labels of a response are taken.")
    ] = PeopleName.mean
    power: Annotated[
        float | None, typer.Option(help="The verdicts' weight λ from 0 to 1; tuned without it.")
    ] = None
    level: Level = 0.95


@app.command(cls=SeveralFiles)
@grouped
def correct(
    run_dir: Annotated[
        Path, typer.Argument(help="A judged run's folder or results file, or a pattern.")
    ],
    labels: PeoplesLabelOptions,
    correction: CorrectionOptions,
    json_out: JsonOut = None,
) -> None:
    """Correct a run's judged metrics by labels on a random sample of its responses.

    Writes new result and samples files beside the old: METRIC_ppi with its standard error, and
    the interval under eft_corrected.
    """
    files = labels.files
    from eft_eval.agreement.correct import Correction, correct_run
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.corrections import corrected_run

    how = Correction(**words_of(correction))
    found = reported(
        json_out,
        "eft-eval correction",
        lambda: correct_run(run_dir, files, labels.reading(), how),
    )
    print_document(corrected_run(found))
