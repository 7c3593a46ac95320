"""Studies on vLLM: what its arms are told, and what is refused before the first run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from written_studies import planned, written

from eft_eval.composite.model import CompositeModel
from eft_eval.engine.loading import LoadOptions
from eft_eval.errors import ConfigError
from eft_eval.recipe import parse_recipe, split_recipe
from eft_eval.study.engines import check_engine
from eft_eval.study.plan import StudyPlan
from eft_eval.study.results import study_results
from eft_eval.vllm.arguments import engine_arguments

VLLM = {"gpu_memory_utilization": 0.8, "tensor_parallel_size": 2}


def on_vllm(path: Path, name: str, **changes: Any) -> StudyPlan:
    return planned(path, name, engine="eft-vllm", **changes).plan


def test_arms_carry_the_engines_name_and_arguments(tmp_path: Path) -> None:
    plan = on_vllm(tmp_path, "scaling", model_args=VLLM)
    check_engine(plan)
    for run in plan.runs:
        words = plan.command(run, tmp_path / "out", tmp_path / "kept")
        given = {name: words[words.index(name) + 1] for name in words if name.startswith("--")}
        assert given["--model"] == "eft-vllm"
        assert given["--batch_size"] == "auto"
        values, rest = split_recipe(json.loads(given["--model_args"]))
        assert parse_recipe(values) == run.arm.recipe
        assert rest == VLLM, "no resume: vLLM's model keeps no responses"
        composite = CompositeModel(parse_recipe(values), LoadOptions())
        asked = engine_arguments(composite, rest).values
        assert asked.items() >= VLLM.items()
        assert len(asked["hf_overrides"]["eft_members"]) == (
            1 if run.arm.recipe.is_base_alone else 3
        )
    blocks = {arm.name: arm.recipe.decoding.block for arm in on_vllm(tmp_path, "speed").arms}
    assert blocks["up-scaled-block-4"] == 4
    one = on_vllm(tmp_path, "speed")
    words = one.command(one.runs[0], tmp_path / "out", tmp_path / "kept")
    assert words[words.index("--batch_size") + 1] == "1"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"family": "falcon"}, "arm up-scaled: .*quantization=8bit"),
        ({"model_args": {"pipeline_parallel_size": 2}}, "model-args: pipeline_parallel_size=2"),
        ({"model_args": {"hf_overrides": {}}}, "model-args: hf_overrides"),
        ({"arms": {"small-tuned": {"base": "small-tuned"}, "large-tuned": {"base": "large-tuned"}},
          "family": {"small-tuned": {"model": "demo:small-tuned", "placement": "cpu"},
                     "large-tuned": "demo:large-tuned"}}, "arm small-tuned: .*placement=cpu"),
    ],
)  # fmt: skip
def test_what_vllm_cannot_run_is_refused_first(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        check_engine(on_vllm(tmp_path, "scaling", **changes))


def test_an_arm_whose_configuration_is_not_here_does_not_stop_the_others(tmp_path: Path) -> None:
    arms = {"a": {"base": str(tmp_path / "nothing")}, "b": {"base": "large-tuned"}}
    check_engine(on_vllm(tmp_path, "weights", arms=arms))


def test_nothing_is_said_of_vllms_samples_across_blocks(tmp_path: Path) -> None:
    found = planned(tmp_path / "s", "speed", engine="eft-vllm")
    written(found, lambda run: {"t": {"score": [1.0, 0.0]}}, better={"score": True})
    speeds = study_results(found).speeds
    assert speeds is not None
    assert speeds.same_responses is None
