"""Accepting a run: it becomes the baseline that later runs are compared with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from eft_eval.errors import ComparabilityError, ConfigError
from eft_eval.files import write_lines
from eft_eval.runs.baseline import baseline_lines, is_baseline
from eft_eval.runs.reading import read_run
from eft_eval.runs.records import Run
from eft_eval.runs.samples import PROMPT

__all__ = ["bless"]


def bless(source: str | Path, out: Path, cluster: str = PROMPT) -> Run:
    """Write a run as a baseline; an older baseline of that name is replaced.

    The same run gives the same bytes.

    Args:
        source: The run; see `eft_eval.runs.reading.read_run`.
        out: The file.
        cluster: What makes items dependent, kept in the baseline.

    Returns:
        The run with the tasks that were written.

    Raises:
        ConfigError: There is no run, or ``out`` is another kind of file.
        ComparabilityError: The run is incomplete, or has no samples.
    """
    _check_out(out)
    run = read_run(source, cluster)
    if errors := [problem.text for problem in run.problems if problem.severity == "error"]:
        raise ComparabilityError(f"{source} cannot be a baseline: {'; '.join(errors)}")
    tasks = {name: task for name, task in run.tasks.items() if task.pipelines and task.columns}
    if not tasks:
        raise ComparabilityError(
            f"{source} cannot be a baseline: no task has metrics and samples (--log_samples)"
        )
    kept = replace(run, tasks=tasks)
    write_lines(out, baseline_lines(kept, cluster))
    return kept


def _check_out(out: Path) -> None:
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"there is no folder {out.parent} to write {out.name} into")
    if not out.exists():
        return
    try:
        known = is_baseline(json.loads(out.read_text("utf-8")))
    except (OSError, ValueError):
        known = False
    if not known:
        raise ConfigError(f"{out} exists and is no baseline; choose another name for --out")
