"""Models of many shapes: decoded right, or plainly with a line that says why, or refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from lm_eval.api.instance import Instance
from tiny_models import byte_tokenizer, make_model, perturb

from eft_eval.api import Composite
from eft_eval.composite.scoring import ScoredRow, continuation_log_probs
from eft_eval.decoding import Decoder, Request, SamplingRule, draft_view
from eft_eval.engine.loading import LoadOptions
from eft_eval.errors import ConfigError
from eft_eval.model_adapters.eft import EFTLM
from eft_eval.recipe import parse_recipe

LENGTH = 10
PROMPTS = [[40, 50, 60, 70], [90], list(range(100, 130)), [33, 44], [55] * 9]
TOKENS = {"vocab_size": 259, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
SHAPE = {
    **TOKENS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 64, "max_position_embeddings": 256,
}  # fmt: skip
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}
DRAFTED = {
    "OPT": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "GPTNeoX": {},
    "Falcon": {"alibi": False, "multi_query": True},
    "Mistral": {"sliding_window": None},
    "Gemma2": {"head_dim": 8, "sliding_window": 200},
    "Qwen3": {"head_dim": 8},
    "Phi3": {},
}
PLAIN = {
    "Falcon": ({"alibi": True, "parallel_attn": False}, "cache length per row"),
    "Starcoder2": ({"sliding_window": 16}, "see 16 tokens back"),
    "GPTNeo": (
        {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]],
         "window_size": 8},
        "see 8 tokens back",
    ),
    "Llama4": (
        {"head_dim": 8, "intermediate_size_mlp": 64, "num_local_experts": 2,
         "attention_chunk_size": 8, "num_hidden_layers": 4},
        "see 8 tokens back",
    ),
    "Lfm2": (
        {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
        "no attention over all tokens",
    ),
    "Bamba": ({**MAMBA, "attn_layer_indices": [1]}, "no attention over all tokens"),
}  # fmt: skip


def save(folder: Path, kind: str, **settings: Any) -> str:
    name = f"{kind}TextConfig" if kind == "Llama4" else f"{kind}Config"
    config = getattr(transformers, name)(**{**SHAPE, **settings})
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = transformers.AutoModelForCausalLM.from_config(config).double()
        with torch.no_grad():
            for weights in model.parameters():
                if weights.dim() > 1:
                    weights.normal_(0, 0.25)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)


def composite_of(base: str, tuned: str, dtype: str = "float64") -> Composite:
    spec = {path: {"model": path, "dtype": dtype} for path in (base, tuned)}
    delta = {"tuned": spec[tuned], "reference": spec[base], "weight": 0.5}
    return Composite(parse_recipe({"base": spec[base], "deltas": [delta]}), LoadOptions())


@torch.inference_mode()
def expected(composite: Composite, prompt: list[int]) -> list[int]:
    """Greedy decoding by passes without a cache."""
    made: list[int] = []
    while len(made) < LENGTH and not (made and made[-1] in composite.stop_tokens):
        total = torch.zeros(composite.vocabulary, dtype=torch.float64)
        for view in composite.views:
            tokens = torch.tensor([prompt + made])
            logits = view.member.model(tokens, use_cache=False).logits[0, -1]
            total += view.coefficient * logits[: composite.vocabulary]
        made.append(int(total.argmax()))
    return made


def check(composite: Composite, drafted: bool) -> Decoder:
    wanted = [expected(composite, prompt) for prompt in PROMPTS]
    for block, size in ((0, 5), (4, 3), ("auto", 1)):
        decoder = Decoder(composite, block)
        requests = [Request((prompt,) * len(composite.views)) for prompt in PROMPTS]
        made = decoder.generate(requests, SamplingRule(), LENGTH, batch_size=size)
        assert [one.tokens for one in made] == wanted, (block, size)
        assert (decoder.statistics.drafted > 0) == (drafted and block != 0)
    return decoder


@pytest.mark.parametrize("kind", DRAFTED)
def test_drafted(tmp_path: Path, kind: str) -> None:
    base = save(tmp_path / "base", kind, **DRAFTED[kind])
    tuned = perturb(base, tmp_path / "tuned", seed=1, amount=0.1)
    check(composite_of(base, tuned), drafted=True)


# reference implementations of recurrent layers say that quicker ones are not installed
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", PLAIN)
def test_plain_with_a_line(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    settings, reason = PLAIN[kind]
    base = save(tmp_path / "base", kind, **settings)
    tuned = perturb(base, tmp_path / "tuned", seed=1, amount=0.1)
    with caplog.at_level(logging.WARNING, "eft_eval"):
        decoder = check(composite_of(base, tuned), drafted=False)
    assert reason in str(decoder.statistics.plain_reason)
    (line,) = [one.message for one in caplog.records if "decoding plainly" in one.message]
    assert reason in line


def test_positions_that_depend_on_the_batch_are_refused(tmp_path: Path) -> None:
    """LongRoPE takes other factors for the whole batch once one row is long."""
    rope = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    base = save(tmp_path / "base", "Phi3", original_max_position_embeddings=16, rope_scaling=rope)
    tuned = perturb(base, tmp_path / "tuned", seed=1, amount=0.1)
    composite = composite_of(base, tuned)
    short, long = (Request((prompt,) * len(composite.views)) for prompt in PROMPTS[1:3])
    Decoder(composite).generate([short], SamplingRule(), LENGTH)
    with pytest.raises(ConfigError, match="longrope positions, sequences of more than 16"):
        Decoder(composite).generate([short, long], SamplingRule(), LENGTH)
    rows = [ScoredRow((PROMPTS[2],) * len(composite.views), [5, 6])]
    with pytest.raises(ConfigError, match="longrope positions"):
        continuation_log_probs(composite, rows, 256)


def test_positions_beyond_the_table_where_asked_for(tmp_path: Path) -> None:
    """max_length= may exceed max_position_embeddings of rotary models; positions go on there."""
    base = make_model(tmp_path / "base", positions=16, layers=1)
    tuned = perturb(base, tmp_path / "tuned", seed=1, amount=0.1)
    check(composite_of(base, tuned), drafted=True)


def test_a_padded_tuned_member_drafts_all_the_same(tmp_path: Path) -> None:
    base = make_model(tmp_path / "base", layers=3)
    reference = make_model(tmp_path / "reference", layers=1)
    tuned = make_model(tmp_path / "tuned", layers=1, vocabulary=264)
    recipe = {"base": base, "tuned": tuned, "reference": reference}
    composite = Composite(parse_recipe(recipe), LoadOptions())
    assert composite.views[draft_view(composite)].role == "tuned"


def test_one_pass_per_member_and_token(tmp_path: Path) -> None:
    base = make_model(tmp_path / "base", layers=1)
    composite = composite_of(base, perturb(base, tmp_path / "tuned", seed=1, amount=0.1))
    decoder = Decoder(composite, 0)
    (made,) = decoder.generate([Request((PROMPTS[0],) * 2)], SamplingRule(), LENGTH)
    seen = decoder.statistics
    assert seen.rounds == len(made.tokens)
    assert set(seen.passes.values()) == {len(made.tokens)}


def adapter(folder: Path, **base: Any) -> EFTLM:
    chat = byte_tokenizer(chat=True)
    reference = make_model(folder / "reference", layers=1, tokenizer=chat)
    tuned = perturb(reference, folder / "tuned", seed=1, amount=0.1)
    path = make_model(folder / "base", layers=1)
    recipe = {"base": {"model": path, **base}, "tuned": tuned, "reference": reference}
    return EFTLM(**recipe, device="cpu")


def test_own_prompts_need_the_chat_turns(tmp_path: Path) -> None:
    """lm-eval's request cache keeps rendered prompts only; a member would read the wrong text."""
    model = adapter(tmp_path, prompt="plain")
    assert model.tokenizer_name  # what lm-eval asks for when a template is used
    request = Instance("generate_until", {}, ("<|user|>Hi", {"until": ["x"], "max_gen_toks": 3}), 0)
    with pytest.raises(ConfigError, match="--cache_requests refresh"):
        model.generate_until([request], disable_tqdm=True)
    text = model.apply_chat_template([{"role": "user", "content": "Hi"}])
    request = Instance("generate_until", {}, (text, {"until": ["x"], "max_gen_toks": 3}), 0)
    model.generate_until([request], disable_tqdm=True)


def test_an_empty_prompt_of_its_own_is_one_token(tmp_path: Path) -> None:
    model = adapter(tmp_path, prompt="{{ prompt }}")
    pairs = [("", "ab"), ("What", "?")]
    alone = [
        model.loglikelihood([Instance("loglikelihood", {}, pair, 0)], disable_tqdm=True)[0][0]
        for pair in pairs
    ]
    together = model.loglikelihood(
        [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)], disable_tqdm=True
    )
    assert [value for value, _ in together] == pytest.approx(alone, abs=1e-4)
    plain = adapter(tmp_path / "plain").loglikelihood(
        [Instance("loglikelihood", {}, pairs[0], 0)], disable_tqdm=True
    )
    assert plain[0][0] == pytest.approx(alone[0], abs=1e-4)
