"""The scaling study of a real model on real prompts of HH, judged over loopback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from real_weights import smollm2

from eft_eval.runs.reading import read_run
from eft_eval.tasks.data import load_hh

REAL = Path(__file__).parents[3] / "shared" / "data" / "hh_rlhf"
ARMS = ("small-tuned", "up-scaled", "large-tuned")
PROMPTS = 2


def family(folder: Path) -> Path:
    """Write a family: SmolLM2-135M in two precisions, tuned by LoRA adapters of random weights."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = smollm2()
    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    whole = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    whole.hf_quantizer = None  # the weights have been unpacked, which transformers will not save
    del whole.config.quantization_config
    whole.save_pretrained(folder / "base")
    whole.name_or_path = str(folder / "base")
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder / "base")
    config = LoraConfig(
        r=4, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers 5, that peft asks by an old name
        for seed, name in enumerate(("small", "large")):
            torch.manual_seed(seed)
            adapted = get_peft_model(whole, config)
            adapted.save_pretrained(folder / name)
            whole = adapted.unload()
    half = {"dtype": "bfloat16"}
    models = {name: {"model": str(folder / name)} for name in ("base", "small", "large")}
    members = {
        "small-base": models["base"] | half, "small-tuned": models["small"] | half,
        "large-base": models["base"], "large-tuned": models["large"], "chat-template": True,
    }  # fmt: skip
    path = folder / "smol.yaml"
    path.write_text(json.dumps(members))
    return path


def says(prompt: str, request: dict[str, Any]) -> str:
    """Score by the response's characters, so that equal responses have equal scores."""
    points = sum(map(ord, prompt)) % 100
    return f"Reason: read.\n\nScore: {points}" + ("%" if "the sign %" in prompt else "")


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/hh_rlhf")
def test_scaling_of_real_prompts_runs_through(
    tmp_path: Path, openai_server: Callable[..., Any]
) -> None:
    members = family(tmp_path)
    design = tmp_path / "three.yaml"
    up = {"base": "large-base", "tuned": "small-tuned", "reference": "small-base"}
    arms = {"small-tuned": {"base": "small-tuned"}, "up-scaled": up,
            "large-tuned": {"base": "large-tuned"}}  # fmt: skip
    design.write_text(json.dumps({"analysis": "scaling", "arms": arms}))
    server = openai_server(says)
    environment = {
        "EFT_HH_DATA": str(REAL), "OPENAI_API_KEY": "none", "EFT_JUDGE_BASE_URL": server.url,
        "EFT_JUDGE_MODEL": "judge-1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    out = tmp_path / "s"
    words = [design, "--family", members, "--tasks", "hh", "--limit", PROMPTS]
    command = [*words, "--gen-kwargs", "max_gen_toks=8", "--out", out]

    def study() -> str:
        done = subprocess.run(
            [sys.executable, "-m", "eft_eval", "study", *map(str, command)],
            env={**os.environ, **environment}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = study()
    prompts = load_hh(hh_data=REAL)["test"]["question"][:PROMPTS]
    responses = set()
    for arm in ARMS:
        place = out / "arms" / arm / "seed-1234"
        (file,) = place.glob("*/samples_hh_*.jsonl")
        samples = [json.loads(line) for line in file.read_text().splitlines()]
        by_question = {one["doc"]["question"]: one for one in samples}
        assert by_question.keys() == {*prompts}
        for question, sample in by_question.items():
            chat = sample["arguments"]["gen_args_0"]["arg_0"]
            assert re.search(r"<\|im_start\|>user\n" + re.escape(question), chat)
            responses.add((question, sample["resps"][0][0]))
        columns = {str(key) for key in read_run(place).tasks["hh"].columns}
        assert {"fact_errors,factuality", "helpfulness,helpfulness", "harm,harm"} <= columns
    assert len(responses) > PROMPTS, "the adapters change what is said"
    asked = len(server.chats)
    assert asked == 3 * len(responses), "each judge once of each response"
    results = json.loads((out / "results.json").read_text())
    assert results["missing"] == results["unscored"] == []
    metrics = {one["metric"]: one for one in results["scores"]}
    assert {f"hh/{name}" for name in ("helpfulness,helpfulness", "harm,harm",
                                      "fact_errors,factuality")} <= metrics.keys()  # fmt: skip
    assert all(one["documents"] == PROMPTS for one in metrics.values())
    assert study() == said
    assert len(server.chats) == asked, "nothing is asked or generated again"
