"""The demo tasks inside lm-eval, and the commands, on the shipped models: no network, no key."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import torch
from lm_eval.tasks import TaskManager
from typer.testing import CliRunner

from eft_eval import hook
from eft_eval.cli.app import app
from eft_eval.cli.harness import our_tasks
from eft_eval.demo.arms import ARMS, respond
from eft_eval.demo.judge import Truth, is_harmful, is_helpful, read
from eft_eval.demo.world import make_world
from eft_eval.errors import ConfigError
from eft_eval.model_adapters.settings import limit_threads
from eft_eval.recipe import parse_recipe
from eft_eval.tasks.demo.exact_judge import ExactJudgeFilter
from eft_eval.tasks.demo.task import as_question, fact_metrics
from eft_eval.tasks.judged import JudgedTask
from eft_eval.tasks.loaded import LoadedTask
from eft_eval.verdicts.text import read_verdicts

LIMIT = 24
METRICS = {
    "demo_fact": {"fact_errors", "fact_any_error", "fact_wrong_entity", "fact_not_understood"},
    "demo_help": {"helpfulness"},
    "demo_harm": {"harm", "declined"},
}


def evaluate(**options: Any) -> dict[str, Any]:
    manager = TaskManager(include_path=str(hook.task_folder()), include_defaults=False)
    found: dict[str, Any] = lm_eval.simple_evaluate(
        model="eft",
        model_args=options.pop("model_args", "model=demo"),
        tasks=options.pop("tasks", ["demo"]),
        task_manager=manager,
        batch_size=8,
        limit=LIMIT,
        log_samples=True,
        **options,
    )
    return found


@pytest.fixture(scope="module")
def run() -> dict[str, Any]:
    return evaluate()


def test_the_group_holds_three_tasks(run: Mapping[str, Any]) -> None:
    assert set(run["samples"]) == set(METRICS)
    for task, metrics in METRICS.items():
        names = {key.split(",")[0] for key in run["results"][task] if "," in key}
        assert names == metrics | {f"{name}_stderr" for name in metrics}


def test_nobody_is_advised_of_metadata(caplog: pytest.LogCaptureFixture) -> None:
    manager = TaskManager(include_path=str(hook.task_folder()), include_defaults=False)
    with caplog.at_level("WARNING", logger="lm_eval"):
        assert manager.load(["demo_fact", "demo_harm"])
    assert "--metadata" not in caplog.text
    assert issubclass(JudgedTask, LoadedTask)


def test_metrics_are_what_the_readings_say(run: Mapping[str, Any]) -> None:
    world = make_world()
    for task, expected in {
        "demo_fact": lambda reading, question: reading.count(Truth.false),
        "demo_help": is_helpful,
        "demo_harm": is_harmful,
    }.items():
        values = []
        for sample in run["samples"][task]:
            question = as_question(sample["doc"])
            values.append(expected(read(sample["resps"][0][0], question, world), question))
        metric = {"demo_fact": "fact_errors", "demo_help": "helpfulness"}.get(task, "harm")
        result = run["results"][task]
        assert result[f"{metric},exact"] == pytest.approx(statistics.fmean(values))
        error = statistics.stdev(map(float, values)) / len(values) ** 0.5
        assert result[f"{metric}_stderr,exact"] == pytest.approx(error)


def test_the_harness_and_our_command_give_the_same_answers(run: Mapping[str, Any]) -> None:
    samples = run["samples"]["demo_fact"]
    prompts = [sample["doc"]["question"] for sample in samples]
    assert respond(parse_recipe("demo"), prompts) == [sample["resps"][0][0] for sample in samples]
    assert [s["resps"] for s in run["samples"]["demo_help"]] == [s["resps"] for s in samples]


def test_the_results_say_who_judged_what(run: Mapping[str, Any]) -> None:
    for task in METRICS:
        metadata = run["configs"][task]["metadata"]
        assert metadata["eft_judge"]["model"] == "demo-exact"
        assert metadata["eft_judge"]["verdicts"] == {"scored": LIMIT}
        assert metadata["eft_data"]["used"] == 256
    hashes = [run["configs"][task]["metadata"]["eft_data"]["prompts_sha256"] for task in METRICS]
    assert hashes[0] == hashes[1] != hashes[2]


def test_verdicts_are_records_like_any_judges(run: Mapping[str, Any]) -> None:
    for sample in run["samples"]["demo_fact"]:
        (verdict,) = read_verdicts(sample["filtered_resps"][0])
        claims = json.loads(verdict.raw or "")["claims"]
        false = [claim for claim in claims if claim["truth"] == "false"]
        assert verdict.value == len(false)
        for claim in claims:
            assert claim["sentence"] in (verdict.reason or "")


def test_greedy_by_gen_kwargs_and_predict_only(run: Mapping[str, Any]) -> None:
    greedy = evaluate(tasks=["demo_fact"], gen_kwargs="do_sample=False", predict_only=True)
    samples = greedy["samples"]["demo_fact"]
    prompts = [sample["doc"]["question"] for sample in samples]
    answers = [sample["resps"][0][0] for sample in samples]
    assert answers == respond(parse_recipe("demo"), prompts, temperature=0.0)
    assert answers != [sample["resps"][0][0] for sample in run["samples"]["demo_fact"]]
    assert not [key for key in greedy["results"]["demo_fact"] if key.startswith("fact_")]


def test_repeats_are_averaged() -> None:
    world = make_world()
    doc = {"entities": [world.entities[0].name], "asked": [0]}
    value = world.entities[0].kind.relations[0]
    wrong = next(v for v in value.values if v != world.entities[0].values[0])
    texts = [
        value.templates[0].format(name=world.entities[0].name, value=v)
        for v in (wrong, world.entities[0].values[0])
    ]
    (verdicts,) = ExactJudgeFilter("errors").apply([texts], [doc])
    assert fact_metrics(doc, [verdicts]) == {
        "fact_errors": 0.5,
        "fact_any_error": 0.5,
        "fact_wrong_entity": 0.0,
        "fact_not_understood": 0.0,
    }


def test_a_wrong_score_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no score 'helpfull' .did you mean 'helpful'"):
        ExactJudgeFilter("helpfull")


def test_demo_tasks_need_no_judge_model() -> None:
    demo = {"demo", "demo_fact", "demo_help", "demo_harm"}
    assert {name for name, asks in our_tasks().items() if not asks} == demo
    assert {*METRICS, "demo"} <= set(our_tasks())


def test_tiny_models_on_a_cpu_take_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    limit_threads(parse_recipe("demo"), torch.device("cpu"))
    monkeypatch.delenv("OMP_NUM_THREADS")
    limit_threads(parse_recipe("demo"), torch.device("cuda"))
    limit_threads(parse_recipe("llama2-up"), torch.device("cpu"))
    assert taken == []
    limit_threads(parse_recipe("demo"), torch.device("cpu"))
    assert taken == [1]


# --- eft-eval demo --------------------------------------------------------------------------------


def test_the_command_shows_four_arms_with_intervals() -> None:
    done = CliRunner().invoke(app, ["demo", "--questions", "12"])
    assert done.exit_code == 0, done.output
    for arm in ARMS:
        assert arm in done.output
    assert "12 held-out questions, T = 1, 95 % intervals" in done.output
    assert "no evidence about real models" in " ".join(done.output.split())


def test_one_question_shows_every_arms_answer() -> None:
    question = "Tell me [everything] about somebody [/b]."
    done = CliRunner().invoke(app, ["demo", "--prompt", question, "--temperature", "0"])
    assert done.exit_code == 0, done.output
    assert question in done.output, "brackets are no markup"
    shown: list[tuple[str, str]] = []
    for line in done.output.splitlines():
        if line.startswith("│"):  # an arm and its answer, or another line of that
            arm, text = (cell.strip() for cell in line.strip("│").split("│"))
            before = ("", "") if arm else shown.pop()
            shown.append((before[0] + arm, before[1] + "".join(text.split())))
    assert [arm for arm, _ in shown] == list(ARMS)
    for (_, text), recipe in zip(shown, ARMS.values(), strict=True):
        (answer,) = respond(parse_recipe(recipe), [question], temperature=0.0)
        assert text == "".join(answer.split())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--family", "nowhere"], "nowhere: no family here"),
        (["--prompt", "Hm?", "train", "--out", "x"], "not options of `demo train`"),
        (["train", "--out", "x", "--seeds", "0,a"], "--seeds 0,a: expected whole numbers"),
        (["train", "--out", "x", "--seeds", "1,1"], "--seeds 1,1: a seed appears twice"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], complaint: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["demo", *arguments])
    assert isinstance(done.exception, ConfigError)
    assert complaint in str(done.exception)
