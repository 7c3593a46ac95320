"""A member is what its folder says, or it is refused."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from adapters import make_adapter, rewrite
from safetensors.torch import load_file, save_file
from tiny_models import byte_tokenizer, make_model, save_drawn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma3Config,
    LlamaConfig,
    LlamaForCausalLM,
)

from eft_eval.engine.end_tokens import configured_ends, end_tokens
from eft_eval.engine.footprint import cache_bytes, parameter_count
from eft_eval.engine.loading import LoadOptions, Member
from eft_eval.engine.members import load_members
from eft_eval.errors import ConfigError
from eft_eval.recipe import MemberSpec, parse_recipe
from eft_eval.recipe.adapters import with_bases


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(make_model(tmp_path_factory.mktemp("whole") / "model"))


def member(folder: Path | str, label: str | None = None) -> Member:
    return Member(MemberSpec(model=str(folder)), LoadOptions(), label)


def changed(source: Path, target: Path, change: Callable[[dict], dict]) -> Path:
    """Copy a model with other weights in its file."""
    shutil.copytree(source, target)
    file = target / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    return target


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda w: {"_orig_mod." + key: value for key, value in w.items()},
            "lm_head.weight, .* and .* more missing; _orig_mod.lm_head.weight",
        ),
        (lambda w: {k: v for k, v in w.items() if "lm_head" not in k}, "lm_head.weight missing"),
        (
            lambda w: {k: v for k, v in w.items() if ".layers.1.mlp" not in k},
            r"layers.1.mlp.down_proj.weight, .*up_proj.weight missing",
        ),
        (
            lambda w: {**w, "extra.lora_A.weight": torch.zeros(2, 2)},
            "extra.lora_A.weight unknown to the model",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    whole: Path, tmp_path: Path, change: Callable[[dict], dict], match: str
) -> None:
    broken = member(changed(whole, tmp_path / "model", change), "tuned member")
    with pytest.raises(ConfigError, match=f"^tuned member: .*{match}"):
        _ = broken.model


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("gptj", ["attn.bias", "attn.masked_bias"]),
        ("gpt_neo", ["attn.attention.bias", "attn.attention.masked_bias"]),
        ("gpt2", ["attn.bias", "attn.masked_bias"]),
        ("falcon", ["self_attention.maybe_rotary.inv_freq"]),
    ],
)
def test_masks_and_frequencies_in_older_checkpoints_are_no_weights(
    tmp_path: Path, kind: str, names: list[str]
) -> None:
    shape: dict = {"n_embd": 8, "n_layer": 1, "n_head": 2, "rotary_dim": 4}
    if kind in ("gpt_neo", "falcon"):
        shape = {"hidden_size": 8, "num_layers": 1, "num_hidden_layers": 1, "num_heads": 2,
                 "num_attention_heads": 2}  # fmt: skip
    if kind == "gpt_neo":
        shape["attention_types"] = [[["global"], 1]]
    config = AutoConfig.for_model(kind, vocab_size=259, **shape)
    saved = Path(save_drawn(AutoModelForCausalLM.from_config(config), tmp_path / "saved"))
    older = {f"transformer.h.0.{name}": torch.ones(1, 1, 16, 16) for name in names}
    found = member(changed(saved, tmp_path / "older", lambda w: {**w, **older}), "m")
    rows = [[5, 6, 7]]
    logits, _ = found.engine.logits(rows, [3])
    expected, _ = member(saved, "m").engine.logits(rows, [3])
    torch.testing.assert_close(logits, expected)


def test_weights_of_another_shape_are_refused(whole: Path, tmp_path: Path) -> None:
    def change(weights: dict) -> dict:
        return {**weights, "model.norm.weight": torch.zeros(7)}

    with pytest.raises(ConfigError, match=r"model\.norm\.weight"):
        _ = member(changed(whole, tmp_path / "model", change)).model


def test_tied_weights_are_not_missing(tmp_path: Path) -> None:
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    assert member(tmp_path).model.lm_head.weight.shape == (259, 16)


def test_loading_says_nothing(whole: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _ = member(whole).model
    assert "sharded" not in capfd.readouterr().err


def test_end_tokens_are_the_union(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    for name, ids in (("config.json", [1, 7]), ("generation_config.json", 9)):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, "eos_token_id": ids}))
    assert member(folder).stop_tokens == {1, 7, 9}


def written(whole: Path, folder: Path, **ends: Any) -> Member:
    """Return a copy whose files state these ends: an id, a list, or nothing where it is None."""
    shutil.copytree(whole, folder)
    for name in ("config", "generation_config"):
        content = json.loads((folder / f"{name}.json").read_text())
        content.pop("eos_token_id")
        if ends.get(name) is not None:
            content["eos_token_id"] = ends[name]
        (folder / f"{name}.json").write_text(json.dumps(content))
    return member(folder)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ({"generation_config": 9}, {1, 9}),  # LlamaConfig's own 2 is the padding token here
        ({}, {1}),
        ({"config": 2}, {1, 2}),
        ({"config": [7, 50256], "generation_config": [9, -1]}, {1, 7, 9}),
    ],
)
def test_end_tokens_are_what_the_files_say(
    whole: Path, tmp_path: Path, ends: dict[str, Any], expected: set[int]
) -> None:
    assert written(whole, tmp_path / "model", **ends).stop_tokens == expected


def test_a_revision_of_a_local_folder_is_one_line(whole: Path, tmp_path: Path) -> None:
    """It has none: transformers reads what lies there, in silence."""
    make_adapter(tmp_path / "lora", str(whole))
    below = {"model": str(whole), "adapter": str(tmp_path / "lora")}
    for asked in ({"model": str(whole), "revision": "v2"}, {**below, "adapter_revision": "v2"}):
        recipe = parse_recipe({"base": str(whole), "tuned": asked, "reference": str(whole)})
        text = r"tuned member .*: revision 'v2' is asked of the local folder"
        with pytest.raises(ConfigError, match=text):
            load_members(recipe, LoadOptions())


def test_a_revision_that_an_adapter_says_of_a_local_folder_is_none(
    whole: Path, tmp_path: Path
) -> None:
    lora = make_adapter(tmp_path / "lora", str(whole))
    rewrite(lora, revision="v2")
    recipe = {"base": str(whole), "tuned": lora, "reference": str(whole)}
    assert load_members(parse_recipe(recipe), LoadOptions())["tuned"].spec.revision is None
    assert with_bases(parse_recipe({"base": lora})).base.revision is None


def test_end_tokens_of_a_language_model_in_a_larger_one() -> None:
    config = Gemma3Config(text_config={"eos_token_id": 5}, vision_config={})
    files = {"eos_token_id": [3], "text_config": {"eos_token_id": 5}, "vision_config": {}}
    assert configured_ends(files, config, config.get_text_config()) == [[3], 5]
    files["text_config"] = {"vocab_size": 8}
    files["vision_config"] = {"eos_token_id": 6}
    assert configured_ends(files, config, config.get_text_config()) == [[3], None]


def test_end_tokens_that_are_none_are_one_line(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"eos_token_id: \[\[1\]\]; expected a token's id or a"):
        _ = written(whole, tmp_path / "nested", generation_config=[[1]]).stop_tokens
    with pytest.raises(ConfigError, match=r"ends its answers with token 300, but has only 259"):
        end_tokens([300, [301, None]], 259, "tuned member 'x'")


def test_half_a_checkpoint_is_one_line(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-2000])
    with pytest.raises(ConfigError, match=r"^tuned member: cannot read its weights") as caught:
        _ = member(folder, "tuned member").model
    assert "\n" not in str(caught.value)
    held = load_file(whole / "model.safetensors")
    names = {f"model-0000{i}-of-00002.safetensors": sorted(held)[i - 1 :: 2] for i in (1, 2)}
    for name, keys in names.items():
        save_file({key: held[key] for key in keys}, folder / name, metadata={"format": "pt"})
    index = {key: name for name, keys in names.items() for key in keys}
    weights.unlink()
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )
    assert member(folder).model is not None
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ConfigError, match="model-00002-of-00002") as caught:
        _ = member(folder).model
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": "x\n::error::y"}, "cannot read its configuration"),
        ({"vocab_size": 0.5}, "cannot read its configuration"),
        ({"hidden_size": 33}, "cannot read its configuration"),
        ({"sliding_window": "x"}, "its configuration has sliding_window: 'x'; expected a whole"),
        ({"sliding_window": {"a": 1}}, "expected a whole number"),
        ({"num_key_value_heads": 0}, "cannot read its weights"),
    ],
)
def test_a_damaged_configuration_is_one_line(
    changes: dict[str, object], said: str, whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "m")
    file = tmp_path / "m" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(ConfigError, match=said) as caught:
        member(tmp_path / "m").model  # noqa: B018
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", '{"eos_token_id": "x"', "\x00"])
def test_damaged_generation_settings_are_one_line(text: str, whole: Path, tmp_path: Path) -> None:
    """They name tokens that end a response."""
    shutil.copytree(whole, tmp_path / "m")
    (tmp_path / "m" / "generation_config.json").write_text(text)
    with pytest.raises(ConfigError, match="cannot read its generation settings"):
        member(tmp_path / "m").generation_config  # noqa: B018


def test_a_sentencepiece_tokenizer_is_named(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    for file in folder.glob("*token*"):
        file.unlink()
    (folder / "tokenizer.model").write_bytes(b"")
    monkeypatch.setattr("eft_eval.engine.loading.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs sentencepiece: .*\[sentencepiece\]"):
        _ = member(folder).tokenizer


def test_a_member_that_nobody_uses_any_more_leaves_memory(whole: Path) -> None:
    one = member(whole)
    assert parameter_count(one) == one.model.num_parameters()
    weights = weakref.ref(one.model)
    del one
    gc.collect()
    assert weights() is None


@pytest.mark.parametrize("name", ["DeepseekV2", "DeepseekV3", "Glm4MoeLite"])
def test_caches_of_latent_attention_are_counted_as_this_transformers_keeps_them(
    tmp_path: Path, name: str
) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "moe_intermediate_size": 16}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4}
    latent = {"q_lora_rank": 12, "kv_lora_rank": 10, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4}
    experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1}
    config = getattr(transformers, f"{name}Config")(
        vocab_size=259, v_head_dim=7, first_k_dense_replace=1, pad_token_id=None,
        **sizes, **heads, **latent, **experts,
    )  # fmt: skip
    getattr(transformers, f"{name}ForCausalLM")(config).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    member = Member(MemberSpec(model=str(tmp_path)), LoadOptions())
    expected = cache_bytes(member, 3, 20)
    assert member.engine.cannot_roll_back(64) is None
    state: Any = member.engine.row_state(3, 20)
    state.join([[1, 2, 3]] * 3)
    state.forward(torch.tensor([[1]] * 3))
    kept = [kind for layer in state._cache.layers for kind in (layer.keys, layer.values)]
    assert expected == sum(one.numel() * one.element_size() for one in kept)
