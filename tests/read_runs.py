"""What is wrong with a run that was read."""

from __future__ import annotations

from pathlib import Path

from eft_eval.comparing import Run


def errors_of(run: Run) -> list[str]:
    return [problem.text for problem in run.problems if problem.severity == "error"]


def samples_of(folder: Path, task: str) -> Path:
    (file,) = folder.glob(f"samples_{task}_20*.jsonl")
    return file
