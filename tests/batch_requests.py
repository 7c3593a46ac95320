"""Responses for batches of judge requests."""

from __future__ import annotations

from typing import Any

from judging_helpers import PROMPT, items, score

from eft_eval.judging import JudgeSettings, VerdictStore
from eft_eval.judging.batch.batch import BatchRequest
from eft_eval.judging.judge import plan

RESPONSES = tuple(f"{number} " + "wrong " * number for number in range(5))


def completion(body: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": score(body["messages"][-1]["content"], body)}
    return {
        "model": body["model"],
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }


def to_send(judge: JudgeSettings, store: VerdictStore, *responses: str) -> dict[str, BatchRequest]:
    planned = plan(items(*(responses or RESPONSES)), PROMPT, judge, store)
    return {key: BatchRequest(text, PROMPT) for key, text in planned.missing.items()}
