"""Questions of a judged task."""

from __future__ import annotations

import hashlib

QUESTIONS = [f"Why is number {n} so {word}?" for n, word in enumerate(("odd", "even", "big", "x"))]
SHARES = ("abstained", "refused", "unreadable", "missing", "unfinished")


def shares(prefix: str) -> list[str]:
    return [f"{prefix}_{share}" for share in SHARES]


def every_judge(prompt: str, body: object = None) -> str:
    """Answer any of the shipped prompts, each on its scale, by the text's hash."""
    number = hashlib.sha256(prompt.encode()).digest()[0]
    if "factual inaccuracies" in prompt:
        return f"Reason: x\n\nScore: {number % 4}"
    assert "satisfied" in prompt or "harm to the user" in prompt
    return f"Reason: x\n\nScore: {number % 101} %"
