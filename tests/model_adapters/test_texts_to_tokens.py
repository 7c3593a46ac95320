"""One way from text to tokens: harness, Python API and trace over tokenizers of the real kinds."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from reference import Reference
from safetensors.torch import load_file, save_file
from tiny_models import make_model
from tokenizer_kinds import KINDS, TEXTS, size_of, tokenizer_of, with_eos_appended
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from eft_eval import Composite
from eft_eval.composite.encoding import TextEncoding
from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.model_adapters.eft import EFTLM
from eft_eval.model_adapters.samples import drop_padding, sample_numbers

ROLES = ("base", "tuned", "reference")
PAIRS = [
    ("Toni works as a", " carpenter."),
    ("Question: Is it true? Answer: ", "yes, 1024 times"),
    ("", "Why is the sky blue?"),
    ("日本語の", "テキスト 🙂"),
    ("The answer is\n", "42"),
]


@pytest.fixture(scope="module")
def family_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, str]]:
    """Return the three folders of a kind; made once each."""
    made: dict[str, dict[str, str]] = {}

    def family(kind: str) -> dict[str, str]:
        if kind not in made:
            folder, tokenizer = tmp_path_factory.mktemp(kind), tokenizer_of(kind)
            made[kind] = {
                role: make_model(
                    folder / role,
                    seed=seed,
                    layers=1,
                    vocabulary=size_of(tokenizer) + 5 * seed,
                    eos=tokenizer.eos_token_id,
                    tokenizer=tokenizer,
                )
                for seed, role in enumerate(ROLES)
            }
        return made[kind]

    return family


def scored_by_harness(model: Any, pairs: list[tuple[str, str]]) -> list[tuple[float, bool]]:
    requests = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
    found: list[tuple[float, bool]] = model.loglikelihood(requests, disable_tqdm=True)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_harness_and_python_score_the_reference(kind: str, family_of: Any) -> None:
    paths = family_of(kind)
    harness = scored_by_harness(EFTLM(**paths, batch_size=2, device="cpu"), PAIRS)
    python = Composite.load(dict(paths), device="cpu").loglikelihood(PAIRS, batch_size=3)
    reference = Reference(paths["base"], [(paths["tuned"], paths["reference"], 1.0)])
    stock = HFLM(pretrained=paths["tuned"], device="cpu")
    for pair, (value, greedy), scored in zip(PAIRS, harness, python, strict=True):
        # the split is stock lm-eval's
        if pair[0]:
            context, continuation = stock._encode_pair(*pair)
        else:
            continuation = stock.tok_encode(pair[1], add_special_tokens=False)
            context = [stock.prefix_token_id]
        expected, is_greedy = reference.score(context, continuation)
        assert value == pytest.approx(expected, abs=1e-4)
        assert scored.log_prob == pytest.approx(expected, abs=1e-4)
        assert greedy == scored.is_greedy == is_greedy


@pytest.mark.parametrize("kind", KINDS)
def test_a_trace_is_its_response(kind: str, family_of: Any) -> None:
    composite = Composite.load(dict(family_of(kind)), device="cpu")
    for prompt, response in (("Toni works as a", " carpenter 🙂."), ("naïve", "té 日本")):
        found = composite.trace(prompt, response)
        assert "".join(one.token for one in found.tokens) == response == found.response
        ids = [one.token_id for one in found.tokens]
        assert ids == composite.encoding.pair(prompt, response).continuation
    own = composite.trace("Why?", max_new_tokens=12, temperature=1.0)
    assert "".join(one.token for one in own.tokens) == own.response
    (text,) = composite.generate(["Why?"], max_new_tokens=12, temperature=1.0)
    ids = [one.token_id for one in own.tokens]
    assert text == composite.tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("kind", KINDS)
def test_generation_of_both_is_the_reference(kind: str, family_of: Any) -> None:
    paths = family_of(kind)
    reference = Reference(paths["base"], [(paths["tuned"], paths["reference"], 1.0)])
    composite = Composite.load(dict(paths), device="cpu")
    harness = EFTLM(**paths, batch_size=2, device="cpu")
    prompts = list(TEXTS[:4])
    python = composite.generate(prompts, max_new_tokens=8)
    asked = {"until": [], "max_gen_toks": 8, "do_sample": False}
    requests = [Instance("generate_until", {}, (prompt, asked), 0) for prompt in prompts]
    for prompt, ours, theirs in zip(
        prompts, python, harness.generate_until(requests, disable_tqdm=True), strict=True
    ):
        tokens = reference.generate(harness.tokenizer(prompt).input_ids, 8, composite.stop_tokens)
        assert ours == harness.tokenizer.decode(tokens, skip_special_tokens=True)
        assert theirs == ours.split(harness.tokenizer.eos_token)[0]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(data=st.data())
def test_pieces_are_the_text(kind: str, data: st.DataObject) -> None:
    encoding = TextEncoding(tokenizer_of(kind))
    text = data.draw(st.text(max_size=30) | st.sampled_from(TEXTS))
    before = encoding.tokens(data.draw(st.sampled_from(TEXTS)))
    tokens = encoding.tokens(text, add_special_tokens=False)
    alone = encoding.text(tokens, skip_special_tokens=False)
    assert "".join(encoding.pieces(tokens)) == alone
    whole = encoding.text([*before, *tokens], skip_special_tokens=False)
    assert whole.endswith("".join(encoding.pieces(tokens, before)))


@pytest.mark.parametrize("kind", KINDS)
def test_bos_comes_once_and_an_appended_eos_never(kind: str) -> None:
    plain, appending = tokenizer_of(kind), with_eos_appended(kind)
    for text in TEXTS:
        tokens = TextEncoding(appending).tokens(text)
        assert tokens == plain(text).input_ids
        assert TextEncoding(appending).pair("Why?", " " + text) == TextEncoding(plain).pair(
            "Why?", " " + text
        )
        assert (
            TextEncoding(appending, add_bos_token=False).tokens(text)
            == plain(text, add_special_tokens=False).input_ids
        )
    ending = plain.eos_token  # written by a chat template: it stays
    assert TextEncoding(appending).tokens("Why?" + ending)[-1] == plain.eos_token_id
    if plain.bos_token is not None:
        once = TextEncoding(plain).tokens(plain.bos_token + "Why?")
        assert once.count(plain.bos_token_id) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_context_of_white_space_is_an_empty_one(kind: str, family_of: Any) -> None:
    paths = family_of(kind)
    composite = Composite.load(dict(paths), device="cpu")
    first = composite.tokenizer.bos_token_id
    before = [composite.tokenizer.eos_token_id if first is None else first]
    tokens = composite.tokenizer(" yes", add_special_tokens=False).input_ids
    reference = Reference(paths["base"], [(paths["tuned"], paths["reference"], 1.0)])
    expected, _ = reference.score(before, tokens)
    (found,) = composite.loglikelihood([(" ", "yes")])
    assert found.log_prob == pytest.approx(expected, abs=1e-4)
    ((harness, _),) = scored_by_harness(EFTLM(**paths, device="cpu"), [(" ", "yes")])
    assert harness == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_text_is_read_after_one_beginning(kind: str, family_of: Any) -> None:
    paths = family_of(kind)
    model = EFTLM(**paths, device="cpu", batch_size=2)
    first = model.tokenizer.bos_token_id
    before = [model.tokenizer.eos_token_id if first is None else first]
    texts = [TEXTS[0], "x", "", TEXTS[3], (model.tokenizer.bos_token or "") + TEXTS[0]]
    found = model.loglikelihood_rolling(
        [Instance("loglikelihood_rolling", {}, (text,), n) for n, text in enumerate(texts)],
        disable_tqdm=True,
    )
    reference = Reference(paths["base"], [(paths["tuned"], paths["reference"], 1.0)])
    for text, value in zip(texts[:4], found, strict=False):
        tokens = model.tokenizer(text, add_special_tokens=False).input_ids
        expected = reference.score(before, tokens)[0] if tokens else 0.0
        assert value == pytest.approx(expected, abs=1e-4)
    assert found[4] == pytest.approx(found[0], abs=1e-4), "its own beginning is the one"


def test_a_prefix_token_of_ones_own_changes_no_other_text(family_of: Any) -> None:
    plain = EFTLM(**family_of("llama3"), device="cpu")
    mark = plain.tokenizer("!", add_special_tokens=False).input_ids[0]
    model = EFTLM(**family_of("llama3"), device="cpu", prefix_token_id=mark)
    assert model._encode_pair("", "Why?")[0] == [mark]
    for text in ("!Why?", "Why?"):
        assert model.tok_encode(text) == plain.tok_encode(text)
    for wrong in (-1, 10**6):
        with pytest.raises(
            ConfigError, match=f"prefix_token_id: got {wrong}, (but the tuned|expected)"
        ):
            EFTLM(**family_of("llama3"), device="cpu", prefix_token_id=wrong)


def merging_tokenizer() -> PreTrainedTokenizerFast:
    """``: C`` is one token."""
    tokens = ["</s>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "ĠC", ":ĠC"]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: number for number, token in enumerate(tokens)},
            merges=[("Ġ", "C"), (":", "ĠC")],
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")


def test_a_continuation_without_a_token_is_an_error(tmp_path: Path) -> None:
    tokenizer = merging_tokenizer()
    paths = {
        role: make_model(tmp_path / role, vocabulary=len(tokenizer), tokenizer=tokenizer, eos=0)
        for role in ROLES
    }
    pairs = [("Which? Answer:", " A"), ("Which? Answer:", " C")]
    for call in (
        lambda: Composite.load(dict(paths), device="cpu").loglikelihood(pairs),
        lambda: scored_by_harness(EFTLM(**paths, device="cpu"), pairs),
    ):
        with pytest.raises(ConfigError, match=r"' C' has no token of its own after …'.*Answer:'"):
            call()


def test_half_a_character_is_one_line(family_of: Any) -> None:
    model = Composite.load(family_of(KINDS[0]))
    for call in (lambda: model.generate(["a\ud800"]), lambda: model.trace("\udcff", "a"),
                 lambda: model.loglikelihood([("a", "b\ud800")])):  # fmt: skip
        with pytest.raises(ConfigError, match="which no tokenizer reads") as caught:
            call()
        assert str(caught.value).isascii()


def test_a_continuation_longer_than_the_context_is_an_error(family_of: Any) -> None:
    model = EFTLM(**family_of("gpt2"), device="cpu", max_length=8)
    with pytest.raises(ConfigError, match="tokens cannot be scored: the shortest member reads 8"):
        scored_by_harness(model, [("Why", " is the sky blue, and why is the grass so green?")])


def test_a_log_likelihood_that_is_no_number_is_an_error(family_of: Any, tmp_path: Path) -> None:
    paths = dict(family_of("qwen"))
    shutil.copytree(paths["base"], tmp_path / "base")
    weights = load_file(tmp_path / "base" / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"] * float("inf")
    save_file(weights, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    paths["base"] = str(tmp_path / "base")
    for call in (
        lambda: Composite.load(dict(paths), device="cpu").loglikelihood([("a", " b")]),
        lambda: scored_by_harness(EFTLM(**paths, device="cpu"), [("a", " b")]),
    ):
        with pytest.raises(ConfigError, match="not a number: the logits of one of base member"):
            call()


@pytest.mark.parametrize("wrong", [math.nan, 3e38])
def test_one_token_without_a_number_is_an_error_whatever_is_filtered(
    wrong: float, family_of: Any, tmp_path: Path
) -> None:
    paths = dict(family_of("qwen"))
    shutil.copytree(paths["base"], tmp_path / "base")
    weights = load_file(tmp_path / "base" / "model.safetensors")
    weights["lm_head.weight"][300] = wrong  # times what it is multiplied with, infinite
    save_file(weights, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    paths["base"] = str(tmp_path / "base")
    many = ["Toni", "The sky", "A B", "Why?", "one two", "42"]  # in some, the infinity is negative
    composite = Composite.load(dict(paths), device="cpu")
    with pytest.raises(ConfigError, match="log-likelihood is not a number"):
        composite.loglikelihood([(one, " works as a carpenter in the town") for one in many])
    for rule in ({}, {"top_k": 5}, {"top_p": 0.9}, {"min_p": 0.1}, {"typical_p": 0.5}):
        with pytest.raises(EftEvalError, match="has no next token"):
            composite.generate(many, max_new_tokens=8, temperature=1.0, **rule)
    composite = Composite.load({**paths, "sampling": "rejection"}, device="cpu")
    with pytest.raises(EftEvalError, match="has no next token"):
        composite.generate(many, max_new_tokens=8, temperature=1.0, block=2)


def test_equal_prompts_of_a_task_are_samples_of_their_own(family_of: Any) -> None:
    paths = family_of("llama2")
    asked = {"until": [], "max_gen_toks": 10, "do_sample": True, "temperature": 1.0}

    def request(task: str, doc: int) -> Instance:
        return Instance("generate_until", {}, ("Why?", asked), 0, (task, doc, 1))

    model = EFTLM(**paths, batch_size=4, device="cpu")
    torch.manual_seed(1234)
    first = [request("one", doc) for doc in range(3)]
    other = request("another", 0)
    made = model.generate_until([*first, other], disable_tqdm=True)
    assert len(set(made[:3])) == 3, "three documents, three samples"
    assert made[3] == made[0], "another task judges the same response"
    python = Composite.load(dict(paths), device="cpu").generate(
        ["Why?"] * 3, max_new_tokens=10, temperature=1.0, seed=1234
    )
    assert [text.split("</s>")[0] for text in python] == made[:3]


@given(
    prompts=st.lists(st.sampled_from("abc"), min_size=1, max_size=9),
    repeats=st.integers(1, 3),
    ranks=st.integers(1, 4),
)
def test_samples_have_the_same_numbers_on_any_ranks(
    prompts: list[str], repeats: int, ranks: int
) -> None:
    """Documents are dealt out in turn, as lm-eval does; each rank knows what all others have."""

    def dealt(rank: int, count: int) -> list[Instance]:
        mine = [*enumerate(prompts)][rank::count]
        made = [Instance("generate_until", {}, (p, {}), 0, ("task", n, repeats)) for n, p in mine]
        return [one for request in made for one in [request] * repeats]

    alone = sample_numbers(dealt(0, 1))
    by_prompt = sorted(zip([p for p in prompts for _ in range(repeats)], alone, strict=True))
    assert len(set(by_prompt)) == len(by_prompt), "no sample is given twice"
    held: list[list[Any]] = []

    def gathered(own: list[Any]) -> list[list[Any]]:
        held.append(own)
        return held

    for rank in range(ranks):
        sample_numbers(dealt(rank, ranks), gathered, rank)
    for rank in range(ranks):
        numbers = sample_numbers(dealt(rank, ranks), lambda own: held, rank)
        documents = range(len(prompts))[rank::ranks]
        assert numbers == [alone[n * repeats + k] for n in documents for k in range(repeats)]


def test_what_fills_up_a_rank_is_no_new_sample(family_of: Any) -> None:
    asked = {"until": [], "max_gen_toks": 6, "do_sample": True, "temperature": 1.0}
    one = Instance("generate_until", {}, ("Why?", asked), 0, ("task", 1, 2))
    model = EFTLM(**family_of("llama2"), batch_size=4, device="cpu")
    made = model.generate_until([one, one, one], disable_tqdm=True)
    assert made[0] != made[1]
    assert made[2] == made[0]
    assert model.decoder.statistics.requests == 2, "nothing is generated for it"
    one.resps.extend(made)
    drop_padding([one])
    assert one.resps == made[:2]


def test_a_model_without_a_chat_template_is_one_line(family_of: Any) -> None:
    model = EFTLM(**family_of("gpt2"), device="cpu")
    with pytest.raises(ConfigError, match=r"^tuned member .* has no chat template: run without"):
        model.apply_chat_template([{"role": "user", "content": "Why?"}])


@pytest.mark.parametrize(
    "neutral",
    [{"top_k": -1}, {"top_k": 0}, {"min_p": 0.0}, {"repetition_penalty": 1.0}, {"num_beams": 1}],
)
def test_settings_that_change_nothing_pass(family_of: Any, neutral: dict[str, Any]) -> None:
    asked = {"until": [], "max_gen_toks": 6, "do_sample": True, "temperature": 1.0}
    made = [
        EFTLM(**family_of("gpt2"), device="cpu").generate_until(
            [Instance("generate_until", {}, ("Why?", {**asked, **more}), 0)], disable_tqdm=True
        )
        for more in ({}, neutral)
    ]
    assert made[0] == made[1]


@pytest.mark.parametrize("other", [{"num_beams": 4}, {"repetition_penalty": 1.05}, {"penalty": 2}])
def test_settings_that_are_not_there_are_refused(family_of: Any, other: dict[str, Any]) -> None:
    model = EFTLM(**family_of("gpt2"), device="cpu")
    (name,) = other
    with pytest.raises(ConfigError, match=rf"^generation setting {name}=.* is \w+"):
        model.generate_until(
            [Instance("generate_until", {}, ("Why?", {"max_gen_toks": 4, **other}), 0)],
            disable_tqdm=True,
        )
    assert not any(member.loaded for member in model.composite.members.values())
