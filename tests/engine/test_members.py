"""A member is what its folder says, or it is refused; members of one family speak alike."""

from __future__ import annotations

import gc
import json
import logging
import re
import shutil
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from adapters import make_adapter, rewrite
from safetensors.torch import load_file, save_file
from tiny_models import byte_tokenizer, make_model, save_drawn
from tokenizer_kinds import KINDS, size_of, tokenizer_of
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma3Config,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from eft_eval import Composite
from eft_eval.engine.end_tokens import configured_ends, end_tokens
from eft_eval.engine.footprint import cache_bytes, parameter_count
from eft_eval.engine.loading import LoadOptions, Member
from eft_eval.engine.members import load_members
from eft_eval.engine.vocabulary import common_vocabulary
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


@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_holes_are_shared(kind: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(kind)
    end = size_of(tokenizer)
    members = {
        role: member(
            make_model(
                tmp_path / role,
                vocabulary=end + more,
                layers=1,
                tokenizer=tokenizer,
                eos=tokenizer.eos_token_id,
            )
        )
        for role, more in (("base", 40), ("tuned", 0), ("reference", 8))
    }
    assert common_vocabulary(members) == (end, frozenset())


def resplit(kind: str) -> PreTrainedTokenizerFast:
    """Return a kind's vocabulary with another rule for where texts are split."""
    source = tokenizer_of(kind)
    inner = Tokenizer.from_str(source.backend_tokenizer.to_str())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=source.eos_token)


def test_tokenizers_that_split_otherwise_are_refused(tmp_path: Path) -> None:
    plain, other = tokenizer_of("gpt2"), resplit("gpt2")
    assert plain.get_vocab() == other.get_vocab()
    folders = {
        role: make_model(tmp_path / role, vocabulary=size_of(plain), layers=1, tokenizer=tokenizer)
        for role, tokenizer in (("base", other), ("tuned", plain), ("reference", plain))
    }
    members = {role: member(folder, f"{role} member") for role, folder in folders.items()}
    with pytest.raises(ConfigError, match=r"split texts otherwise: .* in tuned member and .* base"):
        common_vocabulary(members)


def test_a_tokenizer_that_gives_no_token_is_compared_all_the_same(tmp_path: Path) -> None:
    words = Tokenizer(models.BPE(vocab={"<s>": 0, "</s>": 1, "word": 2}, merges=[], unk_token=None))
    bare = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>")
    assert bare("a").input_ids == []
    roles = ("base", "tuned", "reference")
    folders = {role: make_model(tmp_path / role, layers=1, tokenizer=bare) for role in roles}
    members = {role: member(folder, role) for role, folder in folders.items()}
    assert common_vocabulary(members).size == 3


def told_of_spaces(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, declared: Mapping[str, str]
) -> list[str]:
    """Return what is said of members of Llama-2's kind of which some are read by transformers'."""
    one, members = tokenizer_of("llama2"), {}
    for role in ("base", "tuned", "reference"):
        folder = make_model(tmp_path / role, vocabulary=size_of(one), layers=1, tokenizer=one)
        rewrite_class(Path(folder), declared.get(role, "PreTrainedTokenizerFast"))
        members[role] = member(folder, f"{role} member")
    with caplog.at_level(logging.WARNING, logger="eft_eval"):
        common_vocabulary(members)
    return [record.getMessage() for record in caplog.records]


def rewrite_class(folder: Path, name: str) -> None:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "tokenizer_class": name}))


def test_a_first_space_that_members_read_otherwise_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (told,) = told_of_spaces(tmp_path, caplog, {"base": "LlamaTokenizer"})
    assert re.match(
        r"a space that .* by tuned member \('▁' '▁' .* than by base member \('▁' 'l'", told
    )


def test_a_tokenizer_that_transformers_reads_otherwise_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    declared = dict.fromkeys(("base", "tuned", "reference"), "LlamaTokenizer")
    (told,) = told_of_spaces(tmp_path, caplog, declared)
    assert told.startswith("tuned member: transformers' LlamaTokenizer reads ' leading and ")


def test_padding_that_a_file_keeps_is_no_other_reading(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, members = tokenizer_of("gpt2"), {}
    for role in ("base", "tuned", "reference"):
        folder = Path(make_model(tmp_path / role, vocabulary=size_of(one), layers=1, tokenizer=one))
        rewrite_class(folder, "GPT2Tokenizer")
        written = Tokenizer.from_file(str(folder / "tokenizer.json"))
        written.enable_padding(length=64)
        written.enable_truncation(8)
        written.save(str(folder / "tokenizer.json"))
        members[role] = member(str(folder), f"{role} member")
    with caplog.at_level(logging.WARNING, logger="eft_eval"):
        common_vocabulary(members)
    assert not caplog.records


def test_another_beginning_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    begins = tokenizer_of("llama3")
    content = json.loads(begins.backend_tokenizer.to_str())
    bare = Tokenizer.from_str(json.dumps({**content, "post_processor": None}))
    plain = PreTrainedTokenizerFast(
        tokenizer_object=bare, bos_token=begins.bos_token, eos_token=begins.eos_token
    )
    members = {
        role: member(
            make_model(tmp_path / role, vocabulary=size_of(begins), layers=1, tokenizer=one),
            f"{role} member",
        )
        for role, one in (("base", plain), ("tuned", begins), ("reference", begins))
    }
    with caplog.at_level(logging.WARNING, logger="eft_eval"):
        assert common_vocabulary(members).size == size_of(begins)
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("tuned member begins texts with a beginning-of-sequence token, base")


def tokens_of(renamed: dict[str, str] | None = None) -> PreTrainedTokenizerFast:
    """Return Qwen's kind, with special tokens that are called otherwise."""
    text = tokenizer_of("qwen").backend_tokenizer.to_str()
    for old, new in (renamed or {}).items():
        text = text.replace(json.dumps(old), json.dumps(f"new {new}"))
    text = text.replace('"new <', '"<')
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(text))
    tokenizer.add_special_tokens({"eos_token": (renamed or {}).get("<|im_end|>", "<|im_end|>")})
    return tokenizer


RENAMED = {"<|im_start|>": "<User>", "<|im_end|>": "<end>"}
BACK = {new: old for old, new in RENAMED.items()}


def family(tmp_path: Path, tuned: PreTrainedTokenizerFast) -> dict:
    """Return the folders of three members; the tuned one has a tokenizer of its own."""
    other = tokens_of()
    size = max(size_of(tuned), size_of(other)) + 4
    return {
        role: make_model(
            tmp_path / role, vocabulary=size, layers=1, seed=seed, tokenizer=one,
            eos=tuned.eos_token_id,
        )
        for seed, (role, one) in enumerate(
            (("base", other), ("tuned", tuned), ("reference", other))
        )
    }  # fmt: skip


def test_renamed_special_tokens_are_refused_with_the_way_on(tmp_path: Path) -> None:
    folders = family(tmp_path, tokens_of(RENAMED))
    with pytest.raises(ConfigError, match="is '<") as caught:
        Composite.load(folders)
    offered = json.loads(str(caught.value).partition("tokenizer_map: ")[2])
    assert offered == BACK
    mapped = Composite.load({**folders, "tokenizer_map": offered})
    # names change no number
    plain = Composite.load({**folders, "tuned": same_tokenizer(folders, tmp_path / "plain")})
    assert mapped.loglikelihood([("One", " two")]) == plain.loglikelihood([("One", " two")])
    assert mapped.vocabulary == plain.vocabulary


SWAPPED = {"<|im_start|>": "<|im_end|>", "<|im_end|>": "<|im_start|>"}
MOVED_ON = {"<|im_start|>": "<User>", "<|im_end|>": "<|im_start|>"}
TURNED = {"<|im_start|>": "<|im_end|>", "<|im_end|>": "<|endoftext|>"} | {
    "<|endoftext|>": "<|im_start|>"
}


@pytest.mark.parametrize("names", [SWAPPED, TURNED])
def test_tokens_that_change_places_are_no_renaming(tmp_path: Path, names: dict) -> None:
    folders = family(tmp_path, tokens_of(names))
    with pytest.raises(ConfigError, match="have changed places") as caught:
        Composite.load(folders)
    assert "tokenizer_map" not in str(caught.value)
    own = {new: old for old, new in names.items()}
    with pytest.raises(ConfigError, match="only change places with each other"):
        Composite.load({**folders, "tokenizer_map": own})


def test_a_name_that_goes_to_another_token_can_be_mapped(tmp_path: Path) -> None:
    folders = family(tmp_path, tokens_of(MOVED_ON))
    own = {new: old for old, new in MOVED_ON.items()}
    with pytest.raises(ConfigError, match="is '<") as caught:
        Composite.load(folders)
    assert json.loads(str(caught.value).partition("tokenizer_map: ")[2]) == own
    Composite.load({**folders, "tokenizer_map": own})


def same_tokenizer(folders: dict, folder: Path) -> str:
    """Return the tuned member with the base's tokenizer."""
    shutil.copytree(folders["tuned"], folder)
    for file in Path(folders["base"]).glob("*token*"):
        shutil.copy(file, folder)
    return str(folder)


@pytest.mark.parametrize(
    ("names", "match"),
    [
        ({**BACK, "<nothing>": "x"}, "tokenizer_map: tuned .* has no token '<nothing>'"),
        ({"<User>": "<nothing>"}, "no other member has a token '<nothing>'"),
        ({"<User>": "<|im_end|>"}, "renames tokens in place"),
        ("{", "no JSON mapping"),
        ({"<User>": 3}, "tokenizer_map"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(tmp_path: Path, names: object, match: str) -> None:
    folders = family(tmp_path, tokens_of(RENAMED))
    with pytest.raises(ConfigError, match=match):
        Composite.load({**folders, "tokenizer_map": names})


def test_words_that_differ_are_no_renaming(tmp_path: Path) -> None:
    folders = family(tmp_path, tokens_of())
    make_model(tmp_path / "tuned", vocabulary=900, layers=1, tokenizer=tokenizer_of("llama3"))
    with pytest.raises(ConfigError, match="all members of a composite must come from one family"):
        Composite.load(folders)


def test_tokens_of_the_tuned_member_alone_are_never_chosen(tmp_path: Path) -> None:
    other = tokenizer_of("holed")
    content = json.loads(other.backend_tokenizer.to_str())
    hole = min(set(range(size_of(other))) - set(other.get_vocab().values()))
    content["model"]["vocab"]["<think>"] = hole
    tuned = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)), eos_token=other.eos_token
    )
    made = Composite.load(
        {
            role: make_model(
                tmp_path / role, vocabulary=size_of(other), layers=1, tokenizer=tokenizer,
                eos=other.eos_token_id, seed=seed,
            )
            for seed, (role, tokenizer) in enumerate(
                (("base", other), ("tuned", tuned), ("reference", other))
            )
        }
    )  # fmt: skip
    scores = made.empty_scores(1)
    for view in made.views:
        with torch.inference_mode():
            made.accumulate(scores, view, view.member.engine.logits([[5, 6, 7]], [1])[0][:, 0])
    alone = set(tuned.get_vocab().values()) ^ set(other.get_vocab().values())
    assert hole in alone
    assert {i for i, score in enumerate(scores[0]) if score == -torch.inf} == alone
    with pytest.raises(ConfigError, match=f"holds token {hole} \\('<think>'\\)"):
        made.check_tokens([5, hole])
    made.check_tokens(range(20))


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
