"""A generation run that was stopped goes on where it was, and gives the same results."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import torch
from adapters import make_adapter
from fresh_environments import clean_environ
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager
from tiny_models import byte_tokenizer, make_model

from eft_eval.errors import ConfigError
from eft_eval.model_adapters.eft import EFTLM
from eft_eval.recipe import naming

Paths = dict[str, str]
SETTINGS = {"do_sample": True, "temperature": 1.0, "until": ["e"], "max_gen_toks": 6}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    folder = tmp_path_factory.mktemp("family")
    chat = byte_tokenizer(chat=True)
    roles = {"base": 11, "tuned": 12, "reference": 13}
    return {role: make_model(folder / role, seed=n, tokenizer=chat) for role, n in roles.items()}


def asked(**settings: Any) -> list[Instance]:
    """Twelve requests: two tasks, two samples each, and one prompt that two documents share."""
    made = []
    for task in ("a", "b"):
        for number, prompt in enumerate(("one", "two", "one")):
            given = {**SETTINGS, **settings}
            request = Instance("generate_until", {}, (prompt, given), 0, (task, number, 2))
            made += [request, request]
    return made


def run(args: dict[str, Any], seed: int = 5, **settings: Any) -> tuple[list[str], int, int]:
    """Return responses, and how many were made and found."""
    model = EFTLM(**{"batch_size": 4, **args})
    torch.manual_seed(seed)
    responses = model.generate_until(asked(**settings), disable_tqdm=True)
    model._resume.close()
    return responses, model.decoder.statistics.requests, model.decoder.statistics.resumed


def cut(folder: Path, lines: int) -> None:
    """Leave so many responses, and a part of the next one, as a crash does."""
    (file,) = folder.iterdir()
    content = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(content[: 1 + lines]) + b"".join(content[1 + lines :])[:20])


@pytest.mark.parametrize("lines", [0, 5, 11])
def test_it_goes_on_where_it_was(paths: Paths, tmp_path: Path, lines: int) -> None:
    folder = tmp_path / "kept"
    whole, *counts = run(paths)
    assert counts == [12, 0]
    assert run({**paths, "resume": str(folder)}) == (whole, 12, 0)
    cut(folder, lines)
    again = run({**paths, "resume": str(folder), "batch_size": 3})
    assert again[0] == whole
    assert again[1] + again[2] == 12
    assert again[2] >= lines, "two tasks that ask the same share a response"
    assert run({**paths, "resume": str(folder)}) == (whole, 0, 12)


OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "weight": ({"weight": 0.5}, {}),
    "dtype": ({"dtype": "bfloat16"}, {}),
    "prompt form": ({"base.prompt": "Q: {{ prompt }}"}, {}),
    "weight filter": ({"weight_top_p": 0.9}, {}),
    "max_length": ({"max_length": 40}, {}),
    "mixed precision": ({"mixed_precision_dtype": "bfloat16"}, {}),
    "sampling": ({"sampling": "rejection"}, {}),
    "temperature": ({}, {"temperature": 0.5}),
    "top_k": ({}, {"top_k": 3}),
    "until": ({}, {"until": ["q"]}),
    "length": ({}, {"max_gen_toks": 5}),
    "seed": ({}, {"seed": 6}),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_changes_a_response_never_takes_another_runs(
    paths: Paths, tmp_path: Path, what: str
) -> None:
    run({**paths, "resume": str(tmp_path)})
    args, settings = OTHERS[what]
    _, made, found = run({**paths, **args, "resume": str(tmp_path)}, **settings)
    assert (made, found) == (12, 0)


def test_other_weights_or_tokens_never_take_another_runs(paths: Paths, tmp_path: Path) -> None:
    kept = str(tmp_path / "kept")
    run({**paths, "resume": kept})
    other = make_model(tmp_path / "other", seed=99)
    assert run({**paths, "reference": other, "resume": kept})[2] == 0
    bos = make_model(tmp_path / "bos", seed=12, tokenizer=byte_tokenizer(bos=True))
    assert run({**paths, "tuned": bos, "resume": kept})[2] == 0


def test_other_code_of_a_model_never_takes_another_runs(paths: Paths, tmp_path: Path) -> None:
    kept, own = str(tmp_path / "kept"), tmp_path / "own"
    shutil.copytree(paths["tuned"], own)
    (own / "folder.py").mkdir()
    args = {**paths, "tuned": str(own), "resume": kept}
    run(args)
    found = []
    for code in ("SCALE = 1", "SCALE = 2", "SCALE = 1"):
        (own / "modeling_own.py").write_text(code)
        found.append(run(args)[2])
    assert found == [0, 0, 12]


@pytest.mark.parametrize("kind", ["folder", "adapter"])
def test_an_edit_between_the_samples_of_a_large_file_never_takes_another_runs(
    paths: Paths, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(naming, "_WHOLE_FILE_BYTES", 1 << 10)
    monkeypatch.setattr(naming, "_SAMPLE_BYTES", 4)
    own = tmp_path / "own"
    if kind == "folder":
        shutil.copytree(paths["tuned"], own)
        file = own / "model.safetensors"
    else:
        make_adapter(own, paths["reference"])
        file = own / "adapter_model.safetensors"
    args = {**paths, "tuned": str(own), "resume": str(tmp_path / "kept")}
    first, *_ = run(args)
    assert run(args) == (first, 0, 12)
    name = EFTLM(**args).composite.name
    content = bytearray(file.read_bytes())
    sampled = {k * (len(content) - 4) // 63 + at for k in range(64) for at in range(4)}
    header = 8 + int.from_bytes(content[:8], "little")
    for place in range(header + 3, len(content), 4):  # exponents of float32
        if not {place - 1, place} & sampled:
            content[place] ^= 0x80
    file.write_bytes(content)
    assert EFTLM(**args).composite.name == name, "only samples are in a name"
    second, made, found = run(args)
    assert (made, found) == (12, 0)
    assert second != first


def test_what_changes_no_response_takes_them(paths: Paths, tmp_path: Path) -> None:
    kept = str(tmp_path / "kept")
    whole, *_ = run({**paths, "resume": kept})
    elsewhere = tmp_path / "moved"
    elsewhere.symlink_to(paths["base"])
    for other in (
        {"batch_size": 1},
        {"block": 0},
        {"logits_cache": False},
        {"base": str(elsewhere)},
    ):
        assert run({**paths, **other, "resume": kept}) == (whole, 0, 12)


def test_an_error_on_the_way_keeps_what_is_finished(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stops the run: here the memory runs out in the third round that ends responses."""
    whole, *_ = run(paths)
    args = {**paths, "resume": str(tmp_path)}
    model = EFTLM(**args, batch_size=4)
    rounds = model.decoder.rounds

    def failing(*given: Any) -> Any:
        ends = 0
        for ended in rounds(*given):
            yield ended
            ends += bool(ended)
            if ends == 3:
                raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model.decoder, "rounds", failing)
    torch.manual_seed(5)
    with pytest.raises(torch.OutOfMemoryError):
        model.generate_until(asked(), disable_tqdm=True)
    made = model.decoder.statistics.requests
    responses, rest, found = run(args)
    assert responses == whole
    assert rest <= 12 - made
    assert found >= made


@pytest.mark.parametrize(
    ("resume", "text"), [("{file}/x", "cannot write"), (True, "needs --output_path")]
)
def test_a_place_that_cannot_be_used_is_one_line_before_any_weights(
    paths: Paths, tmp_path: Path, resume: Any, text: str
) -> None:
    (tmp_path / "file").write_text("")
    given = resume.format(file=tmp_path / "file") if isinstance(resume, str) else resume
    model = EFTLM(**paths, resume=given)
    with pytest.raises(ConfigError, match=text):
        model.generate_until(asked(), disable_tqdm=True)
    assert not model.composite.members["base"].loaded


# --- whole runs --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> TaskManager:
    folder = tmp_path_factory.mktemp("tasks")
    data = folder / "data.json"
    data.write_text(json.dumps([{"q": f"Question {n}?"} for n in range(4)]))
    for name, sampling in (("greedy", "false"), ("sampled", "true, temperature: 1.0")):
        (folder / f"{name}.yaml").write_text(
            f"task: {name}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {data}}}}}\n"
            "test_split: test\noutput_type: generate_until\ndoc_to_text: '{{q}}'\n"
            f"doc_to_target: x\nrepeats: 2\ngeneration_kwargs: {{until: [], max_gen_toks: 5, "
            f"do_sample: {sampling}}}\nmetric_list: [{{metric: exact_match}}]\n"
            "filter_list: [{name: all, filter: [{function: take_first}]}]\n"
        )
    return TaskManager(include_path=str(folder), include_defaults=False)


def evaluated(tasks: TaskManager, args: dict[str, Any], **options: Any) -> tuple[Any, Any]:
    results = lm_eval.simple_evaluate(
        model="eft", model_args=args, tasks=["greedy", "sampled"], task_manager=tasks,
        bootstrap_iters=0, device="cpu", batch_size=4, **options,
    )  # fmt: skip
    samples = {
        name: [(one["doc_id"], one["resps"]) for one in lines]
        for name, lines in results["samples"].items()
    }
    return samples, results["config"]["eft_decoding"]


def test_tasks_repeats_and_the_request_cache(
    paths: Paths, tasks: TaskManager, tmp_path: Path
) -> None:
    plain, _ = evaluated(tasks, dict(paths))
    args = {**paths, "resume": str(tmp_path / "kept")}
    cache = str(tmp_path / "cache")
    first, decoded = evaluated(tasks, args, use_cache=cache)
    assert first == plain
    assert (decoded["requests"], decoded["resumed"]) == (16, 0)
    cut(tmp_path / "kept", 9)
    again, decoded = evaluated(tasks, args)
    assert again == plain
    assert (decoded["requests"], decoded["resumed"]) == (7, 9)
    assert evaluated(tasks, args, use_cache=cache)[0] == plain


def test_an_output_path_of_an_earlier_evaluation_is_not_this_ones(
    paths: Paths,
    tasks: TaskManager,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lm_eval.loggers import EvaluationTracker

    monkeypatch.setattr("atexit.register", lambda _: None)  # nobody writes these results

    folder = tmp_path / "out" / "eft_resume"
    evaluated(tasks, dict(paths), evaluation_tracker=EvaluationTracker(str(tmp_path / "out")))
    assert folder.is_dir()
    files = {file: file.stat().st_size for file in folder.iterdir()}
    with caplog.at_level(logging.WARNING):
        evaluated(tasks, dict(paths))
    assert {file: file.stat().st_size for file in folder.iterdir()} == files


def test_results_that_were_not_written_leave_the_responses_and_a_line(
    paths: Paths,
    tasks: TaskManager,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On a full disk lm-eval writes a part of them, logs that and ends with 0."""
    from lm_eval.loggers import EvaluationTracker

    at_exit: list[Callable[[], None]] = []
    monkeypatch.setattr("atexit.register", at_exit.append)
    tracker = EvaluationTracker(str(tmp_path))
    results = lm_eval.simple_evaluate(
        model="eft", model_args=dict(paths), tasks=["greedy"], task_manager=tasks,
        bootstrap_iters=0, device="cpu", batch_size=4, evaluation_tracker=tracker,
    )  # fmt: skip
    (forget,) = (one for one in at_exit if getattr(one, "__name__", "") == "_forget")
    folder = tmp_path / "eft_resume"
    samples = results.pop("samples")
    tracker.save_results_aggregated(results, samples)
    (results_file,) = tmp_path.glob("*/results_*.json")
    for written, cut_off in ((0, 0), (1, 0), (4, 3), (4, 0)):
        if written:
            tracker.save_results_samples("greedy", samples["greedy"][:written])
            (file,) = tmp_path.glob("*/samples_*")
            os.truncate(file, file.stat().st_size - cut_off)
        assert folder.is_dir()
        capsys.readouterr()
        forget()
        said = capsys.readouterr().err
        assert (f"the finished responses stay in {folder}" in said) == (written < 4 or cut_off > 0)
        for file in tmp_path.glob("*/samples_*"):
            file.unlink()
    assert results_file.exists()
    assert not folder.exists()


def command(out: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "eft_eval", "run", "--model_args", "model=demo"),
        *("--tasks", "demo_fact", "--batch_size", "8", "--device", "cpu", "--log_samples"),
        *("--gen_kwargs", "max_gen_toks=24,do_sample=True,temperature=1.0"),
        *("--output_path", str(out), *more),
    ]


ENVIRON = clean_environ(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", ACCELERATE_USE_CPU="true")


def kept(out: Path) -> list[str]:
    """Return the whole lines of responses that lie beside an output."""
    files = [*out.glob("eft_resume/*.jsonl")]
    lines = [file.read_bytes().split(b"\n")[1:-1] for file in files]
    return [line.decode() for of_file in lines for line in of_file]


def stopped(
    arguments: list[str], out: Path, after: int, stop: Callable[[subprocess.Popen[str]], None]
) -> tuple[int, str]:
    """Start a run, stop it when so many responses lie there; return exit code and stderr."""
    log = out.parent / "log.txt"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            arguments, cwd=out.parent, env=ENVIRON, stdout=stderr, stderr=stderr, text=True
        )
        while len(kept(out)) < after and process.poll() is None:
            time.sleep(0.01)
        stop(process)
        return process.wait(), log.read_text()


def finished(arguments: list[str], out: Path) -> tuple[dict[str, Any], dict[int, Any]]:
    done = subprocess.run(arguments, cwd=out.parent, env=ENVIRON, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = out.glob("*/results_*.json")
    (samples,) = out.glob("*/samples_*.jsonl")
    text = re.sub(r'\\"created\\": \\"[^"]*\\"', "", samples.read_text("utf-8"))  # verdicts' times
    lines = map(json.loads, text.splitlines())
    return json.loads(results.read_text("utf-8")), {one.pop("doc_id"): one for one in lines}


@pytest.mark.slow
def test_killed_ten_times_it_gives_the_same(tmp_path: Path) -> None:
    limit = ("--limit", "256")
    results, samples = finished(command(tmp_path / "once", *limit), tmp_path / "once")
    assert len(samples) == 256
    assert not (tmp_path / "once" / "eft_resume").exists(), "all is in the samples"
    out = tmp_path / "killed"
    draw = random.Random(7)
    at = sorted(draw.sample(range(1, 250), 10))
    for after in at:
        code, _ = stopped(command(out, *limit), out, after, lambda one: one.kill())
        assert code == -signal.SIGKILL
    before = kept(out)
    assert len({json.loads(line)["key"] for line in before}) == len(before), "none is made twice"
    again, resumed = finished(command(out, *limit), out)
    assert resumed == samples
    assert again["results"] == results["results"]
    decoded = again["config"]["eft_decoding"]
    assert decoded["resumed"] == len(before)
    assert decoded["requests"] == 256 - len(before)
    assert not (out / "eft_resume").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_round_and_says_how_to_go_on(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    out = tmp_path / "out"
    limit = ("--limit", "128")
    found, log = stopped(command(out, *limit), out, 20, lambda one: one.send_signal(number))
    assert found == code
    lines = len(kept(out))
    assert f"{lines} of 128 responses are finished and lie in {out / 'eft_resume'}" in log
    assert "the same command goes on from there" in log
    assert "Traceback" not in log
    results, samples = finished(command(out, *limit), out)
    assert results["config"]["eft_decoding"]["resumed"] == lines
    assert len(samples) == 128


@pytest.mark.slow
def test_other_numbers_of_ranks_go_on(tmp_path: Path) -> None:
    """Two ranks are killed, one goes on; what was kept goes when the results are written."""
    limit = ("--limit", "61")
    results, samples = finished(command(tmp_path / "once", *limit), tmp_path / "once")
    out = tmp_path / "out"
    single = command(out, *limit)
    ranks = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "eft_eval")
    both = [sys.executable, "-m", *ranks, *single[single.index("run") :]]

    def kill(process: subprocess.Popen[str]) -> None:
        family = subprocess.run(
            ["ps", "--ppid", str(process.pid), "-o", "pid="], capture_output=True, text=True
        )
        for child in map(int, family.stdout.split()):
            os.kill(child, signal.SIGKILL)

    code, log = stopped(both, out, 15, kill)
    assert code != 0, log
    before = len({json.loads(line)["key"] for line in kept(out)})
    assert before >= 15
    again, resumed = finished(both, out)
    assert resumed == samples
    assert again["results"] == results["results"]
    assert again["config"]["eft_decoding"]["resumed"] == before
    assert not (out / "eft_resume").exists()
