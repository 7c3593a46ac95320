"""Two runs on disk as lm-eval writes them with --predict_only, and judges that compare them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from written_runs import text_hash

STAMP = "2026-11-22T10-00-00.000001"
_PARTS = re.compile(r"===== \w+ =====\n(.*?)\n===== \w+ =====", re.DOTALL)

Response = str | None | Sequence[str | None]


class Shown(NamedTuple):
    """What a prompt that compares two responses shows."""

    query: str
    first: str
    second: str


def write_responses(
    folder: Path,
    responses: Sequence[Response],
    model: str,
    *,
    task: str = "help",
    questions: Sequence[str] | None = None,
    ids: Sequence[int] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Write a run of one task; a list of responses is a document's repeats."""
    folder.mkdir(parents=True, exist_ok=True)
    lines, repeats = [], 1
    for place, given in enumerate(responses):
        texts = [given] if given is None or isinstance(given, str) else list(given)
        repeats = max(repeats, len(texts))
        question = questions[place] if questions else f"Why is number {place} odd?"
        doc = {"question": question}
        line = {
            "doc_id": ids[place] if ids else place,
            "doc": doc,
            "target": "target",
            "arguments": {"gen_args_0": {"arg_0": question, "arg_1": {}}},
            "resps": [texts],
            "filtered_resps": texts[:1],
            "filter": "none",
            "metrics": ["bypass"],
            "doc_hash": text_hash(json.dumps(doc, indent=2)),
            "prompt_hash": text_hash(question),
            "target_hash": text_hash("target"),
            "bypass": None,
        }
        lines.append(json.dumps(line) + "\n")
    given_config = {"task": task, "output_type": "generate_until", "repeats": repeats}
    content = {
        "results": {task: {"alias": task}},
        "configs": {task: {**given_config, "metadata": {"version": 1.0}, **(config or {})}},
        "versions": {task: 1.0},
        "n-shot": {task: 0},
        "n-samples": {task: {"original": len(lines), "effective": len(lines)}},
        "higher_is_better": {task: {}},
        "group_subtasks": {task: []},
        "model_name": model,
        "config": {"model": "hf", "model_args": f"pretrained={model}"},
        "date": 1_790_000_000.0,
        "lm_eval_version": "0.4.13",
    }
    (folder / f"samples_{task}_{STAMP}.jsonl").write_text("".join(lines), "utf-8")
    (folder / f"results_{STAMP}.json").write_text(json.dumps(content), "utf-8")
    return folder


def shown(prompt: str) -> Shown:
    """Return what a rendered prompt of the shipped ones shows."""
    return Shown(*_PARTS.findall(prompt))


def preferring(choose: Callable[[Shown], int | str]) -> Callable[[str, Any], str]:
    """Return a server's judge: what it chooses, 1, 2 or 0, is its score."""
    return lambda prompt, _: f"Reason: as chosen.\n\nScore: {choose(shown(prompt))}"


def the_longer(found: Shown) -> int:
    """Prefer the longer response; a tie for equal lengths."""
    difference = len(found.first) - len(found.second)
    return 0 if difference == 0 else 1 if difference > 0 else 2
