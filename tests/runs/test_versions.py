"""Results of every lm-eval since 0.4.0 and its forks: read right, or refused in one line."""

from __future__ import annotations

import functools
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from written_runs import write_run

from eft_eval.comparing import MetricKey, compare_runs, iter_samples, read_run
from eft_eval.errors import ComparabilityError, ConfigError
from eft_eval.exporting import ClaimSettings, claims_of
from eft_eval.runs.records import Run
from eft_eval.runs.saved import open_run

GENUINE = Path(__file__).parents[1] / "data" / "lm_eval_runs"
VERSIONS = sorted(path.name for path in GENUINE.iterdir())
ACC = MetricKey("acc", "none")


def texts(run: Run, severity: str) -> list[str]:
    return [one.text for one in run.problems if one.severity == severity]


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """Edit the only results file of a folder; return it."""
    (file,) = folder.glob("results*.json")
    content = json.loads(file.read_text("utf-8"))
    edit(content)
    file.write_text(json.dumps(content), "utf-8")
    return file


def update_results(values: dict[str, float], content: dict[str, Any]) -> None:
    content["results"]["t"].update(values)


@pytest.fixture
def genuine(tmp_path: Path) -> Callable[[str], Path]:
    return lambda version: Path(shutil.copytree(GENUINE / version, tmp_path / version))


@pytest.mark.parametrize("version", VERSIONS)
def test_what_each_version_really_wrote(version: str) -> None:
    run = read_run(GENUINE / version)
    assert texts(run, "error") == []
    assert set(run.tasks) == {"sums_choice", "sums_choice_again", "sums_gen", "sums_text"}
    generated = run.tasks["sums_gen"]
    assert [str(key) for key in generated.columns] == ["exact_match,strict", "exact_match,flexible"]
    for column in generated.columns.values():
        assert (column.is_mean, column.values) == (True, (0.0,) * 6)
        assert column.higher_is_better is True
    choice = run.tasks["sums_choice"].columns[ACC]
    numbers = [value for value in choice.values if value is not None]
    assert choice.reported == pytest.approx(sum(numbers) / 6)
    group = run.groups["sums"]
    assert set(group.tasks) == {"sums_choice", "sums_choice_again"}
    both = [run.tasks[name].columns[ACC].reported for name in group.tasks]
    assert group.columns[ACC].reported == pytest.approx(sum(filter(None, both)) / 2)
    assert group.documents[ACC] == (None if version in ("0.4.0", "0.4.2") else 12)
    assert compare_runs(run, [run]).outcome == "pass"


def test_documents_and_prompts_are_the_same_in_all_versions() -> None:
    """Hashes that versions before 0.4.3 did not write are what later versions do."""
    known = read_run(GENUINE / "0.4.5").tasks["sums_gen"].pipelines
    for version in ("0.4.0", "0.4.2", "0.4.3"):  # the others were asked of other documents
        found = read_run(GENUINE / version).tasks["sums_gen"].pipelines
        assert {name: one.items for name, one in found.items()} == {
            name: one.items for name, one in known.items()
        }, version


@pytest.mark.parametrize("version", ["0.4.0", "0.4.2"])
def test_names_of_the_time_before_dates_are_said(version: str) -> None:
    run = read_run(GENUINE / version)
    assert run.model == "org/model-A"
    file = run.tasks["sums_gen"].samples_file
    assert file is not None
    assert file.name == "pretrained__org__model-A_sums_gen.jsonl"
    note = f"samples of 'sums_gen' without a date: {file.name}, named after model and task"
    assert note in texts(run, "note")
    (claim, *_) = claims_of(run, ClaimSettings(metrics=("sums_gen/*",))).tasks[0].claims
    assert note in claim.notes


def test_samples_of_old_versions_have_what_new_ones_have() -> None:
    filters = ("strict", "flexible")
    path = GENUINE / "0.4.0" / "pretrained__org__model-A_sums_gen.jsonl"
    samples = [*iter_samples(path, filters)]
    assert [one.filter for one in samples] == ["strict"] * 6 + ["flexible"] * 6
    assert samples[0].prompt == "What is 0 plus 3?"
    assert samples[0].values == {"exact_match": 0.0}
    saved = open_run(GENUINE / "0.4.0")
    lines = saved.lines(saved.task("sums_gen"))
    assert {name: len(of) for name, of in lines.items()} == dict.fromkeys(filters, 6)


# --- which samples belong to which results --------------------------------------------------------


def undated(folder: Path, name: str, values: list[float]) -> Path:
    """Write a run whose results and samples have no date in their names; return the results."""
    made = write_run(folder / "made", {"qa": {"acc": values}})
    (results,) = made.glob("results_*.json")
    (samples,) = made.glob("samples_*.jsonl")
    target = results.rename(folder / f"run_{name}.json")
    samples.rename(folder / f"samples_qa_{name}.jsonl")
    return target


def test_several_samples_files_that_fit_are_named(tmp_path: Path) -> None:
    one = undated(tmp_path, "A", [1.0, 0.0, 1.0, 0.0])
    other = undated(tmp_path, "B", [0.0, 1.0, 0.0, 1.0])
    for path in (one, other):
        with pytest.raises(ConfigError, match=r"'qa': samples_qa_A\.jsonl, samples_qa_B"):
            read_run(path)
        saved = open_run(path)
        with pytest.raises(ConfigError, match="2 samples files fit"):
            saved.lines(saved.task("qa"))


def test_the_only_file_whose_means_fit_is_taken_and_said(tmp_path: Path) -> None:
    one = undated(tmp_path, "A", [1.0, 0.0, 1.0, 1.0])
    undated(tmp_path, "B", [0.0, 1.0, 0.0, 1.0])
    run = read_run(one)
    assert run.tasks["qa"].samples_file == tmp_path / "samples_qa_A.jsonl"
    assert run.tasks["qa"].columns[ACC].values == (1.0, 0.0, 1.0, 1.0)
    (note,) = texts(run, "note")
    assert "without a date: samples_qa_A.jsonl" in note
    (claim,) = claims_of(run, ClaimSettings()).tasks[0].claims
    assert note in claim.notes


def test_equal_copies_are_one_file(tmp_path: Path) -> None:
    one = undated(tmp_path, "A", [1.0, 0.0, 1.0, 1.0])
    shutil.copy(tmp_path / "samples_qa_A.jsonl", tmp_path / "copy.jsonl")
    assert read_run(one).tasks["qa"].columns[ACC].values == (1.0, 0.0, 1.0, 1.0)


def test_samples_of_another_date_are_of_another_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path, {"qa": {"acc": [1.0, 0.0]}})
    (samples,) = folder.glob("samples_*.jsonl")
    samples.rename(folder / "samples_qa_2026-11-21T10-00-00.000000.jsonl")
    run = read_run(folder)
    assert run.tasks["qa"].samples_file is None
    assert "has no samples file" in " ".join(texts(run, "note"))


def test_no_file_is_taken_whose_means_do_not_fit(tmp_path: Path) -> None:
    one = undated(tmp_path, "A", [1.0, 0.0, 1.0, 1.0])
    undated(tmp_path, "B", [0.0, 1.0, 0.0, 1.0])
    (tmp_path / "samples_qa_A.jsonl").unlink()
    assert read_run(one).tasks["qa"].samples_file is None


# --- numbers of documents -------------------------------------------------------------------------


def test_a_limit_is_seen_without_counts(genuine: Callable[[str], Path]) -> None:
    folder = genuine("0.4.2")
    change(folder, lambda content: content["config"].update(limit=6.0))
    run = read_run(folder)
    with pytest.raises(Exception, match="only some documents") as raised:
        claims_of(run, ClaimSettings())
    assert "\n" not in str(raised.value)
    allowed = claims_of(run, ClaimSettings(allow_limit=True))
    assert all(task.limited for task in allowed.tasks)
    assert "--limit 6 " in allowed.tasks[0].command


def test_what_was_hashed_was_evaluated_whatever_the_count_says(tmp_path: Path) -> None:
    """``--samples`` of lm-eval 0.4.9 to 0.4.11 leaves the count at all documents."""
    counts = {"t": {"original": 50, "effective": 50}}
    folder = write_run(tmp_path, {"t": {"acc": [1.0, 0.0]}}, changes={"n-samples": counts})
    run = read_run(folder)
    assert texts(run, "error") == []
    assert run.tasks["t"].documents == 2
    assert texts(run, "note") == ["t: 2 documents were evaluated; n-samples says 50"]
    with pytest.raises(Exception, match=r"2 of 50 documents \(--limit\)"):
        claims_of(run, ClaimSettings())
    saved = open_run(folder)
    assert len(saved.lines(saved.task("t"))["none"]) == 2


def test_a_group_has_the_documents_of_the_metric(tmp_path: Path) -> None:
    folder = write_run(tmp_path, {"a": {"acc": [1.0] * 20}, "b": {"exact": [1.0] * 5}})

    def grouped(content: dict[str, Any]) -> None:
        content["groups"] = {"g": {"acc,none": 1.0, "exact,none": 1.0}}
        content["group_subtasks"] = {"g": ["a", "b"]}

    change(folder, grouped)
    (exported,) = [one for one in claims_of(read_run(folder), ClaimSettings()).tasks if one.members]
    assert {str(one.key): one.figure.n for one in exported.claims} == {
        "acc,none": 20,
        "exact,none": 5,
    }
    counts = {"acc,none": 19, "exact,none": 4}  # lm-eval's own come first
    change(folder, lambda content: content["groups"]["g"].update(sample_count=counts))
    assert {str(key): n for key, n in read_run(folder).groups["g"].documents.items()} == counts


# --- numbers that are none ------------------------------------------------------------------------


def test_an_infinite_mean_is_left_out_and_blocks_nothing(tmp_path: Path) -> None:
    values = {"acc": [1.0, 1.0, 0.0, 1.0], "mae": [1.0, 2.0, float("inf"), float("nan")]}
    odd = write_run(tmp_path / "a", {"t": values})
    for worth in ({"mae,none": float("inf")}, {"mae,none": float("nan")}):
        change(odd, functools.partial(update_results, worth))
        run = read_run(odd)
        assert texts(run, "error") == []
        assert texts(run, "note") == [
            "t: mae,none is left out: its mean is no finite number, as 2 of 4 values are NaN or "
            "infinite"
        ]
        found = compare_runs(run, [run])
        assert found.outcome == "pass"
        rows = {row.metric: row for row in found.candidates[0].rows}
        assert rows["acc"].decision is not None
        assert rows["mae"].decision is None
        assert "2 of 4 values are NaN or infinite" in rows["mae"].notes[0]
        (task,) = claims_of(run, ClaimSettings()).tasks
        assert [claim.key.metric for claim in task.claims] == ["acc"]
    whole = write_run(tmp_path / "b", {"t": {"acc": values["acc"], "mae": [1.0, 2.0, 3.0, 4.0]}})
    found = compare_runs(read_run(whole), [read_run(odd)])
    reasons = [row.decision.reason for row in found.candidates[0].rows if row.decision]
    assert any("2 of 4 values are NaN or infinite" in reason for reason in reasons)


def test_an_infinite_mean_of_finite_values_is_an_error(tmp_path: Path) -> None:
    folder = write_run(tmp_path, {"t": {"acc": [1.0, 0.0]}})
    change(folder, lambda content: content["results"]["t"].update({"acc,none": float("inf")}))
    assert "reported as no number" in " ".join(texts(read_run(folder), "error"))


# --- other texts under one identity ---------------------------------------------------------------


def test_other_text_under_one_hash_is_left_out_and_counted(tmp_path: Path) -> None:
    one = write_run(tmp_path / "a", {"t": {"acc": [1.0, 0.0, 1.0, 0.0]}})
    other = write_run(tmp_path / "b", {"t": {"acc": [1.0, 1.0, 1.0, 0.0]}})
    (samples,) = other.glob("samples_*.jsonl")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    lines[1]["doc"]["text"] = "another document"
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = compare_runs(read_run(one), [read_run(other)])
    (row,) = found.candidates[0].rows
    assert row.documents == 3
    assert row.difference is not None
    assert row.difference.estimate == 0
    assert any("1 documents left out" in note for note in row.notes)
    for line in lines:
        line["doc"]["text"] = f"other than {line['doc_id']}"
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ComparabilityError, match="all 4 documents are other texts under the same"):
        compare_runs(read_run(one), [read_run(other)])


def test_other_prompts_under_one_hash_are_seen(tmp_path: Path) -> None:
    one = write_run(tmp_path / "a", {"t": {"acc": [1.0, 0.0]}})
    other = write_run(tmp_path / "b", {"t": {"acc": [1.0, 1.0]}})
    (samples,) = other.glob("samples_*.jsonl")
    samples.write_text(samples.read_text().replace("t prompt 1", "Another prompt"))
    with pytest.raises(ComparabilityError, match="prompts of 1 of 2 documents differ"):
        compare_runs(read_run(one), [read_run(other)])


# --- models and files -----------------------------------------------------------------------------


def test_models_without_a_name_are_told_apart_by_their_arguments(tmp_path: Path) -> None:
    for name, task in (("A", "arc"), ("B", "hella")):
        made = write_run(
            tmp_path / name,
            {task: {"acc": [1.0, 0.0]}},
            changes={
                "model_name": None,
                "config": {"model": "hf", "model_args": f"pretrained=org/model-{name},dtype=half"},
            },
        )
        for file in made.iterdir():
            shutil.copy(file, tmp_path / file.name.replace("2026-11-20", f"2026-11-2{len(task)}"))
    assert read_run(tmp_path / "A").model == "org/model-A"
    files = "|".join(r".*results_2026-11-2\d.*" for _ in "AB")
    with pytest.raises(ConfigError, match=f"several models; give one of their files: ({files})"):
        read_run(f"{tmp_path}/results_*.json")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda raw: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS"),
        (gzip.compress, "gzipped"),
        (lambda raw: raw.decode().encode("utf-16"), "UTF-16"),
        (lambda raw: b"PAR1" + raw, "parquet"),
        (lambda raw: b"<!doctype html><title>Sign in</title>", "a web page, such as of a sign-in"),
    ],
)
@pytest.mark.parametrize("kind", ["results", "samples"])
def test_other_files_are_named(
    tmp_path: Path, make: Callable[[bytes], bytes], said: str, kind: str
) -> None:
    folder = write_run(tmp_path, {"t": {"acc": [1.0, 0.0]}})
    (path,) = folder.glob(f"{kind}_*")
    path.write_bytes(make(path.read_bytes()))
    with pytest.raises(ConfigError, match=said) as raised:
        read_run(folder)
    assert str(path) in str(raised.value)


def test_byte_order_marks_and_arrays_are_read(tmp_path: Path) -> None:
    folder = write_run(tmp_path, {"t": {"acc": [1.0, 0.0]}})
    (samples,) = folder.glob("samples_*")
    (results,) = folder.glob("results_*")
    lines = samples.read_text("utf-8").splitlines()
    samples.write_text("\ufeff" + json.dumps([*map(json.loads, lines)], indent=1), "utf-8")
    results.write_text("\ufeff" + results.read_text("utf-8"), "utf-8")
    run = read_run(folder)
    assert texts(run, "error") == []
    assert run.tasks["t"].columns[ACC].values == (1.0, 0.0)


def test_trimmed_and_older_files_are_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", {"t": {"acc": [1.0, 0.0]}, "u": {"acc": [1.0, 0.0]}})
    change(folder, lambda content: content["configs"].pop("u"))
    run = read_run(folder)
    assert [*run.tasks] == ["t"]
    assert any("no configuration of it (trimmed?): u" in note for note in texts(run, "note"))
    file = change(folder, lambda content: content.pop("configs"))
    for source in (folder, file):
        with pytest.raises(ConfigError, match=r"lm-eval before 0\.4\.0, or was trimmed"):
            read_run(source)


def test_a_group_of_unknown_tasks_is_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path, {"t": {"acc": [1.0, 0.0]}})
    change(folder, lambda content: content.update(groups={"g": {"acc,none": 0.5, "alias": "g"}}))
    run = read_run(folder)
    assert run.groups == {}
    assert any("does not say which tasks are in it: g" in note for note in texts(run, "note"))
    assert len(claims_of(run, ClaimSettings()).tasks) == 1


def test_metadata_in_a_list_is_read(tmp_path: Path) -> None:
    folder = write_run(tmp_path, {"t": {"acc": [1.0, 0.0]}})
    change(folder, lambda content: content["configs"]["t"].update(metadata=[{"version": 1.0}]))
    saved = open_run(folder)
    assert saved.task("t").metadata == {"version": 1.0}
