"""Claims as a model card: README.md with metadata. Projects; computes nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from eft_eval.exporting.claims import Claim, CompositeClaim, RunClaim, TaskClaim
from eft_eval.exporting.publishing import iso_date
from eft_eval.reports.document import Cell, Column, Table, cells, columns
from eft_eval.reports.exports.phrases import interval, limits, versions
from eft_eval.reports.numbers import number
from eft_eval.reports.renderers.markdown import plain, table_lines
from eft_eval.reports.views.comparison import ARROWS

__all__ = ["model_card"]

_TAGS = ["eft-eval", "emulated-fine-tuning", "lm-evaluation-harness"]


def model_card(run: RunClaim, repository: str) -> str:
    """Return a README.md, which huggingface_hub reads back.

    A composite's is all of its card; a single model's is what may be added to its own.

    Args:
        run: The claims.
        repository: Where the card will lie.
    """
    from huggingface_hub import ModelCard, ModelCardData

    members = run.composite.members if run.composite else ()
    data = ModelCardData(
        base_model=list(dict.fromkeys(member.model for member in members)) or None,
        model_name=repository.partition("/")[2],
        eval_results=list(_results(run)),
        tags=_TAGS if run.composite else _TAGS[::2],
        pipeline_tag="text-generation",
    )
    text = "\n".join(_lines(run, repository))
    card = f"---\n{data.to_yaml()}\n---\n\n{text}\n"
    ModelCard(card)  # its own reader must understand it
    return card


def _results(run: RunClaim) -> Iterator[Any]:
    from huggingface_hub import EvalResult

    places = Counter(
        (task.data.repository, task.data.config, task.data.split, task.data.revision)
        for task in run.tasks
    )
    for task in run.tasks:
        data = task.data
        place = (data.repository, data.config, data.split, data.revision)
        # tasks that share a data set would be taken for one
        alone = data.repository is not None and places[place] == 1
        for claim in task.claims:
            yield EvalResult(
                task_type="text-generation",
                dataset_type=str(data.repository) if alone else task.name,
                dataset_name=task.name,
                dataset_config=data.config,
                dataset_split=data.split,
                dataset_revision=data.revision,
                metric_type=claim.key.metric,
                metric_value=claim.figure.value,
                metric_name=f"{claim.key.metric} (filter {claim.key.filter})",
                metric_args=_arguments(task, claim),
            )


def _arguments(task: TaskClaim, claim: Claim) -> dict[str, Any]:
    figure = claim.figure
    found: dict[str, Any] = {
        "task": task.name,
        "filter": claim.key.filter,
        "higher_is_better": claim.higher_is_better,
        "standard_error": figure.standard_error,
        "n": figure.n,
    }
    if figure.interval is not None:
        found |= {
            "interval": [figure.interval.lower, figure.interval.upper],
            "level": figure.interval.level,
            "interval_method": figure.interval.method,
        }
    if claim.judge is not None:
        found |= {"judge": claim.judge.model, "judge_prompt": claim.judge.prompt}
    if task.limited:
        found |= {"limited": True, "documents_available": task.available}
    return {name: value for name, value in found.items() if value is not None}


def _lines(run: RunClaim, repository: str) -> Iterator[str]:
    yield f"# {plain(repository.partition('/')[2])}"
    yield ""
    if run.composite is None:
        yield f"Scores of {plain(repository)}, evaluated with lm-evaluation-harness."
    else:
        yield from _composed(run.composite)
    yield from ("", "## Results", "", *table_lines(_scores(run)))
    yield from ("", "Limits:", "")
    for task in run.tasks:
        for text in limits(run, task):
            yield f"- {plain(task.name)}: {plain(text)}"
    for note in run.notes:
        yield f"- {plain(note)}"
    yield "- The intervals speak of these documents' kind and of sampling error alone."
    yield from ("", "## Evaluate it again", "")
    yield from _how(run)


def _composed(composite: CompositeClaim) -> Iterator[str]:
    yield (
        "This repository holds no weights. It describes a composite language model "
        "([emulated fine-tuning](https://arxiv.org/abs/2310.12962)): at every token the "
        "log-probabilities of the models below are summed with the given factors. The scores are "
        "those of the sum, of no member alone; the members' licences hold."
    )
    yield from ("", "## Composed of", "", *table_lines(_members(composite)))


def _members(composite: CompositeClaim) -> Table:
    heads = (*columns("role", "model", "commit", numbers=("factor",)), Column("type", False))
    rows = []
    for one in composite.members:
        kind = " ".join(filter(None, (one.dtype, one.quantization)))
        model = f"{one.model} + {one.adapter}" if one.adapter else one.model
        rows.append(cells(one.role, model, one.commit or "", f"{one.coefficient:g}", kind))
    return Table("", heads, tuple(rows))


def _scores(run: RunClaim) -> Table:
    heads = columns("task", "metric", "filter", "", numbers=("n", "value", "standard error"))
    rows = tuple(_row(task, claim) for task in run.tasks for claim in task.claims)
    return Table("", (*heads, Column("interval", False)), rows)


def _row(task: TaskClaim, claim: Claim) -> tuple[Cell, ...]:
    figure = claim.figure
    better = {True: "higher", False: "lower", None: None}[claim.higher_is_better]
    return cells(
        task.name,
        claim.key.metric,
        claim.key.filter,
        ARROWS[better],
        "" if figure.n is None else str(figure.n),
        number(figure.value),
        number(figure.standard_error),
        interval(claim),
    )


def _how(run: RunClaim) -> Iterator[str]:
    composite = run.composite
    if composite is not None:
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", composite.recipe)), default=0))
        yield from ("`recipe.yaml`, members at the commits evaluated:", "")
        yield from (f"{fence}yaml", composite.recipe.rstrip("\n"), fence, "")
    commands = list(dict.fromkeys(task.command for task in run.tasks))
    widest = "`" * max(3, 1 + max(map(len, re.findall("`+", "".join(commands))), default=0))
    yield from (f"{widest}bash", *commands, widest, "")
    if composite is not None:
        pinned = composite.pinned_name
        named = "" if pinned == composite.name else f"; pinned like this its name is `{pinned}`"
        yield f"Evaluated as `{composite.name}`{named}."
        yield ""
    for task in run.tasks:
        yield f"- {plain(task.name)}: version {plain(task.version)}, {iso_date(task)}, " + plain(
            f"{versions(task)}, seeds {task.seeds}"
        )
