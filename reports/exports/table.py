"""Claims, or single documents, as flat tables: CSV and Parquet. Projects; computes nothing."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple

from eft_eval.exporting.claims import Claim, MemberClaim, RunClaim, TaskClaim
from eft_eval.exporting.documents import documents_of
from eft_eval.labels.texts import to_cell
from eft_eval.records import plain
from eft_eval.version import __version__

__all__ = ["Field", "Table", "claims_table", "documents_table", "table_csv", "write_parquet"]

Kind = Literal["text", "number", "whole", "truth"]


class Field(NamedTuple):
    """A column.

    Attributes:
        name: Its name.
        kind: Type of its values; each may be None.
    """

    name: str
    kind: Kind


class Table(NamedTuple):
    """A table.

    Attributes:
        fields: Its columns.
        rows: One value per column.
    """

    fields: tuple[Field, ...]
    rows: list[tuple[Any, ...]]


def claims_table(runs: Iterable[RunClaim]) -> Table:
    """Return one row per task, metric and filter of each run, with all that is known of it."""
    fields = tuple(Field(name, kind) for name, kind, _ in _COLUMNS)
    rows = [
        tuple(get(run, task, claim) for _, _, get in _COLUMNS)
        for run in runs
        for task in run.tasks
        for claim in task.claims
    ]
    return Table(fields, rows)


def documents_table(runs: Sequence[RunClaim]) -> Table:
    """Return one row per document and filter; ``metric.NAME`` is its score, if it has one."""
    metrics = dict.fromkeys(
        claim.key.metric
        for run in runs
        for task in run.tasks
        for claim in task.claims
        if claim.labels is None and not task.members
    )
    scores = tuple(Field(f"metric.{metric}", "number") for metric in metrics)
    return Table((*_DOCUMENT, *scores), list(_document_rows(runs, list(metrics))))


def table_csv(table: Table) -> str:
    """Return CSV with a header; what is None is empty.

    A text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    out = io.StringIO()
    # texts are quoted always: a lone carriage return would end a row for many readers
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(field.name for field in table.fields)
    for row in table.rows:
        writer.writerow(_cell(value, field) for value, field in zip(row, table.fields, strict=True))
    return out.getvalue()


def write_parquet(table: Table, path: Path) -> None:
    """Write a table to a Parquet file with typed columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        "text": pa.string(),
        "number": pa.float64(),
        "whole": pa.int64(),
        "truth": pa.bool_(),
    }
    schema = pa.schema([(field.name, types[field.kind]) for field in table.fields])
    columns = [[_encodable(row[place]) for row in table.rows] for place in range(len(table.fields))]
    pq.write_table(pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema), path)


def _cell(value: Any, field: Field) -> str | float:
    if value is None:
        return ""
    if field.kind == "truth":
        return "true" if value else "false"
    return to_cell(_encodable(value)) if field.kind == "text" else value


def _encodable(value: Any) -> Any:
    """Return text without half surrogate pairs, which no file can hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return value


def _member(member: MemberClaim) -> dict[str, Any]:
    rare = ("adapter", "adapter_digest")  # stand where there is an adapter
    return {k: v for k, v in asdict(member).items() if v is not None or k not in rare}


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(plain(value), ensure_ascii=False)


_DOCUMENT = (
    Field("model", "text"),
    Field("task", "text"),
    Field("task_version", "text"),
    Field("filter", "text"),
    Field("doc_id", "whole"),
    Field("doc_hash", "text"),
    Field("prompt_hash", "text"),
    Field("target_hash", "text"),
    Field("limited", "truth"),
    Field("prompt", "text"),
    Field("target", "text"),
    Field("responses", "text"),
    Field("extracted", "text"),
    Field("verdicts", "text"),
)


def _document_rows(runs: Sequence[RunClaim], metrics: list[str]) -> Iterator[tuple[Any, ...]]:
    for run in runs:
        for task in run.tasks:
            for document in documents_of(task):
                yield (
                    run.model,
                    task.name,
                    task.version,
                    document.filter,
                    document.doc_id,
                    *document.hashes,
                    task.limited,
                    document.prompt,
                    document.target,
                    _json(document.responses),
                    _json(document.extracted),
                    document.verdicts,
                    *(document.scores.get(metric) for metric in metrics),
                )


_Get = Callable[[RunClaim, TaskClaim, Claim], Any]


def _model(get: Callable[[Any], Any]) -> _Get:
    return lambda run, task, claim: None if run.composite is None else get(run.composite)


def _judge(get: Callable[[Any], Any]) -> _Get:
    return lambda run, task, claim: None if claim.judge is None else get(claim.judge)


def _labels(get: Callable[[Any], Any]) -> _Get:
    return lambda run, task, claim: None if claim.labels is None else get(claim.labels)


def _interval(get: Callable[[Any], Any]) -> _Get:
    return lambda run, task, claim: (
        None if claim.figure.interval is None else get(claim.figure.interval)
    )


_COLUMNS: tuple[tuple[str, Kind, _Get], ...] = (
    ("model", "text", lambda run, task, claim: run.model),
    ("task", "text", lambda run, task, claim: task.name),
    ("metric", "text", lambda run, task, claim: claim.key.metric),
    ("filter", "text", lambda run, task, claim: claim.key.filter),
    ("value", "number", lambda run, task, claim: claim.figure.value),
    ("standard_error", "number", lambda run, task, claim: claim.figure.standard_error),
    ("standard_error_method", "text", lambda run, task, claim: claim.figure.error_method),
    ("lower", "number", _interval(lambda found: found.lower)),
    ("upper", "number", _interval(lambda found: found.upper)),
    ("level", "number", _interval(lambda found: found.level)),
    ("interval_method", "text", _interval(lambda found: found.method)),
    ("n", "whole", lambda run, task, claim: claim.figure.n),
    ("missing", "whole", lambda run, task, claim: claim.figure.missing),
    ("clusters", "whole", lambda run, task, claim: claim.figure.clusters),
    ("higher_is_better", "truth", lambda run, task, claim: claim.higher_is_better),
    ("lowest", "number", lambda run, task, claim: claim.lowest),
    ("highest", "number", lambda run, task, claim: claim.highest),
    ("documents", "whole", lambda run, task, claim: task.documents),
    ("documents_available", "whole", lambda run, task, claim: task.available),
    ("limited", "truth", lambda run, task, claim: task.limited),
    ("checked", "truth", lambda run, task, claim: task.checked),
    ("notes", "text", lambda run, task, claim: _json(claim.notes)),
    ("judge", "text", _judge(lambda judge: judge.model)),
    ("judge_kind", "text", _judge(lambda judge: judge.kind)),
    ("judge_answered", "text", _judge(lambda judge: _json(judge.answered))),
    ("judge_prompt", "text", _judge(lambda judge: judge.prompt)),
    ("judge_prompt_sha256", "text", _judge(lambda judge: judge.prompt_sha256)),
    ("judge_prompt_text", "text", _judge(lambda judge: judge.prompt_text)),
    ("judge_parameters", "text", _judge(lambda judge: judge.parameters)),
    ("verdicts", "text", _judge(lambda judge: _json(judge.verdicts))),
    ("verdicts_per_document", "whole", _judge(lambda judge: judge.repeats)),
    ("verdicts_unknown", "whole", _judge(lambda judge: judge.unknown)),
    ("verdicts_unknown_share", "number", _judge(lambda judge: judge.unknown_share)),
    ("possible_lower", "number", lambda run, task, claim: (claim.possible or (None, None))[0]),
    ("possible_upper", "number", lambda run, task, claim: (claim.possible or (None, None))[1]),
    ("labels", "whole", _labels(lambda labels: labels.labels)),
    ("labels_verdicts_alone", "whole", _labels(lambda labels: labels.verdicts)),
    ("labels_annotators", "whole", _labels(lambda labels: labels.annotators)),
    ("labels_uncorrected", "number", _labels(lambda labels: labels.verdicts_only)),
    ("labels_power", "number", _labels(lambda labels: labels.power)),
    ("task_version", "text", lambda run, task, claim: task.version),
    ("group_tasks", "text", lambda run, task, claim: _json(task.members or None)),
    ("shots", "whole", lambda run, task, claim: task.shots),
    ("repeats", "whole", lambda run, task, claim: task.repeats),
    ("output_type", "text", lambda run, task, claim: task.output_type),
    ("generation", "text", lambda run, task, claim: task.generation),
    ("chat_template_sha256", "text", lambda run, task, claim: task.chat_template),
    ("seeds", "text", lambda run, task, claim: task.seeds),
    ("data", "text", lambda run, task, claim: task.data.name),
    ("data_repository", "text", lambda run, task, claim: task.data.repository),
    ("data_config", "text", lambda run, task, claim: task.data.config),
    ("data_split", "text", lambda run, task, claim: task.data.split),
    ("data_revision", "text", lambda run, task, claim: task.data.revision),
    ("data_details", "text", lambda run, task, claim: task.data.details),
    ("backend", "text", lambda run, task, claim: run.backend),
    ("repository", "text", lambda run, task, claim: run.repository),
    ("commit", "text", lambda run, task, claim: run.commit),
    ("recipe_hash", "text", _model(lambda composite: composite.hash)),
    ("recipe", "text", _model(lambda composite: composite.recipe)),
    (
        "members",
        "text",
        _model(lambda composite: _json([_member(one) for one in composite.members])),
    ),
    ("weights", "text", _model(lambda composite: _json(composite.weights))),
    ("weight_top_p", "number", _model(lambda composite: composite.weight_top_p)),
    ("sampling", "text", _model(lambda composite: composite.sampling)),
    ("started", "number", lambda run, task, claim: task.started),
    ("lm_eval_version", "text", lambda run, task, claim: task.lm_eval_version or None),
    ("eft_eval_version", "text", lambda run, task, claim: task.eft_eval_version),
    ("transformers_version", "text", lambda run, task, claim: task.transformers_version),
    ("exported_by_eft_eval", "text", lambda run, task, claim: __version__),
    ("command", "text", lambda run, task, claim: task.command),
    ("digest", "text", lambda run, task, claim: task.digest),
)
