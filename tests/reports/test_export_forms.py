"""The forms of an export: golden files, what reads them back, and what must not be in them.

    python -m pytest tests/reports/test_export_forms.py --regenerate-golden

writes the golden files anew; look at what changed before committing it.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import exported_runs as runs
import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from huggingface_hub.utils import validate_repo_id
from hypothesis import given
from hypothesis import strategies as st
from written_runs import write_run

from eft_eval.errors import ClaimError, ConfigError
from eft_eval.exporting import ClaimSettings, RunClaim, read_claims
from eft_eval.exporting.benchmarks import Benchmark, read_benchmarks
from eft_eval.exporting.documents import documents_of
from eft_eval.exporting.identity import path_part, record_uuid
from eft_eval.exporting.publishing import (
    check_card,
    check_distinct,
    check_not_component,
    check_public,
    check_repository,
    check_url,
    merged,
    stated,
)
from eft_eval.judging import Status
from eft_eval.labels.texts import from_cell
from eft_eval.reports.exports import every_eval_ever as export_eee
from eft_eval.reports.exports import table as export_table
from eft_eval.reports.exports.every_eval_ever import Evaluator
from eft_eval.reports.exports.every_eval_ever_samples import eee_files
from eft_eval.reports.exports.hub import hub_files
from eft_eval.reports.exports.model_card import model_card
from eft_eval.reports.exports.phrases import limits
from eft_eval.reports.exports.table import (
    Table,
    claims_table,
    documents_table,
    table_csv,
    write_parquet,
)

GOLDEN = (Path(__file__).parents[1] / "data") / "export"
REPOSITORY = "somebody/large-small-chat"
LAB = Evaluator("Some Lab", "first_party", None)
REVISION = "5503434ddd753f426f4b38109466949a1217c2bb"
BENCHMARKS = {"eli5_fact": Benchmark("some-lab/eli5-facts", "fact_errors", REVISION)}


@pytest.fixture(autouse=True)
def one_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the version of eft-eval out of the golden files."""
    for module in (export_eee, export_table):
        monkeypatch.setattr(module, "__version__", "9.9.9")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunClaim:
    monkeypatch.chdir(tmp_path)
    return written()


def written(**options: Any) -> RunClaim:
    verdicts = options.pop("verdicts", ())
    folder = runs.write_composite_run(Path("run"), verdicts)
    (found,) = read_claims([folder], ClaimSettings(**options))
    return found


def one_metric(run: RunClaim) -> RunClaim:
    return replace(run, tasks=tuple(replace(task, claims=task.claims[:1]) for task in run.tasks))


def projections(run: RunClaim) -> dict[str, str]:
    eee = eee_files([run], LAB, samples=True)
    (aggregate,) = (text for name, text in eee.items() if name.endswith(".json"))
    (samples,) = (text for name, text in eee.items() if name.endswith(".jsonl"))
    (entry,) = hub_files(one_metric(run), BENCHMARKS, "https://example.org/x").values()
    card = model_card(run, REPOSITORY)
    return {
        "eee.json": aggregate,
        "eee_samples.jsonl": samples,
        "eval_results.yaml": entry,
        "model_card.md": card,
        "claims.csv": table_csv(claims_table([run])),
        "documents.csv": table_csv(documents_table([run])),
    }


NAMES = (
    "eee.json",
    "eee_samples.jsonl",
    "eval_results.yaml",
    "model_card.md",
    "claims.csv",
    "documents.csv",
)


@pytest.mark.parametrize("name", NAMES)
def test_golden_files(run: RunClaim, name: str, request: pytest.FixtureRequest) -> None:
    text = projections(run)[name]
    file = GOLDEN / name
    if request.config.getoption("--regenerate-golden"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="")
    assert text == file.read_bytes().decode("utf-8")


def test_the_same_run_gives_the_same_bytes(run: RunClaim, tmp_path: Path) -> None:
    assert projections(run) == projections(written())
    for name in ("a", "b"):
        write_parquet(claims_table([run]), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_form_says_limit_and_unknown_verdicts(run: RunClaim) -> None:
    limited = written(verdicts=[0, 1] * 10 + [Status.refused], max_unknown=0.5, allow_limit=True)
    file, content = runs.results_of(Path("run") / runs.NAME)
    content["n-samples"]["eli5_fact"]["original"] = 400
    content["config"]["limit"] = 21.0
    file.write_text(json.dumps(content))
    (limited,) = read_claims(["run"], ClaimSettings(max_unknown=0.5, allow_limit=True))
    texts = projections(limited)
    record = json.loads(texts["eee.json"])
    details = record["evaluation_results"][0]["score_details"]["details"]
    assert (details["limited"], details["documents_available"]) == ("true", "400")
    assert (details["verdicts_refused"], details["documents_without_score"]) == ("1", "1")
    for name in ("eval_results.yaml", "model_card.md"):
        flat = " ".join(texts[name].split())
        assert "21 of 400 documents only (--limit)" in flat, name
        assert "1 of 21 verdicts no answer" in flat, name
        assert "could lie from" in flat, name
    (row, *_) = csv.DictReader(io.StringIO(texts["claims.csv"]))
    assert (row["limited"], row["documents_available"]) == ("true", "400")
    assert (row["verdicts_unknown"], json.loads(row["verdicts"])["refused"]) == ("1", 1)


def test_no_folder_of_this_machine_is_in_any_form(tmp_path: Path) -> None:
    folder = runs.write_composite_run(tmp_path / "run")
    (found,) = read_claims([folder], ClaimSettings())
    for name, text in projections(found).items():
        assert str(tmp_path) not in text, name
        assert "/tmp" not in text, name


# --- Every Eval Ever: our own reading of its rules; its command has a test of its own -------------


def walk(value: object, path: str = "") -> Any:
    yield path, value
    if isinstance(value, dict):
        for key, one in value.items():
            yield from walk(one, f"{path}/{key}")
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from walk(one, f"{path}/{number}")


def test_eee_keeps_the_rules_of_its_schema(run: RunClaim) -> None:
    files = eee_files([run], LAB, samples=True)
    (name,) = (name for name in files if name.endswith(".json"))
    record = json.loads(files[name])
    assert re.fullmatch(
        r"data/eli5_fact/Some-Lab/eft_[\w.+-]+/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab]"
        r"[0-9a-f]{3}-[0-9a-f]{12}\.json",
        name,
    )
    for path, value in walk(record):
        if path.endswith(("additional_details", "score_details/details")):
            assert all(isinstance(one, str) for one in value.values()), path
        assert value is not None, path
    for result in record["evaluation_results"]:
        config, score = result["metric_config"], result["score_details"]
        lowest, highest = (float(config[key]) for key in ("min_score", "max_score"))
        assert lowest <= score["score"] <= highest
        if interval := score["uncertainty"].get("confidence_interval"):
            assert lowest <= interval["lower"] <= score["score"] <= interval["upper"] <= highest
        scoring = config["llm_scoring"]
        assert scoring["judges"][0]["model_info"]["id"] == f"openai/{runs.JUDGE}"
        assert scoring["judges"][0]["temperature"] == 0
        assert "{{ response }}" in scoring["input_prompt"]
    lines = files[name.replace(".json", "_samples.jsonl")].splitlines()
    rows = [json.loads(line) for line in lines]
    results = {one["evaluation_result_id"]: one for one in record["evaluation_results"]}
    for identifier, result in results.items():
        scores = [r["evaluation"]["score"] for r in rows if r["evaluation_result_id"] == identifier]
        assert math.fsum(scores) / len(scores) == pytest.approx(result["score_details"]["score"])
        assert len(scores) == result["score_details"]["uncertainty"]["num_samples"]
    reference = record["detailed_evaluation_results"]
    assert reference["total_rows"] == len(rows)
    assert reference["additional_details"] == {"documents_without_score": "2"}
    assert {row["evaluation_id"] for row in rows} == {record["evaluation_id"]}
    correct = [row["evaluation"]["is_correct"] for row in rows]
    assert correct == [row["evaluation"]["score"] == 0 for row in rows]


def test_eee_names_change_with_the_result_alone(run: RunClaim) -> None:
    first = json.loads(projections(run)["eee.json"])
    file, content = runs.results_of(Path("run") / runs.NAME)
    content["results"]["eli5_fact"]["alias"] = "renamed"
    file.write_text(json.dumps(content))
    (other,) = read_claims(["run"], ClaimSettings(level=0.9))
    second = json.loads(projections(other)["eee.json"])
    assert first["evaluation_id"] != second["evaluation_id"]
    assert first["retrieved_timestamp"] == second["retrieved_timestamp"] == "1763632800.5"
    assert first["evaluation_timestamp"] == "2025-11-20T10:00:00Z"
    assert len({record_uuid(text) for text in ("a", "b", "a")}) == 2


def test_eee_needs_the_judge_prompts_text_and_a_direction(run: RunClaim) -> None:
    (task,) = run.tasks
    judge = replace(task.claims[0].judge, prompt_text=None)
    without = replace(task, claims=(replace(task.claims[0], judge=judge),))
    with pytest.raises(ClaimError, match=r"is not here; name its file with --judge-prompt"):
        eee_files([replace(run, tasks=(without,))], LAB, samples=False)
    unknown = replace(task, claims=(replace(task.claims[0], higher_is_better=None),))
    with pytest.raises(ClaimError, match="does not say whether a higher eli5_fact/fact_errors"):
        eee_files([replace(run, tasks=(unknown,))], LAB, samples=False)
    undated = replace(task, started=None)
    with pytest.raises(ClaimError, match="the results file has no date"):
        eee_files([replace(run, tasks=(undated,))], LAB, samples=False)


@given(st.text())
def test_any_name_becomes_a_folders(name: str) -> None:
    part = path_part(name)
    assert re.fullmatch(r"[\w.+-]+", part, re.ASCII)
    assert part not in (".", "..", "data")
    assert not part.endswith(".")


# --- the hub --------------------------------------------------------------------------------------


def test_eval_results_are_parsed_back_by_the_hubs_client(run: RunClaim) -> None:
    ((name, text),) = hub_files(one_metric(run), BENCHMARKS, "https://x.org/y").items()
    assert name == ".eval_results/eli5_fact.yaml"
    (entry,) = parse_eval_result_entries(yaml.safe_load(text))
    claim = run.tasks[0].claims[0]
    assert (entry.dataset_id, entry.task_id) == ("some-lab/eli5-facts", "fact_errors")
    assert entry.value == claim.figure.value
    assert entry.dataset_revision == REVISION
    assert entry.date == "2025-11-20T10:00:00Z"
    assert entry.source_url == "https://x.org/y"
    assert entry.notes is not None
    for words in ("n = 11", "lower is better", runs.NAME, "of no member alone", runs.JUDGE):
        assert words in entry.notes, words
    validate_repo_id(entry.dataset_id)


def test_a_card_is_read_back_by_the_hubs_client(run: RunClaim, tmp_path: Path) -> None:
    text = model_card(run, REPOSITORY)
    file = tmp_path / "README.md"
    file.write_text(text, encoding="utf-8")
    card = ModelCard.load(file)
    assert card.data.base_model == list(runs.MEMBERS.values())
    assert card.data.model_name == "large-small-chat"
    found = {
        (one.dataset_name, one.metric_type, one.metric_args["filter"]): one
        for one in card.data.eval_results
    }
    (task,) = run.tasks
    assert len(found) == len(task.claims)
    for claim in task.claims:
        result = found[task.name, claim.key.metric, claim.key.filter]
        assert result.metric_value == claim.figure.value
        interval = claim.figure.interval
        ends = None if interval is None else [interval.lower, interval.upper]
        assert result.metric_args.get("interval") == ends
        assert result.metric_args["n"] == claim.figure.n
    composite = run.composite
    assert composite is not None
    (recipe,) = re.findall(r"```yaml\n(.*?)```", card.text, re.DOTALL)
    assert recipe == composite.recipe
    assert all(runs.commit_of(name) in card.text for name in runs.MEMBERS.values())
    assert "holds no weights" in card.text


def test_tasks_of_one_data_set_stay_apart_in_a_card(run: RunClaim) -> None:
    (task,) = run.tasks
    data = replace(task.data, repository="some/data", name="some/data")
    both = (replace(task, data=data), replace(task, name="eli5_other", data=data))
    text = model_card(replace(run, tasks=both), REPOSITORY)
    results = ModelCard(text).data.eval_results
    assert {result.dataset_name for result in results} == {"eli5_fact", "eli5_other"}
    assert len(results) == 2 * len(task.claims)
    text = model_card(replace(run, tasks=both[:1]), REPOSITORY)
    assert {result.dataset_type for result in ModelCard(text).data.eval_results} == {"some/data"}


def test_names_are_nobodys_markup_in_a_card(run: RunClaim) -> None:
    evil = "a|b<script>alert(1)</script>\n## c [d](e) ``` `f`"
    (task,) = run.tasks
    hostile = replace(task, name=evil, command=f"lm_eval {evil}")
    text = model_card(replace(run, tasks=(hostile,)), REPOSITORY)
    body = ModelCard(text).text
    before, _, code = body.partition("## Evaluate it again")
    assert "<script" not in before
    assert "[d](e)" not in before
    rows = [line for line in before.splitlines() if "alert" in line and line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {9}
    assert re.search(r"^````bash\n.*?^````$", code, re.DOTALL | re.MULTILINE)


# --- under which name -----------------------------------------------------------------------------

NO_REPOSITORIES = (
    *("", "large", "a/b/c", "a /b", "a/b.git", "a/b--c", "/b", "a/", "-a/b", "a/..", "é/b"),
    "a/" + "b" * 100,
)


@pytest.mark.parametrize("name", [*runs.MEMBERS.values(), "Tiny-Lab/LARGE"])
def test_members_repositories_are_refused(run: RunClaim, name: str) -> None:
    for check in (
        lambda: check_card(run, name, "model-card"),
        lambda: check_card(run, name, "hf-eval-results"),
        lambda: check_not_component(run, name),
    ):
        with pytest.raises(ClaimError, match="the scores are not that model's"):
            check()
    assert check_card(run, REPOSITORY, "model-card") == REPOSITORY
    with pytest.raises(ConfigError, match="a composite has no repository of its own"):
        check_card(run, None, "model-card")


@pytest.mark.parametrize("name", NO_REPOSITORIES)
def test_what_is_no_repository_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is no repository of the hub; expected OWNER/NAME"):
        check_repository(name)


@given(st.from_regex(r"[\w.-]{1,20}/[\w.-]{1,20}", fullmatch=True))
def test_what_we_take_for_a_repository_the_hubs_client_does_too(name: str) -> None:
    try:
        check_repository(name)
    except ConfigError:
        return
    validate_repo_id(name)


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("demo", {"model": "demo:large-base", "commit": None}, "base is the demo's toy model"),
        ("folder", {"model": "large", "commit": None}, "base is the local folder large"),
        ("hub", {"commit": None}, "the commit of base tiny-lab/large is not in the run"),
    ],
)
def test_members_that_nobody_can_load_are_refused(
    run: RunClaim, kind: str, change: dict[str, Any], said: str
) -> None:
    assert run.composite is not None
    first, *others = run.composite.members
    members = (replace(first, kind=kind, **change), *others)
    other = replace(run, composite=replace(run.composite, members=members))
    for form in ("model-card", "hf-eval-results"):
        with pytest.raises(ClaimError, match=said):
            check_card(other, REPOSITORY, form)
    if kind == "demo":
        with pytest.raises(ClaimError, match="leave --repo out"):
            check_not_component(other, REPOSITORY)


def test_a_hub_models_scores_stay_its_own(run: RunClaim) -> None:
    single = replace(run, composite=None, model="a/b", repository="a/b", commit="0" * 40)
    assert check_card(single, None, "hf-eval-results") == "a/b"
    assert check_card(single, "A/B", "hf-eval-results") == "a/b"
    with pytest.raises(ClaimError, match="--repo c/d: the scores are those of a/b"):
        check_card(single, "c/d", "hf-eval-results")
    card = model_card(single, "a/b")
    assert "# b\n\nScores of a/b, evaluated with lm-evaluation-harness." in card
    assert "composite" not in card.partition("## Results")[0]
    assert ModelCard(card).data.base_model is None
    assert len(ModelCard(card).data.eval_results) == sum(len(task.claims) for task in run.tasks)
    unknown = replace(single, repository=None)
    with pytest.raises(ClaimError, match=r"is not known as one of the hub.*--repo OWNER/NAME"):
        check_card(unknown, "a/b", "hf-eval-results")
    files = eee_files([unknown], LAB, samples=False)
    assert all(name.startswith("data/eli5_fact/Some-Lab/a-b/") for name in files)


def test_a_model_of_a_folder_is_named_by_its_user(run: RunClaim) -> None:
    unknown = replace(run, composite=None, model="b", path="/x/b", below=("a/base",))
    named = stated(unknown, "c/d")
    assert check_card(named, "c/d", "hf-eval-results") == "c/d"
    with pytest.raises(ClaimError, match="--repo A/base is what b lies on"):
        stated(unknown, "A/base")
    with pytest.raises(ConfigError, match="is no repository of the hub"):
        stated(unknown, "no repository")
    assert stated(run, "c/d") is run, "a composite's card is another matter"
    said = "model c/d is known by whoever exported it (--repo)"
    assert any(said in text for text in limits(named, named.tasks[0]))
    twin = replace(unknown, path="/y/b", label="there")
    with pytest.raises(ClaimError, match="two models that are both called b; export them apart"):
        check_distinct([unknown, twin], "eee")
    check_distinct([unknown, unknown], "eee")


@pytest.mark.parametrize(
    ("config", "name", "known"),
    [
        ({"model_args": {"pretrained": "a/b"}, "model_sha": "0" * 40}, "a/b", True),
        ({"model_args": "dtype=auto,pretrained=a/b", "model_sha": "0" * 40}, "a/b", True),
        ({"model_args": {"pretrained": "a/b"}, "model_sha": ""}, "a/b", False),
        ({"model_args": {"pretrained": "/x/a/b"}, "model_sha": ""}, "/x/a/b", False),
        ({"model_args": {"pretrained": "a/b", "peft": "c/d"}, "model_sha": "0" * 40}, "c/d", False),
        ({"model_args": {"pretrained": "a/b", "peft": "a/b"}, "model_sha": "0" * 40}, "a/b", False),
        ({"model_args": "pretrained=a/b,dtype=half"}, "a/b", True),
        ({"model_args": "pretrained=a/b", "model_sha": None}, "a/b", True),
        ({"model_args": "pretrained=/x/a/b"}, "/x/a/b", False),
        ({"model_args": "pretrained=a/b,lora_local_path=/x/y"}, "a/b", False),
        ({"model_args": "pretrained=a/b,enable_lora=False"}, "a/b", True),
        ({"model_args": "model=a/b,base_url=http://x:1/v1/completions"}, "a/b", True),
        ({"model_args": "model=a/b,pretrained=c/d"}, "c/d", False),
        ({"model_args": "model=gpt-x"}, "gpt-x", False),
    ],
)
def test_which_single_models_are_the_hubs(
    tmp_path: Path, config: dict[str, Any], name: str, known: bool
) -> None:
    changes = {"config": {"model": "hf", **config}, "model_name": name, "date": runs.STARTED}
    write_run(tmp_path, {"t": {"acc": [1.0, 0.0]}}, changes=changes)
    (found,) = read_claims([tmp_path], ClaimSettings())
    assert (found.repository == name) is known
    assert not found.model.startswith("/")


def test_one_model_and_each_task_once(run: RunClaim) -> None:
    with pytest.raises(ClaimError, match="model-card holds one model, given are 2"):
        merged([run, replace(run, model="other", label="there")], "model-card")
    with pytest.raises(ClaimError, match="task 'eli5_fact' is in 2 of the runs"):
        merged([run, run], "model-card")
    (task,) = run.tasks
    second = replace(run, tasks=(replace(task, name="more"),))
    assert [one.name for one in merged([run, second], "model-card").tasks] == ["eli5_fact", "more"]
    assert second.composite is not None
    other = replace(second, composite=replace(second.composite, members=()))
    with pytest.raises(ClaimError, match="members differ in commit or type"):
        merged([run, other], "model-card")


def test_scripted_judges_and_baselines_are_not_published(run: RunClaim) -> None:
    (task,) = run.tasks
    judge = replace(task.claims[0].judge, kind="scripted", model="scripted:rules.yaml")
    scripted = replace(run, tasks=(replace(task, claims=(replace(task.claims[0], judge=judge),)),))
    with pytest.raises(ClaimError, match="comes from a scripted judge"):
        check_public(scripted, "eee")
    with pytest.raises(ClaimError, match="is a baseline: it has no model, settings and texts"):
        check_public(replace(run, from_baseline=True), "eee")
    check_public(run, "eee")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("eli5_fact", "expected TASK=OWNER/NAME"),
        ("t=a/b", "expected TASK=OWNER/NAME"),
        ("t=b:c", "data set 'b' is no OWNER/NAME"),
        ("t=a/b:c d", "task id 'c d' is no word"),
        ("t=a/b:c@main", "revision 'main' is no commit"),
        ("t=a/b:c@" + "A" * 40, "is no commit; expected 40 digits"),
    ],
)
def test_wrong_benchmarks(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_benchmarks([text])


def test_benchmarks(run: RunClaim) -> None:
    found = read_benchmarks([f"eli5_fact=a/b:c@{REVISION}", "t=a/b:c"])
    assert found == {
        "eli5_fact": Benchmark("a/b", "c", REVISION),
        "t": Benchmark("a/b", "c", None),
    }
    with pytest.raises(ConfigError, match="already"):
        read_benchmarks(["t=a/b:c", "t=a/b:d"])
    with pytest.raises(ConfigError, match=r"no benchmark is named for task 'eli5_fact'"):
        hub_files(one_metric(run), {}, None)
    with pytest.raises(ClaimError, match="holds one value per benchmark"):
        hub_files(run, found, None)


@pytest.mark.parametrize("url", ["x.org", "ftp://x.org", "https://", "https://x.org/a b"])
def test_wrong_addresses(url: str) -> None:
    with pytest.raises(ConfigError, match="is no address; expected https"):
        check_url(url)


# --- tables ---------------------------------------------------------------------------------------


def read_csv(text: str, table: Table) -> list[tuple[Any, ...]]:
    """Read a table back by the types of its columns."""
    kinds = {"number": float, "whole": int, "truth": lambda t: t == "true", "text": from_cell}
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    assert header == [field.name for field in table.fields]
    return [
        tuple(
            kinds[field.kind](cell) if cell else None
            for cell, field in zip(row, table.fields, strict=True)
        )
        for row in rows
    ]


@pytest.mark.parametrize("make", [claims_table, documents_table])
def test_tables_are_read_back_equal(run: RunClaim, make: Any, tmp_path: Path) -> None:
    table = make([run])
    assert len(table.rows) == (7 if make is claims_table else 12)
    expected = [tuple(None if value == "" else value for value in row) for row in table.rows]
    assert read_csv(table_csv(table), table) == expected
    write_parquet(table, tmp_path / "t.parquet")
    back = pq.read_table(tmp_path / "t.parquet")
    assert back.column_names == [field.name for field in table.fields]
    assert [tuple(row.values()) for row in back.to_pylist()] == table.rows


HOSTILE = st.text(st.characters(exclude_characters="\x00"), max_size=20)


@given(st.lists(HOSTILE, min_size=1, max_size=5), st.floats(allow_nan=False))
def test_any_text_and_number_survives_a_table(texts: list[str], number: float) -> None:
    import tempfile

    fields = (export_table.Field("text", "text"), export_table.Field("number", "number"))
    table = Table(fields, [(text, number) for text in texts])
    plain = [text.encode("utf-8", "backslashreplace").decode() for text in texts]
    found = read_csv(table_csv(table), table)
    assert found == [(text or None, number) for text in plain]
    with tempfile.TemporaryDirectory() as folder:
        write_parquet(table, Path(folder) / "t.parquet")
        back = pq.read_table(Path(folder) / "t.parquet").to_pylist()
    assert back == [{"text": text, "number": number} for text in plain]


@given(HOSTILE)
def test_no_cell_is_a_formula(text: str) -> None:
    table = Table((export_table.Field("text", "text"),), [("=" + text,), ("@" + text,)])
    for row in list(csv.reader(io.StringIO(table_csv(table), newline="")))[1:]:
        assert row[0].startswith("'")


def test_tables_hold_every_field_of_several_runs(run: RunClaim) -> None:
    write_run(Path("other"), {"t": {"acc": [1.0, 0.0]}}, model="other")
    found = [run, *read_claims(["other"], ClaimSettings())]
    table = claims_table(found)
    assert len(table.rows) == 8
    names = [field.name for field in table.fields]
    rows = [dict(zip(names, row, strict=True)) for row in table.rows]
    assert rows[0]["recipe_hash"] == "d30f8192"
    assert rows[-1]["recipe"] is None
    assert {row["model"] for row in rows} == {runs.NAME, "other"}
    filled = {name for row in rows for name in names if row[name] is not None}
    empty = set(names) - filled
    assert empty == {
        "chat_template_sha256", "commit", "data_config", "data_details",
        "data_repository", "data_revision", "group_tasks", "labels", "labels_annotators",
        "labels_power", "labels_uncorrected", "labels_verdicts_alone", "possible_lower",
        "possible_upper", "repository", "weight_top_p",
    }  # fmt: skip


def test_documents(run: RunClaim) -> None:
    (task,) = run.tasks
    found = list(documents_of(task))
    assert [document.doc_id for document in found] == list(range(12))
    assert found[0].responses == ('Answer 0 <b>is</b> here,\u2028"so".',)
    assert found[4].scores["fact_errors"] is None
    assert json.loads(str(found[4].verdicts))[0]["status"] == "abstained"


# --- whose prompts they are -----------------------------------------------------------------------

OWN_DIGEST = "ab" * 32


def test_a_users_own_prompts_are_named_wherever_a_score_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = runs.write_composite_run(Path("run"))
    file, content = runs.results_of(folder)
    content["configs"]["eli5_fact"]["metadata"] |= {
        "eli5_data": "/home/jane/my questions.jsonl",
        "n_prompts": 12,
        "judge_prompt": "/home/jane/strict.jinja",
        "eft_data": {
            "name": "eli5",
            "used": 12,
            "prompts_sha256": "cd" * 32,
            "kind": "file",
            "origin": "my questions.jsonl",
            "files": {"my questions.jsonl": OWN_DIGEST},
        },
    }
    file.write_text(json.dumps(content))
    (run,) = read_claims([folder], ClaimSettings())
    wanted = {"eli5_data": "my questions.jsonl", "n_prompts": 12, "judge_prompt": "strict.jinja"}
    words = shlex.split(run.tasks[0].command)
    assert json.loads(words[words.index("--metadata") + 1]) == wanted
    texts = projections(run)
    for form in ("eee.json", "eval_results.yaml", "model_card.md"):
        text = " ".join(texts[form].split()).replace("\\_", "_")
        assert "my questions.jsonl" in text, form
        assert OWN_DIGEST in text, form
        assert "/home/jane" not in text, form
    assert "--metadata" in texts["eee.json"]
    assert "--metadata" in texts["model_card.md"]
    record = json.loads(texts["eee.json"])
    (source,) = {one["source_data"]["dataset_name"] for one in record["evaluation_results"]}
    assert source == "eli5 (own prompts: my questions.jsonl)"


def test_a_run_of_the_tasks_own_data_speaks_of_no_file(run: RunClaim) -> None:
    assert "--metadata" not in run.tasks[0].command
    assert "own file" not in "".join(projections(run).values())


def test_prompts_in_the_csv_of_samples_are_the_prompts(run: RunClaim) -> None:
    rows = list(csv.DictReader(io.StringIO(table_csv(documents_table([run])))))
    documents = list(documents_of(run.tasks[0]))
    assert [row["prompt"] for row in rows] == [one.prompt for one in documents]
    assert rows[0]["prompt"].startswith("\n\nHuman: ")


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("\n\n =cmd|' /C calc'!A0", "'\n\n =cmd|' /C calc'!A0"),
        ("\t=1", "'\t=1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\n\nHuman: Why?", "\n\nHuman: Why?"),
        ("'quoted' words", "'quoted' words"),
        ("a = b", "a = b"),
        ("", ""),
    ],
)
def test_formulas_are_guarded_and_nothing_else(text: str, cell: str) -> None:
    found = table_csv(Table((export_table.Field("text", "text"),), [(text,)]))
    assert list(csv.reader(io.StringIO(found, newline="")))[1] == [cell]
