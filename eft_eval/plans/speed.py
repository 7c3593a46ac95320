"""How fast a composite decodes and scores: from bytes, passes and acceptance.

Per pass of a member over T tokens of B rows:

    seconds = max((weights read + keys and values of B rows) / (bandwidth · ranks · b),
                  (operations + attention) · T / (arithmetic · ranks · a)) + layers · l

A round drafts k tokens and gives (1 - α^(k+1)) / (1 - α) of them on average, α the acceptance.
"""

from __future__ import annotations

from typing import NamedTuple

from eft_eval.composite.memory import score_bytes
from eft_eval.decoding.block import expected_tokens
from eft_eval.plans.hardware import Device, Hardware
from eft_eval.plans.layout import PASS_TOKENS, Layout, Spread, drops_windows
from eft_eval.plans.members import Work

__all__ = ["ACCEPTANCE", "Efficiency", "Speed", "Workload", "efficiency_of", "speed_of"]

ACCEPTANCE = 0.5
"""What is assumed of drafts: measured on a small pair of real models (0.46 to 0.52)."""

_REDUCTION = 20e-6  # seconds of latency of a sum over ranks; two in a layer
_LINK = 200e9  # bytes a second between the ranks of a machine
_SCORE_READS = 3  # how often a round's scores go through memory


class Efficiency(NamedTuple):
    """What of a device's figures an engine reaches.

    Attributes:
        bandwidth: Share of the memory's bandwidth.
        compute: Share of the arithmetic.
        layer: Seconds that a layer takes beyond both.
    """

    bandwidth: float
    compute: float
    layer: float


def efficiency_of(engine: str, device: Device) -> Efficiency:
    """Return what an engine reaches: all assumed, for want of measurements; see docs/scale.md."""
    if device.cpu:  # its figures are what was reached
        layer = 0.4e-3 if device.measured is None else device.measured.layer
        return Efficiency(1.0, 1.0, layer)
    if engine == "eft":  # every kernel is started by Python
        return Efficiency(0.7, 0.4, 0.5e-3)
    return Efficiency(0.75, 0.5, 0.01e-3)


class Workload(NamedTuple):
    """What a run asks of a composite.

    Attributes:
        responses: To be generated.
        prompt_tokens: Mean length of their prompts.
        response_tokens: Mean length of the responses.
        scored: Sequences whose log-probability is asked for.
        scored_tokens: Mean length of those, context included.
        longest: Tokens of the longest row.
    """

    responses: int
    prompt_tokens: float
    response_tokens: float
    scored: int
    scored_tokens: float
    longest: int


class Speed(NamedTuple):
    """What a run takes.

    Attributes:
        copies: Of the composite, side by side.
        block: Tokens drafted in a round.
        tokens_per_round: That a row gets of a round.
        round_seconds: Of a round.
        decoding: Tokens of responses a second, of all copies, prompts read beforehand.
        reading: Tokens of prompts a second, of all copies.
        generation_seconds: Of all responses, their prompts read.
        scoring_seconds: Of all log-probabilities.
    """

    copies: int
    block: int
    tokens_per_round: float
    round_seconds: float
    decoding: float
    reading: float
    generation_seconds: float
    scoring_seconds: float


def speed_of(
    layout: Layout, spread: Spread, hardware: Hardware, work: Workload, acceptance: float
) -> Speed:
    """Return what a workload takes.

    Args:
        layout: The composite in its engine.
        spread: Over how many ranks and rows.
        hardware: All devices; what one copy leaves runs further copies.
        work: What is asked for.
        acceptance: Chance that a drafted token stands.
    """
    copies = max(1, hardware.number // spread.ranks)
    timing = _Timing(layout, spread, hardware.device)
    middle = work.prompt_tokens + work.response_tokens / 2
    choices = range(layout.longest_block + 1) if layout.block == "auto" else [layout.longest_block]
    rounds = {
        block: (expected_tokens([acceptance] * block), timing.round(block, middle, acceptance))
        for block in choices
    }
    block = max(rounds, key=lambda one: rounds[one][0] / rounds[one][1])
    tokens, seconds = rounds[block]
    read = timing.reading(work.prompt_tokens, layout.draft_copy is not None)
    decoded = spread.rows * tokens / seconds
    generation = work.responses / copies * (read + work.response_tokens / decoded)
    scoring = work.scored / copies * timing.reading(work.scored_tokens, False)
    return Speed(
        copies=copies,
        block=block,
        tokens_per_round=tokens,
        round_seconds=seconds,
        decoding=copies * decoded,
        reading=copies * work.prompt_tokens / read if read else 0.0,
        generation_seconds=generation,
        scoring_seconds=scoring,
    )


class _Timing:
    """Seconds of passes of one copy."""

    def __init__(self, layout: Layout, spread: Spread, device: Device) -> None:
        self._layout, self._spread, self._device = layout, spread, device
        self._reached = efficiency_of(layout.engine, device)
        # transformers runs layers one after the other, whatever devices they lie on
        self._abreast = spread.ranks if layout.engine == "eft-vllm" else 1

    def one_pass(self, work: Work, tokens: float, rows: float, length: float) -> float:
        """Return the seconds of a pass over tokens of rows that are so long already."""
        device, reached = self._device, self._reached
        drops = drops_windows(self._layout, self._spread, device)
        read = work.bytes_read(tokens) + rows * work.cache_of(length, drops=drops)
        attended = tokens * work.attention * length
        streamed = read / (device.bandwidth * self._abreast * reached.bandwidth)
        arithmetic = device.compute * self._abreast * reached.compute
        if device.measured is None:
            seconds = max(streamed, (tokens * work.operations + attended) / arithmetic)
        else:  # a CPU does not load the next weights while it multiplies
            products = work.operations / 2 * device.measured.per_weight(tokens)
            seconds = streamed + (products + attended / device.compute) / self._abreast
        if self._abreast > 1:
            moved = tokens * work.hidden * 2 / _LINK
            seconds += 2 * work.layers * (_REDUCTION + moved)
        return seconds + work.layers * reached.layer

    def round(self, block: int, length: float, acceptance: float) -> float:
        """Return the seconds of a round that drafts ``block`` tokens per row."""
        rows, works = self._spread.rows, self._layout.works
        draft = works[self._layout.draft]
        one = self.one_pass(draft, rows, rows, length)
        wide = [self.one_pass(work, rows * (block + 1), rows, length) for work in works]
        scores = score_bytes(rows, block, self._layout.composite.vocabulary, len(works))
        rest = _SCORE_READS * scores / (self._device.bandwidth * self._reached.bandwidth)
        if not block:
            return sum(wide) + rest
        if self._layout.engine == "eft":  # the draft's own part of the sum is there already
            others = sum(wide) - wide[self._layout.draft]
            some = 1 - (1 - acceptance**block) ** rows  # one row's drafts all stand
            return (block + some) * one + others + rest
        return block * one + sum(wide) + rest

    def reading(self, tokens: float, drafted: bool) -> float:
        """Return the seconds of reading a row of so many tokens, in passes that rows share."""
        if not tokens:
            return 0.0
        together = max(1.0, min(self._spread.rows, PASS_TOKENS / tokens))
        works = [*self._layout.works]
        if drafted:
            works.append(self._layout.works[self._layout.draft])
        each = (self.one_pass(work, together * tokens, 0, tokens / 2) for work in works)
        return sum(each) / together
