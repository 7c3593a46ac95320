"""The last sections: acceptance and speed, and where everything comes from."""

from __future__ import annotations

from collections.abc import Iterator

from eft_eval.reporting.report import Report
from eft_eval.reports.document import Block, Cell, Facts, Section, Table, Texts, cells, columns
from eft_eval.reports.numbers import NONE, number
from eft_eval.runs.metadata import Decoding, Member

__all__ = ["provenance", "speed"]

_HEADS = ("responses", "tokens", "tokens/s", "tokens per round", "acceptance", "seconds")


def speed(report: Report) -> Section | None:
    """Return acceptance and speed; None where no run is a composite's."""
    found = [(run.short, run.decoding) for run in report.runs if run.decoding is not None]
    if not found:
        return None
    heads = (*columns("run", numbers=_HEADS), *columns("time by member"))
    rows = tuple(
        (
            Cell(name),
            Cell(f"{one.requests:,}"),
            Cell(f"{one.tokens:,}"),
            Cell(number(one.tokens_per_second, ",.0f")),
            Cell(number(one.tokens_per_round, ".2f")),
            _acceptance(one),
            Cell(number(one.seconds, ",.1f")),
            Cell(", ".join(_time(one))),
        )
        for name, one in found
    )
    note = (
        "Acceptance: share of tested draft tokens that were accepted, below it the share of all "
        "drafted ones; – where nothing is drafted. Speeds are of each run's machine and batch size."
    )
    blocks: list[Block] = [Table("Decoding", heads, rows, note)]
    if remarks := [f"{name}: {text}" for name, one in found for text in _remarks(one)]:
        blocks.append(Texts(tuple(remarks), listed=True))
    lead = "What the generation loop of each composite did (eft_decoding in the results)."
    return Section("speed", "Acceptance and speed", lead, tuple(blocks))


def _remarks(one: Decoding) -> Iterator[str]:
    if one.plain_reason:
        yield one.plain_reason
    if one.unfinished:
        share = "" if one.unfinished_share is None else f" ({100 * one.unfinished_share:.1f} %)"
        yield f"{one.unfinished:,} responses{share} are empty: their reasoning did not end"
        by_task = (one.unfinished_by_task or {}).items()
        if len(by_task) > 1:
            parts = (f"{100 * of.share:.1f} % of {task}" for task, of in by_task)
            yield f"empty by task: {', '.join(parts)}"
    if one.resumed:
        yield f"{one.resumed:,} more responses are from an earlier start of the run"


def _acceptance(one: Decoding) -> Cell:
    if one.acceptance is None:
        return Cell(NONE)
    share = "" if one.accepted_share is None else f"{100 * one.accepted_share:.1f} % of drafted"
    return Cell(f"{100 * one.acceptance:.1f} %", share)


def _time(one: Decoding) -> Iterator[str]:
    passed = one.passes or {}
    for who, share in (one.time_share or {}).items():
        if share is None:
            continue
        passes = f", {passed[who]:,} passes" if who in passed else ""
        yield f"{who} {100 * share:.0f} %{passes}"
    if one.own_time_share is not None:
        yield f"loop {100 * one.own_time_share:.0f} %"


def provenance(report: Report) -> Section:
    """Return recipe, revisions, seeds, versions and commands."""
    blocks: list[Block] = []
    made = [("command", report.command)] if report.command else []
    found = report.comparison
    if found is not None:
        made.append(
            (
                "comparison",
                f"one-sided α {found.alpha:g}, {found.flips:,} sign flips with seed {found.seed}, "
                f"items clustered by {found.cluster}",
            )
        )
    blocks.append(Facts("This page", (*made, ("eft-eval", report.version))))
    for run in report.runs:
        facts = tuple((fact.name, fact.value) for fact in run.facts)
        judges = tuple(
            (
                f"judge of {where}",
                f"{one.model}, prompt {one.prompt} ({one.prompt_sha256[:12]}), {one.parameters}",
            )
            for where, one in run.judges
        )
        blocks.append(Facts(run.short, (*facts, *judges)))
        if run.members:
            blocks.append(_members(run.short, run.members))
        if lines := tuple(problem.text for problem in run.problems):
            blocks.append(Texts(lines, listed=True, warn=True))
    lead = "As the runs' own files say; what they do not say is left out."
    return Section("provenance", "Provenance", lead, tuple(blocks))


def _members(name: str, members: tuple[Member, ...]) -> Table:
    heads = columns("member", "model", "revision", "type", numbers=("coefficient", "parameters"))
    rows = tuple(
        cells(
            one.role,
            one.name,
            one.version or (one.digest or NONE)[:19],
            one.weights or NONE,
            number(one.coefficient, "+g"),
            number(one.num_parameters, ",d"),
        )
        for one in members
    )
    return Table(f"Members of {name}", heads, rows)
