"""Runs and labels of the shapes that were once read wrong: right, or refused in one line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from eft_eval.cli.app import app
from eft_eval.errors import EftEvalError

RECORDS = Path(__file__).parents[1] / "data" / "records"
RUNS = (
    "group_metric_of_some_tasks",
    "infinite_mean",
    "lmeval_0.4.1_limit_without_n-samples",
    "lmeval_0.4.1_no_model_name/A",
    "lmeval_0.4.1_no_model_name/B",
    "lmeval_0.4.2_group_without_subtasks",
    "lmeval_0.4.2_metadata_list",
    "lmeval_0.4.5_samples_without_filter",
    "vllm_hub_model/Qwen",
    "vllm_hub_model/unsloth",
)
SEVERAL_MODELS = ("lmeval_0.4.1_no_model_name", "vllm_hub_model")


def command(*words: str) -> Any:
    return CliRunner().invoke(app, [*words])


def refusal(*words: str) -> str:
    """Return the one line that a command is refused with."""
    done = command(*words)
    assert done.exit_code != 0
    assert isinstance(done.exception, EftEvalError), done.exception
    assert "\n" not in str(done.exception)
    return str(done.exception)


def rows_of(*words: str) -> list[dict[str, str]]:
    done = command("export", *words, "--format", "csv")
    assert done.exit_code == 0, done.exception
    return [*csv.DictReader(io.StringIO(done.stdout))]


@pytest.mark.parametrize("name", RUNS)
def test_each_run_is_reported_and_exported(name: str, tmp_path: Path) -> None:
    source = str(RECORDS / name)
    page = tmp_path / "page.html"
    assert command("report", source, "--out", str(page)).exit_code == 0
    (results,) = (RECORDS / name).glob("results*.json")
    reported = json.loads(results.read_text("utf-8"))["results"]
    exported = {
        (row["task"], f"{row['metric']},{row['filter']}"): float(row["value"])
        for row in rows_of(source, "--allow-limit")
    }
    assert exported == {
        (task, key): value
        for task, entry in reported.items()
        for key, value in entry.items()
        if "," in key and "_stderr" not in key and value != float("inf")
    }
    assert all(task in page.read_text("utf-8") for task in reported)


@pytest.mark.parametrize("name", SEVERAL_MODELS)
@pytest.mark.parametrize(
    "words",
    [
        ("compare", "RUN", "RUN"),
        ("report", "RUN", "--format", "md"),
        ("export", "RUN", "--format", "model-card"),
        ("judge", "RUN", "--judge", "j", "--dry-run"),
    ],
    ids=lambda words: " ".join(words[:1]),
)
def test_two_models_are_never_one(name: str, words: tuple[str, ...]) -> None:
    said = refusal(*(str(RECORDS / name) if word == "RUN" else word for word in words))
    assert "holds the runs of several models; give one of their folders: " in said


def test_two_models_of_one_name_keep_their_owners() -> None:
    found = [rows_of(str(RECORDS / "vllm_hub_model" / owner)) for owner in ("Qwen", "unsloth")]
    assert [row["repository"] for rows in found for row in rows] == [
        "Qwen/Qwen3-8B",
        "unsloth/Qwen3-8B",
    ]
    assert {row["commit"] for rows in found for row in rows} == {""}
    done = command(
        "export", str(RECORDS / "vllm_hub_model" / "Qwen"), "--format", "hf-eval-results",
        "--benchmark", "gsm8k=openai/gsm8k:gsm8k",
    )  # fmt: skip
    assert done.exit_code == 0, done.exception
    assert "value: 0.5" in done.stdout
    assert "its commit is not known" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    "words",
    [
        ("compare", "RUN", "RUN"),
        ("report", "RUN", "--format", "md"),
        ("export", "RUN", "--format", "csv", "--samples"),
        ("judge", "RUN", "--judge", "j", "--prompt", "factuality", "--dry-run"),
        ("labels", "export", "RUN", "--format", "csv", "--out", "labels"),
    ],
    ids=lambda words: " ".join(words[:1]),
)
def test_samples_that_may_be_another_runs_are_refused_by_name(
    words: tuple[str, ...],
) -> None:
    source = str(RECORDS / "samples_of_another_run" / "run_A.json")
    said = refusal(*(source if word == "RUN" else word for word in words))
    assert "2 samples files fit task 'qa': samples_qa_A.jsonl, samples_qa_B.jsonl" in said


def test_a_groups_figures_are_of_the_documents_that_have_the_metric() -> None:
    rows = rows_of(str(RECORDS / "group_metric_of_some_tasks"))
    counts = {row["metric"]: row["n"] for row in rows if row["task"] == "g"}
    assert counts == {"acc": "40", "exact_match": "20"}


def test_a_limit_is_seen_in_the_configuration() -> None:
    source = str(RECORDS / "lmeval_0.4.1_limit_without_n-samples")
    assert "only some documents (--limit)" in refusal("export", source, "--format", "csv")
    assert {row["limited"] for row in rows_of(source, "--allow-limit")} == {"true"}


@pytest.mark.parametrize("name", ["infinite_mean", "lmeval_0.4.5_samples_without_filter"])
def test_runs_with_samples_are_compared(name: str) -> None:
    done = command("compare", str(RECORDS / name), str(RECORDS / name), "--format", "json")
    assert done.exit_code == 0, done.exception
    rows = {row["metric"]: row for row in json.loads(done.stdout)["candidates"][0]["rows"]}
    expected = {"infinite_mean": ("acc", 4, 1.0), "lmeval_0.4.5_samples_without_filter": (
        "exact_match", 4, 0.5,
    )}[name]  # fmt: skip
    metric, documents, mean = expected
    assert rows[metric]["documents"] == documents
    assert rows[metric]["baseline"]["mean"] == mean
    assert rows[metric]["decision"]["outcome"] == "pass"
    for other in rows.keys() - {metric}:
        assert rows[other]["decision"] is None
        assert "2 of 4 values are NaN or infinite" in rows[other]["notes"][0]


@pytest.mark.parametrize(
    ("names", "options", "items", "agreement"),
    [
        (("label_studio_json_min_own_id/a.json", "label_studio_json_min_own_id/b.json"),
         ("--item", "q_id"), 4, 0.75),
        (("label_studio_two_instances/bob.json", "label_studio_two_instances/jane.json"),
         ("--item", "id"), 4, 1.0),
        (("label_studio_two_instances/bob.json", "label_studio_two_instances/jane.json"),
         ("--item", "data.id"), 4, 1.0),
        (("potato1_radio",), (), 6, 4 / 6),
        (("potato1_radio_annotated_instances.tsv",), (), 2, 0.5),
        (("potato2_key_bound_radio",), (), 4, 0.75),
    ],
)  # fmt: skip
def test_labels_of_other_tools_agree_as_counted(
    tmp_path: Path, names: tuple[str, ...], options: tuple[str, ...], items: int, agreement: float
) -> None:
    out = tmp_path / "agreement.json"
    labels = [str(RECORDS / name) for name in names]
    done = command("agree", *(f"--labels={path}" for path in labels), *options, "--json", str(out))
    assert done.exit_code == 0, done.exception
    found = json.loads(out.read_text("utf-8"))
    assert (found["counted"]["items"], found["counted"]["several"]) == (items, items)
    assert len(found["annotators"]) == 2
    assert found["people"]["agreement"]["interval"]["estimate"] == pytest.approx(agreement)


def test_other_texts_under_the_same_ids_are_left_out_and_counted() -> None:
    folder = RECORDS / "label_studio_two_instances"
    said = refusal("agree", *(f"--labels={folder / name}.json" for name in ("bob", "jane")))
    assert "8 × another text under the same item id (--item names another column of ids)" in said


def test_ids_of_the_tools_own_that_join_nothing_are_told_of(tmp_path: Path) -> None:
    folder = RECORDS / "label_studio_json_min_own_id"
    done = command("agree", *(f"--labels={folder / name}.json" for name in "ab"))
    assert done.exit_code == 0
    assert "no item has two ratings" in done.stdout
    assert "name it with --item" in " ".join(done.stdout.split())
