"""lm-eval's own files and lines: no secret of a run's arguments, and nothing else changed."""

from __future__ import annotations

import importlib
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import stock_runs

from eft_eval import hook
from eft_eval.runs.masking import mask_results

SECRET = "s3cr3tvalue"
ARGUMENTS = {
    "model": "dummy",
    "api_key": SECRET,
    "base_url": f"https://me:{SECRET}@host/v1?sig={SECRET}",
    "headers": [{"Authorization": f"Bearer {SECRET}"}],
    "base.prompt": "Key: {{ prompt }} and Token: value",
    "description": f"made with hf_{SECRET * 3}",
}
GENERATION = {"until": ["Key: value"], "extra_body": {"x-api-key": SECRET}, "max_gen_toks": 7}


@pytest.mark.parametrize("ours", [True, False])
def test_a_run_of_lm_eval(
    ours: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    importlib.import_module("lm_eval.evaluator")
    hook.install()
    monkeypatch.setattr(hook, "_ours", lambda model: ours)
    given = {"model_args": dict(ARGUMENTS), "gen_kwargs": json.loads(json.dumps(GENERATION))}
    with caplog.at_level(logging.INFO, "lm_eval.evaluator"):
        folder = stock_runs.run_dummy(
            stock_runs.write_tasks(tmp_path / "tasks"), tmp_path / "out", names=["sums_gen"],
            metadata={"hub_token": SECRET}, **given,
        )  # fmt: skip
    assert given["model_args"] == ARGUMENTS, "the caller's own arguments stay"
    assert given["gen_kwargs"] == GENERATION
    written = "".join(file.read_text("utf-8") for file in folder.iterdir())
    assert (SECRET in written + caplog.text) is not ours
    (file,) = folder.glob("results_*.json")
    config = json.loads(file.read_text("utf-8"))["config"]
    assert config["model_args"]["base.prompt"] == ARGUMENTS["base.prompt"]
    assert config["gen_kwargs"]["until"] == GENERATION["until"]
    assert config["gen_kwargs"]["max_gen_toks"] == 7


def test_the_line_above_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    hook.install()
    run = importlib.import_module("lm_eval._cli.run")
    run.print(f"eft ({ARGUMENTS}), gen_kwargs: ({GENERATION}), limit: None")
    said = capsys.readouterr().out
    assert SECRET not in said
    assert said.startswith("eft ({'model': 'dummy', 'api_key': '***', 'base_url': 'https://***@h")
    run.print("key: value", end="")
    assert capsys.readouterr().out == "key: value"


def test_results_that_are_odd_stay_as_they_are() -> None:
    odd: dict[str, Any] = {
        "config": None,
        "configs": {"t": None, "u": {"doc_to_text": len, "fewshot_config": {"sampler": "first_n"}}},
        "samples": {
            "t": [None, {"arguments": "x"}, {"arguments": [1, ("a", {"token": "abcdefgh"})]}]
        },
    }
    mask_results(odd)
    assert odd["configs"]["u"] == {"doc_to_text": len, "fewshot_config": {"sampler": "first_n"}}
    assert odd["samples"]["t"][:2] == [None, {"arguments": "x"}]
    assert odd["samples"]["t"][2] == {"arguments": [1, ("a", {"token": "(not shown)"})]}
    mask_results({})
