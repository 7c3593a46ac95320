"""The lm-eval model ``eft-vllm``: composites on vLLM's engine.

A subclass of lm-eval's `VLLM`; what a text's tokens are, what the composite is called and what its
results say is the same as with ``eft``.
"""

from __future__ import annotations

import functools
import importlib.metadata
import io
import time
from typing import Any

import torch
from lm_eval.api.model import CacheHook
from lm_eval.models.utils import configure_pad_token, postprocess_generated_text
from tqdm import tqdm

from eft_eval.composite.mathematics import request_seed
from eft_eval.composite.model import CompositeModel
from eft_eval.decoding.reasoning import Reasoning, reasoning_of
from eft_eval.decoding.requests import Generation
from eft_eval.decoding.statistics import DecodingStatistics
from eft_eval.engine.footprint import parameter_count
from eft_eval.engine.loading import LoadOptions
from eft_eval.engine.prefixes import order_by_prefix
from eft_eval.errors import ConfigError, nearest
from eft_eval.model_adapters.chat import ChatTurns, template_text
from eft_eval.model_adapters.generation import GenerationPlan, generation_plan
from eft_eval.model_adapters.provenance import model_info
from eft_eval.model_adapters.request_cache import RequestCache
from eft_eval.model_adapters.rolling import whole_texts
from eft_eval.model_adapters.samples import UnfinishedResponse, sample_numbers
from eft_eval.model_adapters.settings import batch_attributes, whole_number
from eft_eval.recipe import identity, parse_recipe, split_recipe, with_flags
from eft_eval.recipe.parse import RECIPE_KEYS
from eft_eval.streams import logger, one_line_errors, say
from eft_eval.vllm.arguments import engine_arguments, with_scored_token
from eft_eval.vllm.engine import (
    check_device,
    check_installed,
    decoding_statistics,
    generation_of,
    sampling_parameters,
    score_of_answer,
    scoring_request,
)

log = logger("lm_eval.eft")
one_line_errors()
check_installed()


def _keep_from_bars(llm: Any) -> None:
    """Let vLLM draw no bar where bars are disabled (``TQDM_DISABLE``): it divides by their time."""
    generate = llm.generate

    @functools.wraps(generate)
    def without_bar(*arguments: Any, **options: Any) -> Any:
        return generate(*arguments, **{**options, "use_tqdm": False})

    llm.generate = without_bar


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


_SCORED = 1024  # requests at a time, of whose every token vLLM keeps a record meanwhile

_VLLM: Any = _stock_model()
_OF_LM_EVAL = frozenset(
    {
        "trust_remote_code", "add_bos_token", "prefix_token_id", "max_gen_toks", "batch_size",
        "max_batch_size", "data_parallel_size", "enable_thinking", "chat_template_args",
        "think_end_token",
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
        rest = with_flags(rest)
        rest.pop("device", None)  # lm-eval's command asks for one; vLLM has its own
        if rest.get("max_length") is not None:
            if rest.get("max_model_len") is not None:
                raise ConfigError("max_length and max_model_len are one thing: give one of them")
            rest["max_model_len"] = rest.pop("max_length")
        self.composite = CompositeModel(
            parse_recipe(values),
            LoadOptions(
                trust_remote_code=bool(rest.get("trust_remote_code", False)),
                add_bos_token=rest.get("add_bos_token"),
                prefix_token_id=whole_number("prefix_token_id", rest.get("prefix_token_id"), 0),
                engine="vllm",
            ),
        )
        check_device(self.composite)
        _check_arguments(rest)
        if rest.get("batch_size") is not None:
            rest["batch_size"] = batch_attributes(rest)["batch_size_per_gpu"]
        ours = {key: rest.pop(key) for key in list(rest) if key in _OF_LM_EVAL}
        arguments = engine_arguments(self.composite, rest)
        for note in arguments.notes:
            say(f"eft-eval: {note}")
        self._turns = ChatTurns(self.composite)
        self._cache: RequestCache | None = None
        self._template: str | None = None
        self.hf_chat_template: str | None = None
        end = ours.get("think_end_token")
        ended_by = int(str(end)) if str(end).isdecimal() else end
        self._reasoning = reasoning_of(self.composite.tokenizer, ended_by, self.composite.gives)
        self._requests = self._tokens = 0
        self._reasoned = DecodingStatistics()
        self._seconds = 0.0
        engine = with_scored_token(arguments.values)
        super().__init__(pretrained=engine.pop("model"), **ours, **engine, disable_log_stats=False)
        self._max_length = self.max_length - 1  # a row's last token is generated
        if self.data_parallel_size == 1 and tqdm(file=io.StringIO()).disable:
            _keep_from_bars(self.model)
        self.tokenizer = configure_pad_token(self.composite.tokenizer, model_config=self._config)

    # ------------------------------------------------------------------ prompts

    @property
    def prefix_token_id(self) -> int:
        """The token that stands for an empty context."""
        return self.composite.encoding.prefix_token

    @property
    def tokenizer_name(self) -> str:
        """The tokenizer's name and the template's, for lm-eval's request cache."""
        self._turns.asked_for = True  # asked for with a chat template only
        name: str = super().tokenizer_name
        return name if self._template is None else f"{name}__{self._template}"

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return the tuned member's chat template, which turns are rendered with from now on.

        Args:
            chat_template: False for none, True for the default one, or a name.

        Raises:
            ConfigError: There is none, or none of that name.
        """
        if chat_template is False or chat_template is None:
            return None
        self._template = chat_template if isinstance(chat_template, str) else None
        self.hf_chat_template = template_text(self.composite, self.tokenizer, chat_template)
        return self.hf_chat_template

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Render chat turns with the tuned member's template."""
        above: Any = super()
        return self._turns.render(
            chat_history, lambda turns: str(above.apply_chat_template(turns, add_generation_prompt))
        )

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
        return pair.context, pair.continuation

    # ------------------------------------------------------------------ scoring

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood of each request's text; see `whole_texts`."""
        return whole_texts(
            requests,
            self.composite.encoding,
            self.max_length,
            lambda windows: self._loglikelihood_tokens(windows, disable_tqdm),
            self.cache_hook,
        )

    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Score continuations; those of one context lie together, as vLLM's cache has it."""
        self._turns.check(self.tokenizer)
        limit = self.max_length
        if (longest := max((len(one[2]) for one in requests), default=0)) > limit:
            raise ConfigError(
                f"a continuation of {longest} tokens cannot be scored: the engine reads {limit}; "
                "shorten it, or leave the document out"
            )
        rows = [(*context, *continuation) for _, context, continuation in requests]
        for row in rows:
            self.composite.check_tokens(row)
        ranks = order_by_prefix(rows)
        order = sorted(range(len(rows)), key=lambda place: ranks[rows[place]])
        size = int(self.batch_size) if str(self.batch_size) not in ("auto", "1") else _SCORED
        found: dict[int, tuple[float, bool]] = {}
        bar = tqdm(total=len(requests), disable=disable_tqdm, desc="Running loglikelihood requests")
        for start in range(0, len(order), size):
            places = order[start : start + size]
            asked = [scoring_request(*requests[place][1:], limit + 1) for place in places]
            answers = self._model_generate(
                [one.prompt for one in asked], True, [one.parameters for one in asked]
            )
            for place, answer in zip(places, answers, strict=True):
                pair, _, continuation = requests[place]
                scored = score_of_answer(continuation, answer)
                found[place] = (scored.log_prob, scored.is_greedy)
                if pair is not None:  # windows of a longer text have none
                    self.cache_hook.add_partial("loglikelihood", pair, found[place])
                bar.update(1)
        bar.close()
        return [found[place] for place in range(len(requests))]

    # ------------------------------------------------------------------ generation

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Generate a response per request, all of them in vLLM's own batches.

        Settings, prompts, seeds and what counts as the answer are those of `eft`.
        """
        self._turns.check(self.tokenizer)
        plans = [self._plan(request.args[1]) for request in requests]
        prompts, asked = [], []
        # one process: no request fills up a rank, so that each has its number
        for request, plan, number in zip(requests, plans, sample_numbers(requests), strict=True):
            context = str(request.args[0])
            stop = [] if self._reasons(context) else plan.until  # in the reasoning they are text
            seed = request_seed(torch.initial_seed(), context, number or 0)
            prompts.append(self._prompt(context, plan))
            asked.append(
                sampling_parameters(self.composite, plan.rule, plan.max_new_tokens, stop, seed)
            )
            if plan.rule.temperature > 0 and self._cache is not None:
                self._cache.leave_out(request.args)
        responses = []
        for request, plan, made in zip(requests, plans, self._made(prompts, asked), strict=True):
            responses.append(self._text(str(request.args[0]), made, plan))
            if self._reasons(str(request.args[0])):
                unfinished = isinstance(responses[-1], UnfinishedResponse)
                self._reasoned.note_reasoning(request.task_name, unfinished)
            self.cache_hook.add_partial("generate_until", request.args, responses[-1])
        return responses

    def _plan(self, settings: dict[str, Any]) -> GenerationPlan:
        end = self.tokenizer.eos_token_id
        end_text = None if end is None else self.tokenizer.decode([end])
        plan = generation_plan(settings, self.max_gen_toks, end_text)
        if plan.max_new_tokens >= self.max_length:
            raise ConfigError(
                f"max_gen_toks={plan.max_new_tokens} leaves no room for a prompt: the engine reads "
                f"{self.max_length} tokens; lower it with --gen_kwargs max_gen_toks=N"
            )
        return plan

    def _prompt(self, context: str, plan: GenerationPlan) -> list[int]:
        tokens: list[int] = self.tok_encode(context) or [self.prefix_token_id]
        self.composite.check_tokens(tokens)
        room = self.max_length - plan.max_new_tokens
        if len(tokens) > room:
            log.warning("a prompt of over %d tokens loses its beginning", room)
        return tokens[-room:]

    def _made(self, prompts: list[list[int]], asked: list[Any]) -> list[Generation]:
        started = time.perf_counter()
        made = [generation_of(one) for one in self._model_generate(prompts, True, asked)]
        self._seconds += time.perf_counter() - started
        self._requests += len(made)
        self._tokens += sum(len(one.tokens) for one in made)
        return made

    def _reasons(self, context: str) -> Reasoning | None:
        """Return what ends the reasoning of a response to ``context``; None where none is due."""
        reasoning = self._reasoning
        if reasoning is None or self.enable_thinking is False or reasoning.closed(context):
            return None
        return reasoning

    def _text(self, context: str, made: Generation, plan: GenerationPlan) -> str:
        """Return a response's text: reasoning off, stop string and what follows off."""
        answer = None if self._reasoning is None else self._reasoning.answer(made.tokens)
        if answer is None:
            due = self._reasons(context)
            if due is not None and due.unfinished(context, made):
                return UnfinishedResponse()
            answer = self.composite.encoding.text(made.tokens)
        text: str = postprocess_generated_text(answer, plan.until, None)
        return text

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Give this composite a table of its own in lm-eval's request cache."""
        super().set_cache_hook(cache_hook)
        if cache_hook.dbdict is not None:
            about = {"recipe": identity(self.composite.recipe), "engine": self.model_args}
            self._cache = RequestCache.adopt(cache_hook.dbdict, about)

    # ------------------------------------------------------------------ results

    def get_model_info(self) -> dict[str, Any]:
        """Return what `eft` says of every member, and that vLLM ran them."""
        import vllm

        metrics = [] if self.data_parallel_size > 1 else self.model.get_metrics()
        decoded = decoding_statistics(metrics, self._requests, self._tokens, self._seconds)
        decoded.reasoned, decoded.unfinished = self._reasoned.reasoned, self._reasoned.unfinished
        info = model_info(self.composite, decoded)
        members = set(self.composite.members.values())
        return info | {
            "eft_engine": f"vllm {vllm.__version__}",
            "model_num_parameters": sum(parameter_count(member) for member in members),
            "model_dtype": str(self.model_args["dtype"]),
        }
