"""Single documents with prompt, responses and scores, for exports that hold them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from eft_eval.errors import ClaimError
from eft_eval.exporting.claims import RunClaim, TaskClaim
from eft_eval.records import finite_number
from eft_eval.runs.lines import iter_samples
from eft_eval.runs.records import Sample

__all__ = ["Document", "check_documents", "documents_of"]


@dataclass(frozen=True)
class Document:
    """A document under one filter.

    Attributes:
        doc_id: lm-eval's number of it.
        filter: The filter.
        hashes: lm-eval's doc_hash, prompt_hash and target_hash.
        prompt: What the model was asked.
        target: The target as text; empty where there is none.
        responses: Texts, one per repeat; log-likelihoods as JSON, one per choice.
        extracted: What the filter made of them; empty where it is a judge.
        verdicts: The judge's verdicts as JSON; None where there is no judge.
        scores: By metric; None where the document has no number.
    """

    doc_id: int
    filter: str
    hashes: tuple[str, str, str]
    prompt: str
    target: str
    responses: tuple[str, ...]
    extracted: tuple[str, ...]
    verdicts: str | None
    scores: Mapping[str, float | None]


def check_documents(run: RunClaim) -> None:
    """Raise unless every task of a run has its documents.

    Raises:
        ClaimError: It is a baseline, or one has no samples.
    """
    if run.from_baseline:
        raise ClaimError(
            f"{run.label} is a baseline and holds no texts: --samples needs the run itself"
        )
    for task in run.tasks:
        if task.samples_file is None and not task.members:
            raise ClaimError(
                f"{run.label}: task {task.name!r} has no samples file (--log_samples), which "
                "--samples needs"
            )


def documents_of(task: TaskClaim) -> Iterator[Document]:
    """Yield a task's documents under the filters of its claims, with the claimed metrics.

    A group has none of its own. A corrected score, which no document has, is left out.

    Raises:
        ConfigError: The samples file cannot be read.
    """
    if task.samples_file is None:
        return
    wanted: dict[str, list[str]] = {}
    for claim in task.claims:
        if claim.labels is None:
            wanted.setdefault(claim.key.filter, []).append(claim.key.metric)
    judged = {claim.key.filter for claim in task.claims if claim.judge is not None}
    for sample in iter_samples(task.samples_file, task.filters):
        if sample.filter in wanted:
            yield _document(sample, wanted[sample.filter], sample.filter in judged)


def _document(sample: Sample, metrics: list[str], judged: bool) -> Document:
    single = sample.filtered[0] if len(sample.filtered) == 1 else None
    verdicts = single if judged and isinstance(single, str) else None
    return Document(
        doc_id=sample.doc_id,
        filter=sample.filter,
        hashes=sample.hashes,
        prompt=sample.prompt,
        target=sample.target,
        responses=_texts(sample.responses),
        extracted=() if verdicts is not None else _texts(sample.filtered),
        verdicts=verdicts,
        scores={metric: finite_number(sample.values.get(metric)) for metric in metrics},
    )


def _texts(found: tuple[Any, ...]) -> tuple[str, ...]:
    """Return generated texts of all repeats; anything else as JSON, one per request."""
    if len(found) == 1 and isinstance(found[0], list) and all(isinstance(t, str) for t in found[0]):
        return tuple(found[0])
    return tuple(one if isinstance(one, str) else json.dumps(one) for one in found)
