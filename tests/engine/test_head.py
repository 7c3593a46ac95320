"""The output layer in float32: against a float64 product of the model's own hidden states."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from adapters import make_adapter
from tiny_models import make_model
from torch import Tensor, nn

from eft_eval import Composite
from eft_eval.composite.scoring import ScoredRow, continuation_log_probs
from eft_eval.decoding import Decoder, Request, SamplingRule
from eft_eval.engine.head import set_head_dtype
from eft_eval.engine.loading import LoadOptions, Member
from eft_eval.engine.transformers import TransformersEngine
from eft_eval.errors import ConfigError
from eft_eval.model_adapters.provenance import model_info
from eft_eval.recipe import MemberSpec, canonical_name, parse_recipe
from eft_eval.runs.metadata import members_in
from eft_eval.vllm.arguments import engine_arguments

ROWS = [[3, 8, 200, 31, 77], [5, 9, 12]]
KINDS = ("llama", "qwen2", "gpt2")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("heads")
    return {kind: make_model(home / kind, kind) for kind in KINDS}


def engine(folder: str, **spec: str) -> TransformersEngine:
    found = Member(MemberSpec.model_validate({"model": folder, **spec}), LoadOptions()).engine
    assert isinstance(found, TransformersEngine)
    return found


def exact_logits(model: nn.Module, row: list[int]) -> Tensor:
    """Hidden states of the model, its own output weights, their product in float64."""
    inner = getattr(model, model.base_model_prefix)  # type: ignore[arg-type]
    with torch.inference_mode():
        hidden = inner(torch.tensor([row])).last_hidden_state[0]
        return hidden.double() @ model.get_output_embeddings().weight.double().T  # type: ignore[operator]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_a_float64_product(
    folders: dict[str, str], kind: str, dtype: str
) -> None:
    one = engine(folders[kind], dtype=dtype, head_dtype="float32")
    logits, first = one.logits(ROWS, [len(row) for row in ROWS])
    assert first == 0
    assert logits.dtype == torch.float32
    assert one.head_dtype == torch.float32
    assert one.dtype == getattr(torch, dtype)
    for found, row in zip(logits, ROWS, strict=True):
        expected = exact_logits(one.model, row)
        assert (found[: len(row)] - expected).abs().max() < 1e-5 * expected.abs().max()
    rounded = engine(folders[kind], dtype=dtype)
    own, _ = rounded.logits(ROWS, [len(row) for row in ROWS])
    assert own.dtype == rounded.head_dtype == getattr(torch, dtype)
    assert (own[0].double() - exact_logits(one.model, ROWS[0])).abs().max() > 1e-3


def test_large_tables_are_widened_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eft_eval.engine.head._PIECE", {"cpu": 7 * 16})
    layer = nn.Linear(16, 23).bfloat16()

    class Model:
        def get_output_embeddings(self) -> nn.Linear:
            return layer

    wide = set_head_dtype(Model(), "float32", "it")
    assert wide is not None
    hidden = torch.randn(2, 3, 16).bfloat16()
    expected = hidden.double() @ layer.weight.double().T + layer.bias.double()
    assert torch.allclose(layer(hidden).double(), expected, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(layer(hidden).double(), expected, atol=1e-6)
    assert set_head_dtype(Model(), "model", "it") is None
    assert layer(hidden).dtype == torch.bfloat16


def test_float32_stays(folders: dict[str, str]) -> None:
    own, _ = engine(folders["llama"], dtype="float32").logits(ROWS[:1], [5])
    wide, _ = engine(folders["llama"], dtype="float32", head_dtype="float32").logits(ROWS[:1], [5])
    assert torch.equal(own, wide)


def test_what_cannot_be_widened_is_one_line(folders: dict[str, str]) -> None:
    with pytest.raises(
        ConfigError, match=r"head_dtype=float32: its output layer \(Linear of float64"
    ):
        engine(folders["llama"], dtype="float64", head_dtype="float32")
    with pytest.raises(ConfigError, match="head_dtype: got 'float16'"):
        parse_recipe({"base": folders["llama"], "head_dtype": "float16"})


def test_drafts_and_scores_read_the_same_logits(folders: dict[str, str], tmp_path: Path) -> None:
    """Members of the same weights: their sum is the draft member, token by token."""
    recipe = {"base": folders["llama"]}
    for role in ("tuned", "reference"):
        recipe[role] = str(shutil.copytree(folders["llama"], tmp_path / role))
    composite = Composite.load(
        {**recipe, "dtype": "bfloat16", "head_dtype": "float32"}, device="cpu"
    )
    prompt = [5, 9, 12, 200]
    requests = [Request((prompt,) * len(composite.views), 1)]
    decoder = Decoder(composite, block=3)
    (made,) = decoder.generate(requests, SamplingRule(), 24)
    assert decoder.statistics.record().acceptance == 1.0
    row = ScoredRow((prompt,) * len(composite.views), made.tokens)
    (scores,) = continuation_log_probs(composite, [row], 64)
    assert scores.dtype == torch.float32
    assert scores.argmax(dim=-1).tolist() == made.tokens


def test_the_name_says_what_was_asked_for(folders: dict[str, str]) -> None:
    recipe = {"base": folders["llama"], "dtype": "bfloat16"}
    names = {
        setting: canonical_name(parse_recipe({**recipe, "head_dtype": setting}))
        for setting in ("float32", "model")
    }
    assert names["model"] == canonical_name(parse_recipe(recipe)) != names["float32"]
    assert canonical_name(parse_recipe({**recipe, "head_dtype": "fp32"})) == names["float32"]


def test_results_say_the_type_of_the_logits(folders: dict[str, str]) -> None:
    found = {}
    for dtype, head in (("bfloat16", "float32"), ("bfloat16", "model"), ("float32", "float32")):
        composite = Composite.load(
            {"base": folders["llama"], "dtype": dtype, "head_dtype": head}, device="cpu"
        )
        row = ScoredRow(((3, 8, 200),), [31])
        continuation_log_probs(composite, [row], 64)
        config = model_info(composite, Decoder(composite).statistics)
        found[dtype, head] = config["eft_members"]["base"].get("head_dtype")
        assert members_in(config, "it")[0].head_dtype == found[dtype, head]
        assert config["eft_recipe"]["base"]["head_dtype"] == head
    assert list(found.values()) == ["torch.float32", None, None]


@pytest.mark.parametrize(
    "config", [{"target_modules": ["lm_head"]}, {"modules_to_save": ["lm_head"]}]
)
def test_adapters_of_the_output_layer(
    folders: dict[str, str], tmp_path: Path, config: dict[str, list[str]]
) -> None:
    pytest.importorskip("peft", reason="adapters need eft-eval[peft]")
    adapter = make_adapter(tmp_path / "adapter", folders["llama"], **config)
    recipe = {"base": folders["llama"], "base.adapter": adapter, "dtype": "bfloat16"}
    recipe["head_dtype"] = "float32"
    both = Composite.load(recipe, device="cpu").views[0].member
    logits, _ = both.engine.logits(ROWS[:1], [5])
    assert logits.dtype == torch.float32
    whole = engine(f"{adapter}-merged", dtype="float32").logits(ROWS[:1], [5])[0]
    assert (logits - whole).abs().max() < 0.05 * whole.std()
    levels = logits.flatten()
    assert (levels != levels.bfloat16().float()).float().mean() > 0.9  # nothing was rounded to it


def test_vllm_computes_it_in_its_own_type(folders: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="head_dtype=float32: with eft-vllm every output layer"):
        engine_arguments(Composite.load({"base": folders["llama"], "head_dtype": "float32"}))
    assert engine_arguments(Composite.load({"base": folders["llama"]})).values["dtype"] == "float32"
