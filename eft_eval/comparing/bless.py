"""Accepting a run: it becomes the baseline that later runs are compared with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from eft_eval.comparing.settings import GateSettings
from eft_eval.comparing.unscored import unscored_texts
from eft_eval.errors import ComparabilityError
from eft_eval.files import check_output, json_kind, write_output
from eft_eval.runs.baseline import baseline_lines, incomplete_filters, is_baseline
from eft_eval.runs.reading import read_run
from eft_eval.runs.records import Run
from eft_eval.runs.samples import PROMPT

__all__ = ["bless"]

_BASELINE = json_kind("baseline", is_baseline)


def bless(
    source: str | Path, out: Path, cluster: str = PROMPT, *, allow_incomplete: bool = False
) -> Run:
    """Write a run as a baseline; an older baseline of that name is replaced.

    The same run gives the same bytes.

    Args:
        source: The run; see `eft_eval.runs.reading.read_run`.
        out: The file.
        cluster: What makes items dependent, kept in the baseline.
        allow_incomplete: Whether responses may lack a verdict, or more than a share of them
            (`GateSettings.unscored_tolerance`) a score; the file then says so.

    Returns:
        The run with the tasks that were written.

    Raises:
        ConfigError: There is no run, or ``out`` is another kind of file.
        ComparabilityError: The run is incomplete (documents, or verdicts of a judge), or has no
            samples.
    """
    check_output(out, _BASELINE)
    run = read_run(source, cluster)
    if errors := [problem.text for problem in run.problems if problem.severity == "error"]:
        raise ComparabilityError(f"{source} cannot be a baseline: {'; '.join(errors)}")
    tasks = {name: task for name, task in run.tasks.items() if task.pipelines and task.columns}
    if not tasks:
        raise ComparabilityError(
            f"{source} cannot be a baseline: no task has metrics and samples (--log_samples)"
        )
    kept = replace(run, tasks=tasks)
    lacking = [f"{where}: {text}" for where, text in incomplete_filters(kept).items()]
    lacking = lacking or unscored_texts(kept, GateSettings().unscored_tolerance)
    if lacking and not allow_incomplete:
        raise ComparabilityError(
            f"{source} cannot be a baseline: {'; '.join(lacking)}; `eft-eval judge {source}` asks "
            "again for those without a verdict, --allow-incomplete takes the run as it is"
        )
    write_output(out, baseline_lines(kept, cluster), _BASELINE)
    return kept
