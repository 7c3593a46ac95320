"""Real weights, tokenizer and chat template through the harness, against transformers' generate."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import lm_eval
import pytest
import torch
from lm_eval.tasks import TaskManager
from real_weights import smollm2
from transformers import AutoModelForCausalLM, AutoTokenizer

from eft_eval.model_adapters.eft import EFTLM

TOKENS = 48
ELI5 = (
    "What do ionizers in airpurifiers do?",
    "Why do our bodies overheat in temperatures lower than 98.6 F?",
    "Are there good reasons for USA states to have bicameral legislatures?",
)
HH = (
    "How do I clean a chimney?",
    "Which post apocalyptic books do you recommend?",
    "What are essential spices I should include in my spice rack?",
)


@pytest.mark.slow
def test_one_model_in_all_roles_says_what_transformers_makes_it_say(tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="GGUF files need eft-eval[gguf]")
    file = smollm2()
    metadata: dict[str, str] = {}
    for name, questions in (("eli5", ELI5), ("hh", HH)):
        data = tmp_path / f"{name}.jsonl"
        key = "question" if name == "eli5" else "prompt"
        data.write_text("\n".join(json.dumps({key: text}) for text in questions))
        metadata[f"{name}_data"] = str(data)
    results = lm_eval.simple_evaluate(
        model=EFTLM(base=str(file), tuned=str(file), reference=str(file)),
        tasks=["eli5_help", "hh_help"],
        task_manager=TaskManager(
            include_defaults=False,
            include_path=str(resources.files("eft_eval.tasks")),
            metadata=metadata,
        ),
        apply_chat_template=True,
        predict_only=True,
        gen_kwargs={"temperature": 0, "max_gen_toks": TOKENS},
        bootstrap_iters=0,
    )
    responses = {
        sample["doc"]["question"]: sample["resps"][0][0]
        for samples in results["samples"].values()
        for sample in samples
    }
    assert set(responses) == {*ELI5, *HH}
    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    for question, response in responses.items():
        inputs = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        ids = model.generate(**inputs, do_sample=False, max_new_tokens=TOKENS)
        said = tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        assert response == said
