"""`eft-eval correct`: a run's judged metrics, corrected by people's labels."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from eft_eval.cli.options import (
    Field,
    JsonOut,
    LabelFiles,
    Level,
    Measure,
    Missing,
    Positive,
    SeveralFiles,
    Tasks,
)
from eft_eval.errors import ConfigError

app = typer.Typer(add_completion=False)


class PeopleName(str, Enum):
    """How several people's labels of one response are taken together."""

    mean = "mean"
    majority = "majority"


@app.command(cls=SeveralFiles)
def correct(
    run_dir: Annotated[Path, typer.Argument(help="Folder with results_*.json of a judged run.")],
    labels: LabelFiles = None,
    judge: Annotated[
        str | None, typer.Option(help="An annotator of the files that is no person: left out.")
    ] = None,
    task: Tasks = None,
    measure: Measure = None,
    field: Field = None,
    positive: Positive = None,
    missing: Missing = None,
    people: Annotated[
        PeopleName, typer.Option(help="How several people's labels of a response are taken.")
    ] = PeopleName.mean,
    power: Annotated[
        float | None, typer.Option(help="The verdicts' weight λ from 0 to 1; tuned without it.")
    ] = None,
    level: Level = 0.95,
    json_out: JsonOut = None,
) -> None:
    """Correct a run's judged metrics by labels on a random sample of its responses.

    Writes new result and samples files beside the old: METRIC_ppi with its standard error, and
    the interval under eft_corrected.
    """
    if not labels:
        raise ConfigError("there are no label files; name them with --labels FILE …")
    from eft_eval.agreement.correct_run import correct_run
    from eft_eval.records import check_report_path, write_report
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.corrections import corrected_run

    if json_out is not None:
        check_report_path(json_out, "eft-eval correction")
    found = correct_run(
        run_dir,
        labels,
        judge=judge,
        tasks=task,
        field=field,
        positive=positive,
        missing=missing or (),
        people="majority" if people is PeopleName.majority else "mean",
        power=power,
        level=level,
        measure=None if measure is None else measure.value,
    )
    if json_out is not None:
        write_report(json_out, found.to_dict())
    print_document(corrected_run(found))
