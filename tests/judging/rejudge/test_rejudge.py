"""Judging a saved run: the same numbers as judging at once, beside files that stay as they are."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from judged_runs import items_in_order, write_labels
from judging_helpers import shown
from rejudged_runs import QUESTIONS, Runs, contents, edit, holding, newest, results_in
from typer.testing import CliRunner

from eft_eval.agreement.correct import correct_run
from eft_eval.cli.app import app
from eft_eval.judging import JudgeSettings
from eft_eval.judging.metrics import FACT_METRICS
from eft_eval.judging.rejudge import judge_run
from eft_eval.judging.responses import Selection
from eft_eval.verdicts.text import read_verdicts

JUDGED_AT_ONCE = ("model", "parameters", "parser_version", "prompts", "verdicts", "usage")


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
