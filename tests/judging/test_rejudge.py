"""Judging a saved run: the same numbers as judging at once, beside files that stay as they are."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from judged_runs import items_in_order, write_labels
from lm_eval.tasks import TaskManager
from saved_runs import saved_run
from tiny_models import make_model
from typer.testing import CliRunner

from eft_eval.agreement.correct import correct_run
from eft_eval.cli.app import app
from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.judging import JudgeSettings, VerdictStore, default_store_path
from eft_eval.judging.metrics import FACT_METRICS
from eft_eval.judging.rejudge import judge_run
from eft_eval.judging.responses import Selection
from eft_eval.verdicts.text import read_verdicts

QUESTIONS = [f"Why is the number {i} {word}?" for i, word in enumerate(("odd", "big", "red") * 2)]
JUDGED_AT_ONCE = ("model", "parameters", "parser_version", "prompts", "verdicts", "usage")


def shown(prompt: str) -> str:
    """The response inside a rendered judge prompt."""
    return prompt.split("RESPONSE:", 1)[1].split("USE THE ANSWER FORMAT", 1)[0].strip()


def answer(prompt: str, _: object = None) -> str:
    """A judge whose reply depends on the response alone; some replies have no readable score."""
    number = hashlib.sha256(shown(prompt).encode()).digest()[0] % 5
    return f"Reason: checked.\n\nScore: {('None', 'many', '0', '1', '2')[number]}"


@dataclasses.dataclass
class Runs:
    """The same responses twice: unjudged, and judged by the harness at once."""

    unjudged: Path
    judged: Path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, openai_server_module: ModuleType) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    data = folder / "questions.jsonl"
    data.write_text("\n".join(json.dumps({"question": text}) for text in QUESTIONS))
    model = make_model(folder / "tiny", positions=512)
    with (
        openai_server_module.OpenAIServer(answer) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("EFT_JUDGE_BASE_URL", server.url)
        patch.setenv("EFT_VERDICT_STORE", str(folder / "verdicts.sqlite3"))
        return Runs(
            evaluate(folder / "unjudged", model, data, predict_only=True),
            evaluate(folder / "judged", model, data, predict_only=False),
        )


def evaluate(output: Path, model: str, data: Path, *, predict_only: bool) -> Path:
    """Run eli5_fact as the command `lm_eval` does; return the folder with the results."""
    manager = TaskManager(
        include_defaults=False,
        include_path=str(resources.files("eft_eval.tasks")),
        metadata={"eli5_data": str(data)},
    )
    options = {"gen_kwargs": {"max_gen_toks": 8}, "predict_only": predict_only}
    return saved_run(output, model, manager, ["eli5_fact"], **options)


@pytest.fixture
def run_dir(runs: Runs, tmp_path: Path) -> Path:
    """A fresh copy of the unjudged run."""
    return Path(shutil.copytree(runs.unjudged, tmp_path / "run"))


@pytest.fixture
def server(openai_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A judge that answers as it did in the judged run."""
    judge = openai_server(answer)
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", judge.url)
    return judge


def results_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("results_*.json"))


def newest(folder: Path, task: str = "eli5_fact") -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the newest results and samples."""
    results = results_in(folder)[-1]
    samples = folder / f"samples_{task}_{results.stem.removeprefix('results_')}.jsonl"
    lines = samples.read_text("utf-8").split("\n")
    return json.loads(results.read_text("utf-8")), [json.loads(line) for line in lines if line]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the results file of a run with one."""
    (path,) = results_in(folder)
    results = json.loads(path.read_text("utf-8"))
    change(results)
    path.write_text(json.dumps(results), "utf-8")


def holding(folder: Path, documents: int) -> None:
    """Let a run's results speak of so many documents, as those of ranks: without a hash."""

    def held(results: dict[str, Any]) -> None:
        results["n-samples"]["eli5_fact"].update(effective=documents)
        results["task_hashes"] = {}

    edit(folder, held)


def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask one response at a time, and never twice."""
    read = JudgeSettings.from_environment

    def impatient() -> JudgeSettings:
        return dataclasses.replace(read(), max_retries=0, concurrency=1)

    monkeypatch.setattr(JudgeSettings, "from_environment", impatient)


def test_a_run_judged_later_equals_the_run_judged_at_once(
    runs: Runs, run_dir: Path, server: Any
) -> None:
    returned = judge_run(run_dir)
    later, later_samples = newest(run_dir)
    once, once_samples = newest(runs.judged)
    assert [s["resps"] for s in later_samples] == [s["resps"] for s in once_samples]
    assert later["results"] == once["results"]
    assert list(later["results"]["eli5_fact"]) == list(once["results"]["eli5_fact"])
    assert returned.results == later["results"]
    assert returned.files[0] == results_in(run_dir)[-1]
    for key in ("versions", "n-shot", "higher_is_better", "n-samples", "task_hashes"):
        assert later[key] == once[key]
    described, expected = (r["configs"]["eli5_fact"]["metadata"] for r in (later, once))
    assert {key: described["eft_judge"][key] for key in JUDGED_AT_ONCE} == {
        key: expected["eft_judge"][key] for key in JUDGED_AT_ONCE
    }
    assert described["eft_judge"].keys() == expected["eft_judge"].keys()
    assert described["eft_judge"]["endpoint"] == server.url
    assert described["eft_data"] == expected["eft_data"]


def test_new_samples_have_the_layout_of_lm_eval(runs: Runs, run_dir: Path, server: Any) -> None:
    judge_run(run_dir)
    (_, later), (_, once) = newest(run_dir), newest(runs.judged)
    assert len(later) == len(once) == len(QUESTIONS)
    for mine, theirs in zip(later, once, strict=True):
        assert list(mine) == list(theirs)
        verdicts, expected = (read_verdicts(s.pop("filtered_resps")[0]) for s in (mine, theirs))
        assert mine == theirs
        assert [(v.key, v.status, v.value) for v in verdicts] == [
            (v.key, v.status, v.value) for v in expected
        ]


def test_new_results_differ_from_the_old_only_in_the_judging(run_dir: Path, server: Any) -> None:
    (old_file,) = results_in(run_dir)
    old = json.loads(old_file.read_text("utf-8"))
    judge_run(run_dir)
    new, _ = newest(run_dir)
    assert new.pop("eft_judged_from") == old_file.name
    config = new["configs"]["eli5_fact"]
    assert config.pop("metric_list") == [
        {"metric": name, "aggregation": "scored_mean", "higher_is_better": False}
        for name in FACT_METRICS
    ]
    old["configs"]["eli5_fact"].pop("metric_list")
    assert config["filter_list"][0]["filter"][0]["measure"] == "factuality"
    config["metadata"]["eft_judge"] = None
    for changed in ("results", "higher_is_better"):
        assert new.pop(changed) != old.pop(changed)
    assert new == old


def test_old_files_stay_as_they_are(run_dir: Path, server: Any) -> None:
    before = contents(run_dir)
    judge_run(run_dir)
    after = contents(run_dir)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 2
    old, new = (path.stem for path in results_in(run_dir))
    assert old < new


def test_the_new_file_is_the_newest_even_if_the_old_one_is_from_the_future(
    run_dir: Path, server: Any
) -> None:
    for path in list(run_dir.iterdir()):
        kind = path.name.rpartition("_")[0]
        path.rename(path.with_name(f"{kind}_2100-01-01T00-00-00{path.suffix}"))
    judge_run(run_dir)
    judge_run(run_dir)
    names = {path.name for path in results_in(run_dir)}
    assert names == {
        "results_2100-01-01T00-00-00.json",
        "results_2100-01-01T00-00-00.000001.json",
        "results_2100-01-01T00-00-00.000002.json",
    }
    newest_file = run_dir / "results_2100-01-01T00-00-00.000002.json"
    assert json.loads(newest_file.read_text())["eft_judged_from"].endswith("00.000001.json")


def test_a_write_that_fails_leaves_no_results_and_no_scraps(
    run_dir: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(run_dir)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(ConfigError, match=r"cannot write .*samples_eli5_fact_.*No space left"):
            judge_run(run_dir)
    assert contents(run_dir) == before
    judge_run(run_dir)
    assert len(server.chats) == len(QUESTIONS)


def test_nothing_is_written_while_the_judge_is_down(run_dir: Path, server: Any) -> None:
    before = contents(run_dir)
    server.die()
    with pytest.raises(ConfigError, match="endpoint down"):
        judge_run(run_dir)
    assert contents(run_dir) == before


def test_a_judge_that_dies_costs_only_what_it_did_not_answer(
    runs: Runs,
    run_dir: Path,
    openai_server: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    without_waiting(monkeypatch)
    replies = 0

    def mortal(prompt: str, _: object) -> str:
        nonlocal replies
        replies += 1
        if replies > 2:
            dying.die()
        return answer(prompt)

    dying = openai_server(mortal)
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", dying.url)
    metrics = judge_run(run_dir).results["eli5_fact"]
    lost = len(QUESTIONS) - 2
    assert metrics["fact_missing,factuality"] == lost / len(QUESTIONS)
    assert f"{lost} of {len(QUESTIONS)} responses have no verdict" in caplog.text
    results, samples = newest(run_dir)
    described = results["configs"]["eli5_fact"]["metadata"]["eft_judge"]
    assert described["verdicts"]["api_error"] == lost
    assert sum(sample["fact_missing"] for sample in samples) == lost

    alive = openai_server(answer)
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", alive.url)
    judge_run(run_dir)
    assert len(alive.chats) == lost
    assert newest(run_dir)[0]["results"] == newest(runs.judged)[0]["results"]
    assert len(VerdictStore(default_store_path())) == len(QUESTIONS)


def test_no_verdict_at_all_writes_nothing(
    run_dir: Path,
    openai_server_module: ModuleType,
    openai_server: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dislike = openai_server_module.Reply("no", status=400)
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", openai_server(lambda *_: dislike).url)
    before = contents(run_dir)
    with pytest.raises(EftEvalError, match=r"6 of 6 responses have no verdict .* nothing is writ"):
        judge_run(run_dir)
    assert contents(run_dir) == before


def test_no_readable_verdict_is_written_as_nan(
    run_dir: Path, openai_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", openai_server(lambda *_: "no").url)
    judge_run(run_dir)
    results, samples = newest(run_dir)
    assert math.isnan(results["results"]["eli5_fact"]["fact_errors,factuality"])
    assert math.isnan(results["results"]["eli5_fact"]["fact_errors_stderr,factuality"])
    assert results["results"]["eli5_fact"]["fact_unreadable,factuality"] == 1
    assert {sample["fact_errors"] for sample in samples} == {None}


def test_a_lone_surrogate_in_a_reply_can_be_written(
    run_dir: Path, openai_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = openai_server(lambda *_: "Reason: \ud800.\nScore: 1")
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", judge.url)
    judge_run(run_dir)
    (verdict,) = read_verdicts(newest(run_dir)[1][0]["filtered_resps"][0])
    assert verdict.raw == "Reason: \ud800.\nScore: 1"


def test_another_prompt_is_asked_and_remembered(run_dir: Path, server: Any) -> None:
    judge_run(run_dir, Selection(prompts=("factuality_with_query",)))
    results, samples = newest(run_dir)
    asked = {prompt.split("QUERY: ")[1].split("\n")[0] for prompt in server.prompts()}
    assert asked == set(QUESTIONS)
    assert {sample["filter"] for sample in samples} == {"factuality"}
    config = results["configs"]["eli5_fact"]
    prompts = config["metadata"]["eft_judge"]["prompts"]
    assert prompts["factuality"]["name"] == "factuality_with_query"
    judge_run(run_dir)  # the newest run's own prompt is that one now: nothing new to ask
    assert len(server.chats) == len(QUESTIONS)


def test_a_prompt_of_another_measure_is_a_judge_of_its_own(run_dir: Path, server: Any) -> None:
    """Responses of a factuality task can be judged for helpfulness, and only for that."""
    judge_run(run_dir, Selection(prompts=("helpfulness",)))
    results, samples = newest(run_dir)
    entry = results["results"]["eli5_fact"]
    assert {key.split(",")[1] for key in entry if "," in key} == {"helpfulness"}
    assert {sample["filter"] for sample in samples} == {"helpfulness"}
    assert results["higher_is_better"]["eli5_fact"]["helpfulness"] is True
    values = [sample["helpfulness"] for sample in samples if sample["helpfulness"] is not None]
    assert values
    assert {value * 100 for value in values} <= {0, 1, 2}
    assert all(any(q in prompt for q in QUESTIONS) for prompt in server.prompts())
    judge_run(run_dir)  # now all judges of the newest file are asked, the task's own as well
    assert len(server.chats) == 2 * len(QUESTIONS)
    both, samples = newest(run_dir)
    assert {key.split(",")[1] for key in both["results"]["eli5_fact"] if "," in key} == {
        "factuality",
        "helpfulness",
    }
    assert len(samples) == 2 * len(QUESTIONS)


def test_another_judge_leaves_the_first_one_s_work(run_dir: Path, server: Any) -> None:
    first = judge_run(run_dir)
    before, lines = newest(run_dir)
    settings = JudgeSettings.from_environment(judge="other")
    second = judge_run(run_dir, Selection(prompts=("helpfulness",)), settings=settings)
    after, all_lines = newest(run_dir)
    old, new = (results["results"]["eli5_fact"] for results in (before, after))
    assert {name: new[name] for name in old} == old
    assert [line for line in all_lines if line["filter"] == "factuality"] == lines
    config = after["configs"]["eli5_fact"]
    assert [one["name"] for one in config["filter_list"]] == ["factuality", "helpfulness"]
    assert {*FACT_METRICS, "helpfulness"} <= {one["metric"] for one in config["metric_list"]}
    assert after["higher_is_better"]["eli5_fact"]["fact_errors"] is False
    kept = config["metadata"]["eft_judge"]["kept"]["factuality"]
    assert kept["model"] == JudgeSettings.from_environment().model
    assert kept["described_in"] == first.files[0].name
    assert not any("factuality" in key for key in second.results["eli5_fact"])


def test_means_over_a_group_do_not_outlive_the_old_verdicts(
    run_dir: Path, server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    judge_run(run_dir)
    newest_file = results_in(run_dir)[-1]
    results = json.loads(newest_file.read_text("utf-8"))
    mean = {"alias": "mine", "fact_errors,factuality": 9.0, "acc,none": 0.5}
    results["results"] |= {"mine": dict(mean), "outer": dict(mean)}
    results["groups"] = {"mine": dict(mean)}
    results["group_subtasks"] = {"outer": ["mine"], "mine": ["eli5_fact"], "eli5_fact": []}
    newest_file.write_text(json.dumps(results), "utf-8")
    judge_run(run_dir)
    after, _ = newest(run_dir)
    left = {"alias": "mine", "acc,none": 0.5}
    assert after["results"]["mine"] == after["results"]["outer"] == after["groups"]["mine"] == left
    assert "fact_errors,factuality" in after["results"]["eli5_fact"]
    assert "group mine: its means" in caplog.text


def test_stored_verdicts_need_no_judge(run_dir: Path, server: Any) -> None:
    first = judge_run(run_dir)
    server.die()
    assert judge_run(run_dir).results == first.results


def test_a_judge_is_looked_up_once(run_dir: Path, server: Any) -> None:
    judge_run(run_dir, Selection(prompts=("factuality", "helpfulness")))
    looked = sum("/models" in str(call) for call in server.requests)
    assert looked == 2, "its name, which this server does not know, and the list"


def test_missing_verdicts_are_exit_code_3(
    run_dir: Path,
    openai_server_module: ModuleType,
    openai_server: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def one(prompt: str, _: object) -> Any:
        asked.append(prompt)
        return answer(prompt) if len(asked) == 1 else openai_server_module.Reply("n", status=400)

    monkeypatch.setenv("EFT_JUDGE_BASE_URL", openai_server(one).url)
    result = CliRunner().invoke(app, ["judge", str(run_dir)])
    assert result.exit_code == 3, result.output
    assert "fact_missing" in result.stdout


def test_only_a_document_s_own_repeats_are_judged_once_each(run_dir: Path, server: Any) -> None:
    """Two filters name each document twice; a rank's clone adds a response too many."""
    edit(run_dir, lambda results: results["configs"]["eli5_fact"].update(repeats=2))
    holding(run_dir, 1)
    (path,) = run_dir.glob("samples_*")
    sample = json.loads(path.read_text("utf-8").split("\n")[0])
    sample["resps"] = [["one", "two\u2028lines", "a clone's"]]
    both = [sample, {**sample, "filter": "other"}]
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in both), "utf-8")
    metrics = judge_run(run_dir).results["eli5_fact"]
    assert sorted(map(shown, server.prompts())) == ["one", "two\u2028lines"]
    (line,) = newest(run_dir)[1]
    assert len(read_verdicts(line["filtered_resps"][0])) == 2
    assert metrics["fact_missing_stderr,factuality"] == "N/A"  # one document has no spread


@pytest.mark.parametrize("options", [[], ["--dry-run"], ["--batch", "submit"]])
def test_lost_documents_are_refused_before_anything_is_asked(
    run_dir: Path, server: Any, options: list[str]
) -> None:
    (path,) = run_dir.glob("samples_*")
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:4]), "utf-8")
    before = contents(run_dir)
    result = CliRunner().invoke(app, ["judge", str(run_dir), "--judge", "j", *options])
    assert isinstance(result.exception, ConfigError)
    (line,) = str(result.exception).splitlines()
    assert "lacks 2 of 6 documents under filter" in line
    assert (result.output, server.chats) == ("", [])
    assert contents(run_dir) == before
    holding(run_dir, 4)  # as --limit writes it
    result = CliRunner().invoke(app, ["judge", str(run_dir), "--judge", "j", "--dry-run"])
    assert result.exit_code == 0
    assert "4 new, 0 stored" in result.stdout
    assert len(judge_run(run_dir).files) == 1
    assert len(server.chats) == 4


def test_a_write_protected_run_is_refused_before_anything_is_asked(
    run_dir: Path, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.access

    def locked(path: Any, mode: int) -> bool:  # root may write everywhere
        return not (Path(path) == run_dir and mode & os.W_OK) and real(path, mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "access", locked)
        for options in ([], ["--batch", "submit"]):
            result = CliRunner().invoke(app, ["judge", str(run_dir), "--judge", "j", *options])
            assert isinstance(result.exception, ConfigError)
            assert f"folder {run_dir} is write-protected" in str(result.exception)
        assert server.chats == []
        dry = CliRunner().invoke(app, ["judge", str(run_dir), "--judge", "j", "--dry-run"])
        assert dry.exit_code == 0, dry.exception
    judge_run(run_dir)
    labels = write_labels(tmp_path / "labels.csv", items_in_order(run_dir), {"jane": [0] * 6})
    before = contents(run_dir)
    monkeypatch.setattr(os, "access", locked)
    with pytest.raises(ConfigError, match="is write-protected"):
        correct_run(run_dir, [labels])
    assert contents(run_dir) == before


def test_lost_documents_of_an_earlier_judging_are_refused_too(run_dir: Path, server: Any) -> None:
    judge_run(run_dir)
    newer = sorted(run_dir.glob("samples_*"))[-1]
    newer.write_text("".join(newer.read_text("utf-8").splitlines(keepends=True)[:4]), "utf-8")
    asked = len(server.chats)
    with pytest.raises(ConfigError, match="lacks 2 of 6 documents"):
        judge_run(run_dir, Selection(prompts=("helpfulness",)))
    assert len(server.chats) == asked


def test_the_parent_of_one_run_is_accepted_and_of_several_is_not(
    run_dir: Path, tmp_path: Path, server: Any
) -> None:
    assert judge_run(tmp_path).results == newest(run_dir)[0]["results"]
    shutil.copytree(run_dir, tmp_path / "other")
    with pytest.raises(ConfigError, match=r"task 'eli5_fact' .*other.*run"):
        judge_run(tmp_path)


def test_what_cannot_be_judged_is_said(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"there is no file or folder .*nowhere"):
        judge_run(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="holds no results file"):
        judge_run(tmp_path / "empty")
    with pytest.raises(ConfigError, match="no judge to ask"):
        judge_run(run_dir)
    with pytest.raises(ConfigError, match="unknown judge prompt"):
        judge_run(run_dir, Selection(prompts=("factualty",)))
    (samples,) = run_dir.glob("samples_*")
    holding(run_dir, 1)
    samples.write_text('{"doc_id": 0}\n')
    with pytest.raises(ConfigError, match="doc_id 0: the sample has no responses"):
        judge_run(run_dir)
    samples.write_text('{"doc_id": 0, "resps"')
    with pytest.raises(ConfigError, match="no sample of lm-eval, or cut off"):
        judge_run(run_dir)
    samples.unlink()
    with pytest.raises(ConfigError, match="--log_samples"):
        judge_run(run_dir)
    edit(
        run_dir,
        lambda r: r["configs"]["eli5_fact"]["filter_list"][0]["filter"].append(
            {"function": "take_first"}
        ),
    )
    samples.write_text('{"doc_id": 0, "resps": [["x"]]}')
    with pytest.raises(ConfigError, match="steps beside eft_judge"):
        judge_run(run_dir)
    other = {"configs": {"arc_easy": {"filter_list": None}}, "results": {"arc_easy": {}}}
    edit(run_dir, lambda r: r.update(other))
    with pytest.raises(ConfigError, match=r"no task with a judge.*arc_easy"):
        judge_run(run_dir)
    results_in(run_dir)[0].write_text("[]")
    with pytest.raises(ConfigError, match="no results file of lm-eval"):
        judge_run(run_dir)


def test_the_command_prints_the_table(run_dir: Path, server: Any) -> None:
    result = CliRunner().invoke(app, ["judge", str(run_dir)])
    assert result.exit_code == 0, result.output
    value = newest(run_dir)[0]["results"]["eli5_fact"]["fact_errors,factuality"]
    (row,) = [line for line in result.stdout.splitlines() if "fact_errors" in line]
    assert f"{value:.4f}" in row
    assert "fact_missing" in result.stdout


def test_judging_later_loads_neither_lm_eval_nor_torch() -> None:
    code = (
        "import sys, eft_eval.judging.rejudge; "
        "print([m for m in ('lm_eval', 'torch', 'openai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_labels_correct_a_run_of_the_harness(runs: Runs, tmp_path: Path) -> None:
    """Corrected results have all that the harness wrote, and can be judged and corrected again."""
    folder = Path(shutil.copytree(runs.judged, tmp_path / "run"))
    before, _ = newest(folder)
    items = items_in_order(folder)
    scored = [item for item in items if item.verdict_value is not None]
    assert 2 < len(scored) < len(items)
    labels = write_labels(tmp_path / "l.csv", scored[:3], {"a": [0, 1, 2]})
    found = correct_run(folder, [labels])
    after, samples = newest(folder)
    assert found.results.name == results_in(folder)[-1].name
    assert len(samples) == len(items)
    entry = after["results"]["eli5_fact"]
    kept = {name: value for name, value in entry.items() if "_ppi" not in name}
    assert kept == before["results"]["eli5_fact"]
    estimate = found.metrics[0].corrected.prediction_powered.estimate
    assert entry["fact_any_error_ppi,factuality"] == estimate
    assert after["higher_is_better"]["eli5_fact"]["fact_any_error_ppi"] is False
    assert {*before} | {"eft_corrected"} == {*after}
    assert found.metrics[0].corrected.labels_only.n == 3
    assert found.metrics[0].corrected.verdicts == len(scored) - 3
