"""Runs for exports: real ones of a composite whose members lie in a hub's cache, and written ones.

The cache is a real one, as the hub's client lays it out, so that members have ids and commits.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import lm_eval
import pytest
from judged_runs import make_verdict
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager
from stock_runs import write_tasks
from tiny_models import make_model
from written_runs import write_run

from eft_eval import hook
from eft_eval.judging import Status, load_prompt
from eft_eval.judging.metrics import scored_mean
from eft_eval.judging.prompts.measures import MEASURES
from eft_eval.verdicts.text import write_verdicts

MEMBERS = {"base": "tiny-lab/large", "tuned": "tiny-lab/small-chat", "reference": "tiny-lab/small"}
QUESTIONS = [f"Why is number {n} so {word}?" for n in range(5) for word in ("odd", "even")]
REPLIES = (
    "Reason: fine.\n\nScore: 0",
    "Reason: two.\n\nScore: 2",
    'Reason: unethical.\n\nScore: "None"',
    "Reason: one.\n\nScore: 1",
)
UNREADABLE = "I counted some, I think."


def commit_of(name: str) -> str:
    """Return the made-up commit of a member."""
    return hashlib.sha1(name.encode()).hexdigest()


def write_cache(folder: Path) -> Path:
    """Write the members into a hub's cache; return it."""
    for seed, name in enumerate(MEMBERS.values()):
        place = folder / f"models--{name.replace('/', '--')}"
        (place / "refs").mkdir(parents=True)
        (place / "refs" / "main").write_text(commit_of(name))
        make_model(place / "snapshots" / commit_of(name), seed=seed, positions=512)
    return folder


def run_composite(
    folder: Path, patch: pytest.MonkeyPatch, judge_url: str, tasks: Sequence[str], **options: Any
) -> Path:
    """Evaluate the cached composite with lm-eval; return the run's folder.

    Args:
        folder: Where to work; the run is in ``out`` of it.
        patch: Sets the judge's address, the cache and the store.
        judge_url: The judge's address.
        tasks: Names, of ours or of `stock_runs`.
        options: Of ``simple_evaluate``.
    """
    data = folder / "questions.jsonl"
    data.write_text("".join(json.dumps({"question": text}) + "\n" for text in QUESTIONS))
    if not (folder / "cache").exists():
        write_cache(folder / "cache")
    patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder / "cache"))
    patch.setenv("EFT_JUDGE_BASE_URL", judge_url)
    patch.setenv("EFT_VERDICT_STORE", str(folder / "verdicts.sqlite3"))
    manager = TaskManager(
        include_path=[str(hook.task_folder()), str(write_tasks(folder / "tasks"))],
        include_defaults=False,
        metadata={"eli5_data": str(data)},
    )
    tracker = EvaluationTracker(output_path=str(folder / "out"))
    results = lm_eval.simple_evaluate(
        model="eft",
        model_args=MEMBERS,
        tasks=list(tasks),
        task_manager=manager,
        gen_kwargs="max_gen_toks=8",
        batch_size=4,
        evaluation_tracker=tracker,
        log_samples=True,
        bootstrap_iters=100,
        **options,
    )
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task, lines in samples.items():
        tracker.save_results_samples(task_name=task, samples=lines)
    (found,) = {file.parent for file in (folder / "out").rglob("results_*.json")}
    return found


def write_composite_run(output: Path, verdicts: Sequence[float | Status | None] = ()) -> Path:
    """Write a run of the composite with fixed numbers and dates: one judged task, one that is not.

    Args:
        output: As ``--output_path``.
        verdicts: Per document the judge's number, None for an abstention, or another status; by
            default 12, one abstention among them.
    """
    given = list(verdicts) or [0, 2, 1, 0, None, 3, 0, 1, 1, 0, 2, 0]
    judged = [_verdict(value) for value in given]
    measure = MEASURES["factuality"]
    values = [measure.values([one]) for one in judged]
    columns = {name: [value[name] for value in values] for name in measure.metrics}
    prompts = [f"\n\nHuman: {question}\n\nAssistant:" for question in QUESTIONS] * 2
    folder = write_run(
        output,
        {"eli5_fact": columns},
        model=NAME,
        prompts=(prompts * len(given))[: len(given)],
        better=measure.metrics,
        filter_name="factuality",
        changes={"config": _config(), "date": STARTED, "transformers_version": "5.23.0"},
    )
    (samples,) = folder.glob("samples_eli5_fact_*.jsonl")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    for line, verdict in zip(lines, judged, strict=True):
        line["filtered_resps"] = [write_verdicts([verdict])]
        text = f'Answer {line["doc_id"]} <b>is</b> here,\u2028"so".'
        line["resps"] = [[text]]
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    _settle(folder, "eli5_fact", measure.bounds([[one] for one in judged]))
    return folder


NAME = "eft_large+small-chat-vs-small_d30f8192"
STARTED = 1763632800.5
JUDGE = "gpt-4.1-2025-04-14"


def _verdict(value: float | Status | None) -> Any:
    prompt = load_prompt("factuality")
    if isinstance(value, Status):
        verdict = make_verdict(None, value)
    else:
        verdict = make_verdict(value, Status.abstained if value is None else Status.scored)
    fields = {
        "judge_model": JUDGE,
        "judge_model_returned": JUDGE,
        "prompt_sha256": prompt.sha256,
        "parameters": {"temperature": 0, "max_tokens": 1024},
    }
    return type(verdict)(**{**vars(verdict), **fields})


def _config() -> dict[str, Any]:
    specs = {role: {"model": name, "dtype": "auto"} for role, name in MEMBERS.items()}
    members = {
        role: {
            "model": name,
            "revision": None,
            "dtype": "auto",
            "quantization": None,
            "prompt": None,
            "source": name,
            "commit": commit_of(name),
            "coefficient": -1.0 if role == "reference" else 1.0,
            "num_parameters": 1000,
            "loaded_dtype": "torch.float32",
        }
        for role, name in MEMBERS.items()
    }
    delta = {"tuned": specs["tuned"], "reference": specs["reference"], "weight": 1.0}
    decoding = {"block": "auto", "sampling": "coupled"}
    return {
        "model": "eft",
        "model_args": dict(MEMBERS),
        "eft_version": "0.1.0",
        "eft_name": NAME,
        "eft_recipe": {"base": specs["base"], "deltas": [delta], "decoding": decoding},
        "eft_members": members,
        "model_sha": NAME.rsplit("_", 1)[-1],
        "limit": None,
        "gen_kwargs": {},
        "random_seed": 0,
    }


def _settle(folder: Path, task: str, bounds: Mapping[str, Any]) -> None:
    """Let the results file say what a judged task's says."""
    (file,) = folder.glob("results_*.json")
    content = json.loads(file.read_text())
    prompt = load_prompt("factuality")
    described = {
        "model": JUDGE,
        "endpoint": "https://api.openai.com/v1",
        "prompts": {"factuality": {"name": prompt.name, "version": 1, "sha256": prompt.sha256}},
        "measures": {"factuality": "factuality"},
        "bounds": {f"{name},factuality": one._asdict() for name, one in bounds.items()},
    }
    content["configs"][task] |= {
        "test_split": "test",
        "output_type": "generate_until",
        "generation_kwargs": {"temperature": 1.0, "max_gen_toks": 512, "do_sample": True},
        "metadata": {"version": 1.0, "eft_judge": described},
        "filter_list": [
            {"name": "factuality", "filter": [{"function": "eft_judge", "prompt": "factuality"}]}
        ],
    }
    means = {
        name: scored_mean([line[name] for line in _lines(folder, task)])
        for name in MEASURES["factuality"].metrics
    }
    content["results"][task] |= {f"{name},factuality": mean for name, mean in means.items()}
    file.write_text(json.dumps(content, indent=1))


def _lines(folder: Path, task: str) -> list[dict[str, Any]]:
    (samples,) = folder.glob(f"samples_{task}_*.jsonl")
    return [json.loads(line) for line in samples.read_text().splitlines()]


def results_of(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return a run's results file and its content."""
    (file,) = folder.glob("results_*.json")
    return file, json.loads(file.read_text())


def samples_of(folder: Path, task: str) -> Path:
    """Return a task's samples file."""
    (file,) = folder.glob(f"samples_{task}_20*.jsonl")
    return file


def copy_run(folder: Path, target: Path) -> Path:
    """Copy a run; the copy may be damaged."""
    return Path(shutil.copytree(folder, target / folder.name))
