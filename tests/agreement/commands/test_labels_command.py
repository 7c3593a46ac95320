"""`eft-eval labels`: out to annotators and in again."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from judged_runs import (
    DATE,
    JUDGE,
    VERDICTS,
    Run,
    fails,
    fill,
    hashes,
    items_in_order,
    write,
)

from eft_eval.labels import read_labels


def test_labels_out_and_in(run: Run, run_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "the project"
    arguments = ("labels", "export", run_dir, "--format", "csv", "--sample", "20", "--seed", "3")
    done = run(*arguments, "--out", out)
    assert done.code == 0
    assert f"20 of 60 responses of results_{DATE}.json (seed 3)" in done.out
    assert "eft-eval agree --run" in done.out
    everything = "".join(path.read_text("utf-8") for path in out.iterdir())
    assert JUDGE not in everything
    assert "fact_" not in everything.replace("eli5_fact", "")
    run(*arguments, "--out", tmp_path / "again")
    assert hashes(out) == hashes(tmp_path / "again")
    fails(run(*arguments, "--out", out), "not empty")
    fails(run(*arguments, "--out", tmp_path / "x", "--task", "eli_fact"), "'eli5_fact'")

    verdicts = dict(zip([i.item_id for i in items_in_order(run_dir)], VERDICTS, strict=True))
    for name in ("ann", "ben"):  # copies of the sheet, filled in, in its folder
        fill(out / "labels.csv", out / f"{name}.csv", lambda row: verdicts[row["item_id"]])
    for kind in ("csv", "json"):
        saved = tmp_path / f"all.{kind}"
        done = run("labels", "import", out, "--key", run_dir, "--out", saved)
        assert done.code == 0
        assert "labels of 20 items" in done.out
        found = run("agree", "--labels", saved, "--json", tmp_path / f"{kind}.json")
        assert found.code == 0
    first, second = (
        json.loads((tmp_path / f"{kind}.json").read_text("utf-8")) for kind in ("csv", "json")
    )
    assert first["clusters"] == second["clusters"]
    assert {**first, "sources": 0, "counted": 0} == {**second, "sources": 0, "counted": 0}
    direct = run("agree", "--labels", out, "--run", run_dir, "--json", tmp_path / "d.json")
    assert direct.code == 0
    same = json.loads((tmp_path / "d.json").read_text("utf-8"))
    assert same["alpha"] == first["alpha"]


def test_import_reports_every_row_it_cannot_use(run: Run, run_dir: Path, tmp_path: Path) -> None:
    items = items_in_order(run_dir)
    rows = [f"{items[0].item_id},a,1", f"{items[1].item_id},a,-3", "who?,a,1", ",a,1"]
    path = write(tmp_path / "l.csv", "item_id,annotator,error_count\n" + "\n".join(rows))
    done = run("labels", "import", path, "--key", run_dir, "--out", tmp_path / "o.csv")
    assert done.code == 0
    # a run is named as for every command: by its folder, its file or a pattern
    (results,) = run_dir.glob("results_*.json")
    for key in (results, tmp_path / "ru*"):
        assert run("labels", "import", path, "--key", key, "--out", tmp_path / "o.csv") == done
    fails(
        run("labels", "import", path, "--key", tmp_path / "none", "--out", tmp_path / "o.csv"),
        "none",
    )
    for row, reason in (
        (3, "error_count is not a count"),
        (4, "no item has this id"),
        (5, "no item id"),
    ):
        assert f"row {row}: {reason}" in done.out
        assert f"1 × {reason}" in done.out
    assert "o.dropped.csv" in done.out
    dropped = (tmp_path / "o.dropped.csv").read_text("utf-8")
    assert dropped.count("\n") == 4
    assert read_labels(tmp_path / "o.csv").labels[0].value == 1
    fails(run("labels", "import", path, "--out", path), "choose another name")
    only_bad = write(tmp_path / "bad.csv", "item_id,annotator,error_count\nx,a,-1\n")
    bad = run("labels", "import", only_bad, "--out", tmp_path / "n.csv")
    assert bad.code == 2
    assert "row 2: error_count is not a count" in bad.out
    assert "1 rows were dropped" in bad.err
    assert not (tmp_path / "n.csv").exists()
    fails(run("labels", "import", path, "--key", path, "--out", tmp_path / "n.csv"), "is no key")


def test_saved_labels_keep_what_is_known(run: Run, run_dir: Path, tmp_path: Path) -> None:
    """Texts, prompts and the way they were drawn go with the labels, so later checks still work."""
    out = tmp_path / "out"
    run("labels", "export", run_dir, "--format", "csv", "--sample", "10", "--out", out)
    fill(out / "labels.csv", out / "a.csv", lambda row: 1.0)
    run("labels", "import", out, "--out", tmp_path / "l.csv")
    rows = list(csv.DictReader((tmp_path / "l.csv").read_text("utf-8").splitlines()))
    assert {row["random_sample"] for row in rows} == {"yes"}
    assert {row["stratum"] for row in rows} == {"eli5_fact"}
    by_id = {item.item_id: item for item in items_in_order(run_dir)}
    for row in rows:
        assert row["text_sha256"] == by_id[row["item_id"]].text_sha256
        assert row["cluster"] == by_id[row["item_id"]].cluster
    text = (tmp_path / "l.csv").read_text("utf-8").replace(rows[0]["text_sha256"], "0" * 64)
    changed = write(tmp_path / "changed.csv", text)
    done = run("agree", "--labels", changed, "--run", run_dir)
    assert "2 × the labelled text is not the item's" in done.out


def test_pseudonyms_and_names_together_are_remarked(
    run: Run, run_dir: Path, labels: Path, tmp_path: Path
) -> None:
    run("labels", "import", labels, "--out", tmp_path / "l.csv")
    done = run("agree", "--labels", labels, tmp_path / "l.csv")
    assert "pseudonyms (A1, …) and names of annotators are mixed" in done.out
    assert "are mixed" not in run("agree", "--labels", tmp_path / "l.csv").out
