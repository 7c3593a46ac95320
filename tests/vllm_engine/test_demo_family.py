"""The demo family on vLLM: as good as on our own engine, by the exact judge; scores equal."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import pytest
from vllm_commands import REAL, harness
from wide_heads import widen

from eft_eval.recipe.locations import location_of

pytestmark = REAL
ROLES = {"base": "large-base", "tuned": "small-tuned", "reference": "small-base"}
TASKS = ("demo_fact", "demo_help")


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The members with heads of 32, which the CPU kernel needs; as model_args."""
    folder = tmp_path_factory.mktemp("wide")
    return ",".join(
        f"{role}={widen(str(location_of(f'demo:{name}')), folder / role)}"
        for role, name in ROLES.items()
    )


def results(tmp_path: Path, model: str, arguments: str, tasks: str) -> dict[str, Any]:
    place = tmp_path / model
    place.mkdir()
    for file in tmp_path.glob("pick.*"):
        (place / file.name).write_text(file.read_text())
    done: subprocess.CompletedProcess[str] = harness(
        place, "--model", model, "--model_args", arguments, "--tasks", tasks
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (file,) = place.glob("out/**/results_*.json")
    found: dict[str, Any] = json.loads(file.read_text())
    if samples := [*place.glob("out/**/samples_pick_*.jsonl")]:
        lines = samples[0].read_text().splitlines()
        found["scores"] = [float(one[0][0]) for line in lines for one in json.loads(line)["resps"]]
    return found


def test_scores_are_those_of_our_engine(family: str, tmp_path: Path) -> None:
    question = "\n\nHuman: Who is Toni Maldan?\n\nAssistant:"
    answers = [" Toni Maldan is a carpenter.", " Toni Maldan plays the flute.", " A town."]
    documents = [{"q": question, "a": 0, "c": answers}]
    (tmp_path / "pick.jsonl").write_text("".join(json.dumps(one) + "\n" for one in documents))
    (tmp_path / "pick.yaml").write_text(
        "task: pick\ndataset_path: json\ntest_split: test\noutput_type: multiple_choice\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path}/pick.jsonl}}}}\n"
        'doc_to_text: "{{q}}"\ndoc_to_target: "{{a}}"\ndoc_to_choice: "{{c}}"\n'
    )
    tasks = ",".join([*TASKS, "pick"])
    ours = results(tmp_path, "eft", family, tasks)
    theirs = results(
        tmp_path, "eft-vllm", f"{family},enforce_eager=True,block=4,max_model_len=512", tasks
    )
    assert theirs["scores"] == pytest.approx(ours["scores"], abs=1e-4)
    compared = 0
    for task in TASKS:
        for name, value in ours["results"][task].items():
            error = ours["results"][task].get(name.replace(",", "_stderr,", 1))
            if not isinstance(error, float) or not math.isfinite(error):
                continue
            other = theirs["results"][task]
            of_other = other[name.replace(",", "_stderr,", 1)]
            assert abs(other[name] - value) <= 3.5 * math.hypot(error, of_other) + 1e-9, name
            compared += 1
    assert compared >= 4
    assert theirs["config"]["eft_decoding"]["acceptance"] > 0.5
