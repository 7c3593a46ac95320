"""The commands that hold labels against a run read every file once."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from judged_runs import DATE, Run, fill

_opened: list[tuple[str, str]] = []
_counting = False


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if _counting and event in ("open", "shutil.copyfile"):
        _opened.append((event, str(arguments[0])))


@contextmanager
def counted_opens(below: Path) -> Iterator[Counter[str]]:
    """Count by name how often files in a folder are opened, not counting plain copies of them."""
    global _counting
    if not getattr(sys, "_eft_eval_counts_opens", False):
        sys.addaudithook(_note)  # stays for the process, and does nothing outside this block
        sys._eft_eval_counts_opens = True  # type: ignore[attr-defined]
    _opened.clear()
    _counting = True
    found: Counter[str] = Counter()
    try:
        yield found
    finally:
        _counting = False
    for event, name in _opened:
        if Path(name).is_file() and below in Path(name).parents:
            found[Path(name).name] += 1 if event == "open" else -1


@pytest.mark.parametrize("command", ["correct", "agree", "gold sample", "labels import"])
def test_every_file_is_read_once(
    run: Run, run_dir: Path, labels: Path, tmp_path: Path, command: str
) -> None:
    out = tmp_path / "out.csv"
    given = {
        "correct": ("correct", run_dir, "--labels", labels),
        "agree": ("agree", "--labels", labels, "--run", run_dir),
        "gold sample": ("gold", "sample", run_dir, "--labels", labels, "--out", out),
        "labels import": ("labels", "import", labels, "--key", run_dir, "--out", out),
    }
    with counted_opens(tmp_path) as opens:
        done = run(*given[command])
    assert done.code == 0, done.err
    read = (labels.name, f"results_{DATE}.json", f"samples_eli5_fact_{DATE}.jsonl")
    assert {name: opens[name] for name in read} == dict.fromkeys(read, 1)


def test_sheets_of_a_project_are_read_once(run: Run, run_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("labels", "export", run_dir, "--format", "csv", "--out", out).code == 0
    for name in ("anna.csv", "ben.csv"):
        fill(out / "labels.csv", out / name, lambda row: 1.0)
    with counted_opens(out) as opens:
        assert run("agree", "--labels", out, "--run", run_dir).code == 0
    sheets = ("labels.csv", "anna.csv", "ben.csv")
    assert {name: opens[name] for name in sheets} == dict.fromkeys(sheets, 1)
