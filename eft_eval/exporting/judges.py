"""Who judged a filter's responses, with the text that the judge was asked with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from urllib.parse import urlsplit

from eft_eval.errors import ClaimError, ConfigError
from eft_eval.exporting.claims import JudgeClaim
from eft_eval.exporting.models import public_name
from eft_eval.judging.judges.registry import prefix_of
from eft_eval.judging.prompts.prompt import JudgePrompt, known_prompts, load_prompt
from eft_eval.judging.settings import OPENAI_URL
from eft_eval.records import finite_number
from eft_eval.runs.judged import Judging, PanelJudge, judging_in
from eft_eval.runs.records import JudgeSeen, Pipeline, TaskRun
from eft_eval.verdicts.verdict import Status

__all__ = ["judge_of", "load_prompts", "possible_range"]

_FILES = (".json", ".yaml", ".yml")
_ANSWERS = {Status.scored.value, Status.abstained.value}


def load_prompts(files: Sequence[str]) -> dict[str, JudgePrompt]:
    """Return the judge prompts that are known here by the hash of their file.

    Args:
        files: The user's own, besides the shipped ones.

    Raises:
        ConfigError: One cannot be read.
    """
    prompts = [load_prompt(name) for name in (*known_prompts(), *files)]
    return {prompt.sha256: prompt for prompt in prompts}


def judge_of(
    task: TaskRun, filter_name: str, prompts: Mapping[str, JudgePrompt]
) -> JudgeClaim | None:
    """Return who judged; None where nobody did.

    Args:
        task: The task.
        filter_name: The filter whose responses were judged.
        prompts: Judge prompts by hash, see `load_prompts`.

    Raises:
        ClaimError: It was judged, but the run does not say by whom: there are no samples.
    """
    described = judging_in(task.config, str(task.results_file))
    pipeline = task.pipelines.get(filter_name)
    if pipeline is not None and pipeline.judge is not None:
        return _seen(pipeline, pipeline.judge, described, task, prompts)
    if described is not None and described.judged(filter_name):
        raise ClaimError(
            f"task {task.name!r}, filter {filter_name!r} was judged, but its samples are not here "
            "(--log_samples), and with them who judged and how often no answer came"
        )
    return None


def possible_range(task: TaskRun, metric: str, filter_name: str) -> tuple[float, float] | None:
    """Return where a score could lie had every response got one; None where all are known."""
    described = judging_in(task.config, str(task.results_file))
    bounds = described.bounds if described else None
    found = (bounds or {}).get(f"{metric},{filter_name}")
    if found is None or not found.unknown or found.lower is None or found.upper is None:
        return None
    return found.lower, found.upper


def _seen(
    pipeline: Pipeline,
    judge: JudgeSeen,
    described: Judging | None,
    task: TaskRun,
    prompts: Mapping[str, JudgePrompt],
) -> JudgeClaim:
    verdicts = dict(pipeline.verdicts or {})
    prompt = prompts.get(judge.prompt_sha256) or _own_prompt(task, judge.prompt_sha256)
    kind = _kind(judge.model, pipeline.name, described)
    panel = described.judges_of(pipeline.name) if described else []
    found = JudgeClaim(
        model=_public(judge.model) if not panel else judge.model,
        answered=tuple(_public(name) for name in judge.returned),
        kind=kind,
        prompt=judge.prompt,
        prompt_sha256=judge.prompt_sha256,
        prompt_text=None if prompt is None else prompt.template,
        parameters=judge.parameters,
        temperature=_temperature(judge.parameters),
        verdicts=verdicts,
        repeats=pipeline.repeats,
        unknown=_unknown(verdicts),
    )
    if not panel:
        return found
    return replace(
        found,
        kind="panel",
        answered=tuple(_public(name) for _, one in panel for name in one.models_returned or ()),
        panel=tuple(_member(found, name, one) for name, one in panel),
    )


def _member(panel: JudgeClaim, pipeline: str, one: PanelJudge) -> JudgeClaim:
    """Return one judge of a panel, as the results file describes it."""
    parameters = json.dumps(one.parameters or {}, sort_keys=True)
    verdicts = dict(one.verdicts or {})
    return replace(
        panel,
        model=_public(one.model),
        answered=tuple(_public(name) for name in one.models_returned or ()),
        kind=prefix_of(one.model) or _asked_at(one.endpoint),
        parameters=parameters,
        temperature=_temperature(parameters),
        verdicts=verdicts,
        unknown=_unknown(verdicts),
    )


def _unknown(verdicts: Mapping[str, int]) -> int:
    return sum(count for status, count in verdicts.items() if status not in _ANSWERS)


def _asked_at(endpoint: str | None) -> str:
    openai = urlsplit(endpoint or "").hostname == urlsplit(OPENAI_URL).hostname
    return "openai" if openai else "endpoint"


def _own_prompt(task: TaskRun, sha256: str) -> JudgePrompt | None:
    """Return the prompt file that the run names, if it is still there and unchanged."""
    for pipeline in task.config.get("filter_list") or []:
        for step in pipeline.get("filter") or []:
            if not isinstance(step, Mapping) or not step.get("prompt"):
                continue
            try:
                prompt = load_prompt(str(step["prompt"]))
            except ConfigError:
                continue  # it moved: the user can name it with --judge-prompt
            if prompt.sha256 == sha256:
                return prompt
    return None


def _kind(model: str, pipeline: str, described: Judging | None) -> str:
    if kind := prefix_of(model):
        return kind
    if described is None:
        return "endpoint"
    if described.model == model and not described.prompts:
        return "program"  # such as the demo's own judge
    of_panel = (described.judges or {}).get(pipeline)
    who = (described.kept or {}).get(pipeline) or of_panel or described
    return _asked_at(who.endpoint)


def _public(model: str) -> str:
    """Return a judge's name without the path of a folder or file on somebody's machine."""
    prefix = prefix_of(model)
    if not prefix:
        return public_name(model)
    name = model.removeprefix(f"{prefix}:")
    path = PurePath(name)
    return f"{prefix}:{path.name if path.suffix in _FILES else public_name(name)}"


def _temperature(parameters: str) -> float | None:
    content = json.loads(parameters)
    return finite_number(content.get("temperature")) if isinstance(content, dict) else None
