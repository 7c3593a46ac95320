"""The Batch API's whole life, against a loopback endpoint."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from batch_endpoint import BatchEndpoint
from batch_requests import RESPONSES, completion, to_send
from judging_helpers import PROMPT, Start, items, readings, score, settings, statuses

from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.judging import DEFAULT_MODEL, JudgeSettings, VerdictStore, judge_responses
from eft_eval.judging.batch.batch import collect, forget, status, submit
from eft_eval.judging.batch.files import BatchLimits
from eft_eval.judging.batch.jobs import BatchItem, BatchJob, BatchStates
from eft_eval.judging.cost.budget import Purse
from eft_eval.judging.judges.registry import budget_for, judge_for


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
