"""Claims as records of Every Eval Ever, schema 0.3.0. Projects; computes nothing.

Every ``additional_details`` maps text to text. Documents are in `every_eval_ever_samples`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from eft_eval.errors import ClaimError
from eft_eval.exporting.claims import Claim, JudgeClaim, RunClaim, TaskClaim
from eft_eval.exporting.identity import evaluation_id, model_id, path_part, record_uuid
from eft_eval.exporting.publishing import iso_date
from eft_eval.judging.prompts.ranges import UNIT
from eft_eval.version import __version__

__all__ = ["SCHEMA_VERSION", "Evaluator", "Record", "eee_record", "result_id"]

SCHEMA_VERSION = "0.3.0"
_PROVIDERS = {"openai": "openai"}
_LOCAL = {"eft", "hf", "hf-auto", "huggingface", "vllm"}


class Evaluator(NamedTuple):
    """Who evaluated, in the user's words.

    Attributes:
        organization: Its name.
        relationship: To the model: first_party, third_party, collaborative or other.
        repository: Under which name on the hub the model is filed; None: the organization's.
    """

    organization: str
    relationship: str
    repository: str | None


class Record(NamedTuple):
    """A record and where it belongs in the data store.

    Attributes:
        folder: ``data/TASK/OWNER/MODEL``.
        uuid: Names the file ``UUID.json`` and that of the documents.
        content: The record.
    """

    folder: str
    uuid: str
    content: dict[str, Any]


def eee_record(run: RunClaim, task: TaskClaim, who: Evaluator) -> Record:
    """Return one task's record.

    Raises:
        ClaimError: The run does not say what a record needs: a date, whether higher is better, or
            the judge prompt's text.
    """
    model = model_id(run, who.organization, who.repository)
    started = iso_date(task)
    identifier = evaluation_id(task, model)
    content = {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": identifier,
        "evaluation_timestamp": started,
        "retrieved_timestamp": repr(task.started),
        "source_metadata": {
            "source_name": "eft-eval export",
            "source_type": "evaluation_run",
            "source_organization_name": who.organization,
            "evaluator_relationship": who.relationship,
        },
        "eval_library": {
            "name": "lm_eval",
            "version": task.lm_eval_version or "unknown",
            "additional_details": _texts(
                {"eft_eval": task.eft_eval_version, "exported_by_eft_eval": __version__}
            ),
        },
        "model_info": _model(run, task, model),
        "evaluation_results": [_result(run, task, claim) for claim in task.claims],
    }
    owner, _, name = model.partition("/")
    folder = f"data/{path_part(task.name)}/{owner}/{name}"
    return Record(folder, record_uuid(identifier), content)


def result_id(task: TaskClaim, claim: Claim) -> str:
    """Return what joins a document's record to its result."""
    return f"{task.name}/{claim.key}"


def _model(run: RunClaim, task: TaskClaim, model: str) -> dict[str, Any]:
    details: dict[str, Any] = {
        "deployment_type": "self_deployed" if run.backend in _LOCAL else "unknown",
        "model_availability": "unknown",
        "lm_eval_model": run.backend,
        "revision": run.commit,
        "named_by": run.named_by or None,
        "variant": run.variant or None,
    }
    if run.composite is not None:
        composite = run.composite
        details |= {
            "kind": "composite: scores are of the combination, of no member alone",
            "recipe": composite.recipe,
            "recipe_hash": composite.hash,
            "weights": json.dumps(composite.weights),
            "weight_top_p": composite.weight_top_p,
            "sampling": composite.sampling,
        }
        for member in composite.members:
            facts = [member.label, f"factor {member.coefficient:g}", member.dtype or ""]
            facts.append(member.quantization or "")
            details[f"member_{member.role}"] = ", ".join(fact for fact in facts if fact)
    info = {"name": run.model, "id": model, "additional_details": _texts(details)}
    if run.backend in ("eft", "hf") and task.transformers_version:
        info["inference_engine"] = {"name": "transformers", "version": task.transformers_version}
    return info


def _result(run: RunClaim, task: TaskClaim, claim: Claim) -> dict[str, Any]:
    figure = claim.figure
    uncertainty: dict[str, Any] = {}
    if figure.standard_error is not None:
        uncertainty["standard_error"] = {
            "value": figure.standard_error,
            "method": figure.error_method,
        }
    if (interval := figure.interval) is not None:
        uncertainty["confidence_interval"] = {
            "lower": interval.lower,
            "upper": interval.upper,
            "confidence_level": interval.level,
            "method": interval.method,
        }
    if figure.n is not None:
        uncertainty["num_samples"] = figure.n
    score: dict[str, Any] = {"score": figure.value, "details": _details(task, claim)}
    if uncertainty:
        score["uncertainty"] = uncertainty
    result = {
        "evaluation_result_id": result_id(task, claim),
        "evaluation_name": task.name,
        "source_data": _source(task),
        "evaluation_timestamp": iso_date(task),
        "metric_config": _metric(run, task, claim),
        "score_details": score,
    }
    if config := _generation(task):
        result["generation_config"] = config
    return result


def _metric(run: RunClaim, task: TaskClaim, claim: Claim) -> dict[str, Any]:
    if claim.higher_is_better is None:
        raise ClaimError(
            f"{run.label}: the run does not say whether a higher {task.name}/{claim.key} is "
            "better, which eee needs; choose other metrics with --metric"
        )
    name = claim.key.metric
    config: dict[str, Any] = {
        "evaluation_description": f"lm-eval task {task.name}, metric {name}, filter "
        f"{claim.key.filter}",
        "metric_id": f"lm_eval.{name}",
        "metric_name": name,
        "lower_is_better": not claim.higher_is_better,
        "additional_details": _texts({"filter": claim.key.filter, "range": _range(claim)}),
    }
    if claim.lowest is not None and claim.highest is not None:
        config |= {
            "score_type": "continuous",
            "min_score": _bound(claim.lowest),
            "max_score": _bound(claim.highest),
        }
        if (claim.lowest, claim.highest) == UNIT:
            config["metric_unit"] = "proportion"
    if claim.judge is not None and claim.judge.kind != "program":
        config["llm_scoring"] = _scoring(run, task, claim.judge)
    return config


def _scoring(run: RunClaim, task: TaskClaim, judge: JudgeClaim) -> dict[str, Any]:
    if judge.prompt_text is None:
        raise ClaimError(
            f"{run.label}: the text of {task.name}'s judge prompt {judge.prompt!r} "
            f"(SHA-256 {str(judge.prompt_sha256)[:12]}…) is not here; name its file with "
            "--judge-prompt"
        )
    return {
        "judges": [_judge(one) for one in judge.each],
        "input_prompt": judge.prompt_text,
        "additional_details": _texts(
            {
                "prompt": judge.prompt,
                "prompt_sha256": judge.prompt_sha256,
                "verdicts_per_document": judge.repeats,
                **_verdicts(judge),
            }
        ),
    }


def _judge(judge: JudgeClaim) -> dict[str, Any]:
    hosted = judge.kind == "openai"
    provider = _PROVIDERS.get(judge.kind)
    name = judge.model.removeprefix("hf:")
    one: dict[str, Any] = {
        "model_info": {
            "name": name,
            "id": f"{provider}/{name}" if provider else name,
            "additional_details": {
                "deployment_type": {"openai": "externally_managed", "hf": "self_deployed"}.get(
                    judge.kind, "unknown"
                ),
                "model_availability": "closed_weights" if hosted else "unknown",
            },
        },
        "additional_details": _texts(
            {
                "asked": judge.kind,
                "models_answered": ", ".join(judge.answered),
                "parameters": judge.parameters,
            }
        ),
    }
    if judge.temperature is not None:
        one["temperature"] = judge.temperature
    return one


def _verdicts(judge: JudgeClaim) -> dict[str, Any]:
    return {
        "verdicts": judge.total,
        **{f"verdicts_{status}": count for status, count in judge.verdicts.items()},
        "verdicts_unknown_share": f"{judge.unknown_share:.6g}",
    }


def _details(task: TaskClaim, claim: Claim) -> dict[str, str]:
    """Return what keeps a score from being read as it stands."""
    details: dict[str, Any] = {
        "documents": task.documents,
        "documents_available": task.available,
        "limited": "true" if task.limited else None,
        "documents_without_score": claim.figure.missing,
        "clusters": claim.figure.clusters,
        "checked_against_samples": str(task.checked).lower(),
        "notes": "; ".join(claim.notes) or None,
    }
    if claim.judge is not None:
        details |= {"judge": claim.judge.model, **_verdicts(claim.judge)}
    if claim.possible is not None:
        details["possible_range"] = "{:.6g} to {:.6g}".format(*claim.possible)
    if claim.labels is not None:
        labels = claim.labels
        details |= {
            "corrected_by_labels": labels.labels,
            "corrected_verdicts_alone": labels.verdicts,
            "annotators": labels.annotators,
            "uncorrected": labels.verdicts_only,
        }
    return _texts(details)


def _source(task: TaskClaim) -> dict[str, Any]:
    data = task.data
    details = _texts(
        {
            "task": task.name,
            "task_version": task.version,
            "config": data.config,
            "revision": data.revision,
            "few_shot": task.shots,
            "data": data.details,
            "own_prompts": data.own,
        }
    )
    if data.repository is None:
        own = ", ".join(name for name, _ in data.own_files)
        named = f"{data.name} (own prompts: {own})" if own else data.name
        return {"dataset_name": named, "source_type": "other", "additional_details": details}
    found: dict[str, Any] = {
        "dataset_name": data.name,
        "source_type": "hf_dataset",
        "hf_repo": data.repository,
        "additional_details": details,
    }
    if data.split:
        found["hf_split"] = data.split
    if task.available is not None:
        found["samples_number"] = task.available
    return found


def _generation(task: TaskClaim) -> dict[str, Any] | None:
    settings = json.loads(task.generation)
    if not isinstance(settings, Mapping):
        return None
    arguments: dict[str, Any] = {"execution_command": task.command}
    for name, ours in (("temperature", "temperature"), ("top_p", "top_p"), ("top_k", "top_k")):
        if isinstance(settings.get(ours), (int, float)):
            arguments[name] = settings[ours]
    longest = settings.get("max_gen_toks")
    if isinstance(longest, int) and longest >= 1:
        arguments["max_tokens"] = longest
    details = {
        "generation_kwargs": task.generation,
        "responses_per_document": task.repeats,
        "seeds": task.seeds,
        "chat_template_sha256": task.chat_template,
    }
    return {"generation_args": arguments, "additional_details": _texts(details)}


def _bound(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "Infinity" if value > 0 else "-Infinity"


def _range(claim: Claim) -> str:
    if claim.lowest is None or claim.highest is None:
        return "not known"
    return f"{claim.lowest:g} to {claim.highest:g}"


def _texts(details: Mapping[str, Any]) -> dict[str, str]:
    """Return details as texts; what is None is left out."""
    return {name: str(value) for name, value in details.items() if value is not None}
