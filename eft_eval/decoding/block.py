"""How many tokens to draft: chosen from measured acceptance and measured costs.

A longer block costs more draft passes and a wider verification, and gives more tokens the more
drafts are accepted; the best length maximises expected tokens per second. Knows no models.
"""

from __future__ import annotations

import statistics
from collections import defaultdict, deque
from typing import Literal, NamedTuple

__all__ = ["LONGEST_BLOCK", "BlockChooser", "Round", "expected_tokens"]

LONGEST_BLOCK = 16
_FIRST = 4
_FORGET = 0.97  # weight of the past at each round, so that acceptance follows the text
_PRIOR = (3.0, 4.0)  # accepted, tested: what is believed before anything is seen
_SHRINK = 8.0  # tests that a position's own acceptance needs to weigh as much as the general one
_KEPT = 7  # timings per width; their median stands for them
_OPENING = (_FIRST, 0, _FIRST, 0)  # block lengths of the first rounds
_REFRESH = 64  # rounds after which what was not done since is timed again
_WORTH_A_TRY = 0.5
_MARGIN = 1.02  # drafting must promise this much over plain decoding


class Round(NamedTuple):
    """What one round of the loop did and took.

    Attributes:
        rows: Rows in the batch.
        block: Tokens drafted per row.
        runs: Per row, how many drafts were accepted in a row (0 to ``block``). For a plain round:
            whether the draft would have been accepted, 0 or 1; empty if nobody looked.
        draft_seconds: Of all draft passes.
        verify_seconds: Of all other members and the choice.
        bonus_seconds: Of the draft member's extra pass after a fully accepted block (and in plain
            rounds, where it is the member's only one); None where it was not needed.
    """

    rows: int
    block: int
    runs: tuple[int, ...]
    draft_seconds: float
    verify_seconds: float
    bonus_seconds: float | None


def expected_tokens(acceptance: list[float]) -> float:
    """Return the tokens that a round gives: 1 + Σ_i Π_{j<=i} acceptance_j (Leviathan et al. 2023).

    Args:
        acceptance: Per drafted position, the chance that it is accepted if all before it were.
    """
    total, chance = 1.0, 1.0
    for one in acceptance:
        chance *= one
        total += chance
    return total


class BlockChooser:
    """Chooses the block length round by round.

    Args:
        setting: A fixed number, or ``auto``. Changes no sample.
    """

    def __init__(self, setting: int | Literal["auto"]) -> None:
        self._fixed = None if setting == "auto" else int(setting)
        self._accepted = [0.0] * LONGEST_BLOCK
        self._tested = [0.0] * LONGEST_BLOCK
        self._costs: dict[int, _Costs] = defaultdict(_Costs)

    @property
    def watches(self) -> bool:
        """Whether plain rounds should say if a draft would have been accepted."""
        return self._fixed is None

    def choose(self, rows: int, most: int) -> int:
        """Return the tokens to draft, 0 to ``most``, for a batch of ``rows``."""
        if self._fixed is not None:
            return min(self._fixed, most)
        costs = self._costs[_bucket(rows)]
        if costs.rounds < len(_OPENING):  # the first timing of anything is too long
            return min(_OPENING[costs.rounds], most)
        acceptance = self._acceptance()
        if costs.since_plain >= _REFRESH:
            return 0
        if costs.since_drafted >= _REFRESH and acceptance[0] >= _WORTH_A_TRY:
            return min(_FIRST, most)
        longest = min(LONGEST_BLOCK, most, 2 * costs.widest)  # beyond that, costs are guesses
        speed = [
            expected_tokens(acceptance[:block]) / costs.seconds(block, acceptance)
            for block in range(longest + 1)
        ]
        best = max(range(longest + 1), key=speed.__getitem__)
        return best if speed[best] > _MARGIN * speed[0] else 0

    def observe(self, seen: Round) -> None:
        """Learn from a round."""
        if self._fixed is not None:
            return
        for run in seen.runs:
            positions = min(max(seen.block, 1), LONGEST_BLOCK)
            for position in range(min(run + 1, positions)):
                self._accepted[position] += run > position
                self._tested[position] += 1
        if seen.runs:
            self._accepted = [_FORGET * count for count in self._accepted]
            self._tested = [_FORGET * count for count in self._tested]
        self._costs[_bucket(seen.rows)].observe(seen)

    def _acceptance(self) -> list[float]:
        general = (sum(self._accepted) + _PRIOR[0]) / (sum(self._tested) + _PRIOR[1])
        return [
            (accepted + _SHRINK * general) / (tested + _SHRINK)
            for accepted, tested in zip(self._accepted, self._tested, strict=True)
        ]


class _Costs:
    """Timings of rounds with about the same number of rows."""

    def __init__(self) -> None:
        self.rounds = 0
        self.since_plain = 0
        self.since_drafted = 0
        self.widest = _FIRST
        self._draft: deque[float] = deque(maxlen=_KEPT)
        self._verify: dict[int, deque[float]] = defaultdict(lambda: deque(maxlen=_KEPT))

    def observe(self, seen: Round) -> None:
        self.rounds += 1
        self.widest = max(self.widest, seen.block)
        self.since_plain = 0 if seen.block == 0 else self.since_plain + 1
        self.since_drafted = 0 if seen.block else self.since_drafted + 1
        if seen.block:
            self._draft.append(seen.draft_seconds / seen.block)
        if seen.bonus_seconds is not None:
            self._draft.append(seen.bonus_seconds)
        self._verify[seen.block + 1].append(seen.verify_seconds)

    def seconds(self, block: int, acceptance: list[float]) -> float:
        """Return what a round of this block length is expected to take."""
        draft = statistics.median_low(self._draft)
        all_accepted = 1.0
        for one in acceptance[:block]:
            all_accepted *= one
        return (block + all_accepted) * draft + self._verification(block + 1)

    def _verification(self, width: int) -> float:
        """Interpolate the measured times between widths; beyond the widest, go on as before."""
        known = sorted((w, statistics.median_low(times)) for w, times in self._verify.items())
        if len(known) == 1:
            return known[0][1]
        upper = next((i for i, (w, _) in enumerate(known) if w >= width), len(known) - 1)
        (w0, t0), (w1, t1) = known[max(upper - 1, 0)], known[max(upper, 1)]
        if upper == len(known) - 1 and width > w1:
            (w0, t0) = known[0]  # the slope over all widths is the least noisy
        slope = max(0.0, (t1 - t0) / (w1 - w0))
        return max(t0 + slope * (width - w0), 1e-9) if width >= w0 else t0


def _bucket(rows: int) -> int:
    return rows.bit_length()
