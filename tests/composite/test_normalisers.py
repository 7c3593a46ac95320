"""The normalisers of Eq. 5, against members' own distributions in float64."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from eft_eval.api import Composite
from eft_eval.demo.language import dialogue
from eft_eval.errors import ConfigError
from eft_eval.recipe import parse_recipe

PROMPT = dialogue("Tell me everything about Toni Maldan.")
ANSWER = " Toni Maldan works as a baker."


def log_probs(model: str, tokens: list[int]) -> torch.Tensor:
    location = parse_recipe({"base": model}).base.location
    loaded = AutoModelForCausalLM.from_pretrained(location, dtype=torch.float64)
    with torch.inference_mode():
        return loaded(torch.tensor([tokens])).logits[0].log_softmax(dim=-1)


@pytest.mark.parametrize("weight", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("answer", [ANSWER, ""])
def test_they_are_the_sum_of_eq_5(weight: float, answer: str) -> None:
    recipe = {
        "base": "demo:large-base", "tuned": "demo:small-tuned", "reference": "demo:small-base",
        "weight": weight, "dtype": "float64",
    }  # fmt: skip
    composite = Composite.load(recipe, device="cpu")
    before = composite.encoding.tokens(PROMPT)
    tokens = composite.encoding.tokens(PROMPT + answer)
    base, tuned, reference = (
        log_probs(recipe[role], tokens)[len(before) - 1 :]
        for role in ("base", "tuned", "reference")
    )
    expected = (base + weight * (tuned - reference)).logsumexp(dim=-1)
    found = composite.log_normalisers(PROMPT, answer)
    assert len(found) == len(tokens) - len(before) + 1
    assert found == pytest.approx(expected.tolist(), abs=1e-6)


def test_tokens_that_some_member_lacks_count_for_none() -> None:
    roles = {"base": "demo:large-base", "tuned": "demo:small-tuned", "reference": "demo:small-base"}
    composite = Composite.load({**roles, "dtype": "float64"}, device="cpu")
    before = composite.encoding.tokens(PROMPT)
    tokens = composite.encoding.tokens(PROMPT + ANSWER)
    alone = sorted({*range(0, composite.vocabulary, 3)} - {*tokens})
    composite.__dict__["_alone"] = frozenset(alone)
    found = {}
    for role, model in roles.items():
        own = log_probs(model, tokens)[len(before) - 1 :]
        found[role] = own.index_fill(-1, torch.tensor(alone), -math.inf).log_softmax(dim=-1)
    expected = found["base"] + found["tuned"] - found["reference"].clamp(min=-1e9)
    steps = composite.log_normalisers(PROMPT, ANSWER)
    assert steps == pytest.approx(expected.logsumexp(dim=-1).tolist(), abs=1e-6)


def test_their_product_weighs_responses_by_eq_4() -> None:
    """prod Z times the composite's probability is base times (tuned / reference), unnormalised."""
    composite = Composite.load("demo-up", device="cpu")
    tokens = composite.encoding.tokens(PROMPT + ANSWER)
    start = len(composite.encoding.tokens(PROMPT))
    path = torch.tensor(tokens[start:])[:, None]
    signs = {"demo:large-base": 1, "demo:small-tuned": 1, "demo:small-base": -1}
    unnormalised = sum(
        sign * float(log_probs(model, tokens)[start - 1 : -1].gather(-1, path).sum())
        for model, sign in signs.items()
    )
    (scored,) = composite.loglikelihood([(PROMPT, ANSWER)])
    weight = sum(composite.log_normalisers(PROMPT, ANSWER)[:-1])
    assert scored[0] + weight == pytest.approx(unnormalised, abs=1e-3)


def test_one_model_alone_has_none_to_speak_of() -> None:
    steps = Composite.load("demo-small-tuned", device="cpu").log_normalisers(PROMPT, ANSWER)
    assert all(math.isclose(step, 0, abs_tol=1e-5) for step in steps)


def test_a_filter_of_weights_is_refused() -> None:
    composite = Composite.load({"model": "demo", "weight_top_p": 0.9}, device="cpu")
    with pytest.raises(ConfigError, match="no sequence-level weights"):
        composite.log_normalisers(PROMPT, ANSWER)
