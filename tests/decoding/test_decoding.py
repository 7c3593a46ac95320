"""Speculative decoding is lossless: tokens are those of plain decoding and of the reference.

Members compute in float64, so that no near-tie can hide a mistake or look like one.
"""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import Reference
from tiny_models import make_model, perturb
from transformers import AutoTokenizer, MistralConfig

from eft_eval.api import Composite
from eft_eval.composite.mathematics import gumbel_noise
from eft_eval.decoding import Decoder, Generation, Request, SamplingRule
from eft_eval.decoding.stopping import StopStrings
from eft_eval.engine.loading import LoadOptions
from eft_eval.errors import EftEvalError
from eft_eval.recipe import parse_recipe

KINDS = ("llama", "gpt2", "qwen2")
CASES = ("up", "down", "two deltas", "filtered", "contrastive")
BLOCKS = (1, 2, 4, 8, 16, "auto")
SOME = [(0, 4), (1, 7), (2, 1), (4, 4), (8, 7), (16, 4), ("auto", 1), ("auto", 7)]
OTHERS = [pair for pair in itertools.product((0, *BLOCKS), (1, 4, 7)) if pair not in SOME]
LENGTH = 14


@pytest.fixture(
    scope="module",
    params=[pytest.param(one, marks=pytest.mark.slow) if one == "qwen2" else one for one in KINDS],
)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Members that often agree, as models of one family do, so that drafts do get accepted."""
    folder = tmp_path_factory.mktemp(request.param)
    seed = int(np.random.default_rng().integers(10**6))  # fresh inputs
    print(f"family {request.param}, seed {seed}")
    base = make_model(folder / "base", request.param, seed=seed, layers=3, scale=4.0)
    small = make_model(folder / "small", request.param, seed=seed + 1, layers=1, scale=4.0)
    return {
        "base": base,
        "large_tuned": perturb(base, folder / "lt", seed=seed + 2, amount=0.1),
        "small": small,
        "tuned": perturb(small, folder / "t", seed=seed + 3, amount=0.1),
        "other": perturb(small, folder / "o", seed=seed + 4, amount=0.1),
        "near": perturb(small, folder / "n", seed=seed + 5, amount=0.2),
    }


def deltas_of(family: dict, case: str) -> tuple[str, list[tuple[str, str, float]]]:
    if case == "down":
        return family["small"], [(family["large_tuned"], family["base"], 1.0)]
    if case == "two deltas":
        return family["near"], [
            (family["tuned"], family["small"], 0.6),
            (family["other"], family["small"], 0.5),
        ]
    if case == "contrastive":  # expert + 0.5 (expert - amateur), as one delta over the expert
        return family["base"], [(family["base"], family["near"], 0.5)]
    return family["near"], [(family["tuned"], family["small"], 1.0)]


def composite_of(family: dict, case: str, **decoding: Any) -> Composite:
    base, deltas = deltas_of(family, case)

    def spec(path: str) -> dict:
        return {"model": path, "dtype": "float64"}

    listed = [{"tuned": spec(t), "reference": spec(r), "weight": w} for t, r, w in deltas]
    if case == "filtered":
        decoding["weight_top_p"] = 0.9
    recipe = parse_recipe({"base": spec(base), "deltas": listed, "decoding": decoding})
    return Composite(recipe, LoadOptions())


@pytest.fixture(scope="module")
def composites(family: dict) -> dict[str, Composite]:
    return {case: composite_of(family, case) for case in CASES}


@pytest.fixture(scope="module")
def references(family: dict) -> dict[str, Reference]:
    return {
        case: Reference(*deltas_of(family, case), weight_top_p=0.9 if case == "filtered" else None)
        for case in CASES
    }


def ask(composite: Composite, prompts: list[list[int]], first_seed: int = 0) -> list[Request]:
    return [
        Request((prompt,) * len(composite.views), first_seed + number)
        for number, prompt in enumerate(prompts)
    ]


PROMPTS = [[40, 50, 60, 70], [90], list(range(100, 130)), [33, 44], [55] * 9, [200, 3], [77, 5, 77]]


@pytest.mark.parametrize(
    "combinations", [SOME, pytest.param(OTHERS, marks=pytest.mark.slow)], ids=["some", "others"]
)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("case", CASES)
def test_tokens_equal_the_float64_reference(
    references: dict[str, Reference],
    composites: dict[str, Composite],
    case: str,
    temperature: float,
    combinations: list[tuple[Any, int]],
) -> None:
    """Plain and speculative, batches of 1, 4 and 7 with unequal prompts, every block."""
    composite, reference = composites[case], references[case]
    rule = SamplingRule(temperature)
    guesses = Decoder(composite, 0).generate(ask(composite, PROMPTS), rule, LENGTH)
    expected = []
    for number, prompt in enumerate(PROMPTS):

        def noise(timestep: int, seed: int = number) -> np.ndarray:
            rows = torch.tensor([seed]), torch.tensor([timestep])
            return gumbel_noise(*rows, reference.size)[0].double().numpy()

        stops = composite.stop_tokens
        guess = guesses[number].tokens
        expected.append(reference.generate(prompt, LENGTH, stops, temperature, noise, guess))
    accepted = 0
    for block, size in combinations:
        decoder = Decoder(composite, block)
        made = decoder.generate(ask(composite, PROMPTS), rule, LENGTH, batch_size=size)
        assert [one.tokens for one in made] == expected, (block, size)
        accepted += decoder.statistics.accepted
    # else the test would say nothing about accepted drafts; an amateur seldom drafts well
    assert accepted > 0 or case == "contrastive"


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_nothing_changes_a_sample(composites: dict[str, Composite], data: st.DataObject) -> None:
    """Any block, batch, order, rule and member prompts: tokens are those of one plain row."""
    composite = composites[data.draw(st.sampled_from(CASES))]
    token = st.integers(3, 258)
    own_prompts = data.draw(st.booleans())
    requests = []
    for _ in range(data.draw(st.integers(1, 6))):
        prompt = data.draw(st.lists(token, min_size=1, max_size=12))
        prompts = [
            data.draw(st.lists(token, min_size=1, max_size=12)) if own_prompts else prompt
            for _ in composite.views
        ]
        requests.append(Request(tuple(prompts), data.draw(st.integers(-(2**63), 2**63 - 1))))
    rule = SamplingRule(
        data.draw(st.sampled_from([0.0, 0.5, 1.0, 1.7])),
        data.draw(st.sampled_from([None, 1, 5, 50])),
        data.draw(st.sampled_from([None, 0.3, 0.9, 1.0])),
        data.draw(st.sampled_from([None, 0.05, 0.4])),
        data.draw(st.sampled_from([None, 0.5, 0.95])),
    )
    limit = data.draw(st.integers(1, 16))
    plain = [Decoder(composite, 0).generate([one], rule, limit)[0] for one in requests]
    order = data.draw(st.permutations(range(len(requests))))
    made = Decoder(composite, data.draw(st.sampled_from(BLOCKS))).generate(
        [requests[index] for index in order], rule, limit,
        batch_size=data.draw(st.integers(1, len(requests))),
    )  # fmt: skip
    assert made == [plain[index] for index in order]


def test_stop_strings_end_a_response_inside_a_block(composites: dict[str, Composite]) -> None:
    composite = composites["up"]
    free = Decoder(composite, 0).generate(ask(composite, PROMPTS), SamplingRule(), LENGTH)
    texts = [composite.tokenizer.decode(one.tokens) for one in free]
    stop = max(texts, key=len)[6:8]  # the first may end before
    for block in (0, 4, "auto"):
        test = StopStrings(composite.tokenizer, [stop])
        made = Decoder(composite, block).generate(
            ask(composite, PROMPTS), SamplingRule(), LENGTH, test, batch_size=3
        )
        for one, text, whole in zip(made, texts, free, strict=True):
            got = composite.tokenizer.decode(one.tokens)
            if stop in text:
                assert one.finish == "stop"
                assert stop in got
                assert stop not in composite.tokenizer.decode(one.tokens[:-1])
            assert one.tokens == whole.tokens[: len(one.tokens)]


@pytest.mark.parametrize("sampling", ["coupled", "rejection"])
@pytest.mark.parametrize("case", ["up", "filtered"])
def test_samples_follow_the_composite(family: dict, case: str, sampling: str) -> None:
    """χ² of the first, second and third token against the exact distribution."""
    from scipy import stats

    composite = composite_of(family, case, sampling=sampling)
    draws, prompt = 3000, [40, 50, 60]
    rule = SamplingRule(1.0, top_k=12)
    decoder = Decoder(composite, 3)
    made = decoder.generate(ask(composite, [prompt] * draws, 10**6), rule, 3, batch_size=600)
    assert 0 < decoder.statistics.accepted < decoder.statistics.tested
    known: list[int] = []
    for position in range(3):
        here = [g.tokens[position] for g in made if g.tokens[:position] == known
                and len(g.tokens) > position]  # fmt: skip
        exact = next_probabilities(composite, [*prompt, *known], 12)
        frequent = (exact * len(here) >= 20).nonzero().flatten().tolist()
        counts = [here.count(token) for token in frequent]
        wanted = [float(exact[token]) * len(here) for token in frequent]
        counts.append(len(here) - sum(counts))
        wanted.append(max(len(here) - sum(wanted), 1e-9))
        if wanted[-1] < 20:  # pool the rare ones with the last frequent
            counts[-2:], wanted[-2:] = [sum(counts[-2:])], [sum(wanted[-2:])]
        if len(counts) > 1:  # else one token has all but a few draws
            assert stats.chisquare(counts, wanted).pvalue > 1e-9, (position, counts, wanted)
        assert all(exact[token] > 0 for token in here)
        known.append(max(set(here), key=here.count))


def next_probabilities(composite: Composite, tokens: list[int], top_k: int) -> torch.Tensor:
    """The exact distribution after ``tokens``, from passes without a cache."""
    total = composite.empty_scores(1)
    with torch.inference_mode():
        for view in composite.views:
            logits = view.member.model(torch.tensor([tokens]), use_cache=False).logits[:, -1]
            composite.accumulate(total, view, logits)
    kept = total[0].topk(top_k)
    exact = torch.zeros(total.shape[-1], dtype=torch.float64)
    exact[kept.indices] = kept.values.double().softmax(-1)
    return exact


def test_rejection_sampling_is_greedy_at_temperature_zero(family: dict) -> None:
    rejecting = composite_of(family, "up", sampling="rejection")
    coupled = composite_of(family, "up")
    first, second = (
        Decoder(one, 4).generate(ask(one, PROMPTS), SamplingRule(), LENGTH)
        for one in (rejecting, coupled)
    )
    assert first == second


def test_waiting_requests_take_the_place_of_finished_rows(
    composites: dict[str, Composite],
) -> None:
    """A batch of 4 over 24 requests that stop at different times needs far fewer passes."""
    composite = composites["up"]
    requests = ask(composite, [[40 + i, 50, 60 + i] for i in range(24)])
    lengths = iter(range(10**6))
    limits = {}

    def stopped(tokens: list[int], new: int = 1) -> bool:
        key = tuple(tokens[:2])
        limits.setdefault(key, 3 + next(lengths) % 14)
        return len(tokens) >= limits[key]

    decoder = Decoder(composite, 0)
    order = [
        index
        for index, _ in decoder.responses(requests, SamplingRule(1.0), 16, stopped, batch_size=4)
    ]
    assert sorted(order) == list(range(24))
    assert order != sorted(order)
    seen = decoder.statistics
    assert seen.requests == 24
    assert seen.rounds < seen.tokens / 4 * 1.35


def test_statistics_add_up(composites: dict[str, Composite]) -> None:
    composite = composites["up"]
    decoder = Decoder(composite, 4)
    made = decoder.generate(ask(composite, PROMPTS), SamplingRule(), LENGTH, batch_size=3)
    seen = decoder.statistics
    assert seen.tokens == sum(len(one.tokens) for one in made)
    assert seen.requests == len(PROMPTS)
    assert seen.accepted <= seen.tested <= seen.drafted
    shown = seen.record().as_dict()
    assert sum(shown["rounds_by_block"].values()) == seen.rounds
    assert sum(shown["time_share"].values()) + shown["own_time_share"] == pytest.approx(1)
    draft, *others = sorted(seen.passes.values(), reverse=True)
    assert draft > max(others)
    assert len(set(others)) == 1


def windowed(folder: Path, window: int) -> str:
    """A Mistral with a sliding window."""
    from transformers import MistralForCausalLM

    config = MistralConfig(
        vocab_size=259, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=64, max_position_embeddings=256,
        sliding_window=window, bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(window)
        model = MistralForCausalLM(config)
        with torch.no_grad():
            for weights in model.parameters():
                if weights.dim() > 1:
                    weights.normal_(0.0, 0.3)
    model.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("window", [8, 200])
def test_a_sliding_window_drafts_beyond_itself(
    tmp_path: Path, family: dict, window: int, caplog: pytest.LogCaptureFixture
) -> None:
    base = windowed(tmp_path / "base", window)
    AutoTokenizer.from_pretrained(family["small"]).save_pretrained(base)
    tuned = perturb(base, tmp_path / "tuned", seed=1, amount=0.1)
    reference = Reference(base, [(tuned, base, 0.5)])
    spec = {path: {"model": path, "dtype": "float64"} for path in (base, tuned)}
    recipe = {"base": spec[base], "deltas": [
        {"tuned": spec[tuned], "reference": spec[base], "weight": 0.5}]}  # fmt: skip
    composite = Composite(parse_recipe(recipe), LoadOptions())
    prompts = PROMPTS[:3]
    decoder = Decoder(composite, 4)
    with caplog.at_level(logging.WARNING, "eft_eval"):
        made = decoder.generate(ask(composite, prompts), SamplingRule(), LENGTH, batch_size=2)
    expected = [reference.generate(p, LENGTH, composite.stop_tokens) for p in prompts]
    assert [one.tokens for one in made] == expected
    assert not [record.message for record in caplog.records if "plainly" in record.message]
    assert decoder.statistics.drafted > 0
    assert decoder.statistics.plain_reason is None


def test_nan_is_an_error(family: dict) -> None:
    composite = composite_of(family, "up")
    with torch.no_grad():
        composite.members["base"].model.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(EftEvalError, match="no next token"):
        Decoder(composite, 2).generate(ask(composite, PROMPTS[:2]), SamplingRule(), 4)


def test_no_requests_no_work(composites: dict[str, Composite]) -> None:
    made: list[Generation] = Decoder(composites["up"]).generate([], SamplingRule(), 4)
    assert made == []
