"""The state of a model with recurrent layers, against passes without a cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from recurrent_models import save_recurrent
from transformers import AutoModelForCausalLM

from eft_eval.engine import states
from eft_eval.engine.footprint import cache_bytes, state_bytes
from eft_eval.engine.loading import LoadOptions, Member
from eft_eval.engine.passes import Passes
from eft_eval.engine.recurrent import RecurrentCache, RecurrentState
from eft_eval.engine.trial import Trial
from eft_eval.engine.windows import Window
from eft_eval.recipe import MemberSpec

WITH_WINDOWS: dict[str, dict[str, Any]] = {
    "Lfm3": {"layer_types": ["conv", "sliding_attention", "full_attention"]},
    "Zaya": {"layer_types": ["hybrid", "hybrid_sliding", "hybrid"], "router_hidden_size": 16},
}

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def passes(tmp_path_factory: pytest.TempPathFactory) -> Passes:
    path = save_recurrent(tmp_path_factory.mktemp("model"), "Lfm2")
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64).eval()
    return Passes(model, torch.device("cpu"), "Lfm2")


def rows_of(*lengths: int) -> list[list[int]]:
    return [[(13 * n + 7 * i) % 250 + 5 for i in range(length)] for n, length in enumerate(lengths)]


def alone(passes: Passes, row: list[int], last: int) -> torch.Tensor:
    return passes.logits([row], [last])[0][0, -last:]


def read(state: RecurrentState, rows: list[list[int]], lengths: list[int], width: int) -> Any:
    pairs = zip(rows, lengths, strict=True)
    return state.forward(torch.tensor([row[at : at + width] for row, at in pairs]))


@torch.inference_mode()
def test_what_stands_is_read_again_with_the_next_block(passes: Passes) -> None:
    rows, lengths = rows_of(60, 60), [30, 30]
    state = RecurrentState(passes, 2, 64)
    state.join([row[:31] for row in rows])
    assert state.passes == 1
    for stays in ((1, 4), (2, 4), (3, 4)):
        for row, at, found in zip(rows, lengths, read(state, rows, lengths, 4), strict=True):
            expected = alone(passes, row[: at + 4], 4)
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
        lengths = [at + one for at, one in zip(lengths, stays, strict=True)]
        state.rewind(lengths)
        state.settle()
    assert state.passes == 1 + 3  # a row of them never stood whole: it has 6 tokens unread
    state.settle(most=5)
    assert state.passes == 5
    found = read(state, rows, lengths, 1)
    assert state.passes == 6
    for row, at, logits in zip(rows, lengths, found, strict=True):
        torch.testing.assert_close(logits, alone(passes, row[: at + 1], 1), rtol=1e-6, atol=1e-8)


@torch.inference_mode()
def test_drafts_are_taken_back_without_a_pass(passes: Passes) -> None:
    rows = rows_of(20, 20, 20)
    state = RecurrentState(passes, 3, 24)
    state.join([row[:11] for row in rows])
    for step in range(4):
        read(state, rows, [10 + step] * 3, 1)
    before, back = state.passes, [11, 14, 12]
    state.rewind(back)
    state.settle(most=0)
    assert state.passes == before
    for row, at, logits in zip(rows, back, read(state, rows, back, 1), strict=True):
        torch.testing.assert_close(logits, alone(passes, row[: at + 1], 1), rtol=1e-6, atol=1e-8)


@torch.inference_mode()
def test_prompts_are_read_a_few_rows_at_a_time(
    passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "_TOKENS", 60)
    rows, widest = rows_of(41, 61, 41), []
    run = passes.row_pass

    def noted(tokens: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        widest.append(tokens.numel())
        return run(tokens, *rest, **options)

    monkeypatch.setattr(passes, "row_pass", noted)
    state = RecurrentState(passes, 3, 64)
    state.join(rows)
    assert max(widest) <= 60
    last = [len(row) - 1 for row in rows]
    for row, found in zip(rows, read(state, rows, last, 1), strict=True):
        torch.testing.assert_close(found, alone(passes, row, 1), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("broken", ["install", "rewind", "settle"])
def test_the_trial_tells_states_that_are_not_kept(
    passes: Passes, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = Trial(passes)
    assert trial.recurrent() is None

    def taken_for_read(self: RecurrentState, lengths: Any = None, most: int = 0) -> None:
        lengths = lengths or [n + len(u) for n, u in zip(self._lengths, self._unread, strict=True)]
        if self._since:
            self.kept = self._since[-1].states
        self._since, self._lengths = [], list(lengths)
        self._unread = [one[:0] for one in self._unread]

    if broken == "install":
        monkeypatch.setattr(RecurrentCache, "install", lambda self, states: None)
    else:
        monkeypatch.setattr(RecurrentState, broken, taken_for_read)
    assert Trial(passes).recurrent() is not None


@pytest.mark.parametrize("kind", WITH_WINDOWS)
def test_windows_beside_recurrent_layers_are_tried_out(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(transformers, f"{kind}Config"):
        pytest.skip("newer than this transformers")
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=259, pad_token_id=2, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, intermediate_size=48, num_experts=4,
        moe_intermediate_size=16, sliding_window=256, **WITH_WINDOWS[kind],
    )  # fmt: skip
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        model: Any = AutoModelForCausalLM.from_config(config).eval()
        for weights in model.parameters():
            weights.normal_(std=0.3)
    passes = Passes(model, torch.device("cpu"), kind)
    assert Trial(passes).recurrent() is None
    monkeypatch.setattr(Window, "mask", lambda self, cached, positions: cached <= positions)
    assert "standard deviations" in str(Trial(passes).recurrent())


@pytest.mark.parametrize("kind", ["Lfm2", pytest.param("GraniteMoeHybrid", marks=pytest.mark.slow)])
def test_caches_and_states_are_counted_as_they_are_kept(tmp_path: Path, kind: str) -> None:
    path = save_recurrent(tmp_path, kind)
    member = Member(MemberSpec(model=path), LoadOptions())
    expected = cache_bytes(member, 3, 20), 3 * state_bytes(member)
    state: Any = member.engine.row_state(3, 20)
    state.join([[1, 2, 3]] * 3)
    with torch.inference_mode():
        state.forward(torch.tensor([[1]] * 3))
    keys = [getattr(layer, "keys", None) for layer in state._cache.layers]
    kept = 2 * sum(one.numel() * one.element_size() for one in keys if one is not None)
    states = sum(one.numel() * one.element_size() for one in state.kept)
    assert (kept, states) == expected


def test_states_are_counted_in_the_members_own_precision(tmp_path: Path) -> None:
    path = save_recurrent(tmp_path, "Lfm2")
    wide, half = (
        state_bytes(Member(MemberSpec(model=path, dtype=dtype), LoadOptions()))
        for dtype in ("float32", "bfloat16")
    )
    assert wide == 2 * half > 0
