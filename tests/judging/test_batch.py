"""The Batch API's whole life, against a loopback endpoint."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from batch_endpoint import BatchEndpoint
from hypothesis import given
from hypothesis import strategies as st
from judging_helpers import PROMPT, items, readings, score, settings, statuses
from typer.testing import CliRunner

from eft_eval.cli.app import app
from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.judging import DEFAULT_MODEL, JudgeSettings, VerdictStore, judge_responses
from eft_eval.judging.batch.batch import BatchRequest, collect, forget, status, submit
from eft_eval.judging.batch.files import BatchLimits, read_answers, request_line, split
from eft_eval.judging.batch.jobs import BatchItem, BatchJob, BatchStates
from eft_eval.judging.cost.budget import Purse
from eft_eval.judging.judge import plan
from eft_eval.judging.judges.adapting import forget as forget_forms
from eft_eval.judging.judges.base import Failure, Reply
from eft_eval.judging.judges.registry import budget_for, judge_for

RESPONSES = tuple(f"{number} " + "wrong " * number for number in range(5))
Start = Callable[..., Any]


def completion(body: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": score(body["messages"][-1]["content"], body)}
    return {
        "model": body["model"],
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eft_eval.judging.batch.batch._PAUSE_SECONDS", 0.0)


@pytest.fixture
def endpoint() -> BatchEndpoint:
    return BatchEndpoint(completion)


@pytest.fixture
def judge(endpoint: BatchEndpoint, openai_server: Start) -> JudgeSettings:
    server = openai_server(score, routes=endpoint.routes)
    return settings(server.url, model=DEFAULT_MODEL)


@pytest.fixture
def store(tmp_path: Path) -> VerdictStore:
    return VerdictStore(tmp_path / "verdicts.sqlite3")


def to_send(judge: JudgeSettings, store: VerdictStore, *responses: str) -> dict[str, BatchRequest]:
    planned = plan(items(*(responses or RESPONSES)), PROMPT, judge, store)
    return {key: BatchRequest(text, PROMPT) for key, text in planned.missing.items()}


def test_a_life(endpoint: BatchEndpoint, judge: JudgeSettings, store: VerdictStore) -> None:
    requests = to_send(judge, store)
    done = submit(requests, judge, store)
    assert (done.requests, done.elsewhere, done.unaffordable) == (5, 0, 0)
    (job,) = done.jobs
    assert [line["custom_id"] for line in endpoint.requests("batch_0")] == list(requests)
    assert {line["url"] for line in endpoint.requests("batch_0")} == {"/v1/chat/completions"}
    assert endpoint.batches["batch_0"]["completion_window"] == "24h"

    assert [one.job.batch_id for one in status(judge, store).open] == ["batch_0"]
    early = collect(judge, store)
    assert (early.verdicts, early.jobs, len(early.open)) == (0, [], 1)
    again = submit(to_send(judge, store), judge, store)
    assert (again.requests, again.elsewhere, again.jobs) == (0, 5, [])

    keys = list(requests)
    endpoint.run("batch_0", status="expired", errors={keys[0]: "expired", keys[3]: "too odd"})
    first = collect(judge, store)
    assert first.verdicts == 3
    assert sorted(first.failures) == [
        "HTTP status 400: too odd",
        "batch_expired: could not be executed in time",
    ]
    assert [job.status for job in first.jobs] == ["expired"]
    before = list(store)
    second = collect(judge, store)
    assert (second.verdicts, second.failures, second.jobs, second.open) == (0, {}, [], [])
    assert list(store) == before

    rest = submit(to_send(judge, store), judge, store)
    assert rest.requests == 2
    assert {line["custom_id"] for line in endpoint.requests("batch_1")} == {keys[0], keys[3]}
    endpoint.run("batch_1")
    assert collect(judge, store).verdicts == 2
    found = judge_responses(items(*RESPONSES), PROMPT, judge, store)
    assert readings(found) == [("scored", number) for number in range(5)]
    assert sorted(endpoint.answered) == sorted(keys)  # nothing was paid twice
    live = (100 * 2 + 10 * 8) / 1e6
    assert {verdict.cost_usd for verdict in found} == {live / 2}
    assert job.model == DEFAULT_MODEL


def test_a_batch_gives_what_asking_gives(
    endpoint: BatchEndpoint, judge: JudgeSettings, store: VerdictStore, tmp_path: Path
) -> None:
    submit(to_send(judge, store), judge, store)
    endpoint.run("batch_0", seed=3)
    collect(judge, store)
    batched = judge_responses(items(*RESPONSES), PROMPT, judge, store)
    live = judge_responses(items(*RESPONSES), PROMPT, judge, VerdictStore(tmp_path / "live.db"))
    same = [replace(v, created="", cost_usd=None) for v in batched]
    assert same == [replace(v, created="", cost_usd=None) for v in live]


def test_live_judging_leaves_a_batch_alone(
    endpoint: BatchEndpoint, judge: JudgeSettings, store: VerdictStore
) -> None:
    submit(to_send(judge, store, *RESPONSES[:2]), judge, store)
    found = judge_responses(items(*RESPONSES), PROMPT, judge, store)
    assert statuses(found) == ["api_error", "api_error", "scored", "scored", "scored"]
    assert "--batch collect" in str(found[0].error)


def test_another_machine_goes_on(
    endpoint: BatchEndpoint, judge: JudgeSettings, store: VerdictStore, tmp_path: Path
) -> None:
    submit(to_send(judge, store), judge, store)
    endpoint.run("batch_0")
    elsewhere = VerdictStore(shutil.copy(store.path, tmp_path / "copy.sqlite3"))
    assert collect(judge, elsewhere).verdicts == 5
    assert collect(judge, store).verdicts == 5
    assert readings(list(elsewhere)) == readings(list(store))


def test_files_are_split(
    endpoint: BatchEndpoint, judge: JudgeSettings, store: VerdictStore
) -> None:
    done = submit(to_send(judge, store), judge, store, limits=BatchLimits(requests=2))
    assert [job.requests for job in done.jobs] == [2, 2, 1]
    for name in endpoint.batches:
        endpoint.run(name)
    assert collect(judge, store).verdicts == 5


@pytest.mark.parametrize("arrived", [False, True])
def test_a_lost_connection_sends_nothing_twice(
    endpoint: BatchEndpoint, judge: JudgeSettings, store: VerdictStore, arrived: bool
) -> None:
    def drop() -> None:
        raise ConnectionAbortedError

    setattr(endpoint, "after_create" if arrived else "before_create", drop)
    with pytest.raises(EftEvalError, match="submit again later"):
        submit(to_send(judge, store), judge, store)
    setattr(endpoint, "after_create" if arrived else "before_create", lambda: None)
    again = submit(to_send(judge, store), judge, store)
    assert len(endpoint.batches) == 1
    assert again.requests == (0 if arrived else 5)
    endpoint.run("batch_0")
    assert collect(judge, store).verdicts == 5


SUBMIT = """
import sys
from eft_eval.judging import *
from eft_eval.judging.batch.batch import BatchRequest, submit
from eft_eval.judging.judge import plan
settings = JudgeSettings("judge", sys.argv[2], "key")
prompt, store = load_prompt("factuality"), VerdictStore(sys.argv[1])
planned = plan([JudgeItem("a"), JudgeItem("b")], prompt, settings, store)
submit({key: BatchRequest(text, prompt) for key, text in planned.missing.items()}, settings, store)
"""


def test_a_killed_submit_is_taken_up(
    endpoint: BatchEndpoint, openai_server: Start, store: VerdictStore
) -> None:
    created, over = threading.Event(), threading.Event()

    def stall() -> None:
        created.set()
        over.wait(20)

    endpoint.after_create = stall
    server = openai_server(score, routes=endpoint.routes)
    process = subprocess.Popen([sys.executable, "-c", SUBMIT, str(store.path), server.url])
    try:
        assert created.wait(20)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
        over.set()
    endpoint.after_create = lambda: None
    judge = settings(server.url)
    again = submit(to_send(judge, store, "a", "b"), judge, store)
    assert (again.requests, again.elsewhere) == (0, 2)
    assert list(endpoint.batches) == ["batch_0"]
    endpoint.run("batch_0")
    assert collect(judge, store).verdicts == 2


def test_a_batch_that_fails_as_a_whole(
    endpoint: BatchEndpoint, judge: JudgeSettings, store: VerdictStore
) -> None:
    submit(to_send(judge, store), judge, store)
    reason = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached."}
    endpoint.batches["batch_0"] |= {"status": "failed", "errors": {"data": [reason]}}
    done = collect(judge, store)
    why = "batch failed (token_limit_exceeded: Enqueued token limit reached.)"
    assert done.failures == {why: 5}
    assert submit(to_send(judge, store), judge, store).requests == 5


def test_lines_that_are_cut_off_are_asked_again(
    endpoint: BatchEndpoint,
    judge: JudgeSettings,
    store: VerdictStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    submit(to_send(judge, store), judge, store)
    endpoint.run("batch_0")
    output = endpoint.batches["batch_0"]["output_file_id"]
    endpoint.files[output] = endpoint.files[output][:-20]
    done = collect(judge, store)
    assert done.verdicts == 4
    assert sum(done.failures.values()) == 1
    assert "1 lines are no answers" in caplog.text
    assert submit(to_send(judge, store), judge, store).requests == 1


def test_a_file_that_cannot_be_fetched_changes_nothing(
    endpoint: BatchEndpoint,
    judge: JudgeSettings,
    store: VerdictStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    submit(to_send(judge, store), judge, store)
    endpoint.run("batch_0")
    kept = endpoint.files.pop(endpoint.batches["batch_0"]["output_file_id"])
    broken = collect(judge, store)
    assert [job.batch_id for job in broken.unread] == ["batch_0"]
    assert "collect again later" in caplog.text
    assert list(store) == []
    endpoint.files[endpoint.batches["batch_0"]["output_file_id"]] = kept
    assert collect(judge, store).verdicts == 5


def test_who_cannot_be_batched(
    openai_server: Start, store: VerdictStore, tmp_path: Path, judge: JudgeSettings
) -> None:
    plain = settings(openai_server(score).url)
    with pytest.raises(ConfigError, match="what the Batch API needs"):
        submit(to_send(plain, store), plain, store)
    script = tmp_path / "rules.yaml"
    script.write_text("- {match: ., reply: 'Score: 0'}")
    scripted = JudgeSettings.from_environment({}, judge=f"scripted:{script}")
    with pytest.raises(ConfigError, match="needs a judge at an endpoint"):
        submit(to_send(scripted, store), scripted, store)


def test_a_batch_that_the_endpoint_does_not_know_blocks_no_other(
    endpoint: BatchEndpoint,
    judge: JudgeSettings,
    store: VerdictStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    submit(to_send(judge, store), judge, store, limits=BatchLimits(requests=3))
    batch = endpoint.batches.pop("batch_0")
    endpoint.batches["batch_1"] = endpoint.batches.pop("batch_1", batch)
    looked = status(judge, store)
    assert [one.job.batch_id for one in looked.open] == ["batch_1"]
    assert [job.batch_id for job in looked.unread] == ["batch_0"]
    endpoint.run("batch_1")
    done = collect(judge, store)
    assert (done.verdicts, [job.batch_id for job in done.unread]) == (2, ["batch_0"])
    lines = [line for line in caplog.messages if "knows no batch batch_0" in line]
    assert len(lines) == 2, "one line for each of the two calls"
    assert "the same project?" in lines[0]
    endpoint.batches["batch_0"] = batch
    assert len(collect(judge, store).open) == 1


def test_a_batch_can_be_given_up(
    endpoint: BatchEndpoint, judge: JudgeSettings, store: VerdictStore
) -> None:
    submit(to_send(judge, store), judge, store)
    with pytest.raises(ConfigError, match=r"no open batch 'batch_1' .*batch_0"):
        forget("batch_1", store)
    assert forget("batch_0", store).requests == 5
    assert status(judge, store).open == []
    assert submit(to_send(judge, store), judge, store).requests == 5


def test_a_batch_that_another_machine_prepares_is_shown(
    judge: JudgeSettings, store: VerdictStore
) -> None:
    job = BatchJob(
        job="abc",
        state="prepared",
        owner="elsewhere/-/1/x",
        endpoint=judge_for(judge).place,
        model=judge.model,
        max_tokens=9,
        structured=False,
        requests=1,
        created=time.time(),
    )
    BatchStates(store).prepare(job, {"k": BatchItem("factuality", 1, "", "count")})
    (shown,) = status(judge, store).open
    assert (shown.job.job, shown.job.batch_id) == ("abc", None)
    forget("abc", store)
    assert status(judge, store).open == []


def test_a_listing_that_lags_is_looked_at_twice(
    endpoint: BatchEndpoint, judge: JudgeSettings, store: VerdictStore
) -> None:
    def drop() -> None:
        raise ConnectionAbortedError

    endpoint.after_create = drop
    with pytest.raises(EftEvalError, match="submit again later"):
        submit(to_send(judge, store), judge, store)
    endpoint.after_create = lambda: None
    hidden = dict(endpoint.batches)
    endpoint.batches.clear()

    def appear(_: float) -> None:
        endpoint.batches.update(hidden)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eft_eval.judging.batch.batch.time.sleep", appear)
        again = submit(to_send(judge, store), judge, store)
    assert (again.requests, again.elsewhere) == (0, 5)


def test_batches_elsewhere_are_told_and_left(
    endpoint: BatchEndpoint,
    judge: JudgeSettings,
    store: VerdictStore,
    openai_server: Start,
    caplog: pytest.LogCaptureFixture,
) -> None:
    submit(to_send(judge, store), judge, store)
    other = openai_server(score, routes=BatchEndpoint(completion).routes)
    assert status(replace(judge, base_url=other.url), store).open == []
    assert f"batch batch_0 is at {judge_for(judge).place}" in caplog.text


def test_a_budget_bounds_a_batch(
    endpoint: BatchEndpoint, judge: JudgeSettings, store: VerdictStore
) -> None:
    requests = to_send(judge, store)
    worst = sum(
        budget_for(Purse(100), judge, batch=True).worst_usd(request.text)
        for request in list(requests.values())[:3]
    )
    done = submit(
        requests, judge, store, budget=budget_for(Purse(worst * 1.0001), judge, batch=True)
    )
    assert (done.requests, done.unaffordable) == (3, 2)
    rest = submit(
        requests, judge, store, budget=budget_for(Purse(worst * 1.0001), judge, batch=True)
    )
    assert (rest.requests, rest.elsewhere, rest.unaffordable) == (2, 3, 0)


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 7), st.integers(20, 200))
def test_no_file_passes_the_limits(sizes: list[int], most: int, size: int) -> None:
    lines = [(str(number), b"x" * length) for number, length in enumerate(sizes)]
    parts = list(split(lines, BatchLimits(most, size)))
    assert [pair for part in parts for pair in part.items()] == lines
    for part in parts:
        assert 1 <= len(part) <= most
        assert len(part) == 1 or sum(map(len, part.values())) <= size
    for one, following in itertools.pairwise(parts):
        first = next(iter(following.values()))
        whole = sum(map(len, one.values())) + len(first)
        assert len(one) == most or whole > size  # no file could have taken one more


def test_request_lines(judge: JudgeSettings) -> None:
    line = json.loads(request_line("k", "a \ud800 é\u2028", judge))
    assert line["custom_id"] == "k"
    assert line["body"]["messages"] == [{"role": "user", "content": "a \ud800 é\u2028"}]
    assert line["body"]["temperature"] == 0
    assert request_line("k", "two\nlines\u2028", judge).count(b"\n") == 1


def test_answers_of_all_kinds() -> None:
    good = completion(
        {"model": "m", "messages": [{"content": "RESPONSE: x USE THE ANSWER FORMAT"}]}
    )
    lines = [
        {"custom_id": "good", "response": {"status_code": 200, "body": good}, "error": None},
        {"custom_id": "good", "response": {"status_code": 500, "body": None}, "error": None},
        {"custom_id": "no body", "response": {"status_code": 200, "body": None}},
        {"custom_id": "empty"},
        {"custom_id": "odd", "response": {"status_code": 200, "body": {"choices": []}}},
    ]
    text = "\n".join([*map(json.dumps, lines), "{", "[]", "", "3"])
    answers = read_answers([text], structured=False)
    assert answers.unreadable == 3
    assert isinstance(answers.outcomes["good"], Reply)
    assert {name for name, one in answers.outcomes.items() if isinstance(one, Failure)} == {
        "no body",
        "empty",
        "odd",
    }


# --- the command


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run of a task of somebody else's, as lm-eval writes it."""
    folder = tmp_path / "out" / "model"
    folder.mkdir(parents=True)
    date = "2026-01-02T03-04-05.678901"
    results = {
        "results": {"mine": {"alias": "mine"}},
        "configs": {"mine": {"task": "mine", "output_type": "generate_until", "repeats": 1}},
        "n-samples": {"mine": {"original": 5, "effective": 5}},
    }
    (folder / f"results_{date}.json").write_text(json.dumps(results))
    samples = [
        {
            "doc_id": number,
            "doc": {"question": f"Why {number}?"},
            "resps": [[text]],
            "filtered_resps": [text],
            "filter": "none",
            "metrics": [],
        }
        for number, text in enumerate(RESPONSES)
    ]
    lines = "".join(json.dumps(sample) + "\n" for sample in samples)
    (folder / f"samples_mine_{date}.jsonl").write_text(lines)
    return folder


def call(*arguments: object) -> Any:
    command = ["judge", *map(str, arguments), "--prompt", "factuality"]
    return CliRunner().invoke(app, command, catch_exceptions=False)


def test_the_command(
    endpoint: BatchEndpoint,
    judge: JudgeSettings,
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", str(judge.base_url))
    monkeypatch.setenv("EFT_JUDGE_MODEL", DEFAULT_MODEL)
    dry = call(run_dir, "--dry-run", "--batch", "submit")
    assert "5 new, 0 stored" in dry.stdout
    assert "batch prices of 2025-04-14" in dry.stdout
    assert endpoint.batches == {}

    sent = call(run_dir, "--batch", "submit")
    assert "submitted batch_0: 5 requests to gpt-4.1-2025-04-14" in sent.stdout
    looked = call(run_dir, "--batch", "status")
    assert "open batch_0: validating" in looked.stdout
    early = call(run_dir, "--batch", "collect")
    assert early.exit_code == 3
    assert "0 verdicts stored" in early.stdout
    assert len(list(run_dir.glob("results_*"))) == 1

    endpoint.run("batch_0")
    done = call(run_dir, "--batch", "collect")
    assert done.exit_code == 0, done.stdout
    assert "5 verdicts stored" in done.stdout
    results = json.loads(max(run_dir.glob("results_*")).read_text("utf-8"))
    (name,) = [name for name in results["results"]["mine"] if name.startswith("fact_errors,")]
    assert results["results"]["mine"][name] == 2.0  # (0 + 1 + 2 + 3 + 4) / 5
    assert "nothing to submit" in call(run_dir, "--batch", "submit").stdout


def test_a_panel_is_submitted_and_collected_like_one_judge(
    endpoint: BatchEndpoint, judge: JudgeSettings, run_dir: Path, openai_server: Start
) -> None:
    """Two judges at one endpoint, the third at another."""
    there = BatchEndpoint(completion)
    server = openai_server(score, models=["m"], routes=there.routes)
    panel: list[object] = [run_dir, "--judge", f"x@{judge.base_url}"]
    panel += ["--judge", f"y@{judge.base_url}", "--judge", f"m@{server.url}"]
    sent = call(*panel, "--batch", "submit")
    assert sent.stdout.count("submitted ") == 3
    assert {line["body"]["model"] for line in there.requests("batch_0")} == {"m"}
    assert "nothing" not in sent.output
    assert call(*panel, "--batch", "status").stdout.count("open batch_") == 3
    endpoint.run("batch_0")
    there.run("batch_0")
    early = call(*panel, "--batch", "collect")
    assert (early.exit_code, early.stdout.count("collected ")) == (3, 2)
    assert "10 verdicts stored" in early.stdout
    assert "not asked now" not in early.output
    assert len(list(run_dir.glob("results_*"))) == 1
    endpoint.run("batch_1")
    done = call(*panel, "--batch", "collect")
    assert done.exit_code == 0, done.output
    entry = json.loads(max(run_dir.glob("results_*")).read_text("utf-8"))["results"]["mine"]
    metrics = {name for name in entry if name.startswith("fact_errors,")}
    assert metrics == {"fact_errors,factuality", *(f"fact_errors,factuality@{n}" for n in "mxy")}
    assert {entry[name] for name in metrics} == {2.0}
    assert not [one for one in server.chats if one.path.endswith("/chat/completions")]


def test_a_panel_of_which_one_has_no_batches_sends_nothing(
    endpoint: BatchEndpoint, judge: JudgeSettings, run_dir: Path
) -> None:
    panel = ["--judge", f"x@{judge.base_url}", "--judge", "hf:some/model"]
    with pytest.raises(ConfigError, match="'hf:some/model' is none"):
        call(run_dir, *panel, "--batch", "submit")
    assert endpoint.batches == {}


def test_the_command_gives_a_lost_batch_up(
    endpoint: BatchEndpoint,
    judge: JudgeSettings,
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", str(judge.base_url))
    monkeypatch.setenv("EFT_JUDGE_MODEL", DEFAULT_MODEL)
    call(run_dir, "--batch", "submit")
    endpoint.batches.clear()
    for step in ("status", "collect"):
        with pytest.raises(EftEvalError, match=r"stay open: batch_0; .*forget BATCH_ID"):
            call(run_dir, "--batch", step)
    with pytest.raises(ConfigError, match="needs a batch"):
        call(run_dir, "--batch", "forget")
    assert "5 requests may be asked anew" in call(run_dir, "batch_0", "--batch", "forget").stdout
    with pytest.raises(ConfigError, match="one word too many"):
        call(run_dir, "batch_0")
    assert "no open batches" in call(run_dir, "--batch", "status").stdout


def test_collected_verdicts_need_no_endpoint(
    endpoint: BatchEndpoint,
    openai_server: Start,
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = openai_server(score, routes=endpoint.routes)
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", server.url)
    monkeypatch.setenv("EFT_JUDGE_MODEL", DEFAULT_MODEL)
    call(run_dir, "--batch", "submit")
    endpoint.run("batch_0")
    assert call(run_dir, "--batch", "collect").exit_code == 0
    server.die()
    again = call(run_dir, "--batch", "collect")
    assert again.exit_code == 0, again.output
    assert "nothing to submit" in call(run_dir, "--batch", "submit").stdout


def test_a_field_that_the_endpoint_refuses_is_left_out_by_the_next_submit(
    endpoint: BatchEndpoint, judge: JudgeSettings, store: VerdictStore
) -> None:
    why = "Unsupported value: 'temperature' does not support 0 with this model."
    first = to_send(judge, store)
    submit(first, judge, store)
    sent = endpoint.requests("batch_0")[0]["body"]
    assert sent["temperature"] == 0
    endpoint.run("batch_0", errors=dict.fromkeys(first, why))
    done = collect(judge, store)
    assert (done.verdicts, done.failures) == (0, {f"HTTP status 400: {why}": len(first)})
    forget_forms()  # another process submits again
    second = to_send(judge, store)
    assert second.keys() == first.keys(), "the key stays that of what is asked"
    submit(second, judge, store)
    again = endpoint.requests("batch_1")[0]["body"]
    assert again == {name: value for name, value in sent.items() if name != "temperature"}
    endpoint.run("batch_1")
    assert collect(judge, store).verdicts == len(first)
    found = judge_responses(items(*RESPONSES), PROMPT, judge, store)
    assert readings(found) == [("scored", number) for number in range(5)]
    assert all("temperature" not in one.parameters["sent"] for one in found)


def test_a_limit_that_is_refused_is_renamed_once(
    endpoint: BatchEndpoint, judge: JudgeSettings, store: VerdictStore
) -> None:
    requests = to_send(judge, store)
    submit(requests, judge, store)
    hint = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead ({})."
    endpoint.run("batch_0", errors={key: hint.format(i) for i, key in enumerate(requests)})
    collect(judge, store)
    submit(to_send(judge, store), judge, store)
    body = endpoint.requests("batch_1")[0]["body"]
    assert "max_tokens" not in body
    assert body["max_completion_tokens"] == judge.max_tokens


def test_a_prompt_too_long_changes_no_other_request(
    endpoint: BatchEndpoint, judge: JudgeSettings, store: VerdictStore
) -> None:
    requests = to_send(judge, store)
    submit(requests, judge, store)
    sent = endpoint.requests("batch_0")[0]["body"]
    why = "This model's maximum context length is 8192 tokens, including max_tokens."
    endpoint.run("batch_0", errors={next(iter(requests)): why})
    collect(judge, store)
    submit(to_send(judge, store), judge, store)
    assert endpoint.requests("batch_1")[0]["body"].keys() == sent.keys()
