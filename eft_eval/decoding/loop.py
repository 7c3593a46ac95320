"""The generation loop: prompts in, tokens out; plain and speculative decoding, batched.

Knows tokens and a stop test, not text and not tasks. Each round the draft member proposes a block
of tokens, every other member reads the block in one pass, and the composite's own choices stand up
to the first that differs from the draft (Mitchell et al. 2023, section 4.3). A block of 0 is plain
decoding. Finished rows leave the batch and waiting requests take their place. A sample depends on
its own prompt, seed and timestep only, never on its batch or the block.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Literal

from eft_eval.composite.model import CompositeModel
from eft_eval.decoding.batch import Batch, BatchPlan
from eft_eval.decoding.block import BlockChooser
from eft_eval.decoding.requests import Generation, Request, SamplingRule, StopTest, never
from eft_eval.decoding.statistics import DecodingStatistics
from eft_eval.engine.graphs import Record, cuda_graphs

__all__ = ["Decoder"]

_JOINING = 4  # requests join when a fourth of the rows is free: one prompt pass for several


class Decoder:
    """Generates from one composite; keeps what it learns about costs and acceptance.

    Args:
        composite: The model.
        block: Tokens drafted per round: 0 (plain), a number, or ``auto``; None is the recipe's.
        record: What records the rounds' work, in fixed shapes, so that it is launched as a whole;
            None: nothing does; ``auto``: CUDA graphs, on a CUDA device.
    """

    def __init__(
        self,
        composite: CompositeModel,
        block: int | Literal["auto"] | None = None,
        record: Record | Literal["auto"] | None = "auto",
    ) -> None:
        self.composite = composite
        self.statistics = DecodingStatistics()
        setting = composite.recipe.decoding.block if block is None else block
        self._blocks = BlockChooser(setting)
        self._record = record

    def __repr__(self) -> str:
        return f"Decoder({self.composite.name!r})"

    @property
    def longest_block(self) -> int:
        """The most tokens that it drafts in a round."""
        return self._blocks.longest

    def responses(
        self,
        requests: Sequence[Request],
        rule: SamplingRule,
        max_new_tokens: int,
        stopped: StopTest = never,
        batch_size: int | None = None,
    ) -> Iterator[tuple[int, Generation]]:
        """Generate one response per request and yield each as it ends, with its index.

        Arguments are those of `rounds`.
        """
        for ended in self.rounds(requests, rule, max_new_tokens, stopped, batch_size):
            yield from ended

    def rounds(
        self,
        requests: Sequence[Request],
        rule: SamplingRule,
        max_new_tokens: int,
        stopped: StopTest = never,
        batch_size: int | None = None,
    ) -> Iterator[list[tuple[int, Generation]]]:
        """Generate one response per request; yield after each round what ended, with its index.

        Args:
            requests: Taken in this order; put long prompts first, so that memory is known early.
            rule: How tokens are chosen.
            max_new_tokens: Longest response, at least 1.
            stopped: Whether the tokens end with a stop string. Stop tokens of the composite end
                a response in any case.
            batch_size: Rows at a time; None: all.
        """
        size = min(batch_size or len(requests), len(requests))
        if not requests:
            return
        self.composite.tell_settings()
        longest = max(len(prompt) for request in requests for prompt in request.prompts)
        plan = BatchPlan(rule, max_new_tokens, stopped, size, longest + max_new_tokens)
        record, device = self._record, self.composite.device
        if record == "auto":
            record = cuda_graphs(device) if device.type == "cuda" else None
        batch = Batch(self.composite, plan, self._blocks, self.statistics, record)
        waiting = deque(enumerate(requests))
        while waiting or batch.rows:
            free = size - len(batch.rows)
            if waiting and (not batch.rows or (batch.joins and free * _JOINING >= size)):
                taken = batch.next_ones(waiting, free)
                batch.join([waiting[place] for place in taken])
                for place in reversed(taken):
                    del waiting[place]
            yield batch.round()

    def generate(
        self,
        requests: Sequence[Request],
        rule: SamplingRule,
        max_new_tokens: int,
        stopped: StopTest = never,
        batch_size: int | None = None,
    ) -> list[Generation]:
        """Return one response per request, in their order; see `responses`."""
        made = dict(self.responses(requests, rule, max_new_tokens, stopped, batch_size))
        return [made[index] for index in range(len(requests))]
