"""Members of fewer bits: real ones where bitsandbytes is here, one line where a package is not."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rounded_layers import rounds_each_token
from safetensors.torch import load_file, save_file
from tiny_models import byte_tokenizer, make_model
from transformers import AutoModelForCausalLM, BloomConfig, BloomForCausalLM, TorchAoConfig

from eft_eval import Composite
from eft_eval.engine import quantization
from eft_eval.engine.loading import LoadOptions, Member
from eft_eval.engine.numerics import batch_spread, only_numerics
from eft_eval.engine.transformers import TransformersEngine
from eft_eval.errors import ConfigError
from eft_eval.recipe import MemberSpec


def declares(folder: Path, **settings: object) -> Member:
    model = Path(make_model(folder, layers=1))
    content = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**content, "quantization_config": settings}))
    return Member(MemberSpec(model=str(model)), LoadOptions(), "tuned member")


@pytest.mark.parametrize(
    ("method", "package"),
    [
        ("gptq", "gptqmodel optimum"),
        ("awq", "gptqmodel"),
        ("bitsandbytes", "bitsandbytes"),
        ("torchao", "torchao"),
        ("compressed-tensors", "compressed-tensors"),
        ("quanto", "optimum-quanto"),
        ("hqq", "hqq"),
    ],
)
def test_a_missing_package_is_told_before_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, package: str
) -> None:
    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=f"^tuned member: its checkpoint is quantised with {method}, .*{package}$"
    ):
        declares(tmp_path / "model", quant_method=method)


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_bitsandbytes_is_missed_before_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: str
) -> None:
    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    model = make_model(tmp_path / "model", layers=1)
    with pytest.raises(ConfigError, match=rf"quantization={bits} needs .*\[quantization\]"):
        Member(MemberSpec(model=model, quantization=bits), LoadOptions())


def test_bits_of_a_checkpoint_are_not_changed() -> None:
    config = type("Config", (), {"quantization_config": {"quant_method": "gptq"}})()
    with pytest.raises(ConfigError, match=r"is quantised already \(gptq\)"):
        quantization.check_quantization(config, "8bit", "base member")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq 4 bits"),
        ({"quant_method": "awq", "w_bit": 4}, "awq 4 bits"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes 4 bits"),
        ({"quant_method": "bitsandbytes", "_load_in_8bit": True}, "bitsandbytes 8 bits"),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
        (None, None),
    ],
)
def test_what_a_checkpoint_declares_is_in_the_results(settings: Any, expected: Any) -> None:
    config = type("Config", (), {"quantization_config": settings})()
    assert quantization.declared_quantization(config) == expected


def rounds_over_the_batch(model: torch.nn.Module) -> None:
    """Let layers round their inputs to 8 bits with one scale for all rows, as LLM.int8 may."""

    def rounded(_: object, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        step = inputs[0].abs().max() / 127
        return ((inputs[0] / step).round() * step,)

    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.register_forward_pre_hook(rounded)


def test_numerics_of_the_batch_are_told_from_inability(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    able = Member(MemberSpec(model=make_model(tmp_path / "able", hidden=64)), LoadOptions())
    assert able.engine.cannot_roll_back(64) is None
    assert not able.engine.depends_on_batch  # type: ignore[attr-defined]
    rounded = Member(able.spec, LoadOptions(), "tuned member")
    rounds_over_the_batch(rounded.model)
    assert rounded.engine.cannot_roll_back(64) is None
    assert rounded.engine.depends_on_batch  # type: ignore[attr-defined]
    assert "tuned member: its logits depend on the rest of a batch" in caplog.text

    config = BloomConfig(vocab_size=259, hidden_size=64, n_layer=2, n_head=4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unable = BloomForCausalLM(config).eval()
    with torch.no_grad():
        for one in unable.parameters():
            if one.dim() > 1:
                one.normal_(0.0, 0.3, generator=torch.Generator().manual_seed(1))
    rounds_over_the_batch(unable)
    engine = TransformersEngine(unable, torch.device("cpu"), "base member")
    assert "does not work with a cache length per row" in str(engine.cannot_roll_back(64))
    assert not engine.depends_on_batch


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rounding_token_by_token_is_no_inability(tmp_path: Path, dtype: Any) -> None:
    """No other row of a batch matters, but the last bits of a sum become whole steps."""
    spec = MemberSpec(model=make_model(tmp_path / "m", hidden=128, layers=3), dtype=dtype)
    rounded = Member(spec, LoadOptions(), "tuned member")
    rounds_each_token(rounded.model)
    engine: Any = rounded.engine
    assert engine.cannot_roll_back(64) is None
    assert engine.plain_way(64).rows == "any"
    with torch.inference_mode():
        assert batch_spread(engine.logits, [[5, 6, 7, 8]], 2) == pytest.approx(0, abs=0.05)

    class Later(torch.nn.Module):
        def forward(self, hidden: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
            return hidden + 3 * hidden.mean(1, keepdim=True)  # tokens see later ones

    looks = Member(spec, LoadOptions(), "tuned member")
    rounds_each_token(looks.model)
    looks.model.model.norm = torch.nn.Sequential(Later(), looks.model.model.norm)
    with pytest.raises(ConfigError, match="what it says of a token depends on later ones"):
        looks.engine.cannot_roll_back(64)


def test_a_quantised_member_that_only_scores_is_measured_too(tmp_path: Path) -> None:
    member = Member(MemberSpec(model=make_model(tmp_path / "m", hidden=128)), LoadOptions())
    rounds_each_token(member.model)
    engine: Any = member.engine
    engine.logits([[5, 6, 7, 8]], [1])
    assert engine.depends_on_batch


@pytest.mark.parametrize(
    ("apart", "spread", "expected"),
    [(0.02, 0.01, True), (0.2, 0.01, False), (0.02, 0.0, False), (0.5, 0.3, True)],
)
def test_what_counts_as_numerics(apart: float, spread: float, expected: bool) -> None:
    assert only_numerics(apart, spread, 1e-3) is expected


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="needs eft-eval[quantization]"
)
@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_real_quantised_members(tmp_path: Path, bits: str) -> None:
    small = make_model(tmp_path / "small", hidden=128)
    large = make_model(tmp_path / "large", hidden=256, seed=3)
    ours = Composite.load(
        {"base": large, "tuned": small, "reference": large, "tuned.quantization": bits}
    )
    kinds = {type(one).__name__ for one in ours.members["tuned"].model.modules()}
    assert {"8bit": "Linear8bitLt", "4bit": "Linear4bit"}[bits] in kinds
    with torch.inference_mode():
        found, _ = ours.members["tuned"].engine.logits([[5, 6, 7, 8]], [4])
        whole = Member(MemberSpec(model=small), LoadOptions()).engine.logits([[5, 6, 7, 8]], [4])[0]
    together = torch.stack([found.flatten().float(), whole.flatten()])
    assert torch.corrcoef(together)[0, 1] > (0.99 if bits == "8bit" else 0.8)
    prompts = ["Who works?", "One, two, three"]
    greedy = [ours.generate([one], max_new_tokens=8, block=0)[0] for one in prompts]
    assert ours.members["tuned"].engine.cannot_roll_back(64) is None
    if bits == "4bit":  # 8 bits depend on the rest of the batch
        assert ours.generate(prompts, max_new_tokens=8, block=4) == greedy
    assert all(isinstance(one, str) for one in greedy)


def make_torchao(folder: Path, source: str, kind: str) -> None:
    ao = pytest.importorskip("torchao.quantization", reason="needs torchao")
    settings = {
        "weights": lambda: ao.Int8WeightOnlyConfig(version=2),
        "activations": lambda: ao.Int8DynamicActivationInt8WeightConfig(version=2),
    }[kind]()
    model = AutoModelForCausalLM.from_pretrained(
        source, quantization_config=TorchAoConfig(quant_type=settings), device_map="cpu"
    )
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)


def make_compressed_tensors(folder: Path, source: str) -> None:
    """Write weights of 8 bits with a scale for each row, activations to be rounded per token."""
    pytest.importorskip("compressed_tensors", reason="needs compressed-tensors")
    shutil.copytree(source, folder)
    stored = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        stored[name] = weight
        if name.endswith("proj.weight"):
            scale = weight.abs().amax(1, keepdim=True) / 127
            stored[name] = (weight / scale).round().to(torch.int8)
            stored[f"{name}_scale"] = scale
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    bits = {"num_bits": 8, "type": "int", "symmetric": True}
    group = {
        "targets": ["Linear"],
        "weights": {**bits, "strategy": "channel"},
        "input_activations": {**bits, "strategy": "token", "dynamic": True},
    }
    settings = {"quant_method": "compressed-tensors", "format": "int-quantized"}
    settings |= {"quantization_status": "compressed", "ignore": ["lm_head"]}
    content = json.loads((folder / "config.json").read_text())
    content["quantization_config"] = {**settings, "config_groups": {"group_0": group}}
    (folder / "config.json").write_text(json.dumps(content))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["weights", "activations", "compressed-tensors"])
@pytest.mark.filterwarnings("default")  # of those packages' imports
def test_quantised_checkpoints_are_drafted_against(tmp_path: Path, kind: str) -> None:
    small = make_model(tmp_path / "small", hidden=128)
    folder = tmp_path / "quantised"
    if kind == "compressed-tensors":
        make_compressed_tensors(folder, small)
    else:
        make_torchao(folder, small, kind)
    ours = Composite.load({"base": small, "tuned": str(folder), "reference": small})
    tuned = ours.members["tuned"]
    assert tuned.quantization == ("torchao" if kind != "compressed-tensors" else kind)
    assert tuned.engine.cannot_roll_back(64) is None
    assert tuned.engine.depends_on_batch is (kind != "weights")  # type: ignore[attr-defined]
    with torch.inference_mode():
        found, _ = tuned.engine.logits([[5, 6, 7, 8]], [4])
        whole, _ = ours.members["base"].engine.logits([[5, 6, 7, 8]], [4])
    assert torch.corrcoef(torch.stack([found.flatten().float(), whole.flatten()]))[0, 1] > 0.99
    prompts = ["Who works?", "One, two, three"]
    made = ours.generate(prompts, max_new_tokens=8, block=4)
    if kind == "weights":
        assert made == [ours.generate([one], max_new_tokens=8, block=0)[0] for one in prompts]
