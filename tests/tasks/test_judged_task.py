"""The judged tasks inside lm-eval, in process: prompts, repeats, judge prompts, outages."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import lm_eval
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager
from tiny_models import byte_tokenizer, make_model

from eft_eval import hook
from eft_eval.errors import ConfigError
from eft_eval.judging import JudgeSettings, Status, load_prompt, unjudged
from eft_eval.judging.metrics import fact_values, scored_mean, scored_standard_error
from eft_eval.judging.rejudge import judge_run
from eft_eval.judging.responses import Selection, assign
from eft_eval.runs.reading import read_run
from eft_eval.runs.saved import open_run
from eft_eval.verdicts.text import read_verdicts

Start = Callable[..., Any]
QUESTIONS = [f"Why is number {n} so {word}?" for n, word in enumerate(("odd", "even", "big", "x"))]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("family")
    return {
        "base": make_model(folder / "base", seed=1),
        "tuned": make_model(folder / "tuned", seed=2, tokenizer=byte_tokenizer(chat=True)),
        "reference": make_model(folder / "reference", seed=3),
    }


@pytest.fixture
def run(
    paths: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Run eli5_fact on four questions; keywords go to simple_evaluate."""
    data = tmp_path / "questions.jsonl"
    data.write_text("".join(json.dumps({"question": q}) + "\n" for q in QUESTIONS))

    def evaluate(url: str | None, metadata: dict[str, Any] | None = None, **options: Any) -> Any:
        if url:
            monkeypatch.setenv("EFT_JUDGE_BASE_URL", url)
        manager = TaskManager(
            include_path=str(hook.task_folder()),
            include_defaults=False,
            metadata={"eli5_data": str(data), **(metadata or {})},
        )
        return lm_eval.simple_evaluate(
            model="eft",
            model_args={**paths, **options.pop("model_args", {})},
            tasks=options.pop("tasks", ["eli5_fact"]),
            task_manager=manager,
            batch_size=4,
            gen_kwargs="max_gen_toks=8",
            **options,
        )

    evaluate.data = data  # type: ignore[attr-defined]  # for tests that need the file
    return evaluate


SHARES = ("abstained", "refused", "unreadable", "missing", "unfinished")


def shares(prefix: str) -> list[str]:
    return [f"{prefix}_{share}" for share in SHARES]


JUDGES = (
    ("factuality", ["fact_errors", "fact_any_error", *shares("fact")], False),
    ("helpfulness", ["helpfulness", *shares("help")], True),
    ("harm", ["harm", *shares("harm")], False),
)


def every_judge(prompt: str, body: object = None) -> str:
    """Answer any of the shipped prompts, each on its scale, by the text's hash."""
    number = hashlib.sha256(prompt.encode()).digest()[0]
    if "factual inaccuracies" in prompt:
        return f"Reason: x\n\nScore: {number % 4}"
    assert "satisfied" in prompt or "harm to the user" in prompt
    return f"Reason: x\n\nScore: {number % 101} %"


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


def test_own_prompts_take_the_places_of_those_that_measure_the_same(
    run: Any, openai_server: Start, tmp_path: Path
) -> None:
    files = []
    for name in ("factuality", "helpfulness"):
        shipped = resources.files("eft_eval.prompts").joinpath(f"{name}.jinja").read_text("utf-8")
        files.append(tmp_path / f"own_{name}.jinja")
        files[-1].write_text(shipped.replace(f"name: {name}", f"name: own_{name}"), "utf-8")
    server = openai_server(every_judge)
    own = [str(file) for file in files]
    results = run(server.url, {"judge_prompt": own}, tasks=["eli5"])
    prompts = results["configs"]["eli5"]["metadata"]["eft_judge"]["prompts"]
    assert {name: used["name"] for name, used in prompts.items()} == {
        "factuality": "own_factuality",
        "helpfulness": "own_helpfulness",
    }


def test_own_prompts_that_do_not_fit(
    run: Any, openai_server: Start, caplog: pytest.LogCaptureFixture
) -> None:
    server = openai_server(every_judge)
    run(server.url, {"judge_prompt": ["factuality_with_query", "harmfulness"]}, tasks=["eli5_fact"])
    assert "'harmfulness' scores on the scale 'percent' and so measures harm" in caplog.text
    with pytest.raises(ConfigError, match="'factuality' and 'factuality_with_query' measure the"):
        run(server.url, {"judge_prompt": ["factuality", "factuality_with_query"]})


OWN_TASK = """\
task: own
class: !function eft_eval.tasks.judged.JudgedTask
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "Tell me: {{{{question}}}}"
doc_to_target: ""
generation_kwargs: {{until: ["\\n\\n"], max_gen_toks: 8}}
filter_list:
  - {{name: alone, filter: [{{function: eft_judge, prompt: factuality}}]}}
  - {{name: with_query, filter: [{{function: eft_judge, prompt: factuality_with_query}}]}}
  - {{name: help, filter: [{{function: eft_judge, prompt: helpfulness}}]}}
"""


def test_a_task_of_ones_own_needs_only_the_class(
    run: Any, openai_server: Start, tmp_path: Path
) -> None:
    """Documents that repeat are one prompt; judges of one measure stand side by side."""
    doubled = tmp_path / "twice.jsonl"
    doubled.write_text(2 * run.data.read_text())
    own = tmp_path / "own.yaml"
    own.write_text(OWN_TASK.format(data=doubled))
    server = openai_server(every_judge)
    results = run(server.url, tasks=[str(own)])
    entry, samples = results["results"]["own"], results["samples"]["own"]
    assert "eft_data" not in results["configs"]["own"]["metadata"]
    for name, metric in (
        ("alone", "fact_errors"),
        ("with_query", "fact_errors"),
        ("help", "helpfulness"),
    ):
        of_judge = [sample for sample in samples if sample["filter"] == name]
        values = [sample[metric] for sample in of_judge]
        mean = statistics.fmean(values)
        sums = [
            sum(s[metric] - mean for s in of_judge if s["doc"]["question"] == question)
            for question in QUESTIONS
        ]
        count = len(QUESTIONS)
        expected = math.sqrt(count / (count - 1) * sum(s * s for s in sums)) / len(values)
        assert len(values) == 2 * count
        assert entry[f"{metric},{name}"] == pytest.approx(mean)
        assert entry[f"{metric}_stderr,{name}"] == pytest.approx(expected)


def test_a_class_without_a_judge_is_refused(run: Any, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(OWN_TASK.format(data=run.data).split("filter_list:")[0])
    with pytest.raises(ConfigError, match="'own' has no filter eft_judge"):
        run(None, tasks=[str(own)])


def test_a_prompt_that_needs_what_the_documents_lack_is_refused_at_once(
    run: Any, openai_server: Start, tmp_path: Path
) -> None:
    server = openai_server(every_judge)
    own = tmp_path / "eli5_own.yaml"
    ours = hook.task_folder() / "eli5" / "eli5_help.yaml"
    own.write_text(
        f"include: {ours}\ntask: eli5_own\nfilter_list:\n  - name: helpfulness\n    filter:\n"
        "      - function: eft_judge\n        prompt: helpfulness\n        question: questions\n"
    )
    with pytest.raises(ConfigError, match=r"no 'questions' \(did you mean 'question'\?\)"):
        run(server.url, tasks=[str(own)])
    assert server.chats == []


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


@given(st.lists(st.tuples(st.sampled_from(list(Status)), st.integers(0, 5)), min_size=1))
def test_shares_add_up_and_only_scored_responses_count(parts: list[tuple[Status, int]]) -> None:
    from dataclasses import replace

    blank = unjudged(load_prompt("factuality"), JudgeSettings("m", None, "k"), "x")
    verdicts = [
        replace(blank, status=status, value=value if status is Status.scored else None)
        for status, value in parts
    ]
    values = fact_values(verdicts)
    scored = [value for status, value in parts if status is Status.scored]
    shares = sum(values[f"fact_{name}"] or 0 for name in SHARES)
    assert shares + len(scored) / len(parts) == pytest.approx(1)
    if scored:
        assert values["fact_errors"] == pytest.approx(sum(scored) / len(scored))
        assert values["fact_any_error"] == pytest.approx(sum(v > 0 for v in scored) / len(scored))
    else:
        assert values["fact_errors"] is None
        assert values["fact_any_error"] is None


@given(st.lists(st.one_of(st.none(), st.floats(-1e3, 1e3)), max_size=30))
def test_mean_and_standard_error_against_statsmodels(values: list[float | None]) -> None:
    from statsmodels.stats.weightstats import DescrStatsW

    scored = [value for value in values if value is not None]
    if len(scored) < 2:
        assert math.isnan(scored_standard_error(values))
        assert math.isnan(scored_mean(values)) == (not scored)
        return
    described = DescrStatsW(scored)
    assert scored_mean(values) == pytest.approx(described.mean, abs=1e-9)
    assert scored_standard_error(values) == pytest.approx(described.std_mean, abs=1e-9)
