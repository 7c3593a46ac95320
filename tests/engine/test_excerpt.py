"""What rounding hides in half precision or 8 bits: looked for in a few layers of float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rounded_layers import rounds_each_token
from tiny_models import make_model
from transformers import AutoModelForCausalLM
from windowed_models import save_windowed

from eft_eval.engine.excerpt import excerpt
from eft_eval.engine.passes import Passes
from eft_eval.engine.trial import Trial


def passes_of(folder: str, dtype: str = "bfloat16", **settings: Any) -> Passes:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **settings).eval()
    return Passes(model, torch.device("cpu"), "tuned member")


def test_an_excerpt_is_the_first_layers_in_float32(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m", layers=4)
    half = passes_of(folder)
    before = {name: value.clone() for name, value in half.model.state_dict().items()}
    made = excerpt(half)
    assert made is not None
    # the same weights, rounded once, in a model of two layers
    expected = passes_of(folder, "bfloat16", num_hidden_layers=2)
    expected.model.float()
    rows = [[5, 6, 7, 8, 9], [3, 4]]
    with torch.inference_mode():
        found, _ = made.logits(rows, [5, 2])
        wanted, _ = expected.logits(rows, [5, 2])
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert made.exact
    assert not half.exact
    assert half.text.num_hidden_layers == 4
    after = half.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_every_kind_of_layer_is_in_it(tmp_path: Path) -> None:
    """Sliding, full, sliding: the first two; chunks and positions that only some layers have."""
    made = excerpt(passes_of(save_windowed(tmp_path / "m", "Olmo3", 16)))
    assert made is not None
    assert made.text.layer_types == ["sliding_attention", "full_attention"]


@pytest.mark.parametrize("how", ["bfloat16", "8 bits"])
def test_small_faults_show(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions of one row that are off by 0.03: 0.02 standard deviations of the logits."""
    half = passes_of(make_model(tmp_path / "m"), "bfloat16" if how == "bfloat16" else "float32")
    if how == "8 bits":
        rounds_each_token(half.model)
    assert Trial(half).rows() is None
    right = Passes.row_pass

    def off(self: Passes, tokens: Any, masks: Any, positions: Any, *rest: Any) -> Any:
        places = positions.float()
        if len(places) > 1 and int(positions.min()):
            places[1:] += 0.03
        return right(self, tokens, masks, places, *rest)

    monkeypatch.setattr(Passes, "row_pass", off)
    assert "in float32, its logits differ from a pass without a cache" in str(Trial(half).rows())
    monkeypatch.setattr("eft_eval.engine.trial.excerpt", lambda _: None)
    assert Trial(half).rows() is None  # it is what the excerpt shows


def test_rounding_of_many_layers_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bfloat16, 30 real layers read with a cache differ by 0.11, and by nothing in batches."""
    half = passes_of(make_model(tmp_path / "m"))
    right, draw = Passes.row_pass, torch.Generator().manual_seed(1)

    def rounded(self: Passes, *given: Any) -> Any:
        logits = right(self, *given)
        noise = torch.randn(logits.shape, generator=draw) * 0.04 * logits.float().std()
        return logits if self.exact else logits + noise

    monkeypatch.setattr(Passes, "row_pass", rounded)
    trial = Trial(half)
    assert trial.rows() is None
    assert not trial.depends_on_batch


def test_no_number_is_no_rounding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half, right = passes_of(make_model(tmp_path / "m")), Passes.row_pass

    def overflows(self: Passes, *given: Any) -> Any:
        return right(self, *given) * (1.0 if self.exact else torch.nan)

    monkeypatch.setattr(Passes, "row_pass", overflows)
    assert "by nan standard deviations" in str(Trial(half).rows())


def test_a_model_that_looks_ahead_by_little_is_told(tmp_path: Path) -> None:
    half = passes_of(make_model(tmp_path / "m"))

    class Later(torch.nn.Module):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return hidden + 0.3 * hidden.mean(1, keepdim=True)

    half.model.model.norm = torch.nn.Sequential(Later(), half.model.model.norm)
    assert "depends on later ones" in str(Trial(half).causal())


def test_without_layers_to_tell_apart_the_whole_model_decides(tmp_path: Path) -> None:
    half = passes_of(make_model(tmp_path / "m", layers=2))
    half.model.model.more = torch.nn.ModuleList([torch.nn.Identity(), torch.nn.Identity()])
    assert excerpt(half) is None
    assert Trial(half).rows() is None
