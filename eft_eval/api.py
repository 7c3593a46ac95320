"""A composite over texts: generation, log-likelihoods and traces, for Python users.

Plain text in, plain text out; batching, chat templates per task and results files are lm-eval's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from typing_extensions import Self

from eft_eval.composite.encoding import listed_texts
from eft_eval.composite.mathematics import request_seed
from eft_eval.composite.memory import check_memory
from eft_eval.composite.model import CompositeModel
from eft_eval.composite.normalisers import log_normalisers
from eft_eval.composite.prompting import view_tokens
from eft_eval.composite.scoring import Scored, ScoredRow, continuation_log_probs, score_of
from eft_eval.decoding.drafting import draft_view
from eft_eval.decoding.loop import Decoder
from eft_eval.decoding.reasoning import AnswerStops, Reasoning, reasoning_of
from eft_eval.decoding.requests import (
    Generation,
    Request,
    SamplingRule,
    check_rule,
    check_whole,
)
from eft_eval.decoding.stopping import StopStrings
from eft_eval.decoding.tracing import Trace, trace_tokens
from eft_eval.errors import ConfigError, nearest
from eft_eval.recipe import Recipe
from eft_eval.recipe.parse import weighted
from eft_eval.streams import progress_bar
from eft_eval.vllm.engine import VLLMEngine

if TYPE_CHECKING:
    import torch

__all__ = ["Composite", "Scored"]


class _Loop(NamedTuple):
    """How responses are made: what ends them, rows at a time, block, a decoder to go on with."""

    stop: Sequence[str]
    batch_size: int
    block: int | Literal["auto"] | None
    decoder: Decoder | None
    reasoning: Reasoning | None = None


class Composite(CompositeModel):
    """A composite model (Mitchell et al. 2023, Eq. 4 and 5) that takes and gives text.

    ``Composite.load("demo").generate([prompt])`` is all it takes; its weights are loaded at first
    use.
    """

    _vllm: VLLMEngine | None = None

    @classmethod
    def load(
        cls,
        recipe: str | Path | Mapping[str, Any] | Recipe,
        *,
        weight: float | None = None,
        device: str | torch.device | None = None,
        trust_remote_code: bool = False,
        use_fast_tokenizer: bool = True,
        add_bos_token: bool | None = None,
        engine: str = "transformers",
        **vllm: Any,
    ) -> Self:
        """Return the composite of a named recipe, a YAML file, a dict or a recipe.

        Args:
            recipe: As `eft_eval.recipe.parse_recipe` takes it.
            weight: Of its one delta, in place of the recipe's.
            device: Where members without a placement of their own go; None: CUDA where it is.
            trust_remote_code: Let checkpoints run their own Python code.
            use_fast_tokenizer: Prefer the Rust tokenizers.
            add_bos_token: Override the tokenizer's own policy on the beginning-of-sequence token.
            engine: ``transformers`` or ``vllm``.
            vllm: With ``engine="vllm"`` its own arguments, such as ``tensor_parallel_size``.

        Raises:
            ConfigError: The recipe, its weight or an argument is wrong.
        """
        if engine != "vllm" and vllm:
            key = next(iter(vllm))
            known = [name for name in signature(cls.load).parameters if name != "vllm"]
            raise ConfigError(
                f"Composite.load: unknown argument {key!r}{nearest(key, known)}; known: "
                f"{', '.join(known)}; recipe keys belong into a dict, and vLLM's own arguments "
                'go with engine="vllm"'
            )
        composite = super().load(
            recipe if weight is None else weighted(recipe, weight),
            device=device if engine != "vllm" else "cpu",
            trust_remote_code=trust_remote_code,
            use_fast_tokenizer=use_fast_tokenizer,
            add_bos_token=add_bos_token,
            engine=engine,
        )
        if engine == "vllm":
            own = {} if device is None else {"device": device}
            composite._vllm = VLLMEngine(composite, {**own, **vllm})
        return composite

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        typical_p: float | None = None,
        stop: str | Sequence[str] = (),
        think_end_token: str | int | None = None,
        seed: int = 1234,
        batch_size: int = 8,
        block: int | Literal["auto"] | None = None,
        decoder: Decoder | None = None,
        on_response: Callable[[int, str], None] | None = None,
        progress: bool | None = None,
    ) -> list[str]:
        """Return a response per prompt, without the stop string that ended it.

        Args:
            prompts: Texts; a chat model's template is not added.
            max_new_tokens: Longest response.
            temperature: 0 is greedy.
            top_k: Sample among this many best tokens.
            top_p: Sample within the smallest set of this mass.
            min_p: Sample among tokens of at least this share of the best one's probability.
            typical_p: Sample within the most typical tokens of this mass.
            stop: Strings that end a response, or one; with ``think_end_token`` its answer.
            think_end_token: What ends the reasoning of a member that thinks, a text or a token's
                id: only what follows is the response, which is empty where reasoning did not end.
            seed: The same seed and prompt give the same sample, in any batch; a prompt that is
                given twice is sampled twice.
            batch_size: Rows at a time.
            block: Tokens drafted per round; None: the recipe's.
            decoder: Used in place of a new one; its `statistics` go on.
            on_response: Called with place and text of each response as it ends.
            progress: Whether a bar shows how many have ended; None: in a notebook.

        Raises:
            ConfigError: ``prompts`` are no list of texts, a prompt is too long, memory is short, or
                an argument is nothing that tokens can be chosen by.
        """
        prompts = listed_texts("prompts", prompts)
        stop = [stop] if isinstance(stop, str) else listed_texts("stop", stop or ())
        check_whole("max_new_tokens", max_new_tokens, 1)
        check_whole("batch_size", batch_size, 1)
        if block not in (None, "auto"):
            check_whole("block", block, 0)
        rule = check_rule(SamplingRule(temperature, top_k, top_p, min_p, typical_p))
        reasoning = reasoning_of(self.tokenizer, think_end_token, self.gives)
        if reasoning is not None and self._vllm is not None:
            raise ConfigError(
                'think_end_token: not with engine="vllm" of the Python API: load without it, or '
                "evaluate with lm_eval --model eft-vllm"
            )
        requests = self._requests(prompts, seed, max_new_tokens)
        responses = [""] * len(requests)
        with progress_bar("Generating", len(requests), progress) as bar:
            for places, ends in _by_reasoning(prompts, reasoning):
                loop = _Loop(stop, batch_size, block, decoder, ends)
                asked = [requests[place] for place in places]
                for number, made in self._responses(asked, rule, max_new_tokens, loop):
                    place = places[number]
                    responses[place] = text = self._text(made, stop, ends, prompts[place])
                    bar.update()
                    if on_response is not None:
                        on_response(place, text)
        return responses

    def _responses(
        self, requests: Sequence[Request], rule: SamplingRule, max_new_tokens: int, loop: _Loop
    ) -> Iterator[tuple[int, Generation]]:
        """Yield each request's place and response, as they end."""
        if self._vllm is not None:
            yield from self._vllm.responses(requests, rule, max_new_tokens, loop.stop)
            return
        decoder = loop.decoder or Decoder(self, loop.block)
        length = max((len(p) for r in requests for p in r.prompts), default=0) + max_new_tokens
        check_memory(self, min(loop.batch_size, len(requests)), length, decoder.longest_block)
        order = sorted(range(len(requests)), key=lambda index: -len(requests[index].prompts[0]))
        stopped = StopStrings(self.tokenizer, loop.stop)
        if loop.reasoning is not None:
            stopped = AnswerStops(self.tokenizer, loop.stop, loop.reasoning)
        for number, made in decoder.responses(
            [requests[index] for index in order], rule, max_new_tokens, stopped, loop.batch_size
        ):
            yield order[number], made

    def loglikelihood(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        batch_size: int = 8,
        progress: bool | None = None,
    ) -> list[Scored]:
        """Return the log-probability of each continuation after its context.

        Both are tokenised as lm-eval does: together, white space at the context's end belongs to
        the continuation, and an empty context is the tokenizer's beginning-of-sequence (else
        end-of-sequence) token.

        Args:
            pairs: (context, continuation).
            batch_size: Rows at a time.
            progress: Whether a bar shows how many are scored; None: in a notebook.

        Raises:
            ConfigError: A continuation has no token of its own, or a pair is too long.
        """
        check_whole("batch_size", batch_size, 1)
        rows = []
        for pair in pairs:
            context, continuation = _pair(pair)
            before, tokens, moved = self.encoding.pair(context, continuation)
            self.check_tokens(tokens)
            rows.append(ScoredRow(self._fitting(context, before, len(tokens), moved), tokens))
        if self._vllm is not None:
            return self._vllm.scores(rows)
        limit = max((len(c) + len(r.continuation) for r in rows for c in r.contexts), default=1)
        found = []
        with progress_bar("Scoring", len(rows), progress) as bar:
            for start in range(0, len(rows), batch_size):
                batch = rows[start : start + batch_size]
                for row, log_probs in zip(
                    batch, continuation_log_probs(self, batch, limit), strict=True
                ):
                    found.append(score_of(self, log_probs, row.continuation))
                bar.update(len(batch))
        return found

    def trace(
        self,
        prompt: str,
        response: str | None = None,
        *,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        seed: int = 1234,
        top: int = 3,
    ) -> Trace:
        """Return who changed what in a response, token by token; ``engine="vllm"`` cannot.

        Args:
            prompt: What is asked.
            response: A text to look at; None: the composite's own.
            max_new_tokens: Of its own response.
            temperature: Of its own response.
            seed: Of its own response.
            top: Tokens named per position.

        Raises:
            ConfigError: The response is empty, or the prompt is too long.
        """
        check_whole("top", top, 1)
        check_whole("max_new_tokens", max_new_tokens, 1)
        check_rule(SamplingRule(temperature))
        if self._vllm is not None:
            raise ConfigError('trace needs every member\'s own logits: load without engine="vllm"')
        if response is None:
            (request,) = self._requests([prompt], seed, max_new_tokens)
            views = request.prompts
            (made,) = Decoder(self).generate([request], SamplingRule(temperature), max_new_tokens)
            before, tokens = list[int](), made.tokens
        else:
            before, tokens, moved = self.encoding.pair(prompt, response)
            self.check_tokens(tokens)
            views = self._fitting(prompt, before, len(tokens), moved)
        # a response of one's own goes on from the prompt; what a model says stands alone
        pieces = self.encoding.pieces(tokens, () if response is None else before)
        records = trace_tokens(self, views, tokens, pieces, min(top, self.vocabulary))
        role = self.views[draft_view(self)].role
        return Trace(self.name, role, prompt, "".join(pieces), records)

    def log_normalisers(self, prompt: str, response: str) -> list[float]:
        """Return log Z of Eq. 5 at every token of a response, and at the step where it ends.

        Their sum is the logarithm of the importance weight that turns a sample of the composite,
        at temperature 1, into one of the sequence-level distribution (Eq. 4), up to a constant.

        Args:
            prompt: What is asked.
            response: What was answered; may be empty.

        Raises:
            ConfigError: The composite filters its weights, the prompt is too long, or
                ``engine="vllm"``.
        """
        if self._vllm is not None:
            raise ConfigError('normalisers need every member\'s logits: load without engine="vllm"')
        if response:
            before, tokens, moved = self.encoding.pair(prompt, response)
        else:
            before, moved = self.encoding.tokens(prompt) or [self.encoding.prefix_token], ""
            tokens = []
        self.check_tokens(tokens)
        views = self._fitting(prompt, before, len(tokens), moved)
        return [float(one) for one in log_normalisers(self, views, tokens)]

    def _requests(self, prompts: Sequence[str], seed: int, room_for: int) -> list[Request]:
        requests, seen = [], Counter[str]()
        for prompt in prompts:
            tokens = self.encoding.tokens(prompt) or [self.encoding.prefix_token]
            views = self._fitting(prompt, tokens, room_for)
            requests.append(Request(views, request_seed(seed, prompt, seen[prompt])))
            seen[prompt] += 1
        return requests

    def _fitting(
        self, prompt: str, tokens: list[int], room_for: int, moved: str = ""
    ) -> tuple[list[int], ...]:
        """Return what each view reads, checked to leave room for what follows."""
        views = view_tokens(self, prompt, tokens, moved=moved)
        limit = self.max_length
        longest = max(map(len, views), default=0)
        if limit is not None and longest + room_for > limit:
            raise ConfigError(
                f"a prompt of {longest} tokens and {room_for} more do not fit: the shortest member "
                f"reads {limit} tokens; shorten the prompt or what follows it"
            )
        return views

    def _text(
        self, made: Generation, stop: Sequence[str], reasoning: Reasoning | None, prompt: str
    ) -> str:
        answer = None if reasoning is None else reasoning.answer(made.tokens)
        if reasoning is not None and answer is None and reasoning.unfinished(prompt, made):
            return ""
        text = self.encoding.text(made.tokens) if answer is None else answer
        ends = [text.index(one) for one in stop if one and one in text]
        return text[: min(ends)] if ends else text


def _pair(given: Any) -> tuple[str, str]:
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != 2:
        raise ConfigError(
            f"pairs: got {repr(given)[:80]}, expected a list of (context, continuation)"
        )
    context, continuation = listed_texts("pairs", given)
    return context, continuation


def _by_reasoning(
    prompts: Sequence[str], reasoning: Reasoning | None
) -> Iterator[tuple[list[int], Reasoning | None]]:
    """Yield places of prompts that leave reasoning to do, and of those where it is over."""
    closed = [reasoning is None or reasoning.closed(prompt) for prompt in prompts]
    for over in (False, True):
        places = [place for place, one in enumerate(closed) if one is over]
        if places:
            yield places, None if over else reasoning
