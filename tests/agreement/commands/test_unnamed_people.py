"""Files named after people, filled-in sheets and saved imports in one project folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from judged_runs import Run, fill

from eft_eval.labels import read_labels, save_labels


@pytest.fixture
def project(run: Run, run_dir: Path, tmp_path: Path) -> Path:
    """A CSV export of 12 responses, filled in by Bob and Jane."""
    out = tmp_path / "projA"
    arguments = ("--format", "csv", "--sample", "12", "--out", out)
    assert run("labels", "export", run_dir, *arguments).code == 0
    fill(out / "labels.csv", out / "bob_smith.csv", lambda row: 0.0)
    fill(out / "labels.csv", out / "jane_doe.csv", lambda row: 1.0)
    return out


def test_a_filled_sheet_counts_beside_copies(project: Path) -> None:
    assert read_labels(project).annotators == ("A1", "A2")
    fill(project / "labels.csv", project / "labels.csv", lambda row: 2.0)
    labels = read_labels(project)
    assert labels.annotators == ("A1", "A2", "A3")
    assert {one.value for one in labels.labels if one.field == "error_count"} == {0, 1, 2}


def test_a_saved_import_is_not_read_twice(project: Path) -> None:
    labels = read_labels(project)
    for name in ("imported.csv", "imported.json"):
        save_labels(labels, project / name)
    again = read_labels(project)
    assert again.labels == labels.labels
    assert again.annotators == ("A1", "A2")


def test_no_persons_file_is_named(run: Run, project: Path, run_dir: Path, tmp_path: Path) -> None:
    one = project / "jane_doe.csv"
    for number, given in enumerate(([project], [one], [one, project / "bob_smith.csv"])):
        saved = tmp_path / f"{number}.json"
        printed = run("labels", "import", *given, "--out", saved)
        assert printed.code == 0
        report = tmp_path / f"{number}-agree.json"
        agreed = run("agree", "--labels", *given, "--run", run_dir, "--json", report)
        assert agreed.code == 0, agreed.err
        corrected = run("correct", run_dir, "--labels", *given)
        assert corrected.code == 0
        results = max(run_dir.glob("results_*"))
        texts = [path.read_text("utf-8") for path in (saved, report, results)]
        everything = "".join([*texts, printed.out, agreed.out, corrected.out])
        assert "jane" not in everything
        assert "bob_smith" not in everything
    assert json.loads(report.read_text("utf-8"))["sources"] == [
        str(project / "A1.csv"),
        str(project / "A2.csv"),
    ]


def test_a_persons_folder_is_no_source(tmp_path: Path) -> None:
    path = tmp_path / "annotation_output" / "jane" / "user_state.json"
    path.parent.mkdir(parents=True)
    store = {"instance_id_to_label_to_value": {"i": [[{"schema": "x", "name": "number"}, "1"]]}}
    path.write_text(json.dumps({"user_id": "jane", **store}), "utf-8")
    for given in (path, path.parent):
        labels = read_labels(given)
        assert labels.annotators == ("A1",)
        assert "jane" not in repr(labels)


def test_pseudonyms_stay_when_the_folder_moves(project: Path, tmp_path: Path) -> None:
    def counts(folder: Path) -> list[tuple[str, float | str]]:
        return [(one.annotator, one.value) for one in read_labels(folder).labels]

    before = counts(project)
    for name in ("b", "another name", "z/y/x"):
        moved = tmp_path / name
        shutil.copytree(project, moved)
        assert counts(moved) == before


def test_files_of_one_name_are_two_people(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "projB"
    shutil.copytree(project, other)
    fill(other / "labels.csv", other / "jane_doe.csv", lambda row: 3.0)
    labels = read_labels([project / "jane_doe.csv", other / "jane_doe.csv"])
    assert labels.annotators == ("A1", "A2")
    assert "jane" not in repr(labels)
