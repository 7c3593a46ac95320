"""What a results file says about the judge: model, prompts, verdict counts, tokens and cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from eft_eval.judging.parsing import PARSER_VERSION
from eft_eval.judging.prompt import JudgePrompt
from eft_eval.judging.settings import JudgeSettings, parameters_for
from eft_eval.judging.verdict import Verdict

__all__ = ["describe_judge"]


def describe_judge(
    settings: JudgeSettings,
    prompts: Mapping[str, JudgePrompt],
    verdicts: Sequence[Verdict] | None,
) -> dict[str, Any]:
    """Return the judge's description for a results file; holds no key.

    Args:
        settings: The judge.
        prompts: Judge prompts by the name of the filter pipeline that used them.
        verdicts: All verdicts of the run; None where not all are known, which leaves out the
            counts, the models that answered and the usage.
    """
    described: dict[str, Any] = {
        "model": settings.model,
        "endpoint": settings.endpoint,
        "parameters": parameters_for(settings.model, settings.max_tokens),
        "parser_version": PARSER_VERSION,
        "prompts": {
            name: {"name": prompt.name, "version": prompt.version, "sha256": prompt.sha256}
            for name, prompt in prompts.items()
        },
    }
    if verdicts is not None:
        described["verdicts"] = dict(Counter(verdict.status.value for verdict in verdicts))
        described["models_returned"] = sorted(
            {v.judge_model_returned for v in verdicts if v.judge_model_returned}
        )
        described["usage"] = _usage(verdicts)
    return described


def _usage(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return tokens and cost of distinct verdicts; cost is None where a price is unknown."""
    distinct = {verdict.key: verdict for verdict in verdicts}.values()
    costs = [v.cost_usd for v in distinct if v.prompt_tokens is not None]
    known = [cost for cost in costs if cost is not None]
    return {
        "prompt_tokens": sum(v.prompt_tokens or 0 for v in distinct),
        "completion_tokens": sum(v.completion_tokens or 0 for v in distinct),
        "cost_usd": sum(known) if len(known) == len(costs) else None,
        "price_tables": sorted({v.price_table for v in distinct if v.price_table}),
    }
