"""Connections, processes, batches and files that fail: nothing is sent or paid twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest
from batch_endpoint import BatchEndpoint
from batch_requests import to_send
from judging_helpers import Start, score, settings

from eft_eval.errors import EftEvalError
from eft_eval.judging import JudgeSettings, VerdictStore
from eft_eval.judging.batch.batch import collect, status, submit
from eft_eval.judging.batch.files import BatchLimits


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
        over.wait(120)

    endpoint.after_create = stall
    server = openai_server(score, routes=endpoint.routes)
    process = subprocess.Popen([sys.executable, "-c", SUBMIT, str(store.path), server.url])
    try:
        assert created.wait(120)
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
