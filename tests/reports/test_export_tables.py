"""Tables of claims and documents: read back equal, and no formula."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import exported_runs as runs
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from written_runs import write_run

from eft_eval.exporting import ClaimSettings, RunClaim, read_claims
from eft_eval.exporting.documents import documents_of
from eft_eval.labels.texts import from_cell
from eft_eval.reports.exports import table as export_table
from eft_eval.reports.exports.table import (
    Table,
    claims_table,
    documents_table,
    table_csv,
    write_parquet,
)


def read_csv(text: str, table: Table) -> list[tuple[Any, ...]]:
    """Read a table back by the types of its columns."""
    kinds = {"number": float, "whole": int, "truth": lambda t: t == "true", "text": from_cell}
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    assert header == [field.name for field in table.fields]
    return [
        tuple(
            kinds[field.kind](cell) if cell else None
            for cell, field in zip(row, table.fields, strict=True)
        )
        for row in rows
    ]


@pytest.mark.parametrize("make", [claims_table, documents_table])
def test_tables_are_read_back_equal(run: RunClaim, make: Any, tmp_path: Path) -> None:
    table = make([run])
    assert len(table.rows) == (7 if make is claims_table else 12)
    expected = [tuple(None if value == "" else value for value in row) for row in table.rows]
    assert read_csv(table_csv(table), table) == expected
    write_parquet(table, tmp_path / "t.parquet")
    back = pq.read_table(tmp_path / "t.parquet")
    assert back.column_names == [field.name for field in table.fields]
    assert [tuple(row.values()) for row in back.to_pylist()] == table.rows


HOSTILE = st.text(st.characters(exclude_characters="\x00"), max_size=20)


@given(st.lists(HOSTILE, min_size=1, max_size=5), st.floats(allow_nan=False))
def test_any_text_and_number_survives_a_table(texts: list[str], number: float) -> None:
    import tempfile

    fields = (export_table.Field("text", "text"), export_table.Field("number", "number"))
    table = Table(fields, [(text, number) for text in texts])
    plain = [text.encode("utf-8", "backslashreplace").decode() for text in texts]
    found = read_csv(table_csv(table), table)
    assert found == [(text or None, number) for text in plain]
    with tempfile.TemporaryDirectory() as folder:
        write_parquet(table, Path(folder) / "t.parquet")
        back = pq.read_table(Path(folder) / "t.parquet").to_pylist()
    assert back == [{"text": text, "number": number} for text in plain]


@given(HOSTILE)
def test_no_cell_is_a_formula(text: str) -> None:
    table = Table((export_table.Field("text", "text"),), [("=" + text,), ("@" + text,)])
    for row in list(csv.reader(io.StringIO(table_csv(table), newline="")))[1:]:
        assert row[0].startswith("'")


def test_tables_hold_every_field_of_several_runs(run: RunClaim) -> None:
    write_run(Path("other"), {"t": {"acc": [1.0, 0.0]}}, model="other")
    found = [run, *read_claims(["other"], ClaimSettings())]
    table = claims_table(found)
    assert len(table.rows) == 8
    names = [field.name for field in table.fields]
    rows = [dict(zip(names, row, strict=True)) for row in table.rows]
    assert rows[0]["recipe_hash"] == "d30f8192"
    assert rows[-1]["recipe"] is None
    assert {row["model"] for row in rows} == {runs.NAME, "other"}
    filled = {name for row in rows for name in names if row[name] is not None}
    empty = set(names) - filled
    assert empty == {
        "chat_template_sha256", "commit", "data_config", "data_details",
        "data_repository", "data_revision", "group_tasks", "labels", "labels_annotators",
        "labels_power", "labels_uncorrected", "labels_verdicts_alone", "possible_lower",
        "possible_upper", "repository", "weight_top_p",
    }  # fmt: skip


def test_documents(run: RunClaim) -> None:
    (task,) = run.tasks
    found = list(documents_of(task))
    assert [document.doc_id for document in found] == list(range(12))
    assert found[0].responses == ('Answer 0 <b>is</b> here,\u2028"so".',)
    assert found[4].scores["fact_errors"] is None
    assert json.loads(str(found[4].verdicts))[0]["status"] == "abstained"


def test_prompts_in_the_csv_of_samples_are_the_prompts(run: RunClaim) -> None:
    rows = list(csv.DictReader(io.StringIO(table_csv(documents_table([run])))))
    documents = list(documents_of(run.tasks[0]))
    assert [row["prompt"] for row in rows] == [one.prompt for one in documents]
    assert rows[0]["prompt"].startswith("\n\nHuman: ")


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("\n\n =cmd|' /C calc'!A0", "'\n\n =cmd|' /C calc'!A0"),
        ("\t=1", "'\t=1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\n\nHuman: Why?", "\n\nHuman: Why?"),
        ("'quoted' words", "'quoted' words"),
        ("a = b", "a = b"),
        ("", ""),
    ],
)
def test_formulas_are_guarded_and_nothing_else(text: str, cell: str) -> None:
    found = table_csv(Table((export_table.Field("text", "text"),), [(text,)]))
    assert list(csv.reader(io.StringIO(found, newline="")))[1] == [cell]
