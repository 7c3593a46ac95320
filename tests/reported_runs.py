"""Runs for reports: the four arms of a study as their results say it, and hostile texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner
from written_runs import write_run

from eft_eval.cli.app import app
from eft_eval.comparing import read_run

HOSTILE = (
    "</script><img src=x onerror=alert(1)><script>alert(2)</script>",
    "</style><style>body{display:none}</style>",
    "{{ 7*7 }} {% raw %} ${alert(3)} `x` | <b>bold</b> [a](javascript:alert(4)) @everyone",
    "\u202egnihtemos si siht\u202c and \u2067right to left\u2069, \u0627\u0644\u0639\u0631\u0628",
    "null \x00 bell \x07 escape \x1b[31m delete \x7f next line \x85 \ufeff zero\u200bwidth",
    "lone \ud800 surrogate",
    "<!-- <svg onload=alert(5)> ]]> --> &lt;already&gt; \" ' onmouseover='alert(6)'",
    "",
)


def member(name: str, parameters: int) -> dict[str, Any]:
    """Return a member as a run's results describe it."""
    return {
        "model": name, "revision": None, "dtype": "float32", "quantization": None, "prompt": None,
        "source": name, "commit": "c0ffee", "coefficient": 1.0, "num_parameters": parameters,
        "loaded_dtype": "torch.float32",
    }  # fmt: skip


SIZES = {"small": 100, "large": 900}


def composite(
    base: str, *deltas: tuple[str, str, float], decoding: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the config of a composite's results; the first word of a name tells its size."""
    roles = ["base", "tuned", "reference"]
    for number in range(2, len(deltas) + 1):
        roles += [f"tuned{number}", f"reference{number}"]
    names = [base, *(name for tuned, reference, _ in deltas for name in (tuned, reference))]
    members = {
        role: member(name, SIZES[name.split("-")[0]])
        for role, name in zip(roles, names, strict=True)
    }
    keys = ("model", "revision", "dtype", "quantization", "prompt")
    identities = {name: {key: member(name, 0)[key] for key in keys} for name in names}
    return {
        "model": "eft",
        "model_args": {"base": base},
        "eft_members": members,
        "eft_identity": {
            "base": identities[base],
            "deltas": [[identities[t], identities[r], weight] for t, r, weight in deltas],
            "weight_top_p": None,
            "sampling": "coupled",
        },
        "eft_recipe": {
            "base": {"model": base},
            "deltas": [
                {"tuned": {"model": t}, "reference": {"model": r}, "weight": w}
                for t, r, w in deltas
            ],
        },
        "eft_decoding": decoding or DECODING,
        "random_seed": 0,
        "torch_seed": 1234,
    }


DECODING = {
    "requests": 60, "tokens": 1234, "tokens_per_second": 5678.0, "rounds": 400,
    "tokens_per_round": 3.25, "drafted": 1000, "accepted": 800, "acceptance": 0.875,
    "accepted_share": 0.8, "rounds_by_block": {"4": 400}, "passes": {"base": 400, "tuned": 1000},
    "time_share": {"base": 0.7, "tuned": 0.2}, "own_time_share": 0.1, "seconds": 0.25,
    "plain_reason": None,
}  # fmt: skip

ARMS = {
    "small": composite("small-base", ("small-tuned", "small-base", 1.0)),
    "up": composite("large-base", ("small-tuned", "small-base", 1.0)),
    "down": composite("small-base", ("large-tuned", "large-base", 1.0)),
    "large": composite("large-base", ("large-tuned", "large-base", 1.0)),
}


def verdict(value: float | None, reason: str, status: str = "scored") -> str:
    """Return a judge's filtered response with one verdict."""
    one = {
        "key": "k", "status": status, "value": value, "reason": reason, "judge_model": "judge-1",
        "judge_model_returned": "judge-1-0101", "prompt_name": "factuality",
        "prompt_sha256": "ab" * 32, "parameters": {"temperature": 0},
    }  # fmt: skip
    return json.dumps([one])


def write_arm(
    folder: Path,
    config: Mapping[str, Any],
    errors: Sequence[float],
    *,
    responses: Sequence[str] | None = None,
    reasons: Sequence[str] | None = None,
    prompts: Sequence[str] | None = None,
    documents: Sequence[str] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """Write a judged run with ``fact_errors`` (lower is better) and ``any_right`` (higher)."""
    said = reasons or ["because"] * len(errors)
    return write_run(
        folder,
        {"facts": {"fact_errors": errors, "any_right": [float(e == 0) for e in errors]}},
        better={"fact_errors": False, "any_right": True},
        responses=responses,
        filtered=[verdict(e, reason) for e, reason in zip(errors, said, strict=True)],
        filter_name="judge",
        prompts=prompts,
        documents=documents,
        changes={"config": dict(config), "transformers_version": "5.0.0", **(changes or {})},
    )


def study(folder: Path, count: int = 60, texts: Sequence[str] = ("A response.",)) -> list[str]:
    """Write the four arms, with responses (and reasons, prompts) of ``texts``; return the paths.

    Small tuned makes about 1.5 errors, up-scaled 0.6, down-scaled 1.4, large tuned 0.5.
    """
    generator = np.random.default_rng(7)
    means = {"small": 1.5, "up": 0.6, "down": 1.4, "large": 0.5}
    repeated = [f"{texts[i % len(texts)]}" for i in range(count)]
    # lm-eval hashes prompts, which takes text that UTF-8 knows
    known = [text.replace("\ud800", "") for text in texts]
    prompts = [f"Question {i}: {known[i % len(known)]}" for i in range(count)]
    found = []
    for arm, mean in means.items():
        errors = [float(n) for n in generator.poisson(mean, count)]
        write_arm(
            folder / arm,
            ARMS[arm],
            errors,
            responses=[f"{arm} says: {text}" for text in repeated],
            reasons=[f"{arm} {text}" for text in repeated],
            prompts=prompts,
        )
        found.append(str(folder / arm))
    return found


def trace_record(texts: Sequence[str], distances: Sequence[float]) -> dict[str, Any]:
    """Return a trace as `eft-eval trace --json` writes it."""
    return {
        "composite": "eft_x", "draft": "tuned", "prompt": "A prompt?", "response": "".join(texts),
        "tokens": [
            {
                "token": text, "token_id": number, "probability": 0.75,
                "draft_probability": 0.25, "total_variation": distance, "entropy": 0.5,
                "raised": [{"token": text, "change": 0.5}],
                "lowered": [{"token": "other", "change": -0.5}],
                "choices": [{"member": "base", "token": text, "probability": 0.9}],
            }
            for number, (text, distance) in enumerate(zip(texts, distances, strict=True))
        ],
    }  # fmt: skip


def hf(name: str, revision: str = "") -> dict[str, Any]:
    extra = f",revision={revision}" if revision else ""
    return {"model": "hf", "model_args": f"pretrained={name},dtype=float32{extra}"}


def write_all(folder: Path, configs: dict[str, dict[str, Any]]) -> list[Any]:
    numbers = [0.0, 1.0, 2.0, 3.0]
    return [read_run(write_arm(folder / name, config, numbers)) for name, config in configs.items()]


def report_command(*arguments: str) -> Any:
    """Run `eft-eval report` in this process."""
    return CliRunner().invoke(app, ["report", *arguments])
