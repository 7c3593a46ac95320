"""Runs of lm-eval in process, saved to files as the command `lm_eval` saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager


def saved_run(
    output: Path, model: str, manager: TaskManager, tasks: list[str], **options: Any
) -> Path:
    """Evaluate a small model with lm-eval's own adapter; return the folder with the results.

    Args:
        output: As ``--output_path``; must be new.
        model: Folder of the model.
        manager: Knows the tasks.
        tasks: Their names.
        options: Further ones of ``simple_evaluate``.
    """
    tracker = EvaluationTracker(output_path=str(output))
    results = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": model, "device": "cpu"},
        tasks=tasks,
        task_manager=manager,
        evaluation_tracker=tracker,
        log_samples=True,
        **options,
    )
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task, lines in samples.items():
        tracker.save_results_samples(task_name=task, samples=lines)
    (found,) = output.iterdir()
    return found
