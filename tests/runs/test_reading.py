"""Reading runs: what lm-eval writes, what is wrong with it, and what cannot be read."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from read_runs import errors_of, samples_of
from stock_runs import run_dummy, write_tasks
from written_runs import write_run

from eft_eval.comparing import MetricKey, Run, iter_samples, read_run
from eft_eval.errors import ConfigError
from eft_eval.runs.finding import find_results
from eft_eval.runs.saved import open_run

OLD_RUNS = (Path(__file__).parents[1] / "data") / "lm_eval_runs"


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def stock(tasks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of lm-eval's dummy model, as the installed version writes it."""
    return run_dummy(tasks, tmp_path_factory.mktemp("out"))


@pytest.fixture
def copy(stock: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stock, tmp_path / "copy"))


def notes_of(run: Run) -> list[str]:
    return [problem.text for problem in run.problems if problem.severity == "note"]


def results_of(folder: Path) -> tuple[Path, dict[str, Any]]:
    (file,) = folder.glob("results_*.json")
    return file, json.loads(file.read_text())


def check_stock(run: Run) -> None:
    assert set(run.tasks) == {"sums_choice", "sums_choice_again", "sums_gen", "sums_text"}
    assert errors_of(run) == []
    generated = run.tasks["sums_gen"]
    assert (generated.version, generated.shots, generated.documents) == ("2.0", 0, 6)
    keys = [MetricKey("exact_match", "strict"), MetricKey("exact_match", "flexible")]
    assert list(generated.columns) == keys
    for key in keys:
        column = generated.columns[key]
        assert column.is_mean
        assert column.higher_is_better is True
        assert column.values == (0.0,) * 6
        assert len(generated.pipelines[key.filter].items) == 6
    choice = run.tasks["sums_choice"].columns[MetricKey("acc", "none")]
    numbers = [value for value in choice.values if value is not None]
    assert choice.reported == pytest.approx(sum(numbers) / 6)
    group = run.groups["sums"]
    assert group.tasks == ("sums_choice", "sums_choice_again")
    assert MetricKey("acc", "none") in group.columns
    perplexity = run.tasks["sums_text"].columns[MetricKey("word_perplexity", "none")]
    assert not perplexity.is_mean
    assert "cannot be paired: not all its values are numbers" in " ".join(notes_of(run))


def test_what_the_installed_lm_eval_writes(stock: Path) -> None:
    run = read_run(stock)
    check_stock(run)
    assert run.model == "dummy"
    assert run.lm_eval_version == "0.4.13"
    (sample, *_) = iter_samples(samples_of(stock, "sums_choice"))
    assert sample.doc["question"] == sample.prompt == "What is 0 plus 3?"
    assert set(sample.values) == {"acc", "acc_norm"}
    assert len(sample.responses) == 3


@pytest.mark.parametrize("version", ["0.4.8", "0.4.11"])
def test_what_older_versions_wrote(version: str) -> None:
    check_stock(read_run(OLD_RUNS / version))


def test_a_file_a_folder_its_parent_and_a_pattern_are_the_same_run(stock: Path) -> None:
    file, _ = results_of(stock)
    expected = read_run(stock).tasks
    for source in (file, stock.parent, f"{stock.parent}/dum*", f"{stock}/results_*.json"):
        assert read_run(source).tasks == expected, source


def test_custom_names_and_files_without_a_date(tasks: Path, tmp_path: Path) -> None:
    folder = run_dummy(tasks, tmp_path / "named" / "mine.json", names=["sums_gen"])
    assert list(read_run(folder).tasks) == ["sums_gen"]
    (file,) = folder.glob("mine_*.json")
    renamed = file.rename(folder / "accepted.json")
    (samples,) = folder.glob("samples_*.jsonl")
    other = samples.rename(folder / "texts.jsonl")
    (folder / "notes.json").write_text('{"results": 3}')
    (folder / "broken.json").write_text("{")
    run = read_run(folder)
    assert errors_of(run) == []
    assert run.tasks["sums_gen"].samples_file == other, "found by its content"
    assert run.tasks["sums_gen"].results_file == renamed


def test_the_newest_run_of_each_task_counts(tasks: Path, tmp_path: Path) -> None:
    first = run_dummy(tasks, tmp_path, names=["sums_gen", "sums_choice"])
    run_dummy(tasks, tmp_path, names=["sums_gen"], limit=2)
    run = read_run(first)
    newest = max(first.glob("results_*.json"))
    assert run.tasks["sums_gen"].results_file == newest
    assert run.tasks["sums_gen"].documents == 2
    assert run.tasks["sums_choice"].documents == 6
    assert notes_of(run) == [
        f"from an older file, {min(first.glob('results_*.json')).name}: sums_choice"
    ]
    assert errors_of(run) == []


def test_limit_one_has_no_standard_error(tasks: Path, tmp_path: Path) -> None:
    folder = run_dummy(tasks, tmp_path, names=["sums_choice"], limit=1)
    _, results = results_of(folder)
    assert results["results"]["sums_choice"]["acc_stderr,none"] == "N/A"
    column = read_run(folder).tasks["sums_choice"].columns[MetricKey("acc", "none")]
    assert column.reported_error is None
    assert len(column.values) == 1


def test_bypassed_metrics_and_missing_samples_are_noted(tasks: Path, tmp_path: Path) -> None:
    bypassed = read_run(run_dummy(tasks, tmp_path / "a", names=["sums_gen"], predict_only=True))
    assert bypassed.tasks["sums_gen"].bypassed
    assert not bypassed.tasks["sums_gen"].columns
    assert "bypassed (--predict_only)" in notes_of(bypassed)[0]
    bare = read_run(run_dummy(tasks, tmp_path / "b", names=["sums_gen"], log_samples=False))
    assert bare.tasks["sums_gen"].samples_file is None
    assert "(--log_samples)" in notes_of(bare)[0]


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def drop_a_line(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def repeat_a_line(path: Path) -> None:
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")


def change_values(path: Path, values: Callable[[int], Any]) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for number, line in enumerate(lines):
        line["acc"] = values(number)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def rename_the_metric(path: Path) -> None:
    path.write_text(path.read_text().replace('"acc"', '"accuracy"'))


def of_other_documents(path: Path) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line["doc_hash"] = "0" * 64
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (cut_off, r"1 unreadable line\(s\), first 6: the file is cut off"),
        (drop_a_line, "lacks 1 of 6 documents under filter 'none'"),
        (repeat_a_line, r"1 document\(s\) appear twice under filter 'none'"),
        (
            lambda path: change_values(path, lambda n: 1.0 - n),
            "acc,none is reported as .* give -1.5",
        ),
        (of_other_documents, r"documents, prompts or targets differ \(task_hashes\)"),
        (lambda path: path.write_text(""), "holds no samples; the results speak of 6 documents"),
    ],
)
def test_each_defect_is_found(copy: Path, damage: Callable[[Path], Any], complaint: str) -> None:
    damage(samples_of(copy, "sums_choice"))
    run = read_run(copy)
    assert [p.task for p in run.problems if p.severity == "error"] == ["sums_choice"] * len(
        errors_of(run)
    )
    assert re.search(complaint, "\n".join(errors_of(run))), errors_of(run)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (cut_off, "line 6: no sample of lm-eval, or cut off"),
        (drop_a_line, "lacks 1 of 6 documents under filter 'none'"),
        (repeat_a_line, r"1 document\(s\) appear twice under filter 'none'"),
        (
            lambda path: change_values(path, lambda n: 1.0 - n),
            "acc,none is reported as .* give -1.5",
        ),
        (rename_the_metric, "acc,none is reported, but no sample has it"),
        (of_other_documents, r"documents, prompts or targets differ \(task_hashes\)"),
        (lambda path: path.write_text(""), "is empty"),
    ],
)
def test_texts_are_not_taken_from_what_comparing_would_refuse(
    copy: Path, damage: Callable[[Path], Any], complaint: str
) -> None:
    damage(samples_of(copy, "sums_choice"))
    run = open_run(copy)
    with pytest.raises(ConfigError, match=complaint) as raised:
        run.lines(run.task("sums_choice"))
    assert "\n" not in str(raised.value)
    assert set(run.lines(run.task("sums_gen"))) == {"strict", "flexible"}


def test_values_that_are_nan_count_as_missing(copy: Path) -> None:
    change_values(samples_of(copy, "sums_choice"), lambda n: math.nan if n < 2 else 1.0)
    run = read_run(copy)
    column = run.tasks["sums_choice"].columns[MetricKey("acc", "none")]
    assert column.values == (None, None, 1.0, 1.0, 1.0, 1.0)
    assert "2 value(s) of acc,none are NaN or infinite" in " ".join(notes_of(run))
    assert "the samples give 1 over 4 documents" in " ".join(errors_of(run))


def test_samples_of_another_date_are_not_taken_for_this_runs(copy: Path) -> None:
    samples = samples_of(copy, "sums_choice")
    samples.rename(samples.with_name("samples_sums_choice_2020-01-01T00-00-00.jsonl"))
    assert errors_of(read_run(copy)) == [], "its content says that it belongs here"
    of_other_documents(samples_of(copy, "sums_choice"))
    task = read_run(copy).tasks["sums_choice"]
    assert task.samples_file is None


def test_a_metric_that_no_sample_has(copy: Path) -> None:
    file, results = results_of(copy)
    results["results"]["sums_choice"]["f1,none"] = 0.5
    file.write_text(json.dumps(results))
    assert errors_of(read_run(copy)) == ["sums_choice: f1,none is reported, but no sample has it"]


def test_bad_sources_are_one_line(stock: Path, copy: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source, complaint in (
        (tmp_path / "nowhere", "there is no file or folder"),
        (tmp_path / "empty", "holds no results file of lm-eval"),
        (tmp_path / "x*", "there is no file or folder"),
        (samples_of(stock, "sums_gen"), "looks like a samples file: give the results file"),
    ):
        with pytest.raises(ConfigError, match=complaint) as raised:
            read_run(source)
        assert "\n" not in str(raised.value)
    file, _ = results_of(copy)
    cut_off(file)
    with pytest.raises(ConfigError, match="is no JSON, or is cut off"):
        read_run(copy)
    file.write_text("[]")
    with pytest.raises(ConfigError, match="is no results file of lm-eval"):
        read_run(file)


NOT_RESULTS: list[dict[str, Any]] = [
    {"configs": {"t": 5}},
    {"results": {"t": 5}},
    {"n-samples": 5},
    {"n-samples": {"t": {"effective": "x"}}},
    {"higher_is_better": {"t": 5}},
    {"configs": {"t": {"repeats": "x"}}},
    {"configs": {"t": {"metric_list": [5]}}},
    {"groups": 5},
    {"groups": {"g": {"acc,none": 1}}, "group_subtasks": {"g": ["g"]}},
    {"task_hashes": 5},
]


@pytest.mark.parametrize("changes", NOT_RESULTS, ids=str)
def test_tables_of_another_shape_are_one_line(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = write_run(tmp_path, {"t": {"acc": [1.0, 0.0]}}, changes=changes)
    with pytest.raises(ConfigError, match="is a damaged results file") as raised:
        read_run(folder)
    assert "\n" not in str(raised.value)


def test_odd_dates_and_names_are_read(tmp_path: Path) -> None:
    changes = {"date": 1e300, "model_name": None, "config": 5}
    folder = write_run(tmp_path, {"t": {"acc": [1.0, 0.0]}}, changes=changes)
    (file,) = folder.glob("results_*.json")
    file.rename(folder / "mine.json")
    assert (read_run(folder).model, read_run(folder).date) == ("unnamed", "")


@pytest.mark.parametrize(
    "changes",
    [{"metrics": [["a"]]}, {"resps": 5}, {"filtered_resps": {"a": 1}}, {"doc_hash": None}],
    ids=str,
)
def test_lines_of_another_shape_are_unreadable(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = write_run(tmp_path, {"t": {"acc": [1.0, 0.0]}})
    (file,) = folder.glob("samples_*.jsonl")
    first, second = file.read_text().splitlines()
    file.write_text(f"{json.dumps({**json.loads(first), **changes})}\n{second}\n")
    assert "1 unreadable line(s), first 1" in errors_of(read_run(folder))[0]


def test_nested_without_end_and_numbers_beyond_floats(tmp_path: Path) -> None:
    folder = write_run(tmp_path, {"t": {"acc": [1.0, 0.0]}})
    (file,) = folder.glob("samples_*.jsonl")
    whole = file.read_text()
    file.write_text(whole + "[" * 200_000)
    assert errors_of(read_run(folder))[0].endswith("first 3: the file is cut off, or damaged")
    file.write_text(whole.replace('"acc": 1.0', f'"acc": {10**400}'))
    assert "1 value(s) of acc,none are NaN or infinite" in notes_of(read_run(folder))[0]
    (results,) = folder.glob("results_*.json")
    results.write_text("[" * 200_000)
    with pytest.raises(ConfigError, match="is no JSON, or is cut off"):
        read_run(folder)


def test_dangling_links_and_folders_beside_a_run_are_passed_over(copy: Path) -> None:
    samples = samples_of(copy, "sums_choice")
    samples.rename(samples.with_name("zz.jsonl"))
    for name in ("a.jsonl", "b.json"):
        (copy / name).symlink_to(copy / "gone")
    (copy / "c.jsonl").mkdir()
    found = read_run(copy).tasks["sums_choice"].samples_file
    assert found is not None
    assert found.name == "zz.jsonl"


def test_a_folder_of_baselines_asks_for_the_file(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text('{"format": "eft-eval baseline"}')
    with pytest.raises(ConfigError, match="or a baseline file by its name"):
        read_run(tmp_path)


def test_several_models_must_be_told_apart(tmp_path: Path) -> None:
    for model in ("one", "two"):
        write_run(tmp_path, {"t": {"acc": [1.0, 0.0]}}, model=model)
    with pytest.raises(ConfigError, match=r"several models; give one of their folders: one .*two"):
        read_run(tmp_path)
    assert read_run(tmp_path / "one").model == "one"
    assert [file.model for file in find_results(tmp_path / "two")] == ["two"]


def test_equal_dates_of_other_lengths_sort_by_time(tmp_path: Path) -> None:
    write_run(tmp_path, {"t": {"acc": [1.0]}}, stamp="2026-11-20T10-00-00")
    write_run(tmp_path, {"t": {"acc": [0.0]}}, stamp="2026-11-20T10-00-00.5")
    assert read_run(tmp_path).tasks["t"].columns[MetricKey("acc", "none")].values == (0.0,)


def test_clusters_by_a_field(tmp_path: Path) -> None:
    folder = write_run(tmp_path, {"t": {"acc": [1.0, 0.0]}}, documents=["a", "b"])
    items = read_run(folder, cluster="doc.text").tasks["t"].pipelines["none"].items
    assert [item.cluster for item in items] == ["a", "b"]
    with pytest.raises(ConfigError, match=r"line 1 has no field 'doc.article'"):
        read_run(folder, cluster="doc.article")


def test_reading_loads_neither_torch_nor_lm_eval(stock: Path) -> None:
    code = (
        "import sys; from eft_eval.comparing import read_run, compare_runs; "
        f"run = read_run({str(stock)!r}); compare_runs(run, [run]); "
        "from eft_eval.reports.ci.forms import FORMS; "
        "bad = {'torch', 'lm_eval', 'transformers', 'datasets'} & set(sys.modules); "
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
