"""LoRA adapters on tiny models, made on the spot, and the models that they give when merged."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from eft_eval import Composite

LAYERS = ["q_proj", "v_proj", "down_proj"]


def make_adapter(folder: Path, model: str, *, seed: int = 1, rows: int = 0, **config: Any) -> str:
    """Save a random LoRA adapter of ``model``, and beside it, as ``NAME-merged``, both in one.

    Args:
        folder: The adapter's.
        model: Folder of the whole model.
        seed: Of the adapter's weights.
        rows: New length of the tables of embeddings, which are then saved with it.
        config: Of peft's LoraConfig.
    """
    from peft import LoraConfig, get_peft_model

    whole = AutoModelForCausalLM.from_pretrained(model)
    if rows:
        whole.resize_token_embeddings(rows, mean_resizing=False)
        config = {"modules_to_save": ["embed_tokens", "lm_head"], **config}
    given = {"r": 4, "target_modules": LAYERS, "init_lora_weights": False, **config}
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that tables are saved; of transformers 5
        torch.manual_seed(seed)
        adapted = get_peft_model(whole, LoraConfig(task_type="CAUSAL_LM", **given))
        adapted.save_pretrained(folder)
        adapted.merge_and_unload().save_pretrained(merged(folder))
    for file in Path(model).glob("*token*"):
        shutil.copy(file, merged(folder))
    return str(folder)


def merged(adapter: Path | str) -> str:
    """Return the folder of the model that an adapter of `make_adapter` gives."""
    return f"{adapter}-merged"


def rewrite(adapter: Path | str, **values: Any) -> None:
    """Change what an adapter says of itself."""
    file = Path(adapter) / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


PAIRS = [("Who works here?", " Toni works."), ("One, two", ", three")]


def composite(home: Path, tuned: str, **keys: object) -> Composite:
    given = {"base": str(home / "large"), "tuned": tuned, "reference": str(home / "small")}
    return Composite.load({**given, **keys})


def scores(made: Composite) -> list[float]:
    return [one.log_prob for one in made.loglikelihood(PAIRS)]
