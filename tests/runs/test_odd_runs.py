"""What builds between releases, forks and other hands make of a run: read, or named."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from written_runs import write_run

from eft_eval.comparing import compare_runs, read_run
from eft_eval.comparing.settings import GateSettings
from eft_eval.errors import ClaimError, ComparabilityError, ConfigError
from eft_eval.exporting import ClaimSettings, claims_of
from eft_eval.exporting.identity import model_id
from eft_eval.exporting.models import hub_model
from eft_eval.exporting.publishing import check_one_model
from eft_eval.runs.records import MetricKey
from eft_eval.runs.saved import open_run

GENUINE = Path(__file__).parents[1] / "data" / "lm_eval_runs"
NAN, INF = float("nan"), float("inf")
Copied = Callable[[str], Path]


@pytest.fixture
def genuine(tmp_path: Path) -> Copied:
    """Copies a genuine run of a version."""
    return lambda version: Path(shutil.copytree(GENUINE / version, tmp_path / version))


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    (path,) = folder.glob("results*.json")
    content = json.loads(path.read_text("utf-8"))
    edit(content)
    path.write_text(json.dumps(content), "utf-8")


def edit_lines(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for line in lines:
        edit(line)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def notes_of(folder: Path) -> str:
    return " ".join(one.text for one in read_run(folder).problems)


@pytest.mark.parametrize("array", [True, False])
def test_samples_named_json_as_builds_before_0_4_3_wrote_them(genuine: Copied, array: bool) -> None:
    folder = genuine("0.4.3")
    whole = read_run(folder).tasks
    for path in folder.glob("samples_*.jsonl"):
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        text = json.dumps(lines, indent=2) if array else path.read_text("utf-8")
        path.with_suffix(".json").write_text(text, "utf-8")
        path.unlink()
    found = read_run(folder).tasks
    assert {name: task.columns for name, task in found.items()} == {
        name: task.columns for name, task in whole.items()
    }
    assert all(task.samples_file and not task.undated for task in found.values())


def test_what_0_4_2_wrote_of_tasks_with_lists_of_metadata_and_groups_without_subtasks(
    genuine: Copied,
) -> None:
    folder = genuine("0.4.2")
    whole = read_run(folder)
    assert {*whole.groups["sums"].tasks} == {"sums_choice", "sums_choice_again"}
    assert [c.higher_is_better for c in whole.groups["sums"].columns.values()] == [True, True]

    def older(content: dict[str, Any]) -> None:
        content.pop("group_subtasks", None)
        for config in content["configs"].values():
            config["metadata"] = [{"version": 1.0}, {"description": "a list"}]
        for name in ("sums_choice", "sums_choice_again"):
            content["configs"][name]["group"] = "sums"
            content["results"][name]["alias"] = name  # not indented

    change(folder, older)
    run = read_run(folder)
    assert {*run.groups["sums"].tasks} == {*whole.groups["sums"].tasks}
    assert run.groups["sums"].columns == whole.groups["sums"].columns
    assert {name: task.columns for name, task in run.tasks.items()} == {
        name: task.columns for name, task in whole.tasks.items()
    }
    assert all(task.samples_file for task in run.tasks.values())
    rows = compare_runs(run, [whole]).candidates[0].rows
    assert {(row.name, row.documents) for row in rows if row.task == "sums"} == {
        ("sums/acc,none", 12),
        ("sums/acc_norm,none", 12),
    }
    exported = {str(c.key): c for t in claims_of(run, ClaimSettings()).tasks for c in t.claims}
    assert exported["acc,none"].higher_is_better is True


def test_a_groups_direction_is_none_where_its_tasks_have_two(genuine: Copied) -> None:
    folder = genuine("0.4.2")

    def turned(content: dict[str, Any]) -> None:
        for one in content["configs"]["sums_choice"]["metric_list"]:
            one["higher_is_better"] = False

    change(folder, turned)
    columns = read_run(folder).groups["sums"].columns.values()
    assert [one.higher_is_better for one in columns] == [None, None]


def test_an_emptied_samples_file_is_no_pass(genuine: Copied) -> None:
    folder = genuine("0.4.8")
    whole = read_run(folder)
    (samples,) = folder.glob("samples_sums_gen_*")
    samples.write_text("")
    damaged = read_run(folder)
    for baseline, candidate in ((damaged, damaged), (damaged, whole), (whole, damaged)):
        with pytest.raises(ComparabilityError, match=r"sums_gen.*holds no samples"):
            compare_runs(baseline, [candidate])
    found = compare_runs(damaged, [whole], GateSettings(gated=("sums_choice/*",)))
    assert found.outcome == "pass"


def test_an_emptied_samples_file_of_a_task_of_the_candidate_alone_is_a_note(tmp_path: Path) -> None:
    known = {"t": {"acc": [1.0, 0.0, 1.0]}}
    more = write_run(tmp_path / "more", {**known, "u": {"acc": [1.0, 0.0]}})
    (samples,) = more.glob("samples_u_*")
    samples.write_text("")
    found = compare_runs(read_run(write_run(tmp_path / "known", known)), [read_run(more)])
    assert found.outcome == "pass"
    assert "holds no samples" in " ".join(found.candidates[0].notes)


def test_a_metric_that_no_document_has_a_number_of_gates_nothing(tmp_path: Path) -> None:
    odd = {"t": {"acc": [1.0, 0.0, 1.0], "loss": [INF, NAN, INF]}}
    none = read_run(write_run(tmp_path / "a", odd))
    found = compare_runs(none, [none])
    rows = {row.metric: row for row in found.candidates[0].rows}
    assert (found.outcome, rows["loss"].decision) == ("pass", None)
    assert "3 of 3 documents left out" in rows["loss"].notes[0]
    whole = read_run(write_run(tmp_path / "b", {"t": {**odd["t"], "loss": [1.0, 2.0, 3.0]}}))
    assert compare_runs(whole, [none]).outcome == "regression"
    assert compare_runs(none, [whole]).outcome == "pass"
    alone = read_run(write_run(tmp_path / "c", {"t": {"loss": [INF, NAN]}}))
    with pytest.raises(ComparabilityError, match=r"no metric that can be gated.*NaN or infinite"):
        compare_runs(alone, [alone])


@pytest.mark.parametrize(("figure", "said"), [(0.5, False), (0.45, False), (0.9, True)])
def test_a_groups_figure_beyond_all_its_tasks_is_said(
    tmp_path: Path, figure: float, said: bool
) -> None:
    columns = {"t": {"acc": [1.0, 0.0, 1.0, 0.0]}, "u": {"acc": [1.0, 0.0, 0.0, 0.0, 0.0]}}
    folder = write_run(tmp_path / "a", columns)
    group = {"alias": "g", "acc,none": figure}

    def edit(content: dict[str, Any]) -> None:
        content["groups"] = {"g": group}
        content["results"]["g"] = group
        content["group_subtasks"] = {"g": ["t", "u"]}

    change(folder, edit)
    beyond = "group 'g': acc,none is 0.9, and its tasks have 0.2 to 0.5: no mean of these"
    assert (beyond in notes_of(folder)) is said


def test_directions_that_differ_are_said(tmp_path: Path) -> None:
    columns = {"t": {"acc": [1.0, 0.0, 1.0, 0.0], "loss": [1.0, 2.0, 3.0, 4.0]}}
    old = read_run(write_run(tmp_path / "a", columns))
    new = read_run(write_run(tmp_path / "b", columns, better={"loss": False}))
    rows = {row.metric: row for row in compare_runs(old, [new]).candidates[0].rows}
    said = "better is higher in the baseline, which counts here, and lower in the candidate"
    assert [said in " ".join(rows[name].notes) for name in ("acc", "loss")] == [False, True]
    assert rows["loss"].better == "higher"


def test_a_text_among_the_figures_blocks_no_other(genuine: Copied) -> None:
    folder = genuine("0.4.8")
    change(folder, lambda content: content["results"]["sums_gen"].update({"note,strict": "n/a"}))
    run = read_run(folder)
    assert [one for one in run.problems if one.severity == "error"] == []
    assert "note,strict is left out: it is reported as no number" in notes_of(folder)
    assert compare_runs(run, [run]).outcome == "pass"


def test_figures_without_a_filter_are_said_to_be_left_out(genuine: Copied) -> None:
    folder = genuine("0.4.8")

    def bare(content: dict[str, Any]) -> None:
        for name, entry in content["results"].items():
            found = {key.split(",")[0]: value for key, value in entry.items()}
            content["results"][name] = found

    change(folder, bare)
    assert "names no filter (lm-eval 0.4 writes acc,none) of: sums_choice, " in notes_of(folder)
    run = read_run(folder)
    with pytest.raises(ComparabilityError, match="names no filter"):
        compare_runs(run, [run])


def test_compressed_samples_are_named(genuine: Copied) -> None:
    folder = genuine("0.4.8")
    (path,) = folder.glob("samples_sums_gen_*")
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert f"the samples of 'sums_gen' are compressed: {path.name}.gz" in notes_of(folder)
    with pytest.raises(ComparabilityError, match=r"are compressed: samples_.*\.gz: unpack it"):
        compare_runs(read_run(GENUINE / "0.4.8"), [read_run(folder)])
    saved = open_run(folder)
    with pytest.raises(ConfigError, match=r"only samples_sums_gen_.*\.gz: unpack it"):
        saved.lines(saved.task("sums_gen"))


def test_ids_that_a_table_made_floats_are_numbers(genuine: Copied) -> None:
    folder = genuine("0.4.11")
    whole = read_run(folder).tasks["sums_gen"].pipelines
    (path,) = folder.glob("samples_sums_gen_*")
    edit_lines(path, lambda line: line.update(doc_id=float(line["doc_id"])))
    assert read_run(folder).tasks["sums_gen"].pipelines == whole
    for odd in (0.5, 10**30):  # neither is an id, and no table holds the latter
        edit_lines(path, lambda line, odd=odd: line.update(doc_id=int(line["doc_id"]) + odd))  # type: ignore[misc]
        assert "12 unreadable line(s)" in notes_of(folder)


@pytest.mark.parametrize("written", [None, [None], [[None]]])
def test_a_response_that_never_came_is_one_null(genuine: Copied, written: Any) -> None:
    folder = genuine("0.4.11")
    (path,) = folder.glob("samples_sums_gen_*")
    edit_lines(path, lambda line: line.update(resps=written) if line["doc_id"] == 0 else None)
    saved = open_run(folder)
    lines = saved.lines(saved.task("sums_gen"))["strict"]
    assert next([*one.judged] for one in lines.values()) == [None]
    edit_lines(path, lambda line: line.pop("resps"))
    saved = open_run(folder)
    lines = saved.lines(saved.task("sums_gen"))["strict"]
    assert {len(one.responses) for one in lines.values()} == {0}


@pytest.mark.parametrize("added", ["steer_path=/x", "peft=o/a", "lora_local_path=/x", "delta=o/d"])
def test_what_lies_on_a_hub_model_is_none_of_its_own(added: str) -> None:
    config = {"model": "vllm", "model_args": "pretrained=org/m"}
    assert hub_model(config, "org/m").repository == "org/m"
    config["model_args"] += f",{added}"
    found = hub_model(config, "org/m")
    assert (found.repository, found.below) == (None, ("org/m",))


def test_numbers_of_every_json_kind(tmp_path: Path) -> None:
    folder = write_run(tmp_path, {"t": {"acc": [1.0, 0.0, 1.0, 0.0]}})
    (path,) = folder.glob("samples_*")
    kinds = iter([True, False, 1, 0])
    edit_lines(path, lambda line: line.update(acc=next(kinds)))
    column = read_run(folder).tasks["t"].columns[MetricKey("acc", "none")]
    assert column.values == (1.0, 0.0, 1.0, 0.0)


VARIANTS = ("peft=o/a", "peft=o/b", "revision=step1000", "subfolder=last", "gguf_file=q4.gguf", "")


def variant_run(folder: Path, added: str, number: int, backend: str = "hf") -> Path:
    arguments = f"pretrained=org/m,dtype=float16{',' if added else ''}{added}"
    return write_run(
        folder,
        {f"t{number}": {"acc": [1.0, 0.0]}},
        model="org__m",
        stamp=f"2026-11-2{number}T10-00-00.000000",
        changes={
            "model_name": "org/m",
            "date": 1770000000.0 + number,
            "config": {"model": backend, "model_args": arguments},
        },
    )


def test_models_that_lm_eval_gives_one_name_are_never_one(tmp_path: Path) -> None:
    for number, added in enumerate(VARIANTS):
        variant_run(tmp_path / "all", added, number)  # lm-eval puts them into one folder
        if added:
            pair = tmp_path / f"pair{number}"
            folder = variant_run(pair, "", 0)
            variant_run(pair, added, 1)
            with pytest.raises(ConfigError, match="several models; give one of their files"):
                read_run(folder)
    with pytest.raises(ConfigError, match=r"org/m with peft=o/a \(.*, org/m with peft=o/b \("):
        read_run(tmp_path / "all")
    folder = variant_run(tmp_path / "one", "", 0)
    for number, added in ((1, "revision=main"), (2, "batch_size=4"), (3, "peft=None")):
        variant_run(tmp_path / "one", added, number)
    assert {*read_run(folder).tasks} == {"t0", "t1", "t2", "t3"}


def test_claims_name_what_makes_another_model_of_one_name(tmp_path: Path) -> None:
    found = []
    for number, added in enumerate((*VARIANTS, "lora_local_path=/home/me/lora-7")):
        run = read_run(variant_run(tmp_path / str(number), added, number, backend="vllm"))
        found.append(claims_of(run, ClaimSettings()))
    assert [one.model for one in found] == [
        "org/m (peft=o/a)",
        "org/m (peft=o/b)",
        "org/m (revision=step1000)",
        "org/m (subfolder=last)",
        "org/m (gguf_file=q4.gguf)",
        "org/m",
        "org/m (lora_local_path=lora-7)",
    ]
    kept = ["org/m"] * 4
    assert [one.repository for one in found] == [None, None, *kept, None]
    names = {model_id(one, "lab", None) for one in found}
    assert names == {"org/m", "lab/org-m--peft-o-a-", "lab/org-m--peft-o-b-",
                     "lab/org-m--lora_local_path-lora-7-"}  # fmt: skip
    with pytest.raises(ClaimError, match="holds one model, given are 2"):
        check_one_model(found[:2], "model-card")
    commit = read_run(variant_run(tmp_path / "c", f"revision={'c' * 40}", 0, backend="vllm"))
    claimed = claims_of(commit, ClaimSettings())
    assert (claimed.model, claimed.commit) == ("org/m", "c" * 40)
