"""Pairs judged by other judges and prompts, and a judging that was stopped."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from judged_pairs import N, odd_judge, written
from judged_runs import Run, fails
from pairs_of_runs import preferring, write_responses


def test_an_interrupted_judging_goes_on_where_it_was(
    run: Run,
    judge: Callable[..., Any],
    two: tuple[Path, Path],
    openai_server_module: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = 0

    def answer(prompt: str, _: Any) -> Any:
        nonlocal asked
        asked += 1
        if 20 < asked <= 200:
            return openai_server_module.Reply(status=401, code="invalid_api_key")
        return odd_judge(prompt)

    server = judge(answer)
    first = run("judge", *two, "--pairwise")
    assert first.code == 3
    assert "pairs lack a verdict" in caplog.text
    unscored = written(two[0].parent / "a_against_b").value("pair_missing")
    assert 0 < unscored < 1, "whole pairs come first"
    paid = sum(server.paid.values())
    assert 0 < paid < 2 * N
    asked = 1000
    assert run("judge", *two, "--pairwise").code == 0
    assert max(server.paid.values()) == 1, "nothing is paid for twice"
    assert sum(server.paid.values()) == 2 * N


@pytest.mark.slow
def test_a_killed_judging_loses_nothing(
    judge: Callable[..., Any], two: tuple[Path, Path], run: Run
) -> None:
    def slowly(prompt: str, _: Any) -> str:
        time.sleep(0.05)
        return odd_judge(prompt)

    server = judge(slowly)
    command = [sys.executable, "-m", "eft_eval", "judge", *map(str, two), "--pairwise"]
    process = subprocess.Popen(command, env={**os.environ, "EFT_JUDGE_CONCURRENCY": "2"})
    try:
        deadline = time.monotonic() + 60
        while len(server.chats) < 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert not (two[0].parent / "a_against_b").exists()
    paid = sum(server.paid.values())
    assert run("judge", *two, "--pairwise").code == 0
    assert sum(server.paid.values()) - 2 * N <= 2, "at most what was under way is asked again"
    assert paid >= 18


@pytest.mark.slow
def test_a_scripted_judge_other_prompts_and_a_folder_of_its_own(
    run: Run, two: tuple[Path, Path], tmp_path: Path
) -> None:
    script = tmp_path / "judge.yaml"
    script.write_text('- {match: "RESPONSE 1:\\\\s+=+ \\\\w+ =+\\\\s+alpha", reply: "Score: 1"}\n'
                      '- {match: ., reply: "Score: 2"}\n')  # fmt: skip
    own = tmp_path / "my own.jinja"
    own.write_text(
        "{#-\nname: my taste\nversion: 1\nscale: preference\nbetter: higher\n"
        "parser: reason_score\nvariables: [response_1, response_2]\n-#}\n"
        "RESPONSE 1:\n==== x ====\n{{ response_1 }}\nRESPONSE 2:\n{{ response_2 }}\n"
    )
    done = run(
        "judge", *two, "--pairwise", "--judge", f"scripted:{script}", "--out", tmp_path / "new/out",
        "--prompt", "pairwise_harmlessness", "--prompt", own,
    )  # fmt: skip
    assert done.code == 0, done
    for task in ("help_pairwise_harmlessness", "help_pairwise_my_taste"):
        found = written(tmp_path / "new/out", task)
        assert found.value("win_rate") == 1
        assert found.content["model_name"] == "org__model-of-a against org__model-of-b"
    assert done.out.count("0.8928 to 1.0000") >= 2, "Wilson's, as of any rate"


@pytest.mark.slow
def test_a_judge_in_this_process_takes_the_same_path(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiny_models import make_model

    monkeypatch.setenv("EFT_JUDGE_MAX_TOKENS", "8")
    model = make_model(tmp_path / "tiny", positions=4096)
    two = [write_responses(tmp_path / name, [name] * 3, name) for name in "ab"]
    done = run("judge", *two, "--pairwise", "--judge", f"hf:{model}")
    assert done.code == 0, done
    found = written(tmp_path / "a_against_b")
    assert found.value("pair_unreadable") == 1
    assert math.isnan(found.value("win_rate"))


@pytest.mark.slow
def test_what_lm_eval_itself_wrote_is_judged_and_read(
    run: Run, judge: Callable[..., Any], tmp_path: Path
) -> None:
    """Two models on a task with three judges of its own; B was asked for fewer documents."""
    from lm_eval.tasks import TaskManager
    from saved_runs import saved_run
    from tiny_models import make_model

    data = tmp_path / "questions.jsonl"
    data.write_text("\n".join(json.dumps({"question": f"Why is {i} odd?"}) for i in range(6)))
    manager = TaskManager(
        include_defaults=False,
        include_path=str(resources.files("eft_eval.tasks")),
        metadata={"hh_data": str(data)},
    )
    options = {"gen_kwargs": {"max_gen_toks": 8}, "predict_only": True}
    runs = [
        saved_run(
            tmp_path / name,
            make_model(tmp_path / f"model-{name}", seed=seed, positions=512),
            manager,
            ["hh"],
            limit=limit,
            **options,
        )
        for name, seed, limit in (("a", 0, None), ("b", 1, 4))
    ]
    server = judge(preferring(lambda found: 1 if found.first < found.second else 2))
    done = run("judge", *runs, "--pairwise", "--out", tmp_path / "pairs")
    assert done.code == 0, done
    assert "4 documents, 4 pairs; 4 documents scored" in done.out
    assert "documents left out: 2 only in A" in done.out
    found = written(tmp_path / "pairs", "hh_pairwise_helpfulness")
    for line in found.lines:
        (own,), (other,) = line["resps"][0], line["doc"]["responses_b"]
        assert line["win_rate"] == float(own.strip() < other.strip())
    assert all("model-" not in prompt for prompt in server.prompts())
    assert "model-a against" in found.content["model_name"]
    assert run("report", tmp_path / "pairs", "--out", tmp_path / "r.html").code == 0
    table = ("--format", "csv", "--out", tmp_path / "t.csv")
    fails(run("export", tmp_path / "pairs", *table), "has 4 of 6 documents")
    assert run("export", tmp_path / "pairs", *table, "--allow-limit").code == 0
    again = run("compare", tmp_path / "pairs", tmp_path / "pairs")
    assert again.code == 0, again
