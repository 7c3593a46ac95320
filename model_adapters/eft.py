"""The lm-eval model ``eft``: composites as first-class models of the harness.

A subclass of `HFLM` for what lies around a model (chat templates, tokenisation, rolling windows,
batch-size search, ranks, the request cache); what a model computes comes from `eft_eval`.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from accelerate import find_executable_batch_size
from lm_eval.api.model import CacheHook, TemplateLM
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import Collator, configure_pad_token, postprocess_generated_text
from lm_eval.models.utils_hf import clear_torch_cache
from tqdm import tqdm
from transformers import AutoModelForCausalLM

from eft_eval.composite.mathematics import hash_of, request_seed
from eft_eval.composite.memory import check_memory
from eft_eval.composite.model import CompositeModel
from eft_eval.composite.scoring import ScoredRow, continuation_log_probs, score_of
from eft_eval.decoding.loop import Decoder
from eft_eval.decoding.requests import Generation, Request
from eft_eval.decoding.statistics import DecodingStatistics
from eft_eval.decoding.stopping import StopStrings
from eft_eval.engine.loading import LoadOptions
from eft_eval.errors import ConfigError, one_line_errors
from eft_eval.model_adapters.chat import ChatTurns
from eft_eval.model_adapters.provenance import model_info
from eft_eval.model_adapters.samples import sample_numbers
from eft_eval.model_adapters.settings import (
    GenerationPlan,
    batch_attributes,
    generation_plan,
    limit_threads,
    rank_attributes,
    text_attributes,
)
from eft_eval.recipe import identity, parse_model_args

log = logging.getLogger("lm_eval.eft")
one_line_errors()

_TOKENS = tuple[tuple[str, str] | None, list[int], list[int]]


class _Job(NamedTuple):
    """One response to generate: where it goes, what is asked, which sample of that it is."""

    position: int
    context: str
    tokens: list[int]
    repeat: int


class EFTLM(HFLM):  # type: ignore[misc]  # lm-eval ships no types
    """A composite model for lm-eval: ``--model eft --model_args base=,tuned=,reference=``.

    ``model_args`` are recipe keys (`eft_eval.recipe`) and the run-time arguments of `HFLM` that
    make sense for several models. Configurations and tokenizers are checked here, weights are
    loaded with the first request, so that whatever else is wrong shows before.
    """

    backend = "causal"
    AUTO_MODEL_CLASS = AutoModelForCausalLM

    def __init__(self, **model_args: Any) -> None:
        TemplateLM.__init__(self)
        recipe, runtime = parse_model_args(model_args)
        self._runtime = runtime
        # what HFLM's own constructor sets, which would load one model
        self.__dict__.update(rank_attributes(runtime.get("device")))
        self.__dict__.update(text_attributes(runtime) | batch_attributes(runtime))
        limit_threads(recipe, self._device)
        self.composite = CompositeModel(
            recipe,
            LoadOptions(
                device=self._device,
                trust_remote_code=bool(runtime.get("trust_remote_code", False)),
                use_fast_tokenizer=bool(runtime.get("use_fast_tokenizer", True)),
                add_bos_token=self.add_bos_token,
                prefix_token_id=self.custom_prefix_token_id,
            ),
        )
        self.decoder = Decoder(self.composite)
        self._config = self.composite.members["base"].config
        self.tokenizer = configure_pad_token(self.composite.tokenizer, model_config=self._config)
        self.vocab_size = self.tokenizer.vocab_size
        self.pretrained = self.composite.name
        self.revision, self.peft, self.delta = None, None, None
        self._turns = ChatTurns(self.composite)
        self._ranks_statistics: list[DecodingStatistics] = []

    # ------------------------------------------------------------------ set-up

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Give this composite a table of its own in lm-eval's request cache.

        The cache keys on the request alone, so a second model would get the first one's answers.
        """
        super().set_cache_hook(cache_hook)
        if cache_hook.dbdict is not None:
            text = json.dumps([identity(self.composite.recipe), self._cache_settings()])
            table = f"eft_{hash_of(text) & (2**63 - 1):016x}"
            cache_hook.dbdict.tablename = table
            cache_hook.dbdict.conn.execute(
                f'CREATE TABLE IF NOT EXISTS "{table}" (key TEXT PRIMARY KEY, value BLOB)'
            )
            cache_hook.dbdict.conn.commit()

    def _cache_settings(self) -> dict[str, str]:
        speed_only = {"device", "batch_size", "max_batch_size", "logits_cache"}
        return {k: str(v) for k, v in sorted(self._runtime.items()) if k not in speed_only}

    # ------------------------------------------------------------------ properties

    @property
    def _model(self) -> Any:
        """The base's transformers model, for code that wants one model; loads its weights."""
        return self.composite.members["base"].model

    @property
    def max_length(self) -> int:
        """Tokens that fit into every member (or ``max_length=``)."""
        return self._max_length or self.composite.max_length or self._DEFAULT_MAX_LENGTH

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
        """Gather results of all ranks; each rank's decoding statistics travel along."""
        found = super().gather_object((obj, self.decoder.statistics), dst)
        if found is None:
            return None
        self._ranks_statistics = [statistics for _, statistics in found]
        return [one for one, _ in found]

    def get_model_info(self) -> dict[str, Any]:
        """Return every member with revision, factor and rule, for the results file."""
        ranks = self._ranks_statistics or [self.decoder.statistics]
        return model_info(self.composite, DecodingStatistics.of_ranks(ranks))

    # ------------------------------------------------------------------ prompts

    @property
    def tokenizer_name(self) -> str:
        """The tokenizer's name, for lm-eval's request cache; asked for with a chat template only.

        With cached requests `apply_chat_template` is never called: this is how one knows.
        """
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
        self,
        string: str,
        add_special_tokens: bool | None = None,
        left_truncate_len: int | None = None,
        **kwargs: Any,
    ) -> list[int]:
        """Return a text's tokens; see `eft_eval.composite.encoding.TextEncoding.tokens`."""
        tokens = self.composite.encoding.tokens(string, add_special_tokens)
        return tokens[-left_truncate_len:] if left_truncate_len else tokens

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        pair = self.composite.encoding.pair(context, continuation)
        return pair.context, pair.continuation

    @property
    def prefix_token_id(self) -> int:
        """The token that stands for an empty context."""
        return self.composite.encoding.prefix_token

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(
            device_type=self._device.type,
            dtype=self.mixed_precision_dtype,
            enabled=self.mixed_precision_dtype is not None,
        )

    # ------------------------------------------------------------------ scoring

    def _model_call(
        self, inps: torch.Tensor, attn_mask: object = None, labels: object = None
    ) -> torch.Tensor:
        """Return the composite's scores at every position, [batch, length, V]."""
        with torch.inference_mode(), self._autocast():
            scores = self.composite.empty_scores(*inps.shape)
            rows, lengths = inps.tolist(), [inps.shape[1]] * inps.shape[0]
            for view in self.composite.views:
                logits, _ = view.member.engine.logits(rows, lengths)
                self.composite.accumulate(scores, view, logits)
        return scores

    def loglikelihood(
        self, requests: list[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Return each continuation's log-likelihood, and whether it is the greedy one."""
        pairs = [request.args for request in requests]
        encoded = [(pair, *self._encode_pair(*pair)) for pair in pairs]
        return self._loglikelihood_tokens(encoded, disable_tqdm=disable_tqdm)

    def _score(self, rows: Sequence[ScoredRow]) -> list[torch.Tensor]:
        dtype = torch.promote_types(self.softmax_dtype or torch.float32, torch.float32)
        with self._autocast():
            return continuation_log_probs(self.composite, rows, self.max_length, dtype)

    def _loglikelihood_tokens(
        self, requests: list[_TOKENS], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """Score continuations; requests that share all but their last token share one pass."""
        self._turns.check(self.tokenizer)
        own_prompts = any(view.prompt for view in self.composite.views)
        order = Collator(
            requests,
            sort_fn=lambda request: (-len(request[1] + request[2]), tuple(request[1] + request[2])),
            group_by="contexts" if self.logits_cache and not own_prompts else None,
            group_fn=lambda request: request[1] + request[2][:-1],
        )
        searching = self.batch_size == "auto" and not override_bs and len(order) > 0
        if searching:
            self.batch_sizes.clear()  # sizes found for another task's lengths do not hold
        fixed = (override_bs or 0) if self.batch_size == "auto" else self.batch_size
        bar = tqdm(
            total=len(requests),
            disable=disable_tqdm or self.rank != 0,
            desc="Running loglikelihood requests",
        )
        results: list[tuple[float, bool]] = []
        for chunk in order.get_batched(
            n=fixed, batch_fn=self._batch_scheduler if searching else None
        ):
            for (pair, context, continuation), log_probs in zip(
                chunk, self._score(self._rows(chunk)), strict=True
            ):
                for one_pair, tokens, shared in order.get_cache(
                    req_str=pair,
                    cxt_toks=context,
                    cont_toks=continuation,
                    logits=log_probs[None],
                ):
                    scored = score_of(self.composite, shared[0], tokens)
                    answer = (scored.log_prob, scored.is_greedy)
                    results.append(answer)
                    if one_pair is not None:
                        self.cache_hook.add_partial("loglikelihood", one_pair, answer)
                    bar.update(1)
        bar.close()
        scores: list[tuple[float, bool]] = order.get_original(results)
        return scores

    def _rows(self, chunk: Sequence[_TOKENS]) -> list[ScoredRow]:
        rows = []
        for pair, context, continuation in chunk:
            # rolling windows have no text: every view reads the same tokens
            contexts: tuple[list[int], ...] = (context,) * len(self.composite.views)
            if pair is not None:
                moved = pair[0][len(pair[0].rstrip()) :]
                contexts = self._turns.view_tokens(pair[0], context, moved)
            self.composite.check_tokens(continuation)
            rows.append(ScoredRow(contexts, continuation))
        return rows

    def _detect_batch_size(self, requests: Sequence[_TOKENS] | None = None, pos: int = 0) -> int:
        """Return the largest batch (up to ``max_batch_size``) that fits into memory."""
        length, scored = self.max_length, self.max_length - 1
        if requests:
            _, context, continuation = requests[pos]
            length = min(len(context) + len(continuation), self.max_length)
            scored = min(len(continuation), length - 1)
        return self._search_batch_size(length, max(scored, 1))

    def _search_batch_size(self, length: int, scored: int) -> int:
        tokens = [0] * max(length, 2)
        views = len(self.composite.views)

        @find_executable_batch_size(starting_batch_size=self.max_batch_size)  # type: ignore[untyped-decorator]
        def attempt(batch_size: int) -> int:
            self._score([ScoredRow((tokens[:-scored],) * views, tokens[-scored:])] * batch_size)
            return batch_size

        try:
            size: int = attempt()
        except RuntimeError as error:
            if "No executable batch size found" not in str(error):
                raise
            size = 1
        if self.world_size > 1:  # the ranks go in step
            size = int(self.all_gather(torch.tensor([size], device=self.device)).min())
        clear_torch_cache()
        return size

    # ------------------------------------------------------------------ generation

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Generate a response per request, longest prompts first, equal settings together."""
        self._turns.check(self.tokenizer)
        encoded: dict[str, list[int]] = {}
        groups: dict[str, list[_Job]] = defaultdict(list)
        settings: dict[str, dict[str, Any]] = {}
        places: dict[int, int] = {}  # where a request's first response goes
        numbers = sample_numbers(requests)
        for position, (request, number) in enumerate(zip(requests, numbers, strict=True)):
            places.setdefault(id(request), position)
            if number is None:
                continue
            context, gen_kwargs = request.args[:2]
            if context not in encoded:
                encoded[context] = self._encode_prompt(context)
            key = json.dumps(gen_kwargs, sort_keys=True, default=str)
            settings[key] = gen_kwargs
            groups[key].append(_Job(position, context, encoded[context], number))
        bar = tqdm(
            total=len(requests) - numbers.count(None),
            disable=disable_tqdm or self.rank != 0,
            desc="Running generate_until requests",
        )
        responses = [""] * len(requests)
        for key, jobs in groups.items():
            jobs.sort(key=lambda job: (-len(job.tokens), job.context, job.repeat))
            plan = generation_plan(settings[key], self.max_gen_toks, self._eos_text())
            for number, generation in self._generate(jobs, plan):
                job, text = jobs[number], self._text(generation.tokens, plan.until)
                responses[job.position] = text
                self.cache_hook.add_partial("generate_until", (job.context, settings[key]), text)
                bar.update(1)
        bar.close()
        for position, number in enumerate(numbers):
            if number is None:
                responses[position] = responses[places[id(requests[position])]]
        return responses

    def _generate(
        self, jobs: Sequence[_Job], plan: GenerationPlan
    ) -> Iterator[tuple[int, Generation]]:
        """Yield each job's number and response, as they end."""
        room = self.max_length - plan.max_new_tokens
        if room <= 0:
            raise ConfigError(
                f"max_gen_toks={plan.max_new_tokens} leaves no room for a prompt: the shortest "
                f"member reads {self.max_length} tokens; lower it with --gen_kwargs max_gen_toks=N"
            )
        seed = torch.initial_seed()  # lm-eval's --seed
        asked = []
        for job in jobs:
            prompts = self._turns.view_tokens(job.context, job.tokens)
            if any(len(prompt) > room for prompt in prompts):
                log.warning("a prompt of over %d tokens loses its beginning", room)
            # a model reads at least one token
            trimmed = tuple(prompt[-room:] or [self.prefix_token_id] for prompt in prompts)
            asked.append(Request(trimmed, request_seed(seed, job.context, job.repeat)))
        stopped = StopStrings(self.tokenizer, plan.until)
        if self.batch_size != "auto":
            length = max(len(prompt) for request in asked for prompt in request.prompts)
            check_memory(
                self.composite,
                min(self.batch_size, len(asked)),
                length + plan.max_new_tokens,
                self.decoder.longest_block,
            )
        size = self._generation_batch_size(jobs, plan.max_new_tokens)
        with self._autocast():
            yield from self.decoder.responses(asked, plan.rule, plan.max_new_tokens, stopped, size)

    def _text(self, tokens: list[int], until: list[str]) -> str:
        """Decode a response: reasoning off, stop string and what follows off."""
        end = self.think_end_token
        text: str
        if isinstance(end, int) and end in tokens:
            text = self.tok_decode(tokens[len(tokens) - tokens[::-1].index(end) :]).lstrip()
        else:
            text = self.tok_decode(tokens)
        cleaned: str = postprocess_generated_text(
            generation=text,
            stop=until,
            think_end_token=end if isinstance(end, str) else None,
        )
        return cleaned

    def _encode_prompt(self, text: str) -> list[int]:
        tokens: list[int] = self.tok_encode(text)
        limit = self.tokenizer.model_max_length
        if self.truncation and len(tokens) > limit:
            left = self.tokenizer.truncation_side == "left"
            tokens = tokens[-limit:] if left else tokens[:limit]
        return tokens

    def _eos_text(self) -> str | None:
        if self.eot_token_id is None:
            return None
        text: str = self.tok_decode([self.eot_token_id], skip_special_tokens=False)
        return text

    def _generation_batch_size(self, jobs: Sequence[_Job], max_new_tokens: int) -> int:
        if self.batch_size != "auto":
            return int(self.batch_size)
        length = min(len(jobs[0].tokens) + max_new_tokens, self.max_length)
        size = self._search_batch_size(length, scored=1)
        log.info("batch_size=auto: generating in batches of %d", size)
        return size

    def _model_generate(
        self, context: torch.Tensor, max_length: int, stop: list[str], **gen_kwargs: Any
    ) -> torch.Tensor:
        """Generate from left-padded token ids, as `HFLM` callers expect; [batch, <= max_length]."""
        mask = gen_kwargs.pop("attention_mask", torch.ones_like(context))
        plan = generation_plan({**gen_kwargs, "until": stop}, max_length - context.shape[1], None)
        asked = []
        for ids, seen in zip(context, mask, strict=True):
            prompt = ids[seen.bool()].tolist()
            seed = request_seed(torch.initial_seed(), str(prompt), 0)
            asked.append(Request((prompt,) * len(self.composite.views), seed))
        stopped = StopStrings(self.tokenizer, plan.until)
        with self._autocast():
            made = self.decoder.generate(asked, plan.rule, plan.max_new_tokens, stopped)
        longest = max(len(generation.tokens) for generation in made)
        out = context.new_full((len(made), longest), self.tokenizer.pad_token_id)
        for row, generation in enumerate(made):
            out[row, : len(generation.tokens)] = torch.tensor(generation.tokens)
        return torch.cat([context, out], dim=-1)
