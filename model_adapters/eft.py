"""The lm-eval model ``eft``: composites as first-class models of the harness.

A subclass of `HFLM` for what lies around a model (chat templates, tokenisation, rolling windows,
batch-size search, ranks, the request cache); what a model computes comes from `eft_eval`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from lm_eval.api.model import CacheHook, TemplateLM
from lm_eval.models.utils import configure_pad_token, postprocess_generated_text
from tqdm import tqdm
from transformers import AutoModelForCausalLM

from eft_eval.composite.mathematics import hash_of, request_seed
from eft_eval.composite.memory import check_memory
from eft_eval.composite.model import CompositeModel
from eft_eval.decoding.finished import response_key
from eft_eval.decoding.interruption import Interruption
from eft_eval.decoding.loop import Decoder
from eft_eval.decoding.reasoning import REASONING_ENDS, AnswerStops, Reasoning
from eft_eval.decoding.requests import Generation, Request, StopTest
from eft_eval.decoding.statistics import DecodingStatistics
from eft_eval.decoding.stopping import StopStrings
from eft_eval.engine.loading import LoadOptions
from eft_eval.errors import ConfigError
from eft_eval.model_adapters.chat import ChatTurns
from eft_eval.model_adapters.provenance import model_info
from eft_eval.model_adapters.resume import Resume
from eft_eval.model_adapters.samples import UnfinishedResponse, sample_numbers
from eft_eval.model_adapters.scoring import ScoringLM
from eft_eval.model_adapters.settings import (
    GenerationPlan,
    batch_attributes,
    generation_plan,
    limit_threads,
    rank_attributes,
    reasoning_of,
    text_attributes,
)
from eft_eval.recipe import identity, parse_model_args
from eft_eval.streams import logger, one_line_errors

log = logger("lm_eval.eft")
one_line_errors()


class _Job(NamedTuple):
    """One response to generate: where it goes, what is asked, which sample of that it is."""

    position: int
    context: str
    tokens: list[int]
    repeat: int


class _Group(NamedTuple):
    """Responses to generate with the same settings; their reasoning, where they are to reason."""

    plan: GenerationPlan
    settings: dict[str, Any]
    reasoning: Reasoning | None
    jobs: list[_Job]


class EFTLM(ScoringLM):
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
        if recipe.is_base_alone:
            log.info("%s alone: no fine-tuning is added (weight 0)", recipe.base.model)
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
        self._reasoning = reasoning_of(self.composite.tokenizer, self.think_end_token)
        self._marked: Counter[str] = Counter()  # ends of reasoning that nobody takes away
        self._answers_at_once = self.chat_template_args.get("enable_thinking") is False
        self._config = self.composite.members["base"].config
        self.tokenizer = configure_pad_token(self.composite.tokenizer, model_config=self._config)
        self.vocab_size = self.tokenizer.vocab_size
        self.pretrained = self.composite.name
        self.revision, self.peft, self.delta = None, None, None
        self._turns = ChatTurns(self.composite)
        self._resume = Resume(runtime.get("resume"), self.composite, self._cache_settings())
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
        speed_only = {"device", "batch_size", "max_batch_size", "logits_cache", "resume"}
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
        """Gather results of all ranks; what each rank decoded travels along."""
        found = super().gather_object((obj, self.decoder.statistics, self._resume.close()), dst)
        if found is None:
            return None
        self._ranks_statistics = [statistics for _, statistics, _ in found]
        self._resume.used.update(*(used for _, _, used in found))
        return [one for one, _, _ in found]

    def get_model_info(self) -> dict[str, Any]:
        """Return every member with revision, factor and rule, for the results file."""
        self._resume.evaluated = True  # lm-eval asks at the end
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

    # ------------------------------------------------------------------ generation

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Generate a response per request, longest prompts first, equal settings together.

        Responses are kept as they end where `Resume` says; what an earlier start of the same run
        kept is taken from there. Ctrl-C and SIGTERM let the round end.
        """
        self._turns.check(self.tokenizer)
        numbers = sample_numbers(requests)
        groups = self._groups(requests, numbers)
        self._resume.store()  # a folder that cannot be used shows before any work
        total, done = len(requests) - numbers.count(None), 0
        bar = tqdm(
            total=total,
            disable=disable_tqdm or self.rank != 0,
            desc="Running generate_until requests",
        )
        responses = [""] * len(requests)
        with Interruption() as interruption:
            for group in groups:
                for ended in self._rounds(group):
                    for job, generation in ended:
                        text = self._text(job, generation, group)
                        responses[job.position] = text
                        asked = (job.context, group.settings)
                        self.cache_hook.add_partial("generate_until", asked, text)
                    done += len(ended)
                    bar.update(len(ended))
                    if interruption.signal is not None:
                        interruption.stop(self._resume.how_to_go_on(done, total))
        bar.close()
        self._report_reasoning(responses)
        places: dict[int, int] = {}  # where a request's first response is
        for position, (request, number) in enumerate(zip(requests, numbers, strict=True)):
            first = places.setdefault(id(request), position)
            if number is None:
                responses[position] = responses[first]
        return responses

    def _groups(self, requests: Sequence[Any], numbers: Sequence[int | None]) -> list[_Group]:
        """Return what is asked, by settings; all settings are checked before anything is made."""
        encoded: dict[str, list[int]] = {}
        groups: dict[str, _Group] = {}
        for position, (request, number) in enumerate(zip(requests, numbers, strict=True)):
            if number is None:
                continue
            context, settings = request.args[:2]
            if context not in encoded:
                encoded[context] = self._encode_prompt(context)
            reasoning = self._reasoning
            if reasoning is not None and (self._answers_at_once or reasoning.closed(context)):
                reasoning = None
            key = json.dumps([settings, reasoning is None], sort_keys=True, default=str)
            if key not in groups:
                plan = generation_plan(settings, self.max_gen_toks, self._eos_text())
                groups[key] = _Group(plan, settings, reasoning, [])
            groups[key].jobs.append(_Job(position, context, encoded[context], number))
        for group in groups.values():
            group.jobs.sort(key=lambda job: (-len(job.tokens), job.context, job.repeat))
        return [*groups.values()]

    def _rounds(self, group: _Group) -> Iterator[list[tuple[_Job, Generation]]]:
        """Yield jobs with their responses: first those that were kept, then by the round."""
        plan, store = group.plan, self._resume.store()
        asked = [(job, self._request(job, plan)) for job in group.jobs]
        requests = [request for _, request in asked]
        keys: list[str] = []
        if store is not None:
            reasons = group.reasoning is not None
            keys = [response_key([request, plan, reasons]) for request in requests]
            found = [(job, store.find(key)) for (job, _), key in zip(asked, keys, strict=True)]
            kept = [(job, one) for job, one in found if one is not None]
            rest = [number for number, (_, one) in enumerate(found) if one is None]
            asked, keys = [asked[n] for n in rest], [keys[n] for n in rest]
            self.decoder.statistics.resumed += len(kept)
            yield kept
        in_step = self.world_size > 1 and self.batch_size == "auto"  # all ranks search, or none
        size = self._generation_batch_size(requests, plan) if asked or in_step else 0
        if not asked:
            return
        stopped: StopTest = StopStrings(self.tokenizer, plan.until)
        if group.reasoning is not None:
            stopped = AnswerStops(self.tokenizer, plan.until, group.reasoning)
        with self._autocast():
            left = [request for _, request in asked]
            for ended in self.decoder.rounds(left, plan.rule, plan.max_new_tokens, stopped, size):
                if store is not None:
                    for number, made in ended:
                        store.add(keys[number], made)
                yield [(asked[number][0], made) for number, made in ended]

    def _request(self, job: _Job, plan: GenerationPlan) -> Request:
        room = self.max_length - plan.max_new_tokens
        if room <= 0:
            raise ConfigError(
                f"max_gen_toks={plan.max_new_tokens} leaves no room for a prompt: the shortest "
                f"member reads {self.max_length} tokens; lower it with --gen_kwargs max_gen_toks=N"
            )
        prompts = self._turns.view_tokens(job.context, job.tokens)
        if any(len(prompt) > room for prompt in prompts):
            log.warning("a prompt of over %d tokens loses its beginning", room)
        # a model reads at least one token
        trimmed = tuple(prompt[-room:] or [self.prefix_token_id] for prompt in prompts)
        seed = torch.initial_seed()  # lm-eval's --seed
        return Request(trimmed, request_seed(seed, job.context, job.repeat))

    def _text(self, job: _Job, made: Generation, group: _Group) -> str:
        """Return a response's text: reasoning off, stop string and what follows off."""
        answer = None if self._reasoning is None else self._reasoning.answer(made.tokens)
        if answer is None:
            if group.reasoning is not None and group.reasoning.unfinished(job.context, made):
                self.decoder.statistics.unfinished += 1
                return UnfinishedResponse()
            answer = self.tok_decode(made.tokens)
            if self._reasoning is not None:
                answer = answer.lstrip()
            else:
                raw = self.tok_decode(made.tokens, skip_special_tokens=False)
                self._marked.update(mark for mark in REASONING_ENDS if mark in raw)
        text: str = postprocess_generated_text(answer, group.plan.until, None)
        return text

    def _report_reasoning(self, responses: Sequence[str]) -> None:
        if count := sum(isinstance(text, UnfinishedResponse) for text in responses):
            log.warning(
                "%d of %d responses did not end their reasoning and are empty answers; allow more "
                "tokens: --gen_kwargs max_gen_toks=N",
                count,
                len(responses),
            )
        for mark, count in self._marked.items():
            log.warning(
                "%d responses hold %r, which ends the reasoning of some models: with "
                "--model_args think_end_token=%s only what follows it is the answer",
                count,
                mark,
                mark,
            )
        self._marked.clear()

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

    def _generation_batch_size(self, requests: Sequence[Request], plan: GenerationPlan) -> int:
        longest = max(len(prompt) for request in requests for prompt in request.prompts)
        length = min(longest + plan.max_new_tokens, self.max_length)
        if self.batch_size != "auto":
            size = min(int(self.batch_size), len(requests))
            check_memory(self.composite, size, length, self.decoder.longest_block)
            return int(self.batch_size)
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
