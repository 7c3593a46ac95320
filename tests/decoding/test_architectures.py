"""Models of many shapes: decoded right, or plainly with a line that says why, or refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from lm_eval.api.instance import Instance
from tiny_models import byte_tokenizer, make_model, perturb, save_drawn

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
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1,
         "mamba_chunk_size": 16}  # fmt: skip
DRAFTED = {
    "OPT": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "GPTNeoX": {},
    "Falcon": {"alibi": False, "multi_query": True},
    "Mistral": {"sliding_window": None},
    "Gemma2": {"head_dim": 8, "sliding_window": 200},
    "Qwen3": {"head_dim": 8},
    "Phi3": {},
    "Lfm2": {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
    "Bamba": {**MAMBA, "attn_layer_indices": [1]},
}
PLAIN = {
    "Falcon": ({"alibi": True, "parallel_attn": False}, "cache length per row"),
    "GPTNeo": (
        {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]],
         "window_size": 8},
        "see 8 tokens back",
    ),
    "Jamba": (
        {"attn_layer_offset": 1, "attn_layer_period": 2, "num_experts": 1, "mamba_d_state": 8,
         "mamba_dt_rank": 4},
        "its tokens, read at once or one by one, differ by",
    ),
}  # fmt: skip

EXPERTS = {"num_experts_per_tok": 2, "num_local_experts": 4, "moe_intermediate_size": 16}
OWN_WAYS = {
    "DeepseekV4": (
        {**EXPERTS, "head_dim": 8, "num_key_value_heads": 1, "n_routed_experts": 4,
         "q_lora_rank": 16, "o_lora_rank": 16, "o_groups": 2, "qk_rope_head_dim": 4,
         "index_n_heads": 4, "index_head_dim": 8, "index_topk": 64, "sliding_window": 16,
         "partial_rotary_factor": 0.5,
         "layer_types": ["compressed_sparse_attention", "sliding_attention"],
         "mlp_layer_types": ["moe"] * 2},
        "only prompts of one length share a batch",
    ),
    "MiniMaxM3VLText": (
        {**EXPERTS, "head_dim": 8, "index_block_size": 4, "index_topk_blocks": 2,
         "index_n_heads": 2, "index_head_dim": 8, "dense_intermediate_size": 48,
         "shared_intermediate_size": 16, "rotary_dim": 4,
         "layer_types": ["full_attention", "minimax_m3_sparse"],
         "mlp_layer_types": ["dense", "sparse"]},
        "only prompts of one length share a batch",
    ),
    "MiniMax": (
        {"head_dim": 8, "num_local_experts": 2, "block_size": 4,
         "layer_types": ["linear_attention", "full_attention"]},
        "only prompts of one length share a batch",
    ),
    "Mamba": ({"state_size": 8}, "no attention over all tokens"),
    "Moshi": (  # its cache has windows, it itself has none: wrong beyond what a trial reads
        {"sliding_window": 24, "audio_vocab_size": 16, "ffn_dim": 64}, "see 24 tokens back",
    ),
    "FalconMamba": ({"state_size": 8}, "no attention over all tokens"),
    "Rwkv": ({"attention_hidden_size": 32}, "one response at a time"),
    "RecurrentGemma": (
        {"num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 8},
        "only prompts of one length share a batch",
    ),
    "OpenAIGPT": ({"n_embd": 32, "n_layer": 2, "n_head": 4}, "reads its row from the beginning"),
}  # fmt: skip

QUICK = ("DeepseekV4", "MiniMax", "Mamba")


def save(folder: Path, kind: str, **settings: Any) -> str:
    name = f"{kind}TextConfig" if kind == "Llama4" else f"{kind}Config"
    config = getattr(transformers, name)(**{**SHAPE, **settings})
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return save_drawn(transformers.AutoModelForCausalLM.from_config(config).double(), folder)


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


# reference implementations of recurrent layers say that quicker ones are not installed
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", DRAFTED)
def test_drafted(tmp_path: Path, kind: str) -> None:
    base = save(tmp_path / "base", kind, **DRAFTED[kind])
    tuned = perturb(base, tmp_path / "tuned", seed=1, amount=0.1)
    check(composite_of(base, tuned), drafted=True)


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


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.slow] * (kind not in QUICK)) for kind in OWN_WAYS],
)
def test_no_batch_changes_a_response(tmp_path: Path, kind: str) -> None:
    """Against passes without a cache, with prompts of unequal lengths, some of which end early."""
    settings, reason = OWN_WAYS[kind]
    base = save(tmp_path / "base", kind, **settings)
    # mixtures of experts have no float64
    decoder = check(composite_of(base, base, "float32"), drafted=False)
    assert reason in str(decoder.statistics.plain_reason)


@pytest.mark.filterwarnings("ignore")
def test_two_prompt_forms_of_a_model_with_a_state_of_its_own(tmp_path: Path) -> None:
    """RecurrentGemma keeps what it has read in its modules: one view must not read on another's."""
    folder = save(tmp_path / "base", "RecurrentGemma", **OWN_WAYS["RecurrentGemma"][0])
    spec = {"model": folder, "dtype": "float64"}
    delta = {
        "tuned": {**spec, "prompt": "plain"},
        "reference": {**spec, "prompt": "Q: {{ prompt }}"},
    }
    composite = Composite(parse_recipe({"base": spec, "deltas": [delta]}), LoadOptions())
    prompts = ([40, 50, 60], [70, 80, 90], [45, 46, 47])
    (made,) = Decoder(composite).generate([Request(prompts)], SamplingRule(), LENGTH)
    rows = [ScoredRow(prompts, made.tokens)]
    (scored,) = continuation_log_probs(composite, rows, 256, torch.float64)
    assert scored.argmax(dim=-1).tolist() == made.tokens


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_looks_ahead_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "base", "Bert")
    composite = composite_of(folder, folder)
    rows = [ScoredRow(([40, 50],) * len(composite.views), [5, 6])]
    with pytest.raises(ConfigError, match=r"BertLMHeadModel does not serve .* depends on later"):
        continuation_log_probs(composite, rows, 256)


@pytest.mark.parametrize("chunk", [256, 6])
def test_beyond_its_scale_llama_4_goes_on_in_equal_rows(tmp_path: Path, chunk: int) -> None:
    base = save(
        tmp_path / "base", "Llama4", head_dim=8, intermediate_size_mlp=64, num_local_experts=2,
        num_hidden_layers=4, attention_chunk_size=chunk, floor_scale=8,
    )  # fmt: skip
    decoder = check(composite_of(base, base), drafted=False)
    assert "beyond 7 tokens it scales by the cache's length" in str(decoder.statistics.plain_reason)


@pytest.mark.parametrize("kind", ["mistral3", "qwen3_vl", "gemma3"])
def test_a_multimodal_checkpoint_answers_as_its_language_model(tmp_path: Path, kind: str) -> None:
    text = {**SHAPE, "head_dim": 8}
    sight = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 16, "depth": 1, "num_heads": 2, "out_hidden_size": 32,
             "deepstack_visual_indexes": [0], "image_size": 28, "head_dim": 8}  # fmt: skip
    if kind == "qwen3_vl":
        rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
        text["rope_parameters"] = rope
    if kind == "gemma3":  # its windows are masks of the wrapper's language model
        text |= {"sliding_window": 8, "query_pre_attn_scalar": 8,
                 "layer_types": ["sliding_attention", "full_attention"]}  # fmt: skip
        sight["patch_size"] = 14
    config = transformers.AutoConfig.for_model(
        kind, text_config=text, vision_config=sight, eos_token_id=1, tie_word_embeddings=False
    )
    torch.manual_seed(4)
    model = transformers.AutoModelForImageTextToText.from_config(config).double()
    folder = save_drawn(model, tmp_path)
    decoder = check(composite_of(folder, folder), drafted=False)
    assert decoder.statistics.plain_reason is None
    for prompt in PROMPTS[:2]:
        made = Decoder(composite_of(folder, folder)).generate(
            [Request((prompt,))], SamplingRule(), LENGTH
        )
        theirs = model.eval().generate(
            torch.tensor([prompt]), max_new_tokens=LENGTH, do_sample=False, pad_token_id=2
        )
        assert made[0].tokens == theirs[0, len(prompt) :].tolist()
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.05 * torch.randn_like(weights))
    model.save_pretrained(tmp_path / "tuned")
    byte_tokenizer().save_pretrained(tmp_path / "tuned")
    check(composite_of(folder, str(tmp_path / "tuned")), drafted=True)


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
