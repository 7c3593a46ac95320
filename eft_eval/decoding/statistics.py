"""What a run of the generation loop did: tokens, acceptance, passes and time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from eft_eval.runs.metadata import Decoding, Unfinished

__all__ = ["DecodingStatistics"]

_COUNTS = (
    "requests", "tokens", "rounds", "row_rounds", "drafted", "tested", "accepted", "resumed",
)  # fmt: skip


@dataclass
class DecodingStatistics:
    """Counts over all rounds since the start.

    Attributes:
        requests: Responses finished.
        tokens: Tokens of responses.
        rounds: Passes of the loop.
        row_rounds: Rows, summed over rounds: one verification each.
        drafted: Drafted tokens.
        tested: Drafted tokens that all earlier drafts of their block were accepted for.
        accepted: Drafted tokens that were accepted.
        resumed: Responses that an earlier start of the run had finished; not in the other counts.
        reasoned: By task, the responses that began with reasoning, of those finished and resumed.
        unfinished: By task, those of them whose reasoning did not end.
        blocks: Rounds by block length.
        passes: Model passes by member.
        seconds: Time in model passes, by member.
        total_seconds: Of all rounds and of reading prompts.
        plain_reason: Why nothing is drafted, where the models forbid it.
    """

    requests: int = 0
    tokens: int = 0
    rounds: int = 0
    row_rounds: int = 0
    drafted: int = 0
    tested: int = 0
    accepted: int = 0
    resumed: int = 0
    reasoned: Counter[str] = field(default_factory=Counter)
    unfinished: Counter[str] = field(default_factory=Counter)
    blocks: Counter[int] = field(default_factory=Counter)
    passes: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    total_seconds: float = 0.0
    plain_reason: str | None = None

    @classmethod
    def of_ranks(cls, ranks: Sequence[DecodingStatistics]) -> DecodingStatistics:
        """Return the counts of several processes together; time is that of the slowest."""
        total = cls(plain_reason=next((one.plain_reason for one in ranks), None))
        for one in ranks:
            for name in _COUNTS:
                setattr(total, name, getattr(total, name) + getattr(one, name))
            total.reasoned += one.reasoned
            total.unfinished += one.unfinished
            total.blocks += one.blocks
            total.passes += one.passes
        slowest = max(ranks, key=lambda one: one.total_seconds)
        total.seconds, total.total_seconds = slowest.seconds, slowest.total_seconds
        return total

    def note_reasoning(self, task: str | None, unfinished: bool) -> None:
        """Count a response that began with reasoning."""
        self.reasoned[task or ""] += 1
        if unfinished:
            self.unfinished[task or ""] += 1

    @property
    def own_seconds(self) -> float:
        """Time outside the members' passes: choosing, bookkeeping, waiting."""
        return max(0.0, self.total_seconds - sum(self.seconds.values()))

    def record(self) -> Decoding:
        """Return counts and rates; a rate without a denominator is None."""

        def rate(over: float, by: float) -> float | None:
            return over / by if by else None

        total = self.total_seconds
        return Decoding(
            requests=self.requests,
            tokens=self.tokens,
            tokens_per_second=rate(self.tokens, total),
            rounds=self.rounds,
            tokens_per_round=rate(self.tokens, self.row_rounds),
            drafted=self.drafted,
            accepted=self.accepted,
            acceptance=rate(self.accepted, self.tested),
            accepted_share=rate(self.accepted, self.drafted),
            rounds_by_block={str(block): n for block, n in sorted(self.blocks.items())},
            passes=dict(self.passes),
            time_share={who: rate(spent, total) for who, spent in self.seconds.items()},
            own_time_share=rate(self.own_seconds, total),
            seconds=total,
            plain_reason=self.plain_reason,
            resumed=self.resumed,
            unfinished=self.unfinished.total(),
            unfinished_share=rate(self.unfinished.total(), self.requests + self.resumed),
            unfinished_by_task={
                task: Unfinished(self.unfinished[task], count, self.unfinished[task] / count)
                for task, count in sorted(self.reasoned.items())
            }
            or None,
        )
