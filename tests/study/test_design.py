"""What a study is: families, designs, and the runs that follow from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eft_eval.errors import ConfigError
from eft_eval.recipe import named_recipe_names, parse_recipe
from eft_eval.study.design import design_names, find_design, own_family
from eft_eval.study.family import MEMBERS, family_names, find_family, parse_family
from eft_eval.study.plan import plan_study
from eft_eval.study.words import grid

FOUR = {"small-base": "a/sb", "small-tuned": "a/st", "large-base": "a/lb", "large-tuned": "a/lt"}


def plan(name: str, **changes: Any):  # type: ignore[no-untyped-def]
    return plan_study(find_design(name, {"family": "demo", **changes}))


def test_families_that_ship_have_four_models_and_no_stranger_among_the_checked() -> None:
    known = {m.model for name in named_recipe_names() for _, m in parse_recipe(name).members}
    for name in family_names():
        family = find_family(name)
        assert set(MEMBERS[:4]) <= set(family.members), name
        models = {spec.model for spec in family.members.values()}
        # what no recipe names is listed as unchecked, but for those whose pages were found
        if not family.unchecked:
            assert models - known <= {
                "allenai/OLMo-2-1124-13B-Instruct", "HuggingFaceTB/SmolLM2-1.7B-Instruct",
                "Qwen/Qwen3-8B",
            }, name  # fmt: skip


def test_a_family_of_four_lines(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("".join(f"{name}: {model}\n" for name, model in FOUR.items()))
    family = find_family(str(file))
    assert family.name == "mine"
    assert {name: spec.model for name, spec in family.members.items()} == FOUR
    own = own_family(FOUR)
    assert own is not None
    assert own.members == family.members
    assert own_family(dict.fromkeys(FOUR)) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"small-bas": "x"}, "unknown key 'small-bas' (did you mean 'small-base'?)"),
        ({}, "names no model"),
        ([], "expected NAME: MODEL lines"),
        ({"small-base": {"model": "a/b", "dtyp": "x"}}, "unknown key 'small-base.dtyp'"),
        ({"small-base": "a/b", "name": "../x"}, "name: got '../x': folders are called so: no sla"),
        ({"small-base": "a/b", "name": "x\ny"}, "name: got 'x\\ny': folders are called so"),
    ],
)
def test_a_wrong_family_is_one_line(content: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_family(content, "family file x.yaml")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", design_names())
def test_designs_that_ship_fit_the_demo(name: str) -> None:
    found = plan(name)
    assert found.design.analysis == name
    assert len({run.name for run in found.runs}) == len(found.runs)


def test_arms_are_the_papers() -> None:
    assert [arm.name for arm in plan("scaling").arms] == [
        "small-tuned", "up-scaled", "down-scaled", "large-tuned",
    ]  # fmt: skip
    small, up, down, _ = (arm.recipe for arm in plan("scaling").arms)
    assert small.is_base_alone
    assert small.base.model == "demo:small-tuned"
    same = parse_recipe("demo-up")
    assert (up.base, up.deltas) == (same.base, same.deltas)
    assert (down.base, down.deltas) == (
        parse_recipe("demo-down").base,
        parse_recipe("demo-down").deltas,
    )
    alphas = plan("frontier", alpha="0:1:0.5").arms
    assert [arm.value for arm in alphas] == [0, 0.5, 1] * 2
    assert [delta.weight for delta in alphas[4].recipe.deltas] == [0.5, 0.5]
    assert [delta.tuned.model for delta in alphas[4].recipe.deltas] == [
        "demo:small-helpful", "demo:small-harmless",
    ]  # fmt: skip
    assert [arm.recipe.decoding.weight_top_p for arm in plan("truncation").arms] == [
        None, 0.95, 0.9, 0.8,
    ]  # fmt: skip
    blocks = [arm.recipe.decoding.block for arm in plan("speed").arms]
    assert blocks == [0, 2, 4, 8, 16, "auto", "auto", "auto"]


def test_the_command_says_what_the_plan_says(tmp_path: Path) -> None:
    found = plan("scaling", seeds=[7], limit=12, tasks="demo_fact")
    run = found.runs[1]
    words = found.command(run, tmp_path / "out", tmp_path / "kept")
    given = {name: words[words.index(name) + 1] for name in words if name.startswith("--")}
    assert given["--tasks"] == "demo_fact"
    assert given["--seed"] == "0,1234,7,1234"
    assert given["--limit"] == "12"
    arguments = json.loads(given["--model_args"])
    assert arguments.pop("resume") == str(tmp_path / "kept")
    assert parse_recipe(arguments) == run.arm.recipe
    many = plan("scaling", limit=1234567).command(run, tmp_path / "out", tmp_path / "kept")
    assert many[many.index("--limit") + 1] == "1234567", "no digit is lost"
    alone = found.command(found.runs[0], tmp_path / "out", tmp_path / "kept")
    arguments = json.loads(alone[alone.index("--model_args") + 1])
    assert set(arguments) == {"base", "resume"}


def test_grids() -> None:
    assert grid("0:1:0.25", "x") == [0, 0.25, 0.5, 0.75, 1]
    assert grid("0:0.3:0.1", "x") == [0, 0.1, 0.2, 0.3]
    assert grid("0, 2,0.5", "x") == [0, 2, 0.5]
    assert grid("0:1:0.333333333", "x") == [0, 0.333333333, 0.666666666, 1]
    for wrong in ("", "a", "0:1", "0:1:0", "1:0:0.5", "0:1:nan", "0:1:1e-9", "0:1:0.3", "0:1:2"):
        with pytest.raises(ConfigError, match=r"^x: "):
            grid(wrong, "x")


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("scalng", {}, "did you mean 'scaling'?"),
        ("nowhere.yaml", {}, "does not exist"),
        ("scaling", {"family": None}, "which models?"),
        ("scaling", {"family": "lama2"}, "did you mean 'llama2'?"),
        ("scaling", {"seeds": [1, 1]}, "a seed appears twice"),
        ("scaling", {"seeds": [-1]}, "seeds.0: got -1"),
        ("scaling", {"seeds": True}, "seeds: got True: true is no number"),
        ("scaling", {"seeds": []}, "an empty list of seeds"),
        ("scaling", {"seeds": [1.5]}, "seeds.0: got 1.5: input should be a valid integer"),
        ("scaling", {"tasks": "a,b,a"}, "a task appears twice"),
        ("scaling", {"tasks": [" "]}, "tasks: got ' ': each is one name"),
        ("scaling", {"tasks": ["a,b"]}, "tasks: got 'a,b': each is one name"),
        ("scaling", {"limit": 0}, "limit: got 0"),
        ("scaling", {"limit": True}, "limit: got True: true is no number"),
        ("scaling", {"limit": 2.5}, "limit: got 2.5: a whole number of documents, or a share"),
        ("scaling", {"family": {"small-base": "a/b", "large-bose": "c/d"}},
         "study scaling: family: unknown key 'large-bose' (did you mean 'large-base'?)"),
        ("scaling", {"model-args": {"tuned": "a/b", "reference": "c/d"}},
         "model-args: tuned, reference would change what arm small-tuned is"),
        ("scaling", {"model-args": {"base": "a/b"}}, "model-args: base is what the arms say"),
        ("frontier", {"alpha": "0:1.5:0.5"}, "arms.small.alpha.3: got 1.5: input should be less"),
        ("frontier", {"alpha": "-1,0"}, "arms.small.alpha.0: got -1.0: input should be greater"),
        ("scaling", {"family": 3}, "family: got 3: input should be a valid string"),
        ("scaling", {"model-args": {"weight": 3}}, "model-args: 'deltas.0.tuned' is missing"),
        ("truncation", {"model-args": {"weight": 3}}, "weight would change what arm up-scaled-w"),
        ("truncation", {"model-args": {"block": 2}}, "block would change what arm up-scaled-wei"),
        ("truncation", {"model-args": {"resume": "x"}}, "resume would change"),
        ("truncation", {"model-args": {"bogus": 2}}, "model-args: unknown key 'bogus'"),
        ("scaling", {"engine": "vllm"}, "engine: got 'vllm'"),
        ("scaling", {"alpha": "0:1:0.5"}, "no arm of study scaling has 'alpha'"),
        ("scaling", {"tsks": "x"}, "unknown key 'tsks' (did you mean 'tasks'?)"),
        ("frontier", {"family": "llama2"}, "the family llama2 has no small-helpful"),
        ("sequence", {"seeds": [1]}, "at least two seeds"),
    ],
)  # fmt: skip
def test_a_wrong_study_is_one_line(name: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(name, **changes)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ("{base: small-base, tuned: small-tuned}", "give both tuned and reference"),
        ("{base: small-base, tuned: [a/b, c/d], reference: small-base}", "two tuned models need"),
        ("{base: small-base, weight: 2}", "a base alone has no weight"),
        ("{base: smal-base}", "no model of a family (did you mean 'small-base'?)"),
        (
            "{base: a/b, tuned: [c/d, e/f], reference: a/b, alpha: [0, .nan]}",
            "arms.one.alpha.1: got nan: input should be a finite number",
        ),
        (
            "{base: a/b, tuned: c/d, reference: a/b, weight: [1, .inf]}",
            "arms.one.weight.1: got inf: input should be a finite number",
        ),
        ("{bas: x}", "unknown key 'arms.one.bas' (did you mean 'base'?)"),
        (
            "{base: a/b, tuned: c/d, reference: a/b, weight: [1, 2], block: [0, 2]}",
            "only one setting may be a list",
        ),
        ("{base: a/b, tuned: c/d, reference: a/b, weight-top-p: 2}", "weight_top_p"),
        ("{base: a/b, tuned: c/d, reference: a/b, weight: true}", "weight: got True: true is no"),
        ("{base: a/b, tuned: c/d, reference: a/b, block: [0, true]}", "block: got [0, True]: true"),
        (
            "{base: a/b, tuned: c/d, reference: a/b, block: 2.5}",
            "arms.one.block.0: got 2.5: input should be a valid integer, got a number with a "
            "fractional part, or input should be 'auto'",
        ),
        ("{base: a/b}\n  One: {base: c/d}", "two arms are called 'one'"),
    ],
)
def test_a_wrong_arm_is_one_line(tmp_path: Path, arm: str, said: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(f"analysis: weights\nfamily: demo\narms:\n  one: {arm}\n")
    with pytest.raises(ConfigError) as caught:
        plan(str(file))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_run_time_arguments_of_all_arms(tmp_path: Path) -> None:
    given = {"dtype": "float16", "max_length": 512}
    found = plan("scaling", **{"model-args": given})
    words = found.command(found.runs[1], tmp_path, tmp_path / "responses")
    arguments = json.loads(words[words.index("--model_args") + 1])
    assert arguments.items() >= given.items()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"limit": float("inf")}, "limit: got inf"),
        ({"batch-size": 0}, "batch-size"),
        ({"batch-size": "-3"}, "batch-size"),
        ({"batch-size": "auto:x"}, "batch-size"),
    ],
)
def test_what_no_run_takes_is_told_before_the_first(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        plan("scaling", **changes)
    assert "\n" not in str(caught.value)
    for size in (1, "8", "auto", "auto:4"):
        assert plan("scaling", **{"batch-size": size}).design.batch_size == size
