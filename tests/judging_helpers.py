"""What several test files on judging share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eft_eval.judging import JudgeItem, JudgeSettings, Verdict, load_prompt

Start = Callable[..., Any]  # the fixture `openai_server`
KEY = "sk-test-4711"
PROMPT = load_prompt("factuality")


def settings(url: str, **changes: Any) -> JudgeSettings:
    """A judge at ``url`` that is asked once."""
    given = {"model": "judge", "api_key": KEY, "max_retries": 0, "timeout_s": 10, **changes}
    return JudgeSettings(base_url=url, **given)


def items(*responses: str) -> list[JudgeItem]:
    return [JudgeItem(response) for response in responses]


def shown(prompt: str) -> str:
    """The response inside a rendered factuality prompt."""
    return prompt.split("RESPONSE:", 1)[1].split("USE THE ANSWER FORMAT", 1)[0].strip()


def score(prompt: str, _: object) -> str:
    """A judge that counts the word 'wrong'."""
    return f"Reason: counted.\nScore: {shown(prompt).count('wrong')}"


def statuses(verdicts: list[Verdict]) -> list[str]:
    return [verdict.status.value for verdict in verdicts]


def readings(verdicts: list[Verdict]) -> list[tuple[str, object]]:
    """What the verdicts say, without when and at what price."""
    return [(verdict.status.value, verdict.value) for verdict in verdicts]
