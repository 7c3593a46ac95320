"""Judging: the verdict record and its store, judge prompts, strict parsing, and the client.

Importing this loads no openai client, no Jinja and no YAML; those come with their first use.
"""

from __future__ import annotations

from eft_eval.judging.availability import preflight
from eft_eval.judging.budget import Budget
from eft_eval.judging.judge import JudgeItem, judge_responses, reparse, unjudged
from eft_eval.judging.parsing import PARSER_VERSION, Parsed, Scale, parse_reply
from eft_eval.judging.prices import cost_usd
from eft_eval.judging.prompt import JudgePrompt, known_prompts, load_prompt
from eft_eval.judging.settings import DEFAULT_MODEL, JudgeSettings, parameters_for
from eft_eval.judging.store import VerdictStore, default_store_path
from eft_eval.judging.verdict import Status, Verdict, content_key

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
    "parameters_for",
    "parse_reply",
    "preflight",
    "reparse",
    "unjudged",
]
