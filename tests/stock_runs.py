"""Real lm-eval runs on tiny tasks of its own kinds, in process: `--model dummy`, six documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

GENERATION = """\
task: sums_gen
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
num_fewshot: 0
generation_kwargs: {until: ["\\n"], do_sample: false}
filter_list:
  - {name: strict, filter: [{function: regex, regex_pattern: "^(\\\\d+)$"}, {function: take_first}]}
  - {name: flexible, filter: [{function: regex, regex_pattern: "(\\\\w+)"}, {function: take_first}]}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
metadata: {version: 2.0}
"""
CHOICE = """\
task: sums_choice
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_target: gold
doc_to_choice: choices
num_fewshot: 0
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0}
"""
AGAIN = """\
include: sums_choice.yaml
task: sums_choice_again
doc_to_text: "Q: {{question}}"
"""
ROLLING = """\
task: sums_text
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}}"
num_fewshot: 0
metric_list:
  - {metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}
metadata: {version: 1.0}
"""
GROUP = """\
group: sums
task: [sums_choice, sums_choice_again]
aggregate_metric_list:
  - {metric: acc, aggregation: mean, weight_by_size: true}
metadata: {version: 1.0}
"""
TASKS = ("sums", "sums_gen", "sums_text")


def write_tasks(folder: Path, documents: int = 6) -> Path:
    """Write the tasks and their documents; return the folder for ``include_path``."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(documents):
        total = number + 3
        choices = [str(total), str(total + 1), str(total - 1)]
        question = f"What is {number} plus 3?"
        rows.append({"question": question, "answer": str(total), "choices": choices, "gold": 0})
    data = folder / "sums.json"
    data.write_text("\n".join(map(json.dumps, rows)) + "\n")
    texts = {
        "sums_gen": GENERATION,
        "sums_choice": CHOICE,
        "sums_choice_again": AGAIN,
        "sums_text": ROLLING,
        "sums": GROUP,
    }
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text.replace("DATA", str(data)))
    return folder


def run_dummy(tasks: Path, output: Path, **options: Any) -> Path:
    """Run lm-eval's dummy model as the stock command does; return the folder with the files.

    Args:
        tasks: Folder of `write_tasks`.
        output: As ``--output_path``: a folder, or a file's name ending in .json.
        options: Of `lm_eval.simple_evaluate`.
    """
    tracker = EvaluationTracker(output_path=str(output))
    results = lm_eval.simple_evaluate(
        model="dummy",
        model_args=options.pop("model_args", "model=dummy"),
        tasks=options.pop("names", list(TASKS)),
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        evaluation_tracker=tracker,
        log_samples=options.pop("log_samples", True),
        bootstrap_iters=100,
        **options,
    )
    samples = results.pop("samples", None)
    tracker.save_results_aggregated(results=results, samples=samples)
    for name, lines in (samples or {}).items():
        tracker.save_results_samples(task_name=name, samples=lines)
    if output.suffix == ".json":
        return output.parent
    return max(output.iterdir(), key=lambda path: path.stat().st_mtime)
