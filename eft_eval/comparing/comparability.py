"""May two runs of a task be compared? The preconditions of a paired comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eft_eval.comparing.pairing import Matched
from eft_eval.runs.records import ItemSeen, JudgeSeen, Pipeline, TaskRun

__all__ = ["judge_changes", "reasons_against", "remarks"]

_SHOWN = 3


def reasons_against(
    baseline: TaskRun,
    candidate: TaskRun,
    matched: dict[str, Matched],
    allow_prompt_change: bool,
) -> Iterator[str]:
    """Yield why two runs of a task must not be compared; nothing where they may be.

    Args:
        baseline: The task in the accepted run.
        candidate: The task in the run under test.
        matched: What they share, by filter.
        allow_prompt_change: Whether the prompts may differ.
    """
    task = baseline.name
    for what, old, new in (
        ("version", baseline.version, candidate.version),
        ("number of few-shot examples", baseline.shots, candidate.shots),
        ("number of responses per document", baseline.repeats, candidate.repeats),
    ):
        if old != new:
            yield f"task {task!r}: {what} is {old} in the baseline and {new} in the candidate"
    for name, shared in matched.items():
        if shared.missing and shared.extra and _is_of_pairs(baseline) and _is_of_pairs(candidate):
            yield (
                f"task {task!r}: the candidate was judged against other responses than the "
                f"baseline ({len(shared.shared)} documents have the same); judge both against one "
                "run (eft-eval judge RUN_A RUN_B --pairwise)"
            )
            continue
        yield from _documents(task, name, shared)
        total = len(shared.shared)
        if shared.other_text and not total:
            yield (
                f"task {task!r}, filter {name!r}: all {shared.other_text} documents are other "
                "texts under the same doc_hash"
            )
        if shared.prompts_changed and not allow_prompt_change:
            yield (
                f"task {task!r}: the prompts of {shared.prompts_changed} of {total} documents "
                "differ (--allow-prompt-change compares all the same)"
            )
            break  # filters share their prompts


def _is_of_pairs(task: TaskRun) -> bool:
    """Whether the documents hold the responses that the run's were judged against."""
    return "eft_pairwise" in (task.config.get("metadata") or {})


def judge_changes(
    baseline: TaskRun, candidate: TaskRun, matched: dict[str, Matched]
) -> dict[str, list[str]]:
    """Return, by filter, why its scores are not those of the same judge; none where they are."""
    found = {
        name: list(_judges(baseline.name, baseline.pipelines[name], candidate.pipelines[name]))
        for name in matched
    }
    return {name: reasons for name, reasons in found.items() if reasons}


def remarks(
    baseline: TaskRun, candidate: TaskRun, matched: dict[str, Matched], filter_name: str
) -> Iterator[str]:
    """Yield what differs without forbidding the comparison."""
    shared = matched[filter_name]
    if shared.other_text:
        yield (
            f"{shared.other_text} documents left out: under one doc_hash the runs have other texts"
        )
    if shared.prompts_changed:
        yield f"the prompts of {shared.prompts_changed} documents differ, as allowed"
    old, new = baseline.pipelines[filter_name].judge, candidate.pipelines[filter_name].judge
    if old is not None and new is not None and old.returned != new.returned:
        names = " and ".join(", ".join(one.returned) or "none" for one in (old, new))
        yield f"the judge's endpoint names other models: {names}"


def _differences_of_judges(old: JudgeSeen | None, new: JudgeSeen | None) -> Iterator[str]:
    """Yield how two judges differ in what makes their scores comparable."""
    if old is None or new is None:
        if old is not new:
            yield f"judged only in the {'baseline' if new is None else 'candidate'}"
        return
    if old.model != new.model:
        yield f"judge {old.model} and {new.model}"
    if old.prompt_sha256 != new.prompt_sha256:
        yield f"judge prompt {_prompt(old)} and {_prompt(new)}"
    if old.parameters != new.parameters:
        yield f"judge's sampling parameters {old.parameters} and {new.parameters}"


def _judges(task: str, old: Pipeline, new: Pipeline) -> Iterator[str]:
    for text in _differences_of_judges(old.judge, new.judge):
        yield f"task {task!r}, filter {old.name!r}: {text}"
    if old.repeats != new.repeats and None not in (old.repeats, new.repeats):
        yield (
            f"task {task!r}, filter {old.name!r}: {old.repeats} verdicts per document in the "
            f"baseline and {new.repeats} in the candidate"
        )


def _documents(task: str, name: str, matched: Matched) -> Iterator[str]:
    for word, items in (("lacks", matched.missing), ("has besides", matched.extra)):
        if items:
            yield (
                f"task {task!r}, filter {name!r}: the candidate {word} {len(items)} document(s) "
                f"({_named(items)}); both runs need the same documents (--limit, data)"
            )


def _named(items: Sequence[ItemSeen]) -> str:
    shown = ", ".join(f"doc_hash {item.doc_hash[:8]}…" for item in items[:_SHOWN])
    return f"{shown}, …" if len(items) > _SHOWN else shown


def _prompt(judge: JudgeSeen) -> str:
    return f"{judge.prompt} ({judge.prompt_sha256[:8]}…)"
