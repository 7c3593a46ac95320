"""Commands over damaged runs: exit code 0, 2 or 3 and one line, never a traceback."""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from damaged_files import damage_file, pass_on
from exported_runs import write_composite_run
from hypothesis import given, settings
from hypothesis import strategies as st
from judged_runs import items_in_order, write_labels

from eft_eval.cli import main

GENUINE = Path(__file__).parents[1] / "data" / "lm_eval_runs"
SOURCES = [*sorted(path.name for path in GENUINE.iterdir()), "judged"]
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("compare", "RUN", "RUN"),
    ("compare", "RUN", "WHOLE", "--format", "json"),
    ("report", "RUN", "--out", "OUT/page.html"),
    ("report", "RUN", "WHOLE", "--out", "OUT/two.html"),
    ("export", "RUN", "--format", "csv", "--allow-limit"),
    ("export", "RUN", "--format", "csv", "--samples"),
    ("export", "RUN", "--format", "parquet", "--out", "OUT/t.parquet"),
    ("export", "RUN", "--format", "eee", "--samples", "--organization", "me", "--out", "OUT/eee"),
    ("export", "RUN", "--format", "model-card", "--repo", "me/card"),
    ("export", "RUN", "--format", "hf-eval-results", "--benchmark", "sums_gen=a/b:c"),
    ("judge", "RUN", "--judge", "j", "--dry-run"),
    (
        "judge",
        "RUN",
        "--judge",
        "j",
        "--prompt",
        "factuality",
        "--map",
        "query=target",
        "--dry-run",
    ),
    ("labels", "export", "RUN", "--format", "csv", "--out", "OUT/labels"),
    ("agree", "--labels", "LABELS", "--run", "RUN"),
    ("correct", "RUN", "--labels", "LABELS"),
    ("gold", "sample", "RUN", "--labels", "LABELS", "--out", "OUT/gold.csv"),
)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The genuine runs of each version, and a judged one with people's labels."""
    folder = tmp_path_factory.mktemp("sources")
    for path in GENUINE.iterdir():
        shutil.copytree(path, folder / path.name)
    judged = write_composite_run(folder / "made").rename(folder / "judged")
    write_labels(folder / "labels.csv", items_in_order(judged), {"ann": [0] * 12, "bea": [1] * 12})
    return folder


def called(arguments: list[str], patch: pytest.MonkeyPatch) -> tuple[int, str, str]:
    """Run a command in this process; return its exit code and what it said."""
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    patch.setattr(sys, "argv", ["eft-eval", *arguments])
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    return int(code), out.getvalue(), err.getvalue()


def tried(sources: Path, source: str, seed: int) -> None:
    choose = random.Random(seed)
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        patch.setenv("EFT_VERDICT_STORE", str(folder / "store.sqlite3"))
        run = Path(shutil.copytree(sources / source, folder / "run"))
        files = sorted(run.iterdir())
        for _ in range(choose.randint(1, 2)):
            with contextlib.suppress(ValueError, IndexError):  # the file was damaged before
                damage_file(choose.choice(files), choose)
        if choose.random() < 0.3:
            pass_on(files, seed)
        before = {path: path.read_bytes() for path in run.iterdir()}
        out = folder / "out"
        out.mkdir()
        words = {"RUN": run, "WHOLE": sources / source, "LABELS": sources / "labels.csv"}
        for command in COMMANDS:
            given = [str(words.get(word, word)).replace("OUT/", f"{out}/") for word in command]
            code, _, said = called(given, patch)
            assert code in (0, 1, 2, 3), (command, said)
            assert code != 1 or command[0] == "compare", (command, said)  # 1: a regression
            assert "Traceback" not in said
            if code == 2:
                errors = [line for line in said.splitlines() if "error: " in line]
                assert len(errors) == 1, (command, said)
        assert {path: path.read_bytes() for path in run.iterdir() if path in before} == before


@pytest.mark.parametrize("source", SOURCES)
def test_commands_over_damaged_runs(sources: Path, source: str) -> None:
    tried(sources, source, len(source))


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_commands_over_damaged_runs_many_times(sources: Path, source: str, seed: int) -> None:
    tried(sources, source, seed)
