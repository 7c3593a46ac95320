"""Sections of a study's page that are of one kind of study: trade-off, speed, tokens, weights."""

from __future__ import annotations

from collections.abc import Iterator

from eft_eval.reports.document import Bar, Block, Cell, Line, Plane, Section, Table, cells, columns
from eft_eval.reports.numbers import ends, number, percent, reported, with_ends
from eft_eval.reports.views.bars import bar, figure
from eft_eval.reports.views.traces import MEANING, trace_block
from eft_eval.statistics.interval import Interval
from eft_eval.study.results import StudyResults
from eft_eval.study.tokens import TokenDistances, Word

__all__ = ["distances", "parts_sentences", "sequence", "speed", "trade_off"]


def parts_sentences(found: StudyResults) -> Iterator[str]:
    """Yield what these sections found, each with its interval."""
    if found.trade_off is not None:
        sizes = ", ".join(f"{one.name} {one.hypervolume:.4f}" for one in found.trade_off.curves)
        yield f"Hypervolume of {found.trade_off.up} and {found.trade_off.across}: {sizes}."
        if found.trade_off.difference is not None:
            first, last = found.trade_off.curves[0].name, found.trade_off.curves[-1].name
            said = with_ends(found.trade_off.difference, "+.4f")
            yield f"{last} minus {first}: {said}{_none(found.trade_off.difference)}."
    if found.analysis == "frontier" and found.trade_off is None and found.scores:
        yield (
            "No trade-off: it needs a curve that is whole, and harm and helpfulness, or metrics of "
            "two tasks."
        )
    if found.speeds is not None:
        for one in found.speeds.arms:
            if one.ratio is not None and one.arm != found.speeds.standard:
                apart = one.ratio.lower > 1 or one.ratio.upper < 1
                ratio = with_ends(one.ratio, ".2f") + ("" if apart else " (which may be 1)")
                yield f"{one.arm}: {ratio} times the tokens/s of {found.speeds.standard}."
        if found.speeds.same_responses is not None:
            same = "the same" if found.speeds.same_responses else "NOT the same"
            yield f"All blocks gave {same} responses."
    for distance in found.distances:
        share = distance.shares["0.1"]
        yield (
            f"{distance.arm}: mean total-variation distance to its {distance.draft} member "
            f"{with_ends(distance.mean)} over {distance.tokens} tokens; "
            f"{percent(share.estimate)} of tokens at 0.1 or more."
        )
    for weights in found.sequence:
        yield (
            f"{weights.arm}: {weights.samples} samples of a prompt are worth "
            f"{with_ends(weights.effective, '.2f')} of the sequence-level distribution."
        )
        for metric in weights.metrics:
            said = with_ends(metric.difference, "+.4f") + _none(metric.difference)
            yield f"{metric.metric}: sequence-level weights change it by {said}."


def trade_off(found: StudyResults) -> Section | None:
    """Return the curves of a frontier; None for other studies."""
    one = found.trade_off
    if one is None:
        return None
    rows, series = [], []
    for curve in one.curves:
        drawn = []
        for point in curve.points:
            label = f"α = {point.alpha:g}"
            both = (Cell(*reported(value.estimate, value)) for value in (point.across, point.up))
            rows.append((Cell(curve.name), Cell(f"{point.alpha:g}"), *both))
            drawn.append((label, bar("", point.across), bar("", point.up)))
        series.append((curve.name, tuple(drawn)))
    heads = columns("curve", numbers=("α", one.across, one.up))
    drawing = "together, as both metrics are of the same" if one.together else "of each metric"
    note = (
        f"With {_level(found)} intervals. Hypervolume: the area that a curve's points dominate, "
        f"over {one.worst[0]:g} and {one.worst[1]:g}; its difference's interval is a bootstrap "
        f"over documents, drawn {drawing}."
    )
    table = Table("Trade-off along α", heads, tuple(rows), note)
    plane = Plane("The trade-off", one.across, one.up, tuple(series))
    caption = f"Every α with {_level(found)} intervals in both metrics, a line for each curve."
    lead = "α times the helpful delta and 1 - α times the harmless one, from helpfulness to harm."
    blocks: tuple[Block, ...] = (table, *figure("frontier", caption, [plane]))
    return Section("frontier", "Frontier", lead, blocks)


def speed(found: StudyResults) -> Section | None:
    """Return the arms' speeds; None for other studies."""
    if found.speeds is None:
        return None
    rows = []
    for one in found.speeds.arms:
        rates = ", ".join(number(rate, ".1f") for rate in one.tokens_per_second)
        ratio = (
            Cell(number(one.ratio.estimate, ".2f"), ends(one.ratio, ".2f"))
            if one.ratio
            else Cell("")
        )
        rows.append((Cell(one.arm), ratio, Cell(percent(one.acceptance)), Cell(rates)))
    note = (
        f"Ratio of tokens/s to {found.speeds.standard}: geometric mean over seeds with a "
        f"{_level(found)} interval. Times are of this machine, and of whatever else it did."
    )
    heads = columns("arm", numbers=("ratio", "acceptance", "tokens/s by seed"))
    table = Table("Speed", heads, tuple(rows), note)
    lead = "Tokens per second by block of drafts, and of each tuned model alone."
    return Section("tokens-per-second", "Speed", lead, (table,))


def distances(found: StudyResults) -> Section | None:
    """Return how far tokens are from the draft member; None for other studies."""
    if not found.distances:
        return None
    blocks: list[Block] = []
    for place, one in enumerate(found.distances, start=1):
        blocks += _distances(one, _level(found), place)
    return Section("tokens", "Token by token", MEANING, tuple(blocks))


def _distances(one: TokenDistances, level: str, place: int) -> Iterator[Block]:
    rows = [
        (Cell(f"share at {least} or more"), Cell(*reported(share.estimate, share)))
        for least, share in one.shares.items()
    ]
    rows.insert(0, (Cell("mean distance"), Cell(*reported(one.mean.estimate, one.mean))))
    note = f"{one.responses} responses, {one.tokens} tokens; {level} intervals by prompt."
    yield Table(f"Distance of {one.arm} to its {one.draft} member", columns("", numbers=("",)),
                tuple(rows), note)  # fmt: skip
    width = 1 / len(one.histogram)
    points = tuple(
        (round((place + 0.5) * width, 6), _share(count / one.tokens))
        for place, count in enumerate(one.histogram)
    )
    line = Line(f"Tokens by distance, {one.arm}", "total-variation distance", (("", points),))
    yield from figure(f"distances-{place}", f"Share of tokens in steps of {width:g}.", [line])
    yield _words(f"Most raised words, {one.arm}", one.raised)
    yield _words(f"Most lowered words, {one.arm}", one.lowered)
    for number_, trace in enumerate(one.examples, start=1):
        yield trace_block(trace, f"trace-{place}-{number_}")


def _share(value: float) -> Bar:
    return Bar("", value, None, None, False, f"{value:.4f}")


def _words(caption: str, words: tuple[Word, ...]) -> Table:
    rows = tuple(cells(f"“{word.text}”", str(word.times), f"{word.change:+.2f}") for word in words)
    note = "Changes of probability against the draft member, where among the three largest."
    return Table(caption, columns("word", numbers=("times", "sum of changes")), rows, note)


def sequence(found: StudyResults) -> Section | None:
    """Return what sequence-level weights change; None for other studies."""
    if not found.sequence:
        return None
    blocks: list[Block] = []
    for one in found.sequence:
        about = (
            ("effective samples of " + str(one.samples), one.effective),
            ("standard deviation of log-weights", one.spread),
            ("log Z of a step", one.per_token),
        )
        rows = [(Cell(name), Cell(*reported(value.estimate, value))) for name, value in about]
        note = f"Means over prompts; the smallest effective size is {one.smallest:.2f}."
        blocks.append(Table(f"Weights of {one.arm}", columns("", numbers=("",)), tuple(rows), note))
        heads = columns("metric", numbers=("n", "as sampled", "weighted", "difference"))
        changed = tuple(
            (
                Cell(metric.metric),
                Cell(str(metric.documents)),
                Cell(*reported(metric.plain.estimate, metric.plain)),
                Cell(*reported(metric.weighted.estimate, metric.weighted)),
                Cell(number(metric.difference.estimate, "+.4f"), ends(metric.difference, "+.4f")),
            )
            for metric in one.metrics
        )
        note = (
            f"Weighted per prompt over its samples, with {_level(found)} intervals over prompts. A "
            "weighted mean of few samples leans towards the plain one: more seeds tell more."
        )
        blocks.append(Table(f"Metrics of {one.arm}", heads, changed, note))
    lead = (
        "Eq. 5 normalises at every step. The product of these normalisers is the weight that makes "
        "a sample one of Eq. 4, whose partition function is that of whole responses."
    )
    return Section("sequence", "The per-token approximation", lead, tuple(blocks))


def _level(found: StudyResults) -> str:
    return f"{100 * found.level:.4g} %"


def _none(interval: Interval) -> str:
    """Return the words for an interval that holds 0."""
    return "" if interval.lower > 0 or interval.upper < 0 else ", which may be nothing"
