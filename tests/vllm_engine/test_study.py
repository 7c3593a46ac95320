"""A study on vLLM: its arms are runs of vLLM's engine, and its numbers are read as any other's."""

from __future__ import annotations

import json
from pathlib import Path

from vllm_commands import GIVEN, REAL, ran
from wide_heads import widen

from eft_eval.recipe.locations import location_of

pytestmark = REAL


def test_a_study_on_vllm(tmp_path: Path) -> None:
    names = ("small-base", "small-tuned", "large-base", "large-tuned")
    models = {name: widen(str(location_of(f"demo:{name}")), tmp_path / name) for name in names}
    (tmp_path / "study.yaml").write_text(
        f"analysis: speed\nengine: eft-vllm\nfamily: {json.dumps(models)}\ntasks: demo_help\n"
        "limit: 4\nmodel-args: {enforce_eager: true, max_model_len: 512}\narms:\n"
        "  up: {base: large-base, tuned: small-tuned, reference: small-base, block: [0, 4]}\n"
    )
    words = [f"{GIVEN}/python", "-m", "eft_eval", "study", str(tmp_path / "study.yaml")]
    done = ran([*words, "--out", str(tmp_path / "s")], 900)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "s" / "results.json").read_text())
    assert found["arms"] == ["up-block-0", "up-block-4"]
    speeds = {one["arm"]: one for one in found["speeds"]["arms"]}
    assert all(rate > 0 for one in speeds.values() for rate in one["tokens_per_second"])
    assert speeds["up-block-4"]["acceptance"] > 0
    assert found["speeds"]["same_responses"] is None
    assert found["scores"][0]["documents"] == 4
    again = ran([*words, "--out", str(tmp_path / "s")], 900)
    assert again.stderr.count(": kept") == 2
