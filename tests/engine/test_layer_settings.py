"""Configurations whose layers have settings of their own, which transformers lets nobody read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from transformers import MistralConfig
from windowed_models import save_windowed

from eft_eval.engine.excerpt import excerpt
from eft_eval.engine.footprint import attention_heads, cache_bytes
from eft_eval.engine.loading import LoadOptions, Member
from eft_eval.engine.passes import Passes
from eft_eval.engine.positions import attention_reach
from eft_eval.engine.trial import Trial
from eft_eval.engine.windows import ALL, layer_windows, longest_window, narrowed
from eft_eval.plans.members import work_of
from eft_eval.recipe import MemberSpec

pytestmark = pytest.mark.skipif(
    not hasattr(transformers.PreTrainedConfig, "per_layer_config"),
    reason="this transformers has no settings per layer",
)


@pytest.fixture(scope="module")
def gemma4(tmp_path_factory: pytest.TempPathFactory) -> Member:
    """Heads of 16 numbers where all tokens are seen, of 8 in windows; two layers keep no cache."""
    folder = save_windowed(tmp_path_factory.mktemp("m"), "Gemma4Text", 6)
    return Member(MemberSpec(model=folder), LoadOptions())


def test_heads_are_those_of_each_layer(gemma4: Member) -> None:
    assert [one.size for one in attention_heads(gemma4.text_config)] == [8, 16, 8, 8, 16]
    plan = work_of(gemma4, "eft-vllm")
    assert plan.heads.size == 16
    assert plan.attention == 4.0 * 4 * (3 * 8 + 2 * 16)
    assert plan.cache_of(100) == 2 * 2 * 4 * (100 * 2 * 16 + 6 * 3 * 8)


@torch.inference_mode()
def test_caches_are_counted_as_they_are_kept(gemma4: Member) -> None:
    assert gemma4.engine.cannot_roll_back(64) is None
    state: Any = gemma4.engine.row_state(3, 300)
    state.join([[1] * 290] * 3)
    state.forward(torch.tensor([[1]] * 3))
    caches = [layer for layer in state._cache.layers if layer.is_initialized]
    held = [one for layer in caches for one in (layer.keys, layer.values)]
    assert len(caches) == 3
    assert sum(one.nbytes for one in held) == cache_bytes(gemma4, 3, 300)


def test_rounded_ones_are_tried_out_in_float32(gemma4: Member) -> None:
    half = Member(MemberSpec(model=gemma4.spec.model, dtype="bfloat16"), LoadOptions())
    passes = Passes(half.model, half.device, half.label)
    assert excerpt(passes) is not None
    assert Trial(passes).windows() is None


def test_windows_of_each_layer() -> None:
    def config(**own: Any) -> Any:
        return MistralConfig(num_hidden_layers=2, sliding_window=6, per_layer_config={1: own})

    seen = layer_windows(config(sliding_window=None))
    assert seen is not None
    assert [one.size for one in seen] == [6, None]
    assert seen[1] == ALL
    assert layer_windows(config(sliding_window=9)) is None  # masks are by kind
    assert attention_reach(config(sliding_window=4)) == 4
    one = config(sliding_window=9)
    assert longest_window(one) == 9
    with narrowed(one, 3):
        assert longest_window(one) == 9  # a layer's own stays
    assert vars(one)["sliding_window"] == 6
