"""Rounds of fixed shapes: the same tokens, one wait of the host per round, recorded passes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recorded import HostReads, Recorder, Shapes, no_waits
from tiny_models import make_model, perturb
from windowed_models import save_windowed

from eft_eval import Composite
from eft_eval.decoding import Decoder, Generation, Request, SamplingRule
from eft_eval.decoding.block import BlockChooser, Round
from eft_eval.decoding.fixed import allowed_block
from eft_eval.engine import graphs, states
from eft_eval.engine.fixed import reach_of
from eft_eval.engine.graphs import Graphs, Work
from eft_eval.errors import EftEvalError

RULES = {
    "greedy": SamplingRule(),
    "sampled": SamplingRule(1.0),
    "filtered": SamplingRule(0.8, top_k=20, top_p=0.9),
}
PROMPTS = [[5, 9, 40, 7], [8], [30, 31, 32, 33, 34, 35, 36, 37, 38], [60, 61], [100] * 5, [4, 4]]
LIMIT = 12


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("fixed")
    base = make_model(folder / "base", seed=1, layers=3, hidden=64, vocabulary=272)
    small = make_model(folder / "small", "gpt2", seed=3)
    return {
        "base": base,
        "tuned": make_model(folder / "tuned", seed=2, scale=3.0),
        "small": small,
        "tuned_base": perturb(base, folder / "tuned_base", seed=4, amount=0.05),
    }


@pytest.fixture(scope="module")
def composite_of(members: dict[str, str]) -> Callable[[str], Composite]:
    base, tuned, small = members["base"], members["tuned"], members["small"]
    recipes: dict[str, dict[str, Any]] = {
        "three members": {"base": base, "tuned": tuned, "reference": small},
        "filtered weights": {"base": base, "tuned": tuned, "reference": small, "weight_top_p": 0.9},
        "down": {"base": small, "tuned": members["tuned_base"], "reference": base},
        "two deltas": {
            "base": base,
            "deltas": [
                {"tuned": tuned, "reference": small, "weight": 0.3},
                {"tuned": members["tuned_base"], "reference": small, "weight": 0.7},
            ],
        },
        "rejection": {"base": base, "tuned": tuned, "reference": small, "sampling": "rejection"},
    }
    made: dict[str, Composite] = {}

    def of(name: str) -> Composite:
        if name not in made:
            made[name] = Composite.load(recipes[name], device="cpu")
        return made[name]

    return of


def requests_of(composite: Composite, prompts: Sequence[list[int]] = PROMPTS) -> list[Request]:
    # the first view reads more than the others
    views = len(composite.views)
    return [
        Request(([3, *prompt], *[prompt] * (views - 1)), 7 - seed)
        for seed, prompt in enumerate(prompts)
    ]


def responses(
    composite: Composite, rule: SamplingRule, block: Any, rows: int, record: Any
) -> tuple[list[Generation], Any]:
    decoder = Decoder(composite, block, record)
    made = decoder.generate(requests_of(composite), rule, LIMIT, batch_size=rows)
    return made, decoder.statistics


def check_same(composite: Composite, rule: SamplingRule, block: Any, rows: int) -> None:
    expected, before = responses(composite, rule, block, rows, None)
    recorder = Recorder()
    found, seen = responses(composite, rule, block, rows, recorder)
    assert found == expected
    assert recorder.replayed > recorder.recorded > 0
    if block != "auto":
        assert (seen.accepted, seen.tested) == (before.accepted, before.tested)
        assert seen.blocks == before.blocks
        for view in composite.views:  # the draft member reads its last draft, too
            assert seen.passes[view.role] >= seen.rounds


@pytest.mark.slow
def test_recorded_rounds_make_the_same_tokens(composite_of: Callable[[str], Composite]) -> None:
    check_same(composite_of("three members"), RULES["sampled"], 3, 4)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("block", "rows"), [(0, 4), (1, 1), (7, 6), ("auto", 4)])
def test_recorded_rounds_make_the_same_tokens_in_every_batch(
    composite_of: Callable[[str], Composite], rule: str, block: Any, rows: int
) -> None:
    check_same(composite_of("three members"), RULES[rule], block, rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["filtered weights", "down", "two deltas", "rejection"])
def test_recorded_rounds_of_every_kind_of_composite(
    composite_of: Callable[[str], Composite], name: str
) -> None:
    check_same(composite_of(name), RULES["sampled"], 2, 4)
    check_same(composite_of(name), RULES["filtered"], 0, 4)


@pytest.mark.slow
def test_a_model_alone_is_recorded(members: dict[str, str]) -> None:
    check_same(Composite.load({"base": members["base"]}, device="cpu"), RULES["sampled"], 4, 4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Cohere2", "Gemma2", "Gemma3nText", "Gemma4Text", "Mistral"])
def test_windows_are_masks_of_recorded_passes(kind: str, tmp_path: Path) -> None:
    base = save_windowed(tmp_path / "base", kind, 6)
    tuned = perturb(base, tmp_path / "tuned", seed=1, amount=0.1)
    spec = {"base": base, "tuned": tuned, "reference": base, "weight": 0.5}
    check_same(Composite.load(spec, device="cpu"), RULES["greedy"], 3, 4)


@pytest.mark.slow
def test_prompts_are_read_a_few_rows_at_a_time(
    composite_of: Callable[[str], Composite], monkeypatch: pytest.MonkeyPatch
) -> None:
    composite = composite_of("three members")
    expected, _ = responses(composite, RULES["greedy"], 2, 6, None)
    monkeypatch.setattr(states, "_TOKENS", 20)
    engine: Any = composite.views[0].member.engine
    state = engine.fixed_state(6, 30, 3)
    with torch.inference_mode():
        state.join([[3, *prompt] for prompt in PROMPTS])
    assert state.passes == 3  # of 2 rows each: the longest reads 9 tokens
    assert responses(composite, RULES["greedy"], 2, 6, no_waits)[0] == expected


def test_the_host_waits_once_a_round_and_shapes_stay(
    composite_of: Callable[[str], Composite],
) -> None:
    composite = composite_of("three members")
    expected, _ = responses(composite, RULES["filtered"], 3, 4, None)
    shapes = Shapes()
    decoder = Decoder(composite, 3, shapes)
    rounds = decoder.rounds(
        requests_of(composite), RULES["filtered"], LIMIT, batch_size=len(PROMPTS)
    )
    found, count = {}, 0
    while True:
        recorded = shapes.recorded
        with HostReads() as reads:
            ended = next(rounds, None)
        if ended is None:
            break
        count += 1
        found |= dict(ended)
        checks = ["__bool__"] * (shapes.recorded - recorded)  # of what was recorded
        assert reads.names == [*checks, "tolist"]
    assert count == decoder.statistics.rounds > 3
    assert [found[row] for row in range(len(PROMPTS))] == expected
    assert shapes.repeated > count  # each of them with the shapes of its first time


# --- recording ------------------------------------------------------------------------------------


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(graphs, "_TOLD", set())
    caplog.set_level(logging.WARNING, logger="eft_eval")
    return lambda: [record.getMessage() for record in caplog.records]


def refuse(work: Work) -> Work:
    raise RuntimeError("operation not permitted when stream is capturing\nmore of it")


def forget(work: Work) -> Work:
    return lambda: None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (refuse, "operation not permitted when stream is capturing"),
        (forget, "what was recorded gives other numbers"),
    ],
)
def test_what_cannot_be_recorded_is_done_and_told_once(
    composite_of: Callable[[str], Composite], record: Any, reason: str, lines: Any
) -> None:
    composite = composite_of("three members")
    expected, _ = responses(composite, RULES["greedy"], 2, 6, None)
    for _ in range(2):
        assert responses(composite, RULES["greedy"], 2, 6, record)[0] == expected
    kinds = ("drafts", "choices of drafts", "passes of base", "passes of reference", "choices")
    expected_lines = {f"no CUDA graphs of {k}, so that decoding is slower: {reason}" for k in kinds}
    assert len(lines()) == len(set(lines()))
    assert set(lines()) <= expected_lines
    assert f"no CUDA graphs of drafts, so that decoding is slower: {reason}" in lines()


def test_work_that_looks_at_values_is_not_recorded(lines: Any) -> None:
    total, runs = torch.zeros(3), Graphs(no_waits)
    for number in (1.0, 2.0):
        value = torch.tensor(number)

        def work(value: torch.Tensor = value) -> None:
            total.add_(value.item())

        runs.run("sums", number, work, (total,))
        runs.run("others", 0, lambda: total.add_(1.0), (total,))
    assert total.tolist() == [5.0] * 3
    assert lines() == ["no CUDA graphs of sums, so that decoding is slower: the host waits for "
                       "_local_scalar_dense"]  # fmt: skip


def test_recorded_work_is_done_once_at_a_time_on_the_same_tensors() -> None:
    source, total, runs = torch.ones(3), torch.zeros(3), Graphs(Recorder())
    for number in (1.0, 2.0, 3.0):
        source.fill_(number)
        runs.run("sums", 3, lambda: total.add_(source * 2), (total,))
    assert total.tolist() == [12.0] * 3
    assert runs.recorded == 1


# --- shapes and blocks ----------------------------------------------------------------------------


@given(st.integers(1, 200_000), st.integers(0, 1000))
def test_reaches_are_few_and_near(positions: int, more: int) -> None:
    reach = reach_of(positions)
    assert positions <= reach < positions + max(128, positions / 4)
    assert reach % 128 == 0
    assert reach_of(positions + more) >= reach
    assert reach_of(reach) == reach


def test_reaches_of_long_rows_are_eight_to_a_doubling() -> None:
    assert len({reach_of(n) for n in range(32_769, 65_537)}) == 8


def test_few_blocks_are_recorded() -> None:
    assert [allowed_block(n, False) for n in range(25)].count(7) == 0
    assert all(allowed_block(n, False) <= n for n in range(25))
    assert allowed_block(7, True) == 7
    assert allowed_block(24, False) == 24


def test_reading_the_last_draft_is_part_of_a_block_s_cost() -> None:
    def chosen(reads_last: bool) -> int:
        blocks = BlockChooser("auto")
        blocks.reads_last = reads_last
        for number in range(48):  # a fourth of the drafts stands; a pass takes 1, verifying 2.4
            block, run = 4 * (number % 2 == 0), int(number // 2 % 4 == 3)
            bonus = None if block else 1.0
            blocks.observe(Round(1, block, (run,), 1.0 * block, 2.4, bonus))
        return blocks.choose(1, 24)

    assert chosen(False) == 1  # 1.25 tokens in 1 + 0.25 + 2.4
    assert chosen(True) == 0  # 1.25 tokens in 2 + 2.4, against 1 in 1 + 2.4


@pytest.mark.slow
def test_no_token_is_refused_as_in_other_rounds(members: dict[str, str]) -> None:
    composite = Composite.load(
        {"base": members["base"], "tuned": members["tuned"], "reference": members["small"]},
        device="cpu",
    )
    with torch.no_grad():
        composite.members["base"].model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(EftEvalError, match="has no next token"):
        responses(composite, RULES["sampled"], 2, 4, Recorder())
