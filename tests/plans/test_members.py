"""What members ask for, against the recipes' own figures and real modules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import make_adapter
from recurrent_models import save_recurrent
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    FalconConfig,
    Gemma3TextConfig,
    LlamaConfig,
    MixtralConfig,
)
from transformers.cache_utils import DynamicCache

from eft_eval.composite.memory import needed_bytes
from eft_eval.composite.model import CompositeModel
from eft_eval.engine.adapters import AdaptedMember
from eft_eval.engine.footprint import state_bytes, weight_counts
from eft_eval.engine.loading import LoadOptions
from eft_eval.plans.hardware import parse_hardware
from eft_eval.plans.layout import Spread, laid_out, rank_memory, with_members
from eft_eval.plans.members import planned_composite, work_of
from eft_eval.recipe import named_recipe_names, parse_recipe


def test_the_configurations_at_hand_have_the_recipes_parameters() -> None:
    known = json.loads(
        (Path(__file__).parents[2] / "eft_eval" / "plans" / "configs.json").read_text("utf-8")
    )
    seen = set()
    for recipe in map(parse_recipe, named_recipe_names()):
        if not {spec.model for _, spec in recipe.members} <= set(known):
            continue  # those are read from the hub
        for member in planned_composite(recipe).members.values():
            assert weight_counts(member).total == member.spec.parameters, member.label
            seen.add(member.spec.model)
    assert seen == set(known)


def save(folder: Path, config: Any) -> str:
    config.save_pretrained(folder)
    return str(folder)


SMALL = {
    "vocab_size": 100, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "dtype": "float32",
}  # fmt: skip


def planned(folder: str) -> Any:
    recipe = parse_recipe({"base": folder, "deltas": [{"tuned": folder, "reference": folder}]})
    return planned_composite(recipe).members["base"]


@pytest.mark.parametrize("tied", [False, True])
def test_what_a_pass_reads_and_computes(tmp_path: Path, tied: bool) -> None:
    member = planned(save(tmp_path, LlamaConfig(**SMALL, tie_word_embeddings=tied)))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(member.config)
    total = sum(one.numel() for one in model.parameters())
    table = 0 if tied else 100 * 32
    work = work_of(member, "eft-vllm")
    assert work.weights == 4 * total
    assert work.bytes_read(1) == 4 * (total - table)
    assert work.operations == 2 * (total - table)
    assert work.cache_of(10) == 10 * 4 * 2 * 2 * 8 * 4  # layers, keys and values, heads, size


def test_experts_are_read_as_they_are_chosen(tmp_path: Path) -> None:
    config = MixtralConfig(**SMALL, num_local_experts=8, num_experts_per_tok=2)
    member = planned(save(tmp_path, config))
    experts = 4 * 8 * 3 * 32 * 64
    assert weight_counts(member).experts == experts
    work = work_of(member, "eft")
    rest = weight_counts(member).total - experts - 100 * 32
    assert work.operations == 2 * (rest + experts / 4)
    assert work.bytes_read(1) == 4 * (rest + experts / 4)
    assert work.bytes_read(2) == pytest.approx(4 * (rest + experts * (1 - 0.75**2)))
    assert work.bytes_read(10_000) == pytest.approx(4 * (rest + experts))


def test_windows_hold_what_they_see(tmp_path: Path) -> None:
    kinds = ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"]
    config = Gemma3TextConfig(**SMALL, head_dim=8, sliding_window=16, layer_types=kinds)
    member = planned(save(tmp_path, config))
    each = 2 * 2 * 8 * 4
    assert work_of(member, "eft-vllm").cache_of(100) == each * (100 + 3 * 16)
    assert work_of(member, "eft").cache_of(128) == each * 4 * 128
    assert work_of(member, "eft").cache_of(384) == each * (384 + 3 * (16 + 128))
    layout = laid_out(planned_composite(parse_recipe({"base": str(tmp_path)})), "eft")
    memory = rank_memory(layout, Spread(1, 2, 300), parse_hardware("80GB@2TBps").device)
    assert sum(memory.caches.values()) == 2 * each * 4 * 384  # rounds of fixed shapes drop nothing


@pytest.mark.parametrize("newer", [False, True])
def test_falcons_caches_are_those_of_transformers(tmp_path: Path, newer: bool) -> None:
    config = FalconConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_kv_heads=2, multi_query=True, new_decoder_architecture=newer, alibi=False,
    )  # fmt: skip
    member = planned(save(tmp_path, config))
    model = AutoModelForCausalLM.from_config(member.config)
    cache = DynamicCache(config=model.config)
    model(torch.ones(1, 7, dtype=torch.long), past_key_values=cache, use_cache=True)
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert work_of(member, "eft").cache_of(7) == pytest.approx(held)
    assert work_of(member, "eft-vllm").heads[:2] == (4, 2 if newer else 1)


def test_one_latent_vector_is_kept_by_every_rank(tmp_path: Path) -> None:
    config = DeepseekV3Config(
        **{**SMALL, "num_key_value_heads": 4}, moe_intermediate_size=16, n_routed_experts=4,
        kv_lora_rank=16, qk_rope_head_dim=4, qk_nope_head_dim=8, v_head_dim=8, q_lora_rank=8,
    )  # fmt: skip
    work = work_of(planned(save(tmp_path, config)), "eft-vllm")
    assert work.cache_of(10) == 4 * 10 * (16 + 4) * 4  # layers, tokens, latent and rotary, bytes
    recipe = parse_recipe({"base": str(tmp_path)})
    layout = laid_out(planned_composite(recipe), "eft-vllm")
    assert layout.unfit(4) is None
    memory = rank_memory(layout, Spread(4, 1, 10), parse_hardware("80GB@2TBps").device)
    assert sum(memory.caches.values()) == work.cache_of(16)  # whole pages


def test_recurrent_states_are_planned_as_they_are_checked_before_loading(tmp_path: Path) -> None:
    folder = save_recurrent(tmp_path, "Lfm2")
    recipe = parse_recipe({"base": folder, "deltas": [{"tuned": folder, "reference": folder}]})
    layout = laid_out(planned_composite(recipe), "eft")
    planned = rank_memory(layout, Spread(1, 3, 100), parse_hardware("CPU:64GB@40GBps").device)
    composite = CompositeModel(recipe, LoadOptions(torch.device("cpu")))
    assert state_bytes(composite.views[0].member) > 0
    (checked,) = needed_bytes(composite, 3, 100, layout.longest_block).values()
    held = sum(planned.weights.values()) + sum(planned.caches.values())
    assert held + planned.scores == checked


def test_the_model_below_an_adapter_is_held_as_any_other(tmp_path: Path) -> None:
    for name in ("below", "other"):
        AutoModelForCausalLM.from_config(LlamaConfig(**SMALL)).save_pretrained(tmp_path / name)
    adapter = make_adapter(tmp_path / "lora", str(tmp_path / "below"))
    members = {
        "tuned": adapter,
        "reference": {"model": str(tmp_path / "other"), "dtype": "bfloat16"},
    }
    recipe = parse_recipe({"base": str(tmp_path / "other"), "deltas": [members]})
    layout = laid_out(planned_composite(with_members(recipe, quantization="4bit")), "eft")
    device = parse_hardware("80GB@2TBps").device
    weights = rank_memory(layout, Spread(1, 1, 64), device).weights
    adapted = layout.composite.members["tuned"]
    assert isinstance(adapted, AdaptedMember)
    tables = 2 * 100 * 32  # which bitsandbytes leaves as they are
    total = weight_counts(adapted.base).total
    assert weights[adapted.base.label] == (total - tables) // 2 + tables * 2
    assert weights[adapted.label] == (tmp_path / "lora/adapter_model.safetensors").stat().st_size


@pytest.mark.parametrize(
    ("settings", "bits"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, 4 + 20 / 128),
        ({"quant_method": "awq", "bits": 4, "group_size": 64}, 4 + 20 / 64),
        ({"quant_method": "fp8"}, 8),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"a": {"weights": {"num_bits": 8, "group_size": None}}},
            },
            8,
        ),
    ],
)
def test_quantised_checkpoints(tmp_path: Path, settings: dict[str, Any], bits: float) -> None:
    save(tmp_path, LlamaConfig(**{**SMALL, "dtype": "bfloat16"}))
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "quantization_config": settings}))
    member = planned(str(tmp_path))
    tables = 2 * 100 * 32
    layers = weight_counts(member).total - tables
    expected = layers * bits / 8 + tables * 2
    assert work_of(member, "eft-vllm").weights == pytest.approx(expected, abs=1)
    (tmp_path / "model.safetensors").write_bytes(bytes(12345))  # the files know best
    assert work_of(planned(str(tmp_path)), "eft-vllm").weights == 12345
