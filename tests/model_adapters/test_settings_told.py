"""What a member's files ask for and a composite does not do is told, not left out in silence."""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tiny_models import byte_tokenizer, make_model, save_drawn
from tokenizer_kinds import size_of, tokenizer_of
from transformers import GenerationConfig, OPTConfig, OPTForCausalLM

from eft_eval import Composite
from eft_eval.engine.sampling_defaults import logit_settings
from eft_eval.errors import ConfigError
from eft_eval.model_adapters.eft import EFTLM


def chat_model(folder: Path, template: str) -> str:
    tokenizer = byte_tokenizer(chat=True)
    tokenizer.chat_template = template
    return make_model(folder, layers=1, tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate (TemplateError)"),
        ("{{ messages[0].content }", "unexpected '}' (TemplateSyntaxError)"),
        ("{{ nothing.at.all }}", "(UndefinedError)"),
        ("{{ messages[0].content + 3 }}", "(TypeError)"),
    ],
)
def test_a_template_that_fails_is_one_line(tmp_path: Path, template: str, said: str) -> None:
    model = EFTLM(base=chat_model(tmp_path / "model", template))
    with pytest.raises(ConfigError) as caught:
        model.apply_chat_template([{"role": "user", "content": "Why?"}])
    told = str(caught.value)
    assert told.startswith("base member ")
    assert "its chat template cannot render the turns: " in told
    assert told.endswith(said)
    assert "\n" not in told


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.1},
        {"suppress_tokens": [5, 6]},
        {"bad_words_ids": [[5]]},
        {"forced_eos_token_id": 1},
        {"sequence_bias": [[[5], 2.0]]},
        {"exponential_decay_length_penalty": [5, 1.5]},
        {"no_repeat_ngram_size": 3},
        {"stop_strings": ["e"]},
    ],
)
def test_generation_settings_that_are_not_followed_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, settings: dict[str, Any]
) -> None:
    folder = make_model(tmp_path / "model", layers=1)
    before = Composite.load({"base": folder}).generate(["Why?"], max_new_tokens=4)
    file = Path(folder) / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    made = Composite.load({"base": folder})
    with caplog.at_level(logging.WARNING, logger="eft_eval"):
        assert made.generate(["Why?"], max_new_tokens=4) == before
        made.generate(["Why?"], max_new_tokens=4)
    (told,) = [record.getMessage() for record in caplog.records]
    ((name, value),) = settings.items()
    assert f"asks for {name}={value}, which is not followed" in told


def test_settings_that_change_nothing_are_not_told() -> None:
    neutral = GenerationConfig(
        repetition_penalty=1.0, num_beams=1, no_repeat_ngram_size=0, suppress_tokens=[],
        temperature=0.6, top_p=0.9, top_k=20, do_sample=True, eos_token_id=[1, 2],
    )  # fmt: skip
    assert logit_settings(neutral) == {}
    assert logit_settings(GenerationConfig()) == {}
    assert logit_settings(None) == {}


@pytest.mark.parametrize(("words", "cut"), [(10, False), (11, True), (40, True)])
def test_contexts_that_are_cut_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, words: int, cut: bool
) -> None:
    folder = make_model(tmp_path / "model", layers=1, positions=54)  # a token per byte
    pair = ("word " * words, " end.")
    requests = [Instance("loglikelihood", {}, pair, 0)]
    with caplog.at_level(logging.WARNING, logger="lm_eval.eft"):
        found = EFTLM(base=folder).loglikelihood(requests, disable_tqdm=True)
    told = [record.getMessage() for record in caplog.records]
    assert (any("1 of 1 contexts lose their beginning" in one for one in told)) is cut, told
    expected = HFLM(folder, device="cpu").loglikelihood(requests, disable_tqdm=True)
    assert found[0][0] == pytest.approx(expected[0][0], abs=1e-4)


@pytest.fixture(scope="module")
def beyond(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A family whose tuned member begins texts, and thinks, with tokens of its own."""
    folder, own = tmp_path_factory.mktemp("beyond"), copy.deepcopy(tokenizer_of("qwen"))
    own.add_special_tokens({"bos_token": "<begin>"})
    own.add_tokens(["<think>", "</think>"])
    return {
        role: make_model(
            folder / role, layers=1, vocabulary=size_of(own) + 8, tokenizer=one, seed=seed
        )
        for seed, (role, one) in enumerate(
            (("base", tokenizer_of("qwen")), ("tuned", own), ("reference", tokenizer_of("qwen")))
        )
    }


@pytest.mark.parametrize("method", ["loglikelihood_rolling", "generate_until"])
def test_a_beginning_that_not_every_member_has_is_refused(
    beyond: dict[str, str], method: str
) -> None:
    asked = {
        "loglikelihood_rolling": ("Why is it so?",),
        "generate_until": ("", {"max_gen_toks": 4}),
    }[method]
    model = EFTLM(**beyond)
    with pytest.raises(ConfigError, match=r"\('<begin>'\), which not every member has"):
        getattr(model, method)([Instance(method, {}, asked, 0)], disable_tqdm=True)


@pytest.mark.parametrize("as_id", [False, True])
def test_reasoning_that_no_response_could_end_is_refused(
    beyond: dict[str, str], as_id: bool
) -> None:
    made = Composite.load(beyond)
    end = made.tokenizer.convert_tokens_to_ids("</think>") if as_id else "</think>"
    with pytest.raises(ConfigError, match=r"\('</think>'\), which not every member has"):
        EFTLM(**beyond, think_end_token=end)
    with pytest.raises(ConfigError, match="no response could end its reasoning"):
        made.generate(["Why?"], think_end_token=end)
    alone = Composite.load({"base": beyond["tuned"]})
    alone.generate(["Why?"], think_end_token=end, max_new_tokens=2)


@pytest.mark.parametrize(
    ("end", "told"), [("<think>\n", True), ("</think>\n\n", False), ("", False)]
)
def test_answers_that_are_scored_as_reasoning_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, end: str, told: bool
) -> None:
    model = EFTLM(base=make_model(tmp_path / "model", layers=1))
    requests = [Instance("loglikelihood", {}, (f"Two and two?{end}", f" {one}"), 0) for one in "45"]
    with caplog.at_level(logging.WARNING, logger="lm_eval.eft"):
        model.loglikelihood(requests, disable_tqdm=True)
    said = "2 of 2 contexts end with <think>: what follows is scored as the beginning of the"
    assert (said in caplog.text) is told


@pytest.mark.parametrize("kind", ["gpt2", "opt", "llama"])
def test_a_length_beyond_what_a_member_reads_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    if kind == "opt":
        shape = {"num_hidden_layers": 1, "num_attention_heads": 4, "hidden_size": 32}
        config = OPTConfig(
            vocab_size=259, max_position_embeddings=64, ffn_dim=48, word_embed_proj_dim=32, **shape
        )
        folder = save_drawn(OPTForCausalLM(config), tmp_path / "model")
    else:
        folder = make_model(tmp_path / "model", kind, layers=1, positions=64)
    scored = Instance("loglikelihood", {}, ("word " * 30, " end"), 0)
    asked = Instance("generate_until", {}, ("word " * 30, {"max_gen_toks": 8}), 0)
    inside = EFTLM(base=folder)
    inside.loglikelihood([scored], disable_tqdm=True)
    inside.generate_until([asked], disable_tqdm=True)
    assert "is more than" not in caplog.text
    with caplog.at_level(logging.WARNING, logger="lm_eval.eft"):
        beyond = EFTLM(base=folder, max_length=500)
    assert "max_length=500 is more than the 64 tokens that the shortest member" in caplog.text
    for method, request in (("loglikelihood", scored), ("generate_until", asked)):
        if kind == "llama":  # whose positions have no end
            getattr(beyond, method)([request], disable_tqdm=True)
            continue
        with pytest.raises(ConfigError, match="it has positions for 64 tokens, and 1"):
            getattr(beyond, method)([request], disable_tqdm=True)


_TURNS = "{% for m in messages %}WHAT<|{{ m.role }}|>{{ m.content }}\n{% endfor %}"


@pytest.mark.parametrize(
    ("what", "base_reads"),
    [
        ("", "Be brief.\n\nWhy?\n\n"),
        ("{% if m.role == 'system' %}{{ raise_exception('none') }}{% endif %}", "Why?\n\n"),
        ("{% if m.role == 'system' %}{% continue %}{% endif %}", "Why?\n\n"),
    ],
)
def test_members_read_the_turns_that_the_tuned_one_reads(
    tmp_path: Path, what: str, base_reads: str
) -> None:
    folder = chat_model(tmp_path / "model", _TURNS.replace("WHAT", what))
    model = EFTLM(base=folder, tuned=folder, reference=folder, **{"base.prompt": "plain"})
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    text = model.apply_chat_template(turns)
    assert ("Be brief." in text) is ("Be brief." in base_reads)
    views = model._turns.view_tokens(text, model.tok_encode(text))
    read = {
        view.prompt: model.tok_decode(one)
        for view, one in zip(model.composite.views, views, strict=True)
    }
    assert read["plain"] == base_reads
