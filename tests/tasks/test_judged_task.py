"""The judged tasks inside lm-eval, in process: prompts, repeats, judges, outages."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from judged_tasks import QUESTIONS, every_judge, shares
from judging_helpers import Start
from lm_eval.loggers import EvaluationTracker

from eft_eval import hook
from eft_eval.errors import ConfigError
from eft_eval.judging import Status, load_prompt
from eft_eval.judging.rejudge import judge_run
from eft_eval.judging.responses import Selection, assign
from eft_eval.runs.reading import read_run
from eft_eval.runs.saved import open_run
from eft_eval.verdicts.text import read_verdicts

JUDGES = (
    ("factuality", ["fact_errors", "fact_any_error", *shares("fact")], False),
    ("helpfulness", ["helpfulness", *shares("help")], True),
    ("harm", ["harm", *shares("harm")], False),
)


def test_prompts_with_and_without_a_chat_template(run: Any, openai_server: Start) -> None:
    server = openai_server(lambda prompt, body: "Reason: none.\n\nScore: 0")
    plain = run(server.url)["samples"]["eli5_fact"]
    chat = run(server.url, apply_chat_template=True)["samples"]["eli5_fact"]
    for sample in plain:
        question = sample["doc"]["question"]
        assert sample["arguments"][0][0] == f"\n\nHuman: {question}\n\nAssistant:"
    for sample in chat:
        assert sample["arguments"][0][0] == f"<|user|>{sample['doc']['question']}<|assistant|>"


@pytest.mark.parametrize("repeats", [1, 3])
def test_predictions_tell_unfinished_reasoning_from_empty_answers(
    run: Any, openai_server: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repeats: int
) -> None:
    """They are judged later: nobody is to be paid for, or given a score for, no answer."""
    own = tmp_path / "eli5_again.yaml"
    ours = hook.task_folder() / "eli5" / "eli5_fact.yaml"
    own.write_text(f"include: {ours}\ntask: eli5_again\nrepeats: {repeats}\n")
    tracker = EvaluationTracker(output_path=str(tmp_path / "out"))
    results = run(
        None,
        tasks=[str(own)],
        predict_only=True,
        log_samples=True,
        evaluation_tracker=tracker,
        model_args={"think_end_token": "</think>"},
    )
    expected = results["config"]["eft_decoding"]["unfinished"]
    assert 0 < expected <= len(QUESTIONS) * repeats
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task, lines in samples.items():
        tracker.save_results_samples(task_name=task, samples=lines)
    (written,) = (tmp_path / "out").rglob("results_*.json")
    assert results["config"]["eft_decoding"]["unfinished_by_task"] == {
        "eli5_again": {
            "unfinished": expected,
            "responses": len(QUESTIONS) * repeats,
            "share": expected / (len(QUESTIONS) * repeats),
        }
    }
    for line in samples["eli5_again"]:
        assert line["filtered_resps"] == [line["resps"][0][0]], "as lm-eval writes predictions"
        assert line["metrics"] == ["bypass"]
    for selection, of_each in (
        (Selection(), repeats),
        (Selection(filter="none"), 1),
        (Selection(response="filtered_resps"), 1),
        (Selection(prompts=("harmfulness",)), repeats),
    ):
        (assigned,) = assign(open_run(written), selection)
        marked = [item for group in assigned.items for item in group]
        assert len(marked) == len(QUESTIONS) * of_each
        if of_each == repeats:
            assert sum(item.unfinished for item in marked) == expected
        assert [item.unfinished for item in marked] == [not item.response for item in marked]
    read = read_run(written)
    assert read.tasks["eli5_again"].pipelines["none"].judge is None
    assert not [one for one in read.problems if one.severity == "error"]
    assert_judged_later(written, expected, len(QUESTIONS) * repeats, openai_server, monkeypatch)


def assert_judged_later(
    written: Path, unfinished: int, responses: int, openai_server: Start, patch: Any
) -> None:
    """The judge is asked about answers alone; what the new files say of the others is counted."""
    server = openai_server(every_judge)
    patch.setenv("EFT_JUDGE_BASE_URL", server.url)
    judged = judge_run(written)
    (of_task,) = judged.judges.values()
    assert of_task.verdicts["unfinished"] == unfinished
    assert sum(of_task.verdicts.values()) == responses
    asked = [one for one in server.prompts() if "factual inaccuracies" in one]
    assert len(asked) == responses - unfinished
    (file,) = judged.files
    (again,) = assign(open_run(file), Selection(prompts=("harmfulness",)))
    assert sum(item.unfinished for group in again.items for item in group) == unfinished
    after = read_run(file).tasks["eli5_again"]
    assert after.pipelines["factuality"].verdicts["unfinished"] == unfinished
    assert not after.bypassed


def test_repeats_are_judged_each_and_averaged_within_the_prompt(
    run: Any, openai_server: Start, tmp_path: Path
) -> None:
    server = openai_server(lambda prompt, body: f"Reason: x\n\nScore: {len(prompt) % 4}")
    own = tmp_path / "eli5_three.yaml"
    ours = hook.task_folder() / "eli5" / "eli5_fact.yaml"
    own.write_text(f"include: {ours}\ntask: eli5_three\nrepeats: 3\n")
    results = run(server.url, tasks=[str(own)])
    samples = results["samples"]["eli5_three"]
    for sample in samples:
        responses = sample["resps"][0]
        assert len(set(responses)) == 3, "every repeat has noise of its own"
        verdicts = read_verdicts(sample["filtered_resps"][0])
        assert len(verdicts) == 3
        assert sample["fact_errors"] == statistics.fmean(v.value for v in verdicts)
    means = [sample["fact_errors"] for sample in samples]
    found = results["results"]["eli5_three"]
    assert found["fact_errors,factuality"] == pytest.approx(statistics.fmean(means))
    assert found["fact_errors_stderr,factuality"] == pytest.approx(
        statistics.stdev(means) / math.sqrt(len(means))
    )


def test_reasoning_that_did_not_end_is_not_judged(run: Any, openai_server: Start) -> None:
    server = openai_server(every_judge)
    results = run(server.url, model_args={"think_end_token": "</think>"})
    ended = [
        status
        for sample in results["samples"]["eli5_fact"]
        for status in [v.status for v in read_verdicts(sample["filtered_resps"][0])]
    ]
    unfinished = ended.count(Status.unfinished)
    assert unfinished == results["config"]["eft_decoding"]["unfinished"] > 0
    asked = [one for one in server.prompts() if "factual inaccuracies" in one]
    assert len(asked) == len(ended) - unfinished
    found = results["results"]["eli5_fact"]
    assert found["fact_unfinished,factuality"] == unfinished / len(ended)
    judge = results["configs"]["eli5_fact"]["metadata"]["eft_judge"]
    assert judge["verdicts"]["unfinished"] == unfinished
    assert judge["bounds"]["fact_errors,factuality"]["unknown"] == unfinished


def test_the_judge_prompt_is_one_setting_and_is_in_the_results(
    run: Any, openai_server: Start
) -> None:
    server = openai_server(lambda prompt, body: "Reason: x\n\nScore: 1")
    results = run(server.url, {"judge_prompt": "factuality_with_query"})
    assert all(any(q in prompt for q in QUESTIONS) for prompt in server.prompts())
    judge = results["configs"]["eli5_fact"]["metadata"]["eft_judge"]
    used = judge["prompts"]["factuality"]
    prompt = load_prompt("factuality_with_query")
    assert used == {"name": prompt.name, "version": prompt.version, "sha256": prompt.sha256}
    assert judge["verdicts"] == {"scored": 4}


def test_a_judge_prompt_of_another_scale_is_refused(run: Any, tmp_path: Path) -> None:
    text = load_prompt("factuality").template
    file = tmp_path / "percent.jinja"
    file.write_text(
        "{#-\nname: mine\nversion: 1\nscale: percent\nbetter: higher\nparser: reason_score\n"
        f"variables: [response]\n-#}}\n{text}"
    )
    with pytest.raises(
        ConfigError,
        match=r"'percent' and so measures helpfulness, but task 'eli5_fact' needs 'count'",
    ):
        run("http://localhost:1/v1", {"judge_prompt": str(file)})


def test_one_generation_is_judged_by_every_judge(
    run: Any, openai_server: Start, tmp_path: Path
) -> None:
    """Three pipelines of one task: nothing is generated twice, and no metric meets another."""
    server = openai_server(every_judge)
    other = tmp_path / "prompts.jsonl"
    other.write_text(run.data.read_text().replace("Why", "How"))
    results = run(server.url, {"hh_data": str(other)}, tasks=["eft_paper"])
    assert set(results["results"]) == {"eft_paper", "eli5", "hh"}
    assert len(server.chats) == (2 + 3) * len(QUESTIONS)
    for task, judges in (("eli5", JUDGES[:2]), ("hh", JUDGES)):
        entry, samples = results["results"][task], results["samples"][task]
        assert len(samples) == len(judges) * len(QUESTIONS)
        assert len({str(sample["resps"]) for sample in samples}) <= len(QUESTIONS)
        expected = {name: metrics for name, metrics, _ in judges}
        found: dict[str, list[str]] = {}
        for key in entry:
            name, _, pipeline = key.partition(",")
            if pipeline and not name.endswith("_stderr"):
                found.setdefault(pipeline, []).append(name)
        assert found == expected
        for name, metrics, better in judges:
            of_judge = [sample for sample in samples if sample["filter"] == name]
            assert {tuple(sample["metrics"]) for sample in of_judge} == {tuple(metrics)}
            assert results["higher_is_better"][task][metrics[0]] is better
            assert not any(results["higher_is_better"][task][share] for share in metrics[-4:])
            column = [s[metrics[0]] for s in of_judge if s[metrics[0]] is not None]
            assert entry[f"{metrics[0]},{name}"] == pytest.approx(statistics.fmean(column))
            assert 0 < entry[f"{metrics[0]}_stderr,{name}"] < 1
        judge = results["configs"][task]["metadata"]["eft_judge"]
        assert judge["measures"] == {name: name for name, _, _ in judges}
        assert sum(judge["verdicts"].values()) == len(samples)
        harmful = [s["harm"] for s in samples if s["filter"] == "harm"]
        assert all(0 <= harm <= 1 for harm in harmful)


@pytest.mark.parametrize(
    ("task", "name", "metric"),
    [("eli5_help", "helpfulness", "helpfulness"), ("hh_harm", "harm", "harm")],
)
def test_each_judge_has_a_task_of_its_own(
    run: Any, openai_server: Start, task: str, name: str, metric: str
) -> None:
    server = openai_server(lambda prompt, body: "Reason: x\n\nScore: 40 %")
    results = run(server.url, {"hh_data": str(run.data)}, tasks=[task])
    assert results["results"][task][f"{metric},{name}"] == pytest.approx(0.4)
    assert results["results"][task][f"{metric}_stderr,{name}"] == 0
    assert results["versions"][task] == 1.0
    assert all(any(q in prompt for q in QUESTIONS) for prompt in server.prompts())


def test_bounds_say_how_far_the_unknown_could_move_a_score(
    run: Any, openai_server: Start, openai_server_module: ModuleType
) -> None:
    """Of four responses two are scored 1 and 3; one is refused and one not readable."""
    replies = iter(["Score: 1", "Score: 3", "I'm sorry, but no.", "Three errors."])
    server = openai_server(lambda prompt, body: next(replies))
    results = run(server.url)
    assert results["results"]["eli5_fact"]["fact_errors,factuality"] == 2
    bounds = results["configs"]["eli5_fact"]["metadata"]["eft_judge"]["bounds"]
    assert bounds == {
        "fact_errors,factuality": {"lower": 1.0, "upper": 2.5, "unknown": 2},
        "fact_any_error,factuality": {"lower": 0.5, "upper": 1.0, "unknown": 2},
    }


def test_scores_that_were_read_as_fractions_are_counted(run: Any, openai_server: Start) -> None:
    replies = iter(["Score: 0.5", "Score: 0.5 %", "Score: 50", "Score: 50.5"])
    server = openai_server(lambda prompt, body: next(replies))
    results = run(server.url, tasks=["eli5_help"])
    judge = results["configs"]["eli5_help"]["metadata"]["eft_judge"]
    assert judge["read_as_fractions"] == 1
    mean = (0.5 + 0.005 + 0.5 + 0.505) / 4
    assert results["results"]["eli5_help"]["helpfulness,helpfulness"] == pytest.approx(mean)


def test_a_judge_that_goes_down_mid_run_costs_nothing(
    run: Any, openai_server: Start, openai_server_module: ModuleType, monkeypatch: Any
) -> None:
    down = openai_server_module.Reply("overloaded", status=400)
    server = openai_server(
        lambda prompt, body: "Reason: x\n\nScore: 2" if len(server.chats) <= 2 else down
    )
    monkeypatch.setenv("EFT_JUDGE_CONCURRENCY", "1")
    first = run(server.url)
    assert first["results"]["eli5_fact"]["fact_missing,factuality"] == 0.5
    assert first["results"]["eli5_fact"]["fact_errors,factuality"] == 2
    responses = [sample["resps"] for sample in first["samples"]["eli5_fact"]]
    assert len(responses) == 4

    healthy = openai_server(lambda prompt, body: "Reason: x\n\nScore: 2")
    second = run(healthy.url)
    assert len(healthy.chats) == 2, "only the missing ones are asked"
    assert second["results"]["eli5_fact"]["fact_missing,factuality"] == 0
    assert [sample["resps"] for sample in second["samples"]["eli5_fact"]] == responses


def test_no_judge_stops_before_weights_are_loaded(
    run: Any, paths: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from eft_eval.engine.loading import Member

    def loaded(self: Member) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(Member, "model", property(loaded))
    with pytest.raises(ConfigError, match="--predict_only") as caught:
        run(None)
    for way in ("OPENAI_API_KEY", "EFT_JUDGE_BASE_URL", "eft-eval judge"):
        assert way in str(caught.value)
