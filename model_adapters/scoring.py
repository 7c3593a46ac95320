"""Log-likelihoods of composites for lm-eval: batches, shared passes, the largest batch size."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from accelerate import find_executable_batch_size
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import Collator
from lm_eval.models.utils_hf import clear_torch_cache
from tqdm import tqdm

from eft_eval.composite.model import CompositeModel
from eft_eval.composite.scoring import ScoredRow, continuation_log_probs, score_of
from eft_eval.decoding.reasoning import opened
from eft_eval.engine.prefixes import order_by_prefix
from eft_eval.model_adapters.chat import ChatTurns
from eft_eval.model_adapters.rolling import whole_texts
from eft_eval.streams import logger

__all__ = ["ScoringLM"]

log = logger("lm_eval.eft")
_TOKENS = tuple[tuple[str, str] | None, list[int], list[int]]


class ScoringLM(HFLM):  # type: ignore[misc]  # lm-eval ships no types
    """The half of the model ``eft`` that scores texts.

    Attributes:
        composite: The model.
    """

    composite: CompositeModel
    _turns: ChatTurns

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(
            device_type=self._device.type,
            dtype=self.mixed_precision_dtype,
            enabled=self.mixed_precision_dtype is not None,
        )

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
        # the last token is scored, not read
        if cut := sum(len(one[1]) + len(one[2]) - 1 > self.max_length for one in encoded):
            log.warning(
                "%d of %d contexts lose their beginning: with their continuations they are longer "
                "than the %d tokens that the shortest member reads", cut, len(pairs),
                self.max_length,
            )  # fmt: skip
        marks = [mark for context, _ in pairs if (mark := opened(context))]
        if marks:
            log.warning(
                "%d of %d contexts end with %s: what follows is scored as the beginning of the "
                "reasoning, not as an answer; leave the mark out, as some templates do with "
                "enable_thinking=False",
                len(marks), len(pairs), marks[0],
            )  # fmt: skip
        return self._loglikelihood_tokens(encoded, disable_tqdm=disable_tqdm)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood of each request's text; see `whole_texts`."""

        def score(windows: list[Any]) -> list[tuple[float, bool]]:
            size: int | None = None
            if self.world_size > 1 and self.batch_size == "auto":
                # ranks have unlike numbers of windows, but search together
                own = max((len(one[1]) + len(one[2]) for one in windows), default=2)
                most = self.all_gather(torch.tensor([own], device=self.device)).max()
                longest = min(int(most), self.max_length)
                size = self._search_batch_size(longest, longest - 1)
            if not windows:
                return []
            return self._loglikelihood_tokens(windows, disable_tqdm, override_bs=size)

        return whole_texts(
            requests, self.composite.encoding, self.max_length, score, self.cache_hook
        )

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
        ranks = order_by_prefix([tuple(request[1] + request[2]) for request in requests])
        order = Collator(
            requests,
            sort_fn=lambda request: ranks[tuple(request[1] + request[2])],
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
            else:
                self.composite.check_tokens(context)
            self.composite.check_tokens(continuation)
            rows.append(ScoredRow(contexts, continuation))
        return rows

    def _batch_scheduler(self, pos: int, n_reordered_requests: Sequence[_TOKENS]) -> int:
        """Return the batch size at a place; ``auto:N`` searches for one at N places.

        Ranks, whose requests differ, search once, together.
        """
        count = len(n_reordered_requests)
        often = 1 if self.world_size > 1 else min(int(self.batch_schedule), count)
        part = pos * often // count
        if part not in self.batch_sizes:
            if self.batch_sizes.get(part - 1) == self.max_batch_size:
                self.batch_sizes[part] = self.max_batch_size
            else:
                self.batch_sizes[part] = self._detect_batch_size(n_reordered_requests, pos)
                log.info(
                    "batch_size=auto: scoring in batches of %d from request %d of %d on",
                    self.batch_sizes[part],
                    pos + 1,
                    count,
                )
        return int(self.batch_sizes[part])

    def _detect_batch_size(self, requests: Sequence[_TOKENS] | None = None, pos: int = 0) -> int:
        """Return the largest batch (up to ``max_batch_size``) that fits into memory."""
        length, scored = self.max_length, self.max_length - 1
        if requests:
            # those that begin alike lie together: a longer one may come later
            longest = max(requests[pos:], key=lambda one: len(one[1]) + len(one[2]))
            _, context, continuation = longest
            length = min(len(context) + len(continuation), self.max_length)
            scored = min(len(continuation), length - 1)
        return self._search_batch_size(length, max(scored, 1))

    def _search_batch_size(self, length: int, scored: int) -> int:
        size = max(length, 2)
        views = len(self.composite.views)

        @find_executable_batch_size(starting_batch_size=self.max_batch_size)  # type: ignore[untyped-decorator]
        def attempt(batch_size: int) -> int:
            # unlike rows: those that begin alike are read together
            rows = [[row % self.composite.vocabulary] * size for row in range(batch_size)]
            self._score([ScoredRow((row[:-scored],) * views, row[-scored:]) for row in rows])
            return batch_size

        try:
            most: int = attempt()
        except RuntimeError as error:
            if "No executable batch size found" not in str(error):
                raise
            most = 1
        if self.world_size > 1:  # the ranks go in step
            most = int(self.all_gather(torch.tensor([most], device=self.device)).min())
        clear_torch_cache()
        return most
