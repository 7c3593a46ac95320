"""Members of fewer bits: real ones where bitsandbytes is here, one line where a package is not."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from tiny_models import make_model

from eft_eval import Composite
from eft_eval.engine import quantization
from eft_eval.engine.loading import LoadOptions, Member
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
    if bits == "4bit":  # 8 bits depend on the rest of the batch
        assert ours.generate(prompts, max_new_tokens=8, block=4) == greedy
    assert all(isinstance(one, str) for one in greedy)
