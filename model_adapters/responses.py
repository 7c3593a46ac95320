"""Responses of composites for lm-eval: what is asked by settings, kept as it ends, read as text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from lm_eval.models.utils import postprocess_generated_text
from tqdm import tqdm

from eft_eval.composite.mathematics import request_seed
from eft_eval.composite.memory import check_memory
from eft_eval.decoding.finished import response_key
from eft_eval.decoding.interruption import Interruption
from eft_eval.decoding.loop import Decoder
from eft_eval.decoding.reasoning import REASONING_ENDS, AnswerStops, Reasoning
from eft_eval.decoding.requests import Generation, Request, StopTest
from eft_eval.decoding.stopping import StopStrings
from eft_eval.errors import ConfigError
from eft_eval.model_adapters.generation import GenerationPlan, generation_plan
from eft_eval.model_adapters.request_cache import RequestCache
from eft_eval.model_adapters.resume import Resume
from eft_eval.model_adapters.samples import UnfinishedResponse, sample_numbers
from eft_eval.model_adapters.scoring import ScoringLM
from eft_eval.streams import logger

__all__ = ["RespondingLM"]

T = TypeVar("T")
log = logger("lm_eval.eft")


class _Job(NamedTuple):
    """One response to generate: where it goes, what is asked, which sample of that it is."""

    position: int
    arguments: tuple[Any, ...]
    tokens: list[int]
    repeat: int

    @property
    def context(self) -> str:
        """The prompt."""
        return str(self.arguments[0])


class _Group(NamedTuple):
    """Responses to generate with the same settings; their reasoning, where they are to reason."""

    plan: GenerationPlan
    reasoning: Reasoning | None
    jobs: list[_Job]


class RespondingLM(ScoringLM):
    """The half of the model ``eft`` that generates.

    Attributes:
        decoder: Of the composite.
    """

    decoder: Decoder
    _cache: RequestCache | None
    _resume: Resume
    _reasoning: Reasoning | None
    _answers_at_once: bool
    _marked: Counter[str]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Generate a response per request, longest prompts first, equal settings together.

        Responses are kept as they end where `Resume` says; what an earlier start of the same run
        kept is taken from there. Ctrl-C and SIGTERM let the round end.
        """
        self._turns.check(self.tokenizer)
        plans = [self._plan(request.args[1]) for request in requests]
        samples = any(plan.rule.temperature > 0 for plan in plans)
        numbers = sample_numbers(requests, self._of_all_ranks if samples else None, self.rank)
        groups = self._groups(requests, plans, numbers)
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
                        if group.reasoning is not None:
                            self.decoder.statistics.note_reasoning(
                                requests[job.position].task_name,
                                isinstance(text, UnfinishedResponse),
                            )
                        responses[job.position] = text
                        self.cache_hook.add_partial("generate_until", job.arguments, text)
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

    def _of_all_ranks(self, own: T) -> list[T]:
        """Return what every rank holds, in their order; all ranks must ask."""
        if self.world_size == 1:
            return [own]
        everybody = [own] * self.world_size
        torch.distributed.all_gather_object(everybody, own)
        return everybody

    def _plan(self, settings: dict[str, Any]) -> GenerationPlan:
        """Return a task's generation settings, checked."""
        plan = generation_plan(settings, self.max_gen_toks, self._eos_text())
        if plan.max_new_tokens >= self.max_length:
            raise ConfigError(
                f"max_gen_toks={plan.max_new_tokens} leaves no room for a prompt: the shortest "
                f"member reads {self.max_length} tokens; lower it with --gen_kwargs max_gen_toks=N"
            )
        return plan

    def _groups(
        self,
        requests: Sequence[Any],
        plans: Sequence[GenerationPlan],
        numbers: Sequence[int | None],
    ) -> list[_Group]:
        """Return what is asked, by settings; all settings are checked before anything is made."""
        encoded: dict[str, list[int]] = {}
        groups: dict[str, _Group] = {}
        for position, (request, plan, number) in enumerate(
            zip(requests, plans, numbers, strict=True)
        ):
            if number is None:
                continue
            if plan.rule.temperature > 0 and self._cache is not None:
                self._cache.leave_out(request.args)
            context = request.args[0]
            if context not in encoded:
                encoded[context] = self._encode_prompt(context) or [self.prefix_token_id]
            reasoning = self._reasoning
            if reasoning is not None and (self._answers_at_once or reasoning.closed(context)):
                reasoning = None
            key = json.dumps([plan, reasoning is None])
            if key not in groups:
                groups[key] = _Group(plan, reasoning, [])
            job = _Job(position, request.args, encoded[context], number)
            groups[key].jobs.append(job)
        if self._in_step:
            groups = self._of_every_rank(groups)
        for group in groups.values():
            group.jobs.sort(key=lambda job: (-len(job.tokens), job.context, job.repeat))
        return [*groups.values()]

    @property
    def _in_step(self) -> bool:
        """Whether all ranks search for a batch size together, so that none may leave one out."""
        return bool(self.world_size > 1 and self.batch_size == "auto")

    def _of_every_rank(self, groups: dict[str, _Group]) -> dict[str, _Group]:
        """Return the groups that any rank has, in one order; those of others are empty."""
        plans = {key: group.plan for key, group in groups.items()}
        every = {key: plan for own in self._of_all_ranks(plans) for key, plan in own.items()}
        return {key: groups.get(key) or _Group(every[key], None, []) for key in sorted(every)}

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
        size = self._generation_batch_size(requests, plan) if asked or self._in_step else 0
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
        prompts = self._turns.view_tokens(job.context, job.tokens)
        if any(len(prompt) > room for prompt in prompts):
            log.warning("a prompt of over %d tokens loses its beginning", room)
        trimmed = tuple(prompt[-room:] for prompt in prompts)
        seed = torch.initial_seed()  # lm-eval's --seed
        return Request(trimmed, request_seed(seed, job.context, job.repeat))

    def _text(self, job: _Job, made: Generation, group: _Group) -> str:
        """Return a response's text: reasoning off, stop string and what follows off."""
        answer = None if self._reasoning is None else self._reasoning.answer(made.tokens)
        if answer is None:
            if group.reasoning is not None and group.reasoning.unfinished(job.context, made):
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
        prompts = (prompt for request in requests for prompt in request.prompts)
        longest = max(map(len, prompts), default=1)
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
