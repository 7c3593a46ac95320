"""What a results file says about the judge: model, prompts, verdict counts, tokens and cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from eft_eval.judging.judges.registry import judge_class, judge_for
from eft_eval.judging.panel import judge_names, panel_name
from eft_eval.judging.prompts.measures import Measure
from eft_eval.judging.prompts.parsing import PARSER_VERSION, has_fraction, has_score_line
from eft_eval.judging.prompts.prompt import JudgePrompt
from eft_eval.judging.settings import JudgeSettings
from eft_eval.runs.judged import Bounds, Judging, PanelJudge, PromptUsed, Usage
from eft_eval.verdicts.verdict import Status, Verdict

__all__ = ["describe_judge", "describe_panel"]

_Value = TypeVar("_Value")


def describe_judge(
    settings: JudgeSettings,
    prompts: Mapping[str, JudgePrompt],
    measures: Mapping[str, Measure],
    verdicts: Mapping[str, Sequence[Sequence[Verdict]]] | None,
    responses: Iterable[str],
    further: Sequence[Verdict] = (),
) -> Judging:
    """Return the judge's description for a results file; holds no key.

    Args:
        settings: The judge.
        prompts: Judge prompts by the name of the filter pipeline that used them.
        measures: What they measure, by the same names.
        verdicts: All verdicts of the run by the same names, grouped by prompt; None where not
            all are known, which leaves out the counts, the bounds, the models that answered and
            the usage.
        responses: What was judged; those with a score line of their own are counted.
        further: Verdicts that were asked for besides, which count in the usage alone.
    """
    judge = judge_for(settings)
    described = Judging(
        model=settings.model,
        endpoint=judge.place,
        parameters=judge.key(),
        parser_version=PARSER_VERSION,
        prompts=_used(prompts),
        measures={name: measure.name for name, measure in measures.items()},
    )
    if verdicts is None:
        return described
    every = [verdict for groups in verdicts.values() for group in groups for verdict in group]
    return replace(
        described,
        responses_with_score_line=sum(map(has_score_line, responses)),
        verdicts=dict(Counter(verdict.status.value for verdict in every)),
        read_as_fractions=sum(
            _is_fraction(verdict)
            for name, groups in verdicts.items()
            if measures[name].scale == "percent"
            for group in groups
            for verdict in group
        ),
        bounds=_bounds(measures, verdicts),
        models_returned=tuple(
            sorted({v.judge_model_returned for v in every if v.judge_model_returned})
        ),
        usage=_usage([*every, *further]),
    )


def describe_panel(
    judges: Sequence[Judging],
    prompts: Mapping[str, JudgePrompt],
    measures: Mapping[str, Measure],
    verdicts: Mapping[str, Sequence[Sequence[Verdict]]],
) -> Judging:
    """Return the description of a panel for a results file.

    Args:
        judges: What is said of each judge, with the pipelines that have its verdicts.
        prompts: Judge prompts by the panel's own pipelines.
        measures: What they measure, by the same names.
        verdicts: The panel's verdicts by the same names, grouped by prompt.
    """
    names = judge_names([one.model for one in judges])
    counts: Counter[str] = Counter()
    for one in judges:
        counts.update(one.verdicts or {})
    return Judging(
        model=panel_name(names),
        endpoint=", ".join(dict.fromkeys(one.endpoint for one in judges if one.endpoint)),
        parameters={
            name: one.parameters for name, one in sorted(zip(names, judges, strict=True), key=_name)
        },
        parser_version=PARSER_VERSION,
        prompts={**_used(prompts), **_merged(one.prompts for one in judges)},
        measures={
            **{name: measure.name for name, measure in measures.items()},
            **_merged(one.measures for one in judges),
        },
        responses_with_score_line=judges[0].responses_with_score_line,
        verdicts=dict(counts),
        read_as_fractions=sum(one.read_as_fractions or 0 for one in judges),
        bounds={**_bounds(measures, verdicts), **_merged(one.bounds for one in judges)},
        models_returned=tuple(sorted({m for one in judges for m in one.models_returned or ()})),
        usage=_sum([one.usage or Usage() for one in judges]),
        judges={
            pipeline: PanelJudge(
                name,
                one.model,
                one.endpoint,
                one.parameters,
                one.verdicts,
                one.models_returned,
                one.usage,
            )
            for name, one in zip(names, judges, strict=True)
            for pipeline in one.prompts or {}
        },
    )


def _name(named: tuple[str, Judging]) -> str:
    return named[0]


def _used(prompts: Mapping[str, JudgePrompt]) -> dict[str, PromptUsed]:
    return {name: PromptUsed(one.name, one.version, one.sha256) for name, one in prompts.items()}


def _bounds(
    measures: Mapping[str, Measure], verdicts: Mapping[str, Sequence[Sequence[Verdict]]]
) -> dict[str, Bounds]:
    return {
        f"{metric},{name}": bounds
        for name, groups in verdicts.items()
        for metric, bounds in measures[name].bounds(groups).items()
    }


def _merged(parts: Iterable[Mapping[str, _Value] | None]) -> dict[str, _Value]:
    return {name: value for part in parts for name, value in (part or {}).items()}


def _sum(parts: Sequence[Usage]) -> Usage:
    """Return tokens and cost together; None where one cost is unknown."""
    costs = [one.cost_usd for one in parts if one.cost_usd is not None]
    return Usage(
        prompt_tokens=sum(one.prompt_tokens for one in parts),
        completion_tokens=sum(one.completion_tokens for one in parts),
        cost_usd=sum(costs) if len(costs) == len(parts) else None,
        price_tables=tuple(sorted({table for one in parts for table in one.price_tables})),
    )


def _is_fraction(verdict: Verdict) -> bool:
    return verdict.status is Status.scored and has_fraction(verdict.raw or "")


def _usage(verdicts: Sequence[Verdict]) -> Usage:
    """Return tokens and cost of distinct verdicts; None where a price or a count is unknown.

    Judges in this process cost nothing; a request without a reply has no known cost and does
    not count.
    """
    answered = [verdict for verdict in verdicts if verdict.status.has_reply]
    distinct = {verdict.key: verdict for verdict in answered}.values()
    costs = [v.cost_usd if judge_class(v.judge_model).priced else 0.0 for v in distinct]
    known = [cost for cost in costs if cost is not None]
    return Usage(
        prompt_tokens=sum(v.prompt_tokens or 0 for v in distinct),
        completion_tokens=sum(v.completion_tokens or 0 for v in distinct),
        cost_usd=sum(known) if len(known) == len(costs) else None,
        price_tables=tuple(sorted({v.price_table for v in distinct if v.price_table})),
    )
