"""What judging would take: calls, tokens and money, before anybody is asked."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from eft_eval.judging.cost.budget import most_prompt_tokens
from eft_eval.judging.judge import Plan, plan
from eft_eval.judging.judges.registry import judge_for
from eft_eval.judging.responses import Assignment
from eft_eval.judging.settings import JudgeSettings
from eft_eval.verdicts.store import VerdictStore
from eft_eval.verdicts.verdict import Verdict

__all__ = ["Ahead", "Estimate", "Planned", "estimate", "estimate_ahead", "plan_run"]

_BYTES_PER_TOKEN = 4.0
_ENVELOPE_TOKENS = 8  # of one user message
_ASSUMED_REPLY_TOKENS = 250
_LOOKED_AT = 2000
_ENOUGH = 20


class Ahead(NamedTuple):
    """What a judge is going to be asked.

    Attributes:
        prompt: The judge prompt's name.
        text: Of the request.
        times: How often.
        task: Whose response it is about; empty where nobody said.
    """

    prompt: str
    text: str
    times: int = 1
    task: str = ""


class Planned(NamedTuple):
    """One judge prompt on one task's responses, for the first or a further asking."""

    pipeline: Assignment
    repeat: int
    plan: Plan


class Estimate(NamedTuple):
    """What judging would take.

    Attributes:
        new: Calls to make.
        stored: Verdicts that are there already, equal requests once.
        prompt_tokens: To be sent.
        prompt_rule: How that was estimated.
        reply_tokens: To be received.
        reply_rule: How that was estimated.
        cost_usd: List price of these tokens; None for a model without a known price.
        worst_usd: What no run can exceed, were every call made once: the longest prompts that a
            tokenizer could make of the texts, and every reply at its limit.
        price_table: Date of the price table, None without a price.
    """

    new: int
    stored: int
    prompt_tokens: int
    prompt_rule: str
    reply_tokens: int
    reply_rule: str
    cost_usd: float | None
    worst_usd: float | None
    price_table: str | None


def plan_run(
    pipelines: Iterable[Assignment], settings: JudgeSettings, store: VerdictStore, repeats: int = 1
) -> list[Planned]:
    """Return what judging a saved run would ask, per judge prompt and asking; asks nobody.

    Args:
        pipelines: What is to be judged.
        settings: The judge.
        store: Where verdicts are looked up.
        repeats: How often each response is asked about, at least 1.
    """
    return [
        Planned(
            pipeline,
            repeat,
            plan(
                [item for group in pipeline.items for item in group],
                pipeline.prompt,
                settings,
                store,
                repeat=repeat,
            ),
        )
        for pipeline in pipelines
        for repeat in range(repeats)
    ]


def estimate(
    planned: Sequence[Planned],
    settings: JudgeSettings,
    store: VerdictStore,
    *,
    batch: bool = False,
) -> Estimate:
    """Estimate the calls, tokens and cost of a plan.

    Args:
        planned: What `plan_run` returned.
        settings: The judge.
        store: Whose newest verdicts tell how long this judge's replies are.
        batch: Whether the Batch API's prices count.
    """
    texts = {key: text for one in planned for key, text in one.plan.missing.items()}
    stored = {key for one in planned for key in one.plan.stored}
    prompts = {one.pipeline.prompt.name for one in planned}
    asked = [Ahead("", text) for text in texts.values()]
    return _estimated(_Asked(asked, prompts, 0.0, len(stored)), settings, store, batch)


def estimate_ahead(
    asked: Sequence[Ahead],
    response_tokens: float,
    settings: JudgeSettings,
    store: VerdictStore,
    *,
    batch: bool = False,
) -> Estimate:
    """Estimate what judging responses would take that are not there yet.

    Args:
        asked: What the judge would be asked, with empty responses.
        response_tokens: Mean length of a response.
        settings: The judge.
        store: Whose newest verdicts tell how long this judge's replies are.
        batch: Whether the Batch API's prices count.
    """
    prompts = {one.prompt for one in asked}
    return _estimated(_Asked(asked, prompts, response_tokens, 0), settings, store, batch)


class _Asked(NamedTuple):
    requests: Sequence[Ahead]
    prompts: set[str]
    response_tokens: float
    stored: int


def _estimated(
    given: _Asked, settings: JudgeSettings, store: VerdictStore, batch: bool
) -> Estimate:
    asked, prompts, response_tokens, stored = given
    calls = sum(one.times for one in asked)
    around, prompt_rule = _prompt_tokens(asked, settings.model)
    prompt_tokens = round(around + calls * response_tokens)
    each, reply_rule = _reply_tokens(store.newest(_LOOKED_AT), settings, prompts)
    reply_tokens = round(each * calls)
    price = judge_for(settings).price
    if price is not None and batch:
        price = price.batch()
    most = sum(most_prompt_tokens(one.text) * one.times for one in asked)
    # a token of ours is of some bytes, each of which may be one of the judge's
    most += round(_BYTES_PER_TOKEN * calls * response_tokens)
    return Estimate(
        new=calls,
        stored=stored,
        prompt_tokens=prompt_tokens,
        prompt_rule=prompt_rule,
        reply_tokens=reply_tokens,
        reply_rule=reply_rule,
        cost_usd=None if price is None else price.cost_usd(prompt_tokens, reply_tokens),
        worst_usd=None if price is None else price.cost_usd(most, settings.max_tokens * calls),
        price_table=None if price is None else price.table,
    )


def _prompt_tokens(asked: Sequence[Ahead], model: str) -> tuple[int, str]:
    around = _ENVELOPE_TOKENS * sum(one.times for one in asked)
    try:
        import tiktoken

        try:
            encoding = tiktoken.encoding_for_model(model)
            rule = "counted with tiktoken"
        except KeyError:
            encoding = tiktoken.get_encoding("o200k_base")
            rule = "counted with tiktoken as for OpenAI's newer models"
        counts = [len(encoding.encode(one.text, disallowed_special=())) for one in asked]
        rows = zip(counts, asked, strict=True)
        return sum(count * one.times for count, one in rows) + around, rule
    except (ImportError, OSError, ValueError):  # not there, or its data is not, without network
        size = sum(len(one.text.encode("utf-8", "surrogatepass")) * one.times for one in asked)
        return round(size / _BYTES_PER_TOKEN) + around, "estimated as one per 4 bytes"


def _reply_tokens(
    newest: Iterable[Verdict], settings: JudgeSettings, prompts: set[str]
) -> tuple[float, str]:
    """Return the tokens of one reply, and how they were estimated."""
    counts = [
        verdict.completion_tokens
        for verdict in newest
        if verdict.judge_model == settings.model
        and verdict.prompt_name in prompts
        and verdict.completion_tokens is not None
    ]
    if len(counts) >= _ENOUGH:
        mean = statistics.fmean(counts)
        return mean, f"mean {mean:.0f} of {len(counts)} stored replies of this judge"
    each = min(_ASSUMED_REPLY_TOKENS, settings.max_tokens)
    return each, f"assumed {each} a reply; at most {settings.max_tokens}"
