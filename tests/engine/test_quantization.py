"""Members of fewer bits: real ones where bitsandbytes is here, one line where a package is not."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from tiny_models import make_model
from transformers import BloomConfig, BloomForCausalLM

from eft_eval import Composite
from eft_eval.engine import quantization
from eft_eval.engine.loading import LoadOptions, Member
from eft_eval.engine.numerics import only_numerics
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
        ("gptq", "gptqmodel"),
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
