"""Runs in the environment that has vLLM: reads a job (JSON), prints what the engine answered.

Not imported by tests; see tests/vllm_engine.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(job: dict[str, Any]) -> dict[str, Any]:
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


if __name__ == "__main__":
    job_file, answer_file = map(Path, sys.argv[1:])
    answer_file.write_text(json.dumps(main(json.loads(job_file.read_text()))))
