"""The judged tasks inside lm-eval, in process: prompts, repeats, judge prompts, outages."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import lm_eval
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.tasks import TaskManager
from tiny_models import byte_tokenizer, make_model

from eft_eval import hook
from eft_eval.errors import ConfigError
from eft_eval.judging import JudgeSettings, Status, load_prompt, unjudged
from eft_eval.judging.metrics import fact_values, read_verdicts, scored_mean, scored_standard_error

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
            model_args=paths,
            tasks=options.pop("tasks", ["eli5_fact"]),
            task_manager=manager,
            batch_size=4,
            gen_kwargs="max_gen_toks=8",
            **options,
        )

    return evaluate


def test_prompts_with_and_without_a_chat_template(run: Any, openai_server: Start) -> None:
    server = openai_server(lambda prompt, body: "Reason: none.\n\nScore: 0")
    plain = run(server.url)["samples"]["eli5_fact"]
    chat = run(server.url, apply_chat_template=True)["samples"]["eli5_fact"]
    for sample in plain:
        question = sample["doc"]["question"]
        assert sample["arguments"][0][0] == f"\n\nHuman: {question}\n\nAssistant:"
    for sample in chat:
        assert sample["arguments"][0][0] == f"<|user|>{sample['doc']['question']}<|assistant|>"


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
    with pytest.raises(ConfigError, match=r"'percent', but this task needs 'count'"):
        run("http://localhost:1/v1", {"judge_prompt": str(file)})


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
    from eft_eval.members import Member

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
    shares = sum(
        values[f"fact_{name}"] or 0 for name in ("abstained", "refused", "unreadable", "missing")
    )
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
