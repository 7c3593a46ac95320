"""Any defect in any version's files: what is read is right, or one line says what is wrong."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from damaged_files import damage_file, pass_on
from hypothesis import given, settings
from hypothesis import strategies as st
from written_runs import write_run

from eft_eval.comparing import compare_runs, read_run
from eft_eval.errors import EftEvalError
from eft_eval.exporting import ClaimSettings, claims_of
from eft_eval.exporting.documents import documents_of
from eft_eval.judging.responses import Selection, assign
from eft_eval.reporting.report import make_report
from eft_eval.runs.completeness import same_mean
from eft_eval.runs.saved import open_run

GENUINE = Path(__file__).parents[1] / "data" / "lm_eval_runs"
VERSIONS = sorted(path.name for path in GENUINE.iterdir())


def check_run(source: Path) -> None:
    run = read_run(source)
    for task in run.tasks.values():
        told = {one.task for one in run.problems if one.severity == "error"}
        for column in task.columns.values():
            if column.is_mean and task.name not in told:
                assert same_mean(column.reported, column.values)


def check_export(source: Path) -> None:
    found = claims_of(read_run(source), ClaimSettings(allow_limit=True))
    for task in found.tasks:
        for _ in documents_of(task):
            pass


def check_lines(source: Path) -> None:
    run = open_run(source)
    for task in run.tasks.values():
        assert run.lines(task)


USES: tuple[Callable[[Path], object], ...] = (
    check_run,
    check_export,
    check_lines,
    lambda source: compare_runs(read_run(source), [read_run(source)]),
    lambda source: make_report([read_run(source)]),
    lambda source: make_report([read_run(source), read_run(source)]),
    lambda source: assign(open_run(source), Selection(prompts=("factuality",), query="target")),
)


def tried(version: str, seed: int, many: int) -> None:
    choose = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(GENUINE / version, Path(folder) / version))
        files = sorted(path for path in copy.iterdir())
        for _ in range(many):
            results = [path for path in files if path.suffix == ".json"]
            path = choose.choice(results if choose.random() < 0.6 else files)
            try:
                damage_file(path, choose)
            except (ValueError, IndexError):  # the file was damaged before
                continue
        if choose.random() < 0.3:
            pass_on(files, seed)
        for use in USES:
            said = "nothing"
            try:
                use(copy)
            except EftEvalError as error:
                said = str(error)
            assert len(said.splitlines()) == 1


def test_numbers_whose_sum_no_float_holds(tmp_path: Path) -> None:
    assert same_mean(1e308, [1e308, 1e308])
    assert not same_mean(1e308, [1.7e308, 1.7e308])
    run = read_run(write_run(tmp_path / "run", {"t": {"acc": [1e308] * 4}}))
    (problem,) = [one.text for one in run.problems if one.severity == "error"]
    assert "reported as no number, the samples give 1e+308 over 4 documents" in problem


@pytest.mark.parametrize("version", VERSIONS)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32), many=st.integers(1, 3))
def test_right_or_one_line(version: str, seed: int, many: int) -> None:
    tried(version, seed, many)


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 2**32), many=st.integers(1, 3))
def test_right_or_one_line_many_times(version: str, seed: int, many: int) -> None:
    tried(version, seed, many)
