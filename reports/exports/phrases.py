"""Phrases about a claim that several exports share: numbers of the record as text."""

from __future__ import annotations

from collections.abc import Iterator

from eft_eval.exporting.claims import Claim, JudgeClaim, RunClaim, TaskClaim
from eft_eval.reports.numbers import NONE, ends, number

__all__ = ["interval", "judge", "known_by", "limits", "versions"]


def interval(claim: Claim) -> str:
    """Return the ends of an interval, with level and method."""
    found = claim.figure.interval
    if found is None:
        return NONE
    return f"{ends(found)} ({100 * found.level:.4g} %, {found.method})"


def judge(found: JudgeClaim) -> str:
    """Return who judged with which prompt, and how many verdicts are no answer."""
    text = found.model
    if found.kind == "endpoint":
        text += ", as an endpoint that is not OpenAI's calls it,"
    if found.prompt is not None:
        text += f" with prompt {found.prompt} ({str(found.prompt_sha256)[:12]}…)"
    if found.answered and set(found.answered) != {found.model}:
        text += f", answered by {', '.join(found.answered)}"
    if found.unknown:
        text += f", {found.unknown} of {found.total} verdicts no answer"
    return text


def versions(task: TaskClaim) -> str:
    """Return which programs evaluated."""
    text = f"lm-eval {task.lm_eval_version or 'of unknown version'}"
    return f"{text}, eft-eval {task.eft_eval_version}" if task.eft_eval_version else text


def known_by(run: RunClaim) -> Iterator[str]:
    """Yield what a single model's repository is known by, where lm-eval noted no commit of it."""
    if run.named_by:
        commit = "" if run.commit else "; its commit is not known"
        name = f"{run.repository} ({run.variant})" if run.variant else str(run.repository)
        yield f"model {name} is known by {run.named_by}{commit}"


def limits(run: RunClaim, task: TaskClaim) -> Iterator[str]:
    """Yield what keeps a task's figures from being read as they stand."""
    yield from known_by(run)
    if task.data.own:
        yield task.data.own
    if task.limited:
        yield f"{task.documents} of {task.available} documents only (--limit)"
    if not task.checked:
        yield "aggregates not checked: no samples were kept"
    judged = {claim.key.filter: claim.judge for claim in task.claims if claim.judge is not None}
    for filter_name, found in judged.items():
        yield f"filter {filter_name} judged by {judge(found)}"
    for claim in task.claims:
        if claim.possible is not None:
            lower, upper = claim.possible
            yield (
                f"{claim.key} could lie from {lower:.4f} to {upper:.4f}, had every response got an "
                "answer"
            )
        if claim.labels is not None:
            labels = claim.labels
            yield (
                f"{claim.key} is corrected by {labels.labels} labels of {labels.annotators} "
                f"people; uncorrected {number(labels.verdicts_only)}"
            )
        for note in claim.notes if claim.labels is None else ():
            yield f"{claim.key}: {note}"
