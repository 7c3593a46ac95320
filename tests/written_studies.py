"""Studies whose runs are written with given numbers, as if lm-eval had made them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from written_runs import write_run

from eft_eval.study.design import find_design
from eft_eval.study.folder import StudyFolder
from eft_eval.study.plan import ArmRun, plan_study

Numbers = Callable[[ArmRun], Mapping[str, Mapping[str, Sequence[float | None]]]]


def planned(path: Path, name: str, **changes: Any) -> StudyFolder:
    """Return a study on the demo family that nobody has run."""
    settings = {key.replace("_", "-"): value for key, value in changes.items()}
    return StudyFolder(path, plan_study(find_design(name, {"family": "demo", **settings})))


def written(folder: StudyFolder, numbers: Numbers, **written_as: Any) -> StudyFolder:
    """Write every run's files, and note that it is whole.

    Args:
        folder: Of the study.
        numbers: Per run its tasks' metrics.
        written_as: Further arguments of `write_run`.
    """
    with folder.held(lambda: None):
        for run in folder.plan.runs:
            write_run(folder.place(run), numbers(run), model=run.arm.name, **written_as)
            folder.finish(run, 1.0)
    return folder
