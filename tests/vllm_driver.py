"""Runs in the environment that has vLLM: reads jobs (JSON), writes what the engine answered.

All jobs in one process, one engine after the other. Not imported by tests; see tests/vllm_engine.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def main(job: dict[str, Any]) -> dict[str, Any]:
    os.environ.update(job.get("environment", {}))
    from vllm.distributed import cleanup_dist_env_and_memory

    try:
        return _of_harness(job) if "rolling" in job else _of_api(job)
    finally:
        gc.collect()  # the engine
        cleanup_dist_env_and_memory()


def _of_api(job: dict[str, Any]) -> dict[str, Any]:
    from eft_eval.api import Composite
    from eft_eval.decoding.requests import SamplingRule

    composite = Composite.load(job["recipe"], engine="vllm", **job["engine"])
    engine = composite._vllm
    assert engine is not None
    asked = composite._requests(job["prompts"], 1234, job["max_new_tokens"])
    rule = SamplingRule(job["temperature"])
    made = dict(engine.responses(asked, rule, job["max_new_tokens"]))
    scores = composite.loglikelihood([tuple(pair) for pair in job["pairs"]]) if job["pairs"] else []
    statistics = engine.statistics()
    return {
        "tokens": [made[number].tokens for number in range(len(asked))],
        "scores": [[score.log_prob, score.is_greedy] for score in scores],
        "drafted": statistics.drafted,
        "accepted": statistics.accepted,
    }


def _of_harness(job: dict[str, Any]) -> dict[str, Any]:
    """Score texts as lm-eval has its model ``eft-vllm`` do."""
    from eft_eval.errors import ConfigError
    from eft_eval.model_adapters.eft_vllm import EFTVLLM

    model = EFTVLLM(**job["recipe"], **job["engine"])
    pairs = [SimpleNamespace(args=tuple(pair)) for pair in job["pairs"]]
    texts = [SimpleNamespace(args=(text,)) for text in job["rolling"]]
    refused = None
    try:  # a context with a token that no member has
        model._loglikelihood_tokens([(("a", "b"), [model.composite.vocabulary], [5])])
    except ConfigError as error:
        refused = str(error)
    return {
        "scores": model.loglikelihood(pairs),
        "rolling": model.loglikelihood_rolling(texts),
        "max_length": model.max_length,
        "refused": refused,
    }


if __name__ == "__main__":
    jobs_file, answers_file = map(Path, sys.argv[1:])
    answers = {}
    for name, job in json.loads(jobs_file.read_text()).items():
        print(name, flush=True)  # which one failed
        answers[name] = main(job)
        answers_file.write_text(json.dumps(answers))
