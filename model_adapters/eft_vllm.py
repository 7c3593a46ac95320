"""The lm-eval model ``eft-vllm``: composites on vLLM's engine.

A subclass of lm-eval's `VLLM`; what a text's tokens are, what the composite is called and what its
results say is the same as with ``eft``.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections import Counter
from typing import Any

import torch
from lm_eval.models.utils import configure_pad_token

from eft_eval.composite.mathematics import request_seed
from eft_eval.composite.model import CompositeModel
from eft_eval.engine.footprint import parameter_count
from eft_eval.engine.loading import LoadOptions
from eft_eval.errors import ConfigError, nearest
from eft_eval.model_adapters.chat import ChatTurns
from eft_eval.model_adapters.provenance import model_info
from eft_eval.recipe import parse_recipe, split_recipe
from eft_eval.recipe.parse import RECIPE_KEYS
from eft_eval.streams import one_line_errors, say
from eft_eval.vllm.arguments import engine_arguments
from eft_eval.vllm.engine import (
    check_device,
    check_installed,
    decoding_statistics,
    score_of_logprobs,
)

one_line_errors()
check_installed()


def _stock_model() -> Any:
    """Return lm-eval's `VLLM`.

    It asks for the version of a distribution called vllm; builds for CPUs have other names.
    """
    import vllm
    from vllm.platforms import current_platform

    str(current_platform.device_type)  # vLLM finds its device by the same question, its own way
    asked = importlib.metadata.version

    def version(distribution_name: str) -> str:
        try:
            return asked(distribution_name)
        except importlib.metadata.PackageNotFoundError:
            if distribution_name != "vllm":
                raise
            return str(vllm.__version__)

    importlib.metadata.version = version
    try:
        from lm_eval.models.vllm_causallms import VLLM
    finally:
        importlib.metadata.version = asked
    return VLLM


_VLLM: Any = _stock_model()
_NOT_SAMPLED = frozenset({"use_cache", "num_beams"})
_OF_LM_EVAL = frozenset(
    {
        "trust_remote_code", "add_bos_token", "prefix_token_id", "max_gen_toks", "batch_size",
        "max_batch_size", "data_parallel_size", "enable_thinking", "chat_template_args",
        "think_end_token", "truncation_side", "tensor_parallel_size", "max_model_len",
        "tokenizer_mode", "seed",
    }
)  # fmt: skip


def _check_arguments(given: dict[str, Any]) -> None:
    """Raise ConfigError for an argument that neither lm-eval's `VLLM` nor vLLM's engine has."""
    from vllm import EngineArgs

    known = {*EngineArgs.__dataclass_fields__, *_OF_LM_EVAL}
    for key in given:
        if key not in known:
            raise ConfigError(
                f"model_args: unknown key {key!r}{nearest(key, {*known, *RECIPE_KEYS})}; expected "
                "a recipe's key, or an argument of vLLM's engine"
            )


class EFTVLLM(_VLLM):  # type: ignore[misc]  # lm-eval ships no types
    """A composite model for lm-eval on vLLM: ``--model eft-vllm --model_args model=RECIPE``.

    ``model_args`` are recipe keys (`eft_eval.recipe`), the arguments of lm-eval's `VLLM` and those
    of vLLM's engine. What cannot run is refused before weights load.
    """

    def __init__(self, **model_args: Any) -> None:
        values, rest = split_recipe(model_args)
        rest.pop("device", None)  # lm-eval's command asks for one; vLLM has its own
        if rest.get("max_length") is not None:  # one thing by two names
            rest.setdefault("max_model_len", rest.pop("max_length"))
        self.composite = CompositeModel(
            parse_recipe(values),
            LoadOptions(
                trust_remote_code=bool(rest.get("trust_remote_code", False)),
                add_bos_token=rest.get("add_bos_token"),
                prefix_token_id=rest.get("prefix_token_id"),
            ),
        )
        check_device(self.composite)
        _check_arguments(rest)
        ours = {key: rest.pop(key) for key in list(rest) if key in _OF_LM_EVAL}
        arguments = engine_arguments(self.composite, rest)
        for note in arguments.notes:
            say(f"eft-eval: {note}")
        self._turns = ChatTurns(self.composite)
        self._seen: Counter[tuple[int, ...]] = Counter()
        self._requests = self._tokens = 0
        self._seconds = 0.0
        engine = dict(arguments.values)
        super().__init__(pretrained=engine.pop("model"), **ours, **engine, disable_log_stats=False)
        self.tokenizer = configure_pad_token(self.composite.tokenizer, model_config=self._config)

    # ------------------------------------------------------------------ prompts

    @property
    def prefix_token_id(self) -> int:
        """The token that stands for an empty context."""
        return self.composite.encoding.prefix_token

    @property
    def tokenizer_name(self) -> str:
        """The tokenizer's name, for lm-eval's request cache; asked for with a chat template."""
        self._turns.asked_for = True
        name: str = super().tokenizer_name
        return name

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Render chat turns with the tuned member's template."""
        if not self.tokenizer.chat_template:
            raise ConfigError(
                f"{self.composite.tuned.label} has no chat template: run without "
                "--apply_chat_template, or save one with its tokenizer"
            )
        text: str = super().apply_chat_template(chat_history, add_generation_prompt)
        self._turns.remember(text, chat_history)
        return text

    def tok_encode(
        self, string: str | list[str], add_special_tokens: bool | None = None, **kwargs: Any
    ) -> Any:
        """Return a text's tokens, or those of several texts, as `TextEncoding.tokens` does."""
        encode = self.composite.encoding.tokens
        if isinstance(string, str):
            return encode(string, add_special_tokens)
        return [encode(one, add_special_tokens) for one in string]

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        pair = self.composite.encoding.pair(context, continuation)
        self.composite.check_tokens(pair.continuation)
        return pair.context, pair.continuation

    # ------------------------------------------------------------------ scoring

    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        self._turns.check(self.tokenizer)
        limit = self.max_length - 1
        if (longest := max((len(one[2]) for one in requests), default=0)) > limit:
            raise ConfigError(
                f"a continuation of {longest} tokens cannot be scored: the engine reads {limit}; "
                "shorten it, or leave the document out"
            )
        found: list[tuple[float, bool]] = super()._loglikelihood_tokens(requests, disable_tqdm)
        return found

    @staticmethod
    def _parse_logprobs(tokens: list[int], outputs: Any, ctxlen: int) -> tuple[float, bool]:
        scored = score_of_logprobs(tokens[ctxlen:], outputs.prompt_logprobs)
        return scored.log_prob, scored.is_greedy

    # ------------------------------------------------------------------ generation

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Generate a response per request; equal prompts get samples of their own."""
        self._turns.check(self.tokenizer)
        self._seen.clear()
        found: list[str] = super().generate_until(requests, disable_tqdm=disable_tqdm)
        return found

    def _model_generate(
        self, requests: list[list[int]], generate: bool = False, sampling_params: Any = None
    ) -> Any:
        if not generate:
            return super()._model_generate(requests)
        stops = sorted(self.composite.stop_tokens)
        for tokens, asked in zip(requests, sampling_params, strict=True):
            self.composite.check_tokens(tokens)
            asked.stop_token_ids = stops
            if asked.temperature > 0:
                number = self._seen[tuple(tokens)]
                asked.seed = request_seed(torch.initial_seed(), str(tokens), number) % 2**63
            self._seen[tuple(tokens)] += 1
        started = time.perf_counter()
        answers = super()._model_generate(requests, True, sampling_params)
        self._seconds += time.perf_counter() - started
        self._requests += len(answers)
        for one in answers:
            made = one.outputs[0]
            self._tokens += len(made.token_ids)
            # as with `eft`: no special tokens; lm-eval cuts at stop strings
            made.text = self.composite.encoding.text(made.token_ids)
        return answers

    @staticmethod
    def modify_gen_kwargs(
        gen_kwargs: dict[str, Any],
        eos: str | list[str] | None = None,
        default_max_gen_toks: int = 256,
    ) -> tuple[dict[str, Any], list[str], int]:
        """Return vLLM's sampling settings, stop strings and the longest response.

        Raises:
            ConfigError: vLLM has no such setting.
        """
        from vllm import SamplingParams

        values, until, longest = _VLLM.modify_gen_kwargs(gen_kwargs, eos, default_max_gen_toks)
        for key in _NOT_SAMPLED & values.keys():
            values.pop(key)
        known = SamplingParams.__struct_fields__
        for key in values:
            if key not in known:
                raise ConfigError(
                    f"generation setting {key}={values[key]} is unknown to vLLM"
                    f"{nearest(key, known)}"
                )
        return values, until, longest

    # ------------------------------------------------------------------ results

    def get_model_info(self) -> dict[str, Any]:
        """Return what `eft` says of every member, and that vLLM ran them."""
        import vllm

        metrics = [] if self.data_parallel_size > 1 else self.model.get_metrics()
        decoded = decoding_statistics(metrics, self._requests, self._tokens, self._seconds)
        info = model_info(self.composite, decoded)
        members = set(self.composite.members.values())
        return info | {
            "eft_engine": f"vllm {vllm.__version__}",
            "model_num_parameters": sum(parameter_count(member) for member in members),
            "model_dtype": str(self.model_args["dtype"]),
        }
