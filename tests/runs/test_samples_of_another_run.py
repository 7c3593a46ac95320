"""Samples that are not those the results were computed from are refused by every command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from exported_runs import write_composite_run
from judged_runs import Run, command_line, fails, items_in_order, write_labels
from stock_runs import run_dummy, write_tasks

from eft_eval.comparing import compare_runs, read_run

OTHER = [1, 0, 2, 3, None, 1, 1, 0, 0, 2, 1, 3]
COMMANDS = (
    ("compare", "RUN", "RUN"),
    ("report", "RUN", "--out", "OUT"),
    ("export", "RUN", "--format", "csv", "--out", "OUT"),
    ("judge", "RUN", "--judge", "j", "--dry-run"),
    (
        "judge",
        "RUN",
        "--judge",
        "j",
        "--dry-run",
        "--prompt",
        "helpfulness",
        "--map",
        "query=target",
    ),
    ("labels", "export", "RUN", "--format", "csv", "--out", "OUT"),
    ("labels", "import", "LABELS", "--key", "RUN", "--out", "OUT"),
    ("agree", "--labels", "LABELS", "--run", "RUN"),
    ("correct", "RUN", "--labels", "LABELS"),
    ("gold", "sample", "RUN", "--labels", "LABELS", "--out", "OUT"),
)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return command_line(capsys, monkeypatch)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: " ".join(words[:2]))
def test_texts_of_another_run_are_refused(
    run: Run, tmp_path: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same documents, prompts and names, so that only the means tell the runs apart."""
    monkeypatch.setenv("EFT_VERDICT_STORE", str(tmp_path / "store.sqlite3"))
    mine, other = write_composite_run(tmp_path / "a"), write_composite_run(tmp_path / "b", OTHER)
    items = items_in_order(mine)
    labels = write_labels(tmp_path / "labels.csv", items, {"ann": [0] * 12, "bea": [1] * 12})
    words = {"RUN": mine, "LABELS": labels, "OUT": tmp_path / "out.csv"}
    given = [words.get(word, word) for word in command]
    (samples,) = mine.glob("samples_*")
    kept = samples.read_bytes()
    (there,) = other.glob("samples_*")
    shutil.copy(there, samples)
    before = {path: path.read_bytes() for path in mine.iterdir()}
    done = run(*given)
    fails(done, "fact_errors,factuality is reported as 0.909091, the samples give 1.27273 over 11")
    assert {path: path.read_bytes() for path in mine.iterdir()} == before
    assert not (tmp_path / "out.csv").exists()
    samples.write_bytes(kept)
    assert "is reported as" not in run(*given).err


def test_documents_that_share_an_id_are_compared_each(tmp_path: Path) -> None:
    """lm-eval misnumbers documents where ``--samples`` names one twice, or in another order."""
    tasks = write_tasks(tmp_path / "tasks")
    names = ["sums_choice", "sums_gen"]
    twice, other, plain = (
        run_dummy(tasks, tmp_path / word, names=names, samples=dict.fromkeys(names, given))
        for word, given in (("twice", [0, 0, 5]), ("other", [5, 0]), ("plain", [0, 5]))
    )
    for folder in (twice, other):
        run = read_run(folder)
        assert [one.text for one in run.problems if one.severity == "error"] == []
        found = compare_runs(read_run(plain), [run])
        rows = {
            (row.task, row.metric, row.filter): row.documents for row in found.candidates[0].rows
        }
        assert set(rows.values()) == {2}, rows
    (samples,) = twice.glob("samples_sums_gen_*")
    assert [json.loads(line)["doc_id"] for line in samples.read_text().splitlines()] == [0] * 4


def test_lines_that_are_there_twice_are_refused_with_a_way_out(run: Run, tmp_path: Path) -> None:
    mine = write_composite_run(tmp_path / "a")
    (samples,) = mine.glob("samples_*")
    samples.write_bytes(samples.read_bytes() * 2)
    fails(
        run("compare", mine, mine),
        "12 document(s) appear twice under filter 'factuality'",
        "two runs",
    )
    fails(run("labels", "export", mine, "--format", "csv", "--out", tmp_path / "o"), "appear twice")
