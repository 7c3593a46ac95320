"""Judging: the verdict record and its store, judge prompts, strict parsing, and the judges.

Importing this loads no openai client, no Jinja and no store; names come with their first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eft_eval.judging.availability import preflight
    from eft_eval.judging.cost.budget import Budget
    from eft_eval.judging.cost.prices import cost_usd
    from eft_eval.judging.judge import JudgeItem, judge_responses
    from eft_eval.judging.outcome import reparse, unjudged
    from eft_eval.judging.prompts.parsing import PARSER_VERSION, Parsed, parse_reply
    from eft_eval.judging.prompts.prompt import JudgePrompt, known_prompts, load_prompt
    from eft_eval.judging.settings import DEFAULT_MODEL, JudgeSettings
    from eft_eval.verdicts.store import VerdictStore, default_store_path
    from eft_eval.verdicts.verdict import Scale, Status, Verdict, content_key

__all__ = [
    "DEFAULT_MODEL",
    "PARSER_VERSION",
    "Budget",
    "JudgeItem",
    "JudgePrompt",
    "JudgeSettings",
    "Parsed",
    "Scale",
    "Status",
    "Verdict",
    "VerdictStore",
    "content_key",
    "cost_usd",
    "default_store_path",
    "judge_responses",
    "known_prompts",
    "load_prompt",
    "parse_reply",
    "preflight",
    "reparse",
    "unjudged",
]

_HOMES = {
    "Budget": "eft_eval.judging.cost.budget",
    "DEFAULT_MODEL": "eft_eval.judging.settings",
    "JudgeItem": "eft_eval.judging.judge",
    "JudgePrompt": "eft_eval.judging.prompts.prompt",
    "JudgeSettings": "eft_eval.judging.settings",
    "PARSER_VERSION": "eft_eval.judging.prompts.parsing",
    "Parsed": "eft_eval.judging.prompts.parsing",
    "Scale": "eft_eval.verdicts.verdict",
    "Status": "eft_eval.verdicts.verdict",
    "Verdict": "eft_eval.verdicts.verdict",
    "VerdictStore": "eft_eval.verdicts.store",
    "content_key": "eft_eval.verdicts.verdict",
    "cost_usd": "eft_eval.judging.cost.prices",
    "default_store_path": "eft_eval.verdicts.store",
    "judge_responses": "eft_eval.judging.judge",
    "known_prompts": "eft_eval.judging.prompts.prompt",
    "load_prompt": "eft_eval.judging.prompts.prompt",
    "parse_reply": "eft_eval.judging.prompts.parsing",
    "preflight": "eft_eval.judging.availability",
    "reparse": "eft_eval.judging.outcome",
    "unjudged": "eft_eval.judging.outcome",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
