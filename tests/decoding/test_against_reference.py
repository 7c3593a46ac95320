"""Scoring and generation against the float64 reference, on real model folders."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from reference import Reference
from tiny_models import byte_tokenizer, make_model

from eft_eval.api import Composite
from eft_eval.composite.mathematics import gumbel_noise, request_seed
from eft_eval.decoding import Decoder, Request, SamplingRule
from eft_eval.engine.loading import LoadOptions
from eft_eval.model_adapters.eft import EFTLM
from eft_eval.recipe import parse_recipe

KINDS = ("llama", "gpt2", "qwen2")
PROMPTS = ["Why is the sky blue?", "Hi", "A rather longer prompt, with more to read", "x", "Is it?"]


@pytest.fixture(scope="session", params=KINDS)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A base that is larger and padded to more logits, and two small fine-tuned pairs."""
    folder = tmp_path_factory.mktemp(request.param)
    kind, seed = request.param, np.random.default_rng().integers(10**6)  # fresh inputs
    print(f"family {kind}, seed {seed}")
    stop = byte_tokenizer()
    return {
        "base": make_model(folder / "base", kind, seed=seed, layers=3, hidden=64, tokenizer=stop),
        "padded": make_model(folder / "padded", kind, seed=seed + 1, hidden=64, vocabulary=272),
        "tuned": make_model(folder / "tuned", kind, seed=seed + 2, eos=[1, 7]),
        "reference": make_model(folder / "reference", kind, seed=seed + 3, vocabulary=264),
        "safe": make_model(folder / "safe", kind, seed=seed + 4),
    }


def recipe_of(family: dict, case: str) -> dict:
    tuned, reference, safe = family["tuned"], family["reference"], family["safe"]
    if case == "two deltas, padded":
        deltas = [(tuned, 0.3), (safe, 0.7)]
        listed = [{"tuned": t, "reference": reference, "weight": weight} for t, weight in deltas]
        return {"base": family["padded"], "deltas": listed}
    recipe = {"base": family["base"], "tuned": tuned, "reference": reference}
    return {**recipe, "weight_top_p": 0.9} if case == "filtered" else recipe


@pytest.fixture(scope="session")
def reference_of(family: dict) -> Callable[[str], Reference]:
    """Load the reference of a case, once for all tests of the family."""
    tuned, reference, safe = family["tuned"], family["reference"], family["safe"]

    @functools.cache
    def load(case: str) -> Reference:
        if case == "two deltas, padded":
            return Reference(family["padded"], [(tuned, reference, 0.3), (safe, reference, 0.7)])
        top_p = 0.9 if case == "filtered" else None
        return Reference(family["base"], [(tuned, reference, 1.0)], weight_top_p=top_p)

    return load


@pytest.fixture(scope="session")
def composite_of(family: dict) -> Callable[[str], Composite]:
    """Load the composite of a case, once for all tests of the family."""
    return functools.cache(
        lambda case: Composite(parse_recipe(recipe_of(family, case)), LoadOptions())
    )


@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize("case", ["one delta", "two deltas, padded", "filtered"])
def test_log_likelihoods_equal_the_reference(
    family: dict, reference_of: Callable[[str], Reference], case: str, batch_size: int
) -> None:
    reference = reference_of(case)
    model = EFTLM(**recipe_of(family, case), batch_size=batch_size)
    pairs = [(prompt, ending) for prompt in PROMPTS for ending in (" because", " no.", "!")]
    requests = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
    for (context, continuation), (value, greedy) in zip(
        pairs, model.loglikelihood(requests, disable_tqdm=True), strict=True
    ):
        ids = reference.tokenizer.encode(context), reference.tokenizer.encode(continuation)
        expected, is_greedy = reference.score(*ids)
        assert value == pytest.approx(expected, abs=1e-4)
        assert greedy == is_greedy


def test_a_guess_changes_no_token_of_the_reference(
    reference_of: Callable[[str], Reference],
) -> None:
    reference = reference_of("filtered")
    prompt = reference.tokenizer.encode("Hello")
    expected = reference.generate(prompt, 6)
    for place in range(6):
        wrong = [*expected[:place], (expected[place] + 1) % reference.size, *expected[place + 1 :]]
        assert reference.generate(prompt, 6, guess=wrong) == expected
    for end in range(7):
        assert reference.generate(prompt, 6, guess=expected[:end]) == expected


def test_is_greedy_is_true_for_the_greedy_continuation(
    family: dict, reference_of: Callable[[str], Reference]
) -> None:
    reference = reference_of("one delta")
    model = EFTLM(**recipe_of(family, "one delta"))
    context = reference.tokenizer.encode("Hello")
    best = reference.generate(context, 3)
    (answer,) = model._loglikelihood_tokens([(("Hello", "?"), context, best)], disable_tqdm=True)
    assert answer[1] is True


def test_rolling_log_likelihood_equals_the_reference(
    family: dict, reference_of: Callable[[str], Reference]
) -> None:
    reference = reference_of("one delta")
    text = "some words to read, " * 15  # 300 tokens: two windows of a member that reads 256
    model = EFTLM(**recipe_of(family, "one delta"), batch_size=2)
    (value,) = model.loglikelihood_rolling(
        [Instance("loglikelihood_rolling", {}, (text,), 0)], disable_tqdm=True
    )
    tokens = reference.tokenizer.encode(text)
    rest = tokens[256:]
    context = tokens[-257 : -len(rest)]
    expected = reference.score([0], tokens[:256])[0] + reference.score(context, rest)[0]
    assert value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("case", ["one delta", "two deltas, padded", "filtered"])
def test_tokens_equal_the_reference(
    composite_of: Callable[[str], Composite],
    reference_of: Callable[[str], Reference],
    case: str,
    temperature: float,
    batch_size: int,
) -> None:
    composite, reference = composite_of(case), reference_of(case)
    assert composite.stop_tokens == {1, 7}
    prompts = [reference.tokenizer.encode(prompt) for prompt in PROMPTS]
    seeds = [request_seed(7, prompt, 0) for prompt in PROMPTS]
    requests = [
        Request((prompt,) * len(composite.views), seed)
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    made = []
    for start in range(0, len(requests), batch_size):
        batch = requests[start : start + batch_size]
        made += Decoder(composite).generate(batch, SamplingRule(temperature), 24)
    for prompt, seed, generation in zip(prompts, seeds, made, strict=True):

        def noise(timestep: int, seed: int = seed) -> np.ndarray:
            rows = torch.tensor([seed]), torch.tensor([timestep])
            return gumbel_noise(*rows, reference.size)[0].double().numpy()

        expected = reference.generate(
            prompt, 24, composite.stop_tokens, temperature, noise, generation.tokens
        )
        assert generation.tokens == expected
        assert generation.finish == ("stop" if expected[-1] in {1, 7} else "length")


def test_members_of_unequal_prompt_forms(
    family: dict, reference_of: Callable[[str], Reference]
) -> None:
    """A member with its own prompt template reads that, and scores the same continuation."""
    recipe, reference = recipe_of(family, "one delta"), reference_of("one delta")
    template = "Q: {{ prompt }} A:"
    recipe["reference"] = {"model": recipe["reference"], "prompt": template}
    model = EFTLM(**recipe, batch_size=2)
    pairs = [("Why?", " because"), ("And then", "!")]
    requests = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
    encode = reference.tokenizer.encode
    ((tuned, ref, weight),) = reference.deltas
    for (context, ending), (value, _) in zip(
        pairs, model.loglikelihood(requests, disable_tqdm=True), strict=True
    ):
        expected, made = 0.0, []
        for token in encode(ending):
            plain = encode(context) + made
            own = encode(f"Q: {context} A:") + made
            total = reference.log_probs_of(reference.base, plain)[-1] + weight * (
                reference.log_probs_of(tuned, plain)[-1] - reference.log_probs_of(ref, own)[-1]
            )
            total -= total.max()
            expected += float(total[token] - np.log(np.exp(total).sum()))
            made.append(token)
        assert value == pytest.approx(expected, abs=1e-4)


def test_left_truncated_contexts(tmp_path: Path) -> None:
    paths = {
        role: make_model(tmp_path / role, seed=i, positions=32)
        for i, role in enumerate(("base", "tuned", "reference"))
    }
    reference = Reference(paths["base"], [(paths["tuned"], paths["reference"], 1.0)])
    model = EFTLM(**paths)
    assert model.max_length == 32
    context, ending = "a long context that does not fit, surely", " end"
    (answer,) = model.loglikelihood(
        [Instance("loglikelihood", {}, (context, ending), 0)], disable_tqdm=True
    )
    ids = reference.tokenizer.encode(context), reference.tokenizer.encode(ending)
    kept = (ids[0] + ids[1])[-33:-4]
    assert answer[0] == pytest.approx(reference.score(kept, ids[1])[0], abs=1e-4)
