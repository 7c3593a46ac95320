"""How many tokens to draft: chosen from measured acceptance and measured costs.

A longer block costs more draft passes and a wider verification, and gives more tokens the more
drafts are accepted; the best length maximises expected tokens per second. Where the device's
values can be looked at for free (on a CPU), the block also ends early when the draft member was
not sure of a token. Knows no models.
"""

from __future__ import annotations

import bisect
import copy
import statistics
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Literal, NamedTuple

__all__ = ["LONGEST_BLOCK", "BlockChooser", "Round", "expected_tokens"]

LONGEST_BLOCK = 24
_FIRST = 4
_OPENING = (_FIRST, 0, _FIRST, 0)  # block lengths of the first rounds
_FORGET = 0.97  # weight of the past at each round, so that acceptance follows the text
_FORGET_SLOWLY = 0.995
_PRIOR = (3.0, 4.0)  # accepted, tested: what is believed before anything is seen
_SHRINK = 8.0  # tests that a position's own acceptance needs to weigh as much as the general one
_MARGINS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0)  # borders of the classes of sureness
# what is believed of each class before anything is seen; about what the demo family shows
_SURENESS = (0.5, 0.7, 0.8, 0.87, 0.94, 0.97, 0.99, 0.995, 0.999)
_KEPT = 7  # timings per width; their median stands for them
_REFRESH = 64  # rounds after which what was not done since is timed again
_WORTH_A_TRY = 0.5
_WORTH_IT = 1.02  # drafting must promise this much over plain decoding


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
        settle_seconds: Of passes between rounds that read tokens of recurrent members again.
        reading: Whether prompts were read in the same passes, so that the times say little.
        margins: Per drafted position, each row's distance between the draft's best and
            second-best value; empty where nobody looked.
    """

    rows: int
    block: int
    runs: tuple[int, ...]
    draft_seconds: float = 0.0
    verify_seconds: float = 0.0
    bonus_seconds: float | None = None
    settle_seconds: float = 0.0
    reading: bool = False
    margins: tuple[Sequence[float], ...] = ()


def expected_tokens(acceptance: Sequence[float]) -> float:
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

    Attributes:
        reads_last: Whether the draft member reads its last draft in any case, not only where all
            drafts stand.
    """

    def __init__(self, setting: int | Literal["auto"]) -> None:
        self.reads_last = False
        self._fixed = None if setting == "auto" else int(setting)
        self._by_position = [_Share() for _ in range(LONGEST_BLOCK)]
        self._by_margin = [_Share() for _ in range(len(_MARGINS) + 1)]
        self._costs: dict[int, _Costs] = {}

    @property
    def longest(self) -> int:
        """The most tokens that it ever drafts."""
        return LONGEST_BLOCK if self._fixed is None else self._fixed

    @property
    def watches(self) -> bool:
        """Whether it learns: plain rounds say if a draft would have been accepted."""
        return self._fixed is None

    def choose(self, rows: int, most: int) -> int:
        """Return the tokens to draft, 0 to ``most``, for a batch of ``rows``."""
        if self._fixed is not None:
            return min(self._fixed, most)
        costs = self._costs_of(rows)
        if costs.rounds < len(_OPENING):  # the first timing of anything is too long
            return min(_OPENING[costs.rounds], most)
        acceptance = self._acceptance()
        if costs.since_plain >= _REFRESH:
            return 0
        longest = min(LONGEST_BLOCK, most, 2 * costs.widest)  # beyond that, costs are guesses
        speed = [
            expected_tokens(acceptance[:block])
            / costs.seconds(block, () if self.reads_last else acceptance, rows)
            for block in range(longest + 1)
        ]
        stale = costs.since_drafted >= _REFRESH and acceptance[0] >= _WORTH_A_TRY
        if stale and longest:  # what promises most costs least if it disappoints
            return max(range(1, longest + 1), key=speed.__getitem__)
        best = max(range(longest + 1), key=speed.__getitem__)
        return best if speed[best] > _WORTH_IT * speed[0] else 0

    def settled(self, rows: int) -> bool:
        """Whether costs are known, so that a block may grow while it is drafted."""
        return self._costs_of(rows).rounds >= len(_OPENING)

    def sureness(self, margins: Sequence[float]) -> list[float]:
        """Return the chance that each row's draft is accepted, by how sure the draft member was."""
        classes = [_class(margin) for margin in margins]
        return [self._by_margin[one].value(_SURENESS[one]) for one in classes]

    def goes_on(self, rows: int, reached: Sequence[float]) -> bool:
        """Say whether another draft is worth its time.

        Args:
            rows: Rows in the batch.
            reached: Per row, the chance that all its drafts so far are accepted.
        """
        if not self.settled(rows):
            return True
        costs = self._costs_of(rows)
        gain = sum(reached) * self._general()
        return gain >= costs.speed * costs.another()

    def observe(self, seen: Round) -> None:
        """Learn from a round."""
        if self._fixed is not None:
            return
        for row, run in enumerate(seen.runs):
            for position in range(min(run + 1, max(seen.block, 1), LONGEST_BLOCK)):
                self._by_position[position].count(run > position)
                if seen.margins:
                    margin = seen.margins[position][row]
                    self._by_margin[_class(margin)].count(run > position)
        if seen.runs:
            for share in self._by_position:
                share.forget()
            for share in self._by_margin:  # these hold for longer: they do not follow the text
                share.forget(_FORGET_SLOWLY)
        if not seen.reading:
            self._costs_of(seen.rows).observe(seen)

    def _costs_of(self, rows: int) -> _Costs:
        """Return the timings of about so many rows; new ones begin with those of a neighbour."""
        bucket = rows.bit_length()
        if bucket not in self._costs:
            known = [b for b, costs in self._costs.items() if costs.rounds >= len(_OPENING)]
            nearest = min(known, key=lambda b: abs(b - bucket), default=None)
            self._costs[bucket] = (
                _Costs() if nearest is None else copy.deepcopy(self._costs[nearest])
            )
        return self._costs[bucket]

    def _general(self) -> float:
        accepted = sum(share.accepted for share in self._by_position) + _PRIOR[0]
        return accepted / (sum(share.tested for share in self._by_position) + _PRIOR[1])

    def _acceptance(self) -> list[float]:
        general = self._general()
        return [share.value(general) for share in self._by_position]


class _Share:
    """How many of the tests were passed, the old ones fading."""

    def __init__(self) -> None:
        self.accepted, self.tested = 0.0, 0.0

    def count(self, accepted: bool) -> None:
        self.accepted += accepted
        self.tested += 1

    def forget(self, keep: float = _FORGET) -> None:
        self.accepted *= keep
        self.tested *= keep

    def value(self, general: float) -> float:
        """Return the share, drawn towards ``general`` where little was seen."""
        return (self.accepted + _SHRINK * general) / (self.tested + _SHRINK)


class _Costs:
    """Timings of rounds with about the same number of rows."""

    def __init__(self) -> None:
        self.rounds = 0
        self.since_plain = 0
        self.since_drafted = 0
        self.widest = _FIRST
        self._tokens, self._seconds = 0.0, 0.0
        self._drafted, self._settle = 0.0, 0.0  # rounds with drafts, and what came after them
        self._draft: deque[float] = deque(maxlen=_KEPT)
        self._verify: dict[int, deque[float]] = defaultdict(lambda: deque(maxlen=_KEPT))

    @property
    def speed(self) -> float:
        """Tokens per second of late, over all rows."""
        return self._tokens / self._seconds

    def observe(self, seen: Round) -> None:
        self.rounds += 1
        self.widest = max(self.widest, seen.block)
        self.since_plain = 0 if seen.block == 0 else self.since_plain + 1
        self.since_drafted = 0 if seen.block else self.since_drafted + 1
        if seen.block:
            self._draft.append(seen.draft_seconds / seen.block)
            self._drafted = _FORGET * self._drafted + 1
            self._settle = _FORGET * self._settle + seen.settle_seconds
        if seen.bonus_seconds is not None:
            self._draft.append(seen.bonus_seconds)
        self._verify[seen.block + 1].append(seen.verify_seconds)
        made = seen.rows + (sum(seen.runs) if seen.block else 0)
        took = seen.draft_seconds + seen.verify_seconds + (seen.bonus_seconds or 0.0)
        took += seen.settle_seconds
        self._tokens = _FORGET * self._tokens + made
        self._seconds = _FORGET * self._seconds + took

    def seconds(self, block: int, acceptance: Sequence[float], rows: int) -> float:
        """Return what a round of this block length is expected to take.

        The draft member's extra pass is taken as soon as one row's drafts all stand.
        """
        all_accepted = 1.0
        for one in acceptance[:block]:
            all_accepted *= one
        settling = self._settle / self._drafted if block and self._drafted else 0.0
        some = 1.0 - (1.0 - all_accepted) ** rows
        drafting = (block + some) * self._one_draft()
        return drafting + self._verification(block + 1) + settling

    def another(self) -> float:
        """Return what one more draft costs, with its part of the verification."""
        wide = self._verification(self.widest + 1)
        return self._one_draft() + max(0.0, wide - self._verification(1)) / self.widest

    def _one_draft(self) -> float:
        return statistics.median_low(self._draft)

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


def _class(margin: float) -> int:
    return bisect.bisect_right(_MARGINS, margin)
