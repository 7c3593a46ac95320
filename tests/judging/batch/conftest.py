"""A loopback endpoint with batches, its judge and a store."""

from __future__ import annotations

import pytest
from batch_endpoint import BatchEndpoint
from batch_requests import completion
from judging_helpers import Start, score, settings

from eft_eval.judging import DEFAULT_MODEL, JudgeSettings


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
