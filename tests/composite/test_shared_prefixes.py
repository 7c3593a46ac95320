"""Rows that begin alike: read once, scored as each alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.instance import Instance
from tiny_models import make_model, perturb
from tokenizer_kinds import KINDS as TOKENIZERS
from tokenizer_kinds import size_of, tokenizer_of
from windowed_models import KINDS, save_windowed

from eft_eval.api import Composite
from eft_eval.composite.scoring import ScoredRow, continuation_log_probs, score_of
from eft_eval.decoding import Decoder, Request, SamplingRule
from eft_eval.engine import kept_prefix
from eft_eval.engine.prefixes import common_prefix, forests, order_by_prefix
from eft_eval.engine.windows import ALL, Window
from eft_eval.model_adapters.eft import EFTLM

TOKENS = st.lists(st.integers(0, 1), min_size=1, max_size=9)
WITHOUT_FLOAT64 = ("GptOss", "Llama4Text")  # mixtures of experts
QUICK = ("Gemma3Text", "llama")
SHOTS = "Question: Why is the sky blue? Answer: because. " * 4
QUESTIONS = ("Question: Who works? Answer:", "Question: What is 42? Answer:", "Answer:")
CHOICES = (" a carpenter in the town", " red light", " a", " the number of days, 365")


@given(
    st.lists(TOKENS, min_size=2, max_size=6), st.lists(st.integers(1, 5), min_size=6, max_size=6)
)
@settings(max_examples=30, deadline=None)
def test_a_row_sees_its_own_tokens_in_their_order(
    rows: list[list[int]], lengths: list[int]
) -> None:
    wanted = [min(length, len(row)) for row, length in zip(rows, lengths, strict=False)]
    found = []
    for forest in forests(rows, wanted):
        size = forest.tokens.shape[1]
        for row, tree, places in forest.places:
            found.append(row)
            assert len(places) == wanted[row]
            for back, place in enumerate(reversed(places)):
                end = len(rows[row]) - back
                node = size - forest.keep + place
                seen = forest.mask(ALL)[tree, 0, node].nonzero()[:, 0]
                at = forest.positions[tree][seen]
                assert sorted(at.tolist()) == list(range(end))
                assert forest.tokens[tree][seen][at.argsort()].tolist() == rows[row][:end]
                near = forest.mask(Window("sliding_attention", 3))[tree, 0, node].nonzero()[:, 0]
                assert sorted(forest.positions[tree][near].tolist()) == list(range(end))[-3:]
    assert sorted(found) in ([], list(range(len(rows))))


@given(TOKENS, TOKENS)
@settings(max_examples=60, deadline=None)
def test_common_prefix(one: list[int], other: list[int]) -> None:
    expected = 0
    while expected < min(len(one), len(other)) and one[expected] == other[expected]:
        expected += 1
    assert common_prefix(one, other) == expected


def test_rows_that_begin_alike_are_neighbours_and_long_ones_come_first() -> None:
    stem = (1, 2, 3, 4, 5)
    rows = [(9, 9), (*stem, 7), (8,) * 9, (*stem, 6, 6, 6, 6, 6), (*stem, 6)]
    ranks = order_by_prefix(rows)
    assert sorted(rows, key=lambda row: ranks[row]) == [
        (*stem, 6), (*stem, 6, 6, 6, 6, 6), (*stem, 7), (8,) * 9, (9, 9),
    ]  # fmt: skip


def test_rows_too_long_for_a_mask_are_read_as_they_are() -> None:
    for length, passes in ((1000, 1), (9000, 0)):
        rows = [[7] * length + [number] for number in range(4)]
        assert len([*forests(rows, [1] * 4)]) == passes


def rows_of(composite: Composite) -> list[ScoredRow]:
    """Two questions with four choices each after the same shots, one without, and one twice."""
    shots = [(5 * n + n * n) % 200 + 20 for n in range(40)]
    asked = [[*shots, 31, 32, 33], [*shots, 31, 35], [90, 91]]
    chosen = ([40], [40, 41, 42], [43, 44], [45, 46, 47, 48, 49])
    found = [(context, choice) for context in asked for choice in chosen]
    return [
        ScoredRow((context,) * len(composite.views), choice)
        for context, choice in [*found, found[1]]
    ]


def tokens_read(composite: Composite, work: Any) -> int:
    seen = []
    hook = composite.members["base"].model.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: seen.append(inputs[0].numel())
    )  # fmt: skip
    try:
        work()
    finally:
        hook.remove()
    return sum(seen)


def saved(folder: Path, kind: str) -> str:
    return save_windowed(folder, kind, 6) if kind in KINDS else make_model(folder, kind)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[pytest.mark.slow] * (kind not in QUICK))
        for kind in ("llama", "gpt2", "qwen2", *KINDS)
    ],
)
def test_each_prefix_is_read_once_and_nothing_changes(tmp_path: Path, kind: str) -> None:
    base = saved(tmp_path / "base", kind)
    tuned = perturb(base, tmp_path / "tuned", seed=1, amount=0.1)
    reference = perturb(base, tmp_path / "reference", seed=2, amount=0.1)
    exact = kind != "llama" and kind not in WITHOUT_FLOAT64
    recipe = {"base": base, "tuned": tuned, "reference": reference}
    dtype = "float64" if exact else "float32"
    composite = Composite.load({**recipe, "dtype": dtype}, device="cpu")
    rounded = {"llama": 1e-5, "Gemma2": 1e-5}  # float32; a softmax in it
    most = rounded.get(kind, 1e-9 if exact else 1e-4)
    rows = rows_of(composite)
    alone = [continuation_log_probs(composite, [row], 256)[0] for row in rows]
    together: list[torch.Tensor] = []
    continuation_log_probs(composite, rows, 256)  # the trial
    read = tokens_read(
        composite, lambda: together.extend(continuation_log_probs(composite, rows, 256))
    )
    assert read < 2 * len({tuple(row.contexts[0]) for row in rows[:8]}) * 43
    for row, one, other in zip(rows, alone, together, strict=True):
        assert torch.allclose(one, other, atol=most, rtol=0)
        assert score_of(composite, one, row.continuation).log_prob == pytest.approx(
            score_of(composite, other, row.continuation).log_prob, abs=5 * most
        )


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[pytest.mark.slow] * (kind != "Gemma3Text"))
        for kind in ("llama", "gpt2", "Gemma3Text", "Mistral", "Gemma4Text")
    ],
)
def test_what_batches_begin_with_alike_is_kept(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_prefix, "_LEAST", 20)
    base = saved(tmp_path / "base", kind)
    spec = {"base": base, "tuned": perturb(base, tmp_path / "tuned", seed=1, amount=0.1)}
    recipe = {**spec, "reference": base, "weight": 0.5, "dtype": "float64"}
    composite = Composite.load(recipe, device="cpu")
    rows = rows_of(composite)
    engine: Any = composite.members["base"].engine
    alone = []
    for row in rows:  # each forgets the one before it
        alone += continuation_log_probs(composite, [row], 256)
        engine._forget_prefix()
        composite.members["tuned"].engine._forget_prefix()
    continuation_log_probs(composite, rows, 256)  # the trial
    shots = sorted(rows[:8], key=lambda row: (row.contexts[0], row.continuation))
    for size in (1, 3):
        engine._forget_prefix()
        composite.members["tuned"].engine._forget_prefix()
        found: list[torch.Tensor] = []
        read = []
        for start in range(0, len(shots), size):
            batch = shots[start : start + size]

            def work(batch: list[ScoredRow] = batch, found: list[torch.Tensor] = found) -> None:
                found.extend(continuation_log_probs(composite, batch, 256))

            read.append(tokens_read(composite, work))
            assert len(engine._kept.tokens) <= 43
        # the second batch reads its prefix for itself; from then on the shots are never read again
        assert max(read[2:]) <= 3 + size * 8
        for row, other in zip(shots, found, strict=True):
            expected = alone[rows.index(row)]
            assert torch.allclose(expected, other, atol=1e-9, rtol=0)
    Decoder(composite).generate([Request(rows[0].contexts)], SamplingRule(), 2)
    assert not engine._kept.tokens


def test_other_beginnings_are_not_kept(tmp_path: Path) -> None:
    engine: Any = (
        Composite.load({"base": make_model(tmp_path)}, device="cpu").members["base"].engine
    )
    long = list(range(5, 205))
    kept = engine._kept
    assert kept.shared([long], [3]) == 0  # nothing came before it
    assert kept.shared([long], [3]) == 197
    assert kept.shared([[*long[:150], 9, 9], [*long[:150], 8, 8, 8]], [1, 2]) == 150
    assert kept.shared([long[:100]], [1]) == 0  # too few
    assert kept.shared([long], [3]) == 0  # as before, but too few of them
    assert kept.shared([[*long, *range(5, 235)]], [1]) == 0  # less than half
    kept.read(long[:3])
    assert kept.shared([[9, *long]], [3]) == 0
    assert kept.tokens == []


def asked(model: EFTLM, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
    requests = [Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(pairs)]
    return model.loglikelihood(requests, disable_tqdm=True)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n != sorted(TOKENIZERS)[0]))
     for n in sorted(TOKENIZERS)],
)  # fmt: skip
def test_few_shot_choices_in_any_batch(tmp_path: Path, name: str) -> None:
    tokenizer = tokenizer_of(name)
    paths = {
        role: make_model(
            tmp_path / role, seed=seed, vocabulary=size_of(tokenizer), tokenizer=tokenizer,
            positions=512,
        )
        for seed, role in enumerate(("base", "tuned", "reference"))
    }  # fmt: skip
    pairs = [(SHOTS + question, choice) for question in QUESTIONS for choice in CHOICES]
    single = asked(EFTLM(**paths, batch_size=1, device="cpu"), pairs)
    for size in (5, 16):
        many = asked(EFTLM(**paths, batch_size=size, device="cpu"), pairs)
        for (one, greedy), (other, same) in zip(single, many, strict=True):
            assert other == pytest.approx(one, abs=1e-5 * max(1.0, abs(one)))
            assert same == greedy
