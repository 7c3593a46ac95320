"""Whole studies on the demo: kills, failing arms, a judge that is down."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-m", "eft_eval", "study"]
THREE = """
analysis: scaling
family: demo
tasks: [demo_fact, demo_help]
limit: 12
arms:
  small-tuned: {base: small-tuned}
  up-scaled: {base: large-base, tuned: small-tuned, reference: small-base}
  large-tuned: {base: large-tuned}
"""


def study(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, words)], capture_output=True, text=True, timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


def outputs(folder: Path) -> Mapping[str, bytes]:
    files = [*folder.glob("*.*"), *folder.glob("figures/*")]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files if file.is_file()}


def test_killed_at_ten_points_it_gives_the_same_bytes(tmp_path: Path) -> None:
    design, whole, killed = tmp_path / "three.yaml", tmp_path / "whole", tmp_path / "killed"
    design.write_text(THREE)
    started = time.monotonic()
    done = study(design, "--out", whole)
    assert done.returncode == 0, done.stderr
    assert "[3/3]" in done.stderr
    took = time.monotonic() - started
    source = random.Random(5)
    for _ in range(10):
        child = subprocess.Popen(
            [*COMMAND, str(design), "--out", str(killed)], start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(source.uniform(0.3, 0.95) * took)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    before = {path: path.stat().st_mtime_ns for path in killed.glob("arms/*/*/done.json")}
    last = study(design, "--out", killed)
    assert last.returncode == 0, last.stderr
    assert last.stderr.count(": kept") == len(before)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert outputs(killed) == outputs(whole)
    again = study(design, "--out", killed)
    assert again.stderr.count(": kept") == 3
    assert outputs(killed) == outputs(whole)


def test_an_arm_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        "analysis: weights\nfamily: demo\ntasks: demo_help\nlimit: 4\narms:\n"
        f"  broken: {{base: {tmp_path}/nothing}}\n"
        "  up: {base: large-base, tuned: small-tuned, reference: small-base}\n"
    )
    done = study(file, "--out", tmp_path / "s")
    assert done.returncode == 3
    assert "broken/seed-1234: failed" in done.stderr
    assert "up/seed-1234: done" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "s" / "results.json").read_text())["missing"] == ["broken"]


def test_a_judge_that_is_down_loses_nothing(
    tmp_path: Path, openai_server: Callable[..., Any], openai_server_module: Any
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        "analysis: weights\nfamily: demo\ntasks: hh_help\nlimit: 3\ngen-kwargs: max_gen_toks=8\n"
        "arms:\n  up: {base: large-base, tuned: small-tuned, reference: small-base}\n"
    )
    data = tmp_path / "hh.jsonl"
    turns = [f"\n\nHuman: What is {n}?\n\nAssistant: A number." for n in range(9)]
    data.write_text("".join(json.dumps({"chosen": t, "rejected": t}) + "\n" for t in turns))
    answers = ["Reason: fine.\n\nScore: 70%"]
    broken = openai_server_module.Reply(status=500)
    judged: dict[str, str] = {}  # the first response alone, however many are asked about at once
    server = openai_server(
        lambda prompt, request: (
            answers[0] if judged.setdefault("first", prompt) == prompt else broken
        )
    )
    up = {
        "EFT_HH_DATA": str(data), "OPENAI_API_KEY": "none", "EFT_JUDGE_MODEL": "judge-1",
        "EFT_JUDGE_BASE_URL": server.url, "EFT_JUDGE_MAX_WAIT": "1",
        "EFT_VERDICT_STORE": str(tmp_path / "verdicts.sqlite"),
    }  # fmt: skip
    words = (file, "--out", tmp_path / "s")
    gone = study(*words, **{**up, "EFT_JUDGE_BASE_URL": "http://127.0.0.1:9/v1"})
    assert gone.returncode == 3
    assert "endpoint down" in gone.stderr, "known before anything is generated"
    assert "Traceback" not in gone.stderr
    halfway = study(*words, **up)
    assert halfway.returncode == 3
    assert "up/seed-1234: lacks verdicts" in halfway.stderr
    place = tmp_path / "s" / "arms" / "up" / "seed-1234"
    kept = place.glob("responses/*.jsonl")
    assert sum(len(one.read_text().splitlines()) - 1 for one in kept) == 3
    server.answer = lambda prompt, request: answers[0]
    done = study(*words, **up)
    assert done.returncode == 0, done.stderr
    assert sorted(server.paid.values()) == [1, 1, 1], "no verdict is paid for twice"
    results = sorted(place.glob("*/results_*.json"))
    assert json.loads(results[-1].read_text())["config"]["eft_decoding"]["resumed"] == 3
    other = study(*words, **{**up, "EFT_JUDGE_MODEL": "judge-2"})
    assert other.returncode == 2
    assert "its judge differ" in other.stderr


def test_what_every_run_would_fail_of_is_refused_before_the_first(tmp_path: Path) -> None:
    out = tmp_path / "s"
    task = tmp_path / "cold.yaml"
    (tmp_path / "data.jsonl").write_text('{"q": "one"}\n')
    task.write_text(
        "task: cold\ndataset_path: json\noutput_type: generate_until\ntest_split: test\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path}/data.jsonl}}}}\n"
        'doc_to_text: "{{q}}"\ndoc_to_target: ""\n'
        "generation_kwargs: {until: [x], do_sample: true, temperature: 0.5}\n"
    )
    cold = study("sequence", "--family", "demo", "--tasks", task, "--seeds", "1,2", "--out", out)
    assert cold.returncode == 2
    assert "task cold: responses are sampled, temperature 0.5" in cold.stderr
    unknown = study("scaling", "--family", "demo", "--tasks", "demo_fcat", "--out", out)
    assert unknown.returncode == 2
    assert "demo_fcat" in unknown.stderr
    data = tmp_path / "hh.jsonl"
    turn = "\n\nHuman: What is it?\n\nAssistant: A number."
    data.write_text(json.dumps({"chosen": turn, "rejected": turn}) + "\n")
    words = ("scaling", "--family", "demo", "--tasks", "hh_help", "--out", out)
    nobody = study(*words, EFT_HH_DATA=str(data))
    assert nobody.returncode == 2
    assert "no judge to ask" in nobody.stderr
    few = "fewer than n_prompts=256: all of them are used"
    for done, warned in ((cold, ()), (unknown, ()), (nobody, (few,))):
        *warnings, error = done.stderr.splitlines()
        assert error.startswith("eft-eval: error: "), done.stderr
        assert [one[-len(few) :] for one in warnings] == [*warned], done.stderr
    dry = study(
        *words, "--dry-run", "--judge", "gpt-4.1-2025-04-14", "--seeds", "1,2",
        EFT_HH_DATA=str(data),
    )  # fmt: skip
    assert dry.returncode == 0, dry.stderr
    assert "judge gpt-4.1-2025-04-14, 8 calls: $" in dry.stdout
    assert not out.exists()
