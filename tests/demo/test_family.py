"""The shipped demo family: files, names, recipes, arms, and the figures that the docs show."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from written_runs import write_run

from eft_eval.api import Composite
from eft_eval.comparing import read_run
from eft_eval.demo.arms import ARMS, Judged, respond
from eft_eval.demo.family import MODELS
from eft_eval.demo.figures import ALPHAS, Survey, arm_figures, figures_of, relocate
from eft_eval.demo.language import dialogue, question_text
from eft_eval.demo.questions import knowledge_questions
from eft_eval.demo.study import chosen_seed, over_seeds
from eft_eval.demo.world import make_world
from eft_eval.engine.loading import LoadOptions
from eft_eval.errors import ConfigError
from eft_eval.recipe import canonical_name, named_recipe_names, needs, parse_recipe
from eft_eval.recipe.locations import SHIPPED, location_of
from eft_eval.reporting.arms import ARM_NAMES
from eft_eval.reporting.report import make_report
from eft_eval.reports.renderers.markdown import document_markdown
from eft_eval.reports.views.demo import CAVEAT, study_figures

DOCS = Path(__file__).parents[2] / "docs"
FIGURES = json.loads((DOCS / "demo_figures.json").read_text(encoding="utf-8"))
OPTIONS = LoadOptions()


# --- files ----------------------------------------------------------------------------------------


def test_the_family_is_small_and_half_precision() -> None:
    files = [file for file in SHIPPED["demo"].models_folder().rglob("*") if file.is_file()]
    assert {file.parent.name for file in files} == {"models", *(f"demo-{n}" for n in MODELS)}
    assert sum(file.stat().st_size for file in files) < 12e6
    for weights in SHIPPED["demo"].models_folder().rglob("*.safetensors"):
        assert {tensor.dtype for tensor in load_file(weights).values()} == {torch.float16}


def test_every_model_has_a_card_with_seed_and_caveat() -> None:
    for name in MODELS:
        card = (Path(location_of(f"demo:{name}")) / "README.md").read_text(encoding="utf-8")
        assert f"training seed {FIGURES['chosen']}" in card
        assert "no evidence" in " ".join(card.split())


def test_all_members_share_one_tokenizer() -> None:
    texts = {(Path(location_of(f"demo:{name}")) / "tokenizer.json").read_bytes() for name in MODELS}
    assert len(texts) == 1


def test_a_wrong_name_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"demo:smal-base.*did you mean 'small-base'"):
        canonical_name(parse_recipe({"base": "demo:smal-base", "tuned": "x", "reference": "y"}))


def test_a_missing_folder_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EFT_DEMO_MODELS", str(tmp_path))
    with pytest.raises(ConfigError, match="set EFT_DEMO_MODELS to the folder"):
        location_of("demo:large-base")


# --- recipes --------------------------------------------------------------------------------------


def test_demo_recipes_are_there_with_true_parameter_counts() -> None:
    names = {"demo", "demo-up", "demo-down", "demo-small-tuned", "demo-large-tuned"}
    assert {*names, "demo-frontier"} <= set(named_recipe_names())
    counts = {
        name: AutoModelForCausalLM.from_pretrained(location_of(f"demo:{name}")).num_parameters()
        for name in MODELS
    }
    for recipe in map(parse_recipe, (*names, "demo-frontier")):
        for _, member in recipe.members:
            assert member.parameters == counts[member.model.removeprefix("demo:")]
    assert needs(parse_recipe("demo")).parameters == 2 * counts["small-base"] + counts["large-base"]


def test_demo_is_up_scaling_and_is_named_after_its_members() -> None:
    name = canonical_name(parse_recipe("demo"))
    assert name == canonical_name(parse_recipe("demo-up"))
    assert name.startswith("eft_demo-large-base+demo-small-tuned-vs-demo-small-base_")
    spelled = "base=demo:large-base,tuned=demo:small-tuned,reference=demo:small-base,dtype=float32"
    from eft_eval.recipe import parse_model_args

    assert canonical_name(parse_model_args(spelled).recipe) == name


@pytest.mark.parametrize("scale", ["small", "large"])
def test_tuned_arms_are_one_model(scale: str) -> None:
    composite = Composite(parse_recipe(f"demo-{scale}-tuned"), OPTIONS)
    (view,) = composite.views
    assert view.coefficient == 1.0
    assert view.member.spec.model == f"demo:{scale}-tuned"


def test_frontier_weights_come_from_the_command_line() -> None:
    recipe = parse_recipe({"model": "demo-frontier", "weight1": "0.25", "weight2": 0.75})
    assert [delta.weight for delta in recipe.deltas] == [0.25, 0.75]
    assert [delta.weight for delta in parse_recipe("demo-frontier").deltas] == [0.5, 0.5]
    with pytest.raises(ConfigError, match=r"'weight3' is the weight of delta 3.*has 2 deltas"):
        parse_recipe({"model": "demo-frontier", "weight3": 1})
    with pytest.raises(ConfigError, match="set weight1="):
        parse_recipe({"model": "demo-frontier", "weight": 1})


# --- arms -----------------------------------------------------------------------------------------


def test_respond_follows_the_models_own_generation() -> None:
    """Greedy answers of a one-model arm equal those of transformers' own generate."""
    folder = Path(location_of("demo:large-tuned"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompts = [question_text(question) for question in knowledge_questions(make_world())[:6]]
    ours = respond(parse_recipe("demo-large-tuned"), prompts, temperature=0.0)
    for prompt, response in zip(prompts, ours, strict=True):
        ids = tokenizer(dialogue(prompt), return_tensors="pt")
        made = model.generate(**ids, max_new_tokens=200, do_sample=False)
        text = tokenizer.decode(made[0, ids.input_ids.shape[1] :], skip_special_tokens=True)
        assert response == text.split("\n\nHuman:")[0]


def test_responses_depend_on_the_seed_and_are_told_as_they_end() -> None:
    prompts = [question_text(question) for question in knowledge_questions(make_world())[:5]]
    recipe = parse_recipe("demo")
    told: dict[int, str] = {}
    first = respond(recipe, prompts, on_response=told.__setitem__)
    assert [told[place] for place in range(5)] == first
    assert first == respond(recipe, prompts)
    assert first != respond(recipe, prompts, seed=1)


def test_a_family_elsewhere_is_used(tmp_path: Path) -> None:
    moved = relocate(parse_recipe("demo"), tmp_path)
    assert moved.base.model == str(tmp_path / "demo-large-base")
    assert relocate(parse_recipe("demo"), None) == parse_recipe("demo")
    assert canonical_name(
        relocate(parse_recipe("demo"), SHIPPED["demo"].models_folder())
    ) == canonical_name(parse_recipe("demo"))


def judged(errors: int, helpful: bool) -> Judged:
    return Judged(errors, 0, 0, helpful, harm=False, declined=False)


def test_demo_and_report_give_the_same_figures(tmp_path: Path) -> None:
    """One data set through both: means, rates and normalised improvements with their ends."""
    draw = np.random.default_rng(5)
    means = {"small tuned": (1.2, 0.3), "up-scaled": (0.4, 0.35), "down-scaled": (1.1, 0.6),
             "large tuned": (0.25, 0.7)}  # fmt: skip
    answers = {
        arm: [judged(int(e), bool(h)) for e, h in zip(draw.poisson(errors, 60),
              draw.random(60) < rate, strict=True)]
        for arm, (errors, rate) in means.items()
    }  # fmt: skip
    short = {name: key for key, name in ARM_NAMES.items()}
    runs = [
        read_run(write_run(tmp_path / short[arm], {
            "demo_fact": {"fact_errors": [float(one.errors) for one in of_arm]},
            "demo_help": {"helpfulness": [float(one.helpful) for one in of_arm]},
        }, model=short[arm], better={"fact_errors": False, "helpfulness": True}))
        for arm, of_arm in answers.items()
    ]  # fmt: skip
    report = make_report(runs, arms={place: short[arm] for place, arm in enumerate(answers)})
    ours = figures_of(answers)
    names = {"fact_errors": "errors", "helpfulness": "helpfulness"}
    for run in report.runs:
        assert run.arm is not None
        for score in run.scores:
            assert score.interval == getattr(ours[run.arm], names[score.metric])
    assert len(report.improvements) == 4
    for one in report.improvements:
        arm = report.runs[one.run].arm
        assert arm is not None
        assert one.interval is not None
        own = getattr(ours[arm], f"{names[one.metric]}_normalised")
        assert one.interval[:3] == pytest.approx(own[:3], rel=1e-12)  # in another order
        assert one.interval.lower < one.interval.estimate < one.interval.upper


def test_an_interval_of_errors_never_goes_below_none() -> None:
    few = [judged(5 if number == 0 else 0, helpful=True) for number in range(24)]
    assert figures_of({"small tuned": few})["small tuned"].errors[1] == 0.0


def test_tuned_models_that_are_not_apart_give_no_normalised_figure() -> None:
    same = [judged(number % 3, bool(number % 2)) for number in range(30)]
    found = figures_of({"small tuned": same, "up-scaled": same[::-1], "large tuned": same})
    assert found["up-scaled"].errors_normalised is None
    worse = [one._replace(errors=one.errors + 1 + one.errors % 2) for one in same]
    found = figures_of({"small tuned": same, "up-scaled": same, "large tuned": worse})
    assert found["up-scaled"].errors_normalised is None


# --- the figures of the documentation -------------------------------------------------------------


def test_docs_show_the_committed_figures() -> None:
    page = (DOCS / "demo.md").read_text(encoding="utf-8")
    assert document_markdown(study_figures(FIGURES)) in page
    assert CAVEAT in " ".join(page.split())
    for name in re.findall(r"everything about (\w+ \w+)", page):
        assert make_world().by_name[name].held_out


def test_committed_figures_are_of_different_seeds_and_their_summary() -> None:
    seeds = list(FIGURES["seeds"].values())
    digests = {one["of"]["weights_sha256"] for one in (*seeds, FIGURES["exported"])}
    assert len(digests) == len(seeds) + 1 >= 4
    assert over_seeds(seeds) == FIGURES["summary"]
    assert chosen_seed(FIGURES["seeds"]) == FIGURES["chosen"]


def test_every_committed_seed_shows_the_effect() -> None:
    """The issue's targets: normalised means, every seed on the right side, gaps, the frontier."""
    for temperature, arms in FIGURES["summary"]["arms"].items():
        up, down = arms["up-scaled"], arms["down-scaled"]
        assert up["errors_normalised"]["mean"] >= 0.6
        assert down["errors_normalised"]["mean"] <= 0.4
        assert down["helpfulness_normalised"]["mean"] >= 0.6
        assert up["helpfulness_normalised"]["mean"] <= 0.4
        for seed in FIGURES["seeds"].values():
            own = seed["arms"][temperature]
            for metric in ("errors", "helpfulness"):
                gap = own["small tuned"][metric][0] - own["large tuned"][metric][0]
                assert abs(gap) >= 0.2
                halves = [
                    own[arm][f"{metric}_normalised"][0] for arm in ("up-scaled", "down-scaled")
                ]
                assert (halves[0] > 0.5 > halves[1]) == (metric == "errors")
    for seed in FIGURES["seeds"].values():
        assert [float(alpha) for alpha in seed["frontier"]] == list(ALPHAS)
        harm = [point["harm"][0] for point in seed["frontier"].values()]
        assert harm == sorted(harm)
        assert harm[0] <= 0.1
        assert harm[-1] >= 0.7


@pytest.mark.slow
@pytest.mark.parametrize("temperature", ["0", "1"])
def test_shipped_models_give_the_committed_figures(temperature: str) -> None:
    """Within what another machine's rounding may change; a retrained family differs by more."""
    found = arm_figures(Survey(make_world(), temperature=float(temperature)))
    committed = FIGURES["exported"]["arms"][temperature]
    for arm in ARMS:
        assert found[arm].errors.estimate == pytest.approx(committed[arm]["errors"][0], abs=0.06)
        assert found[arm].helpfulness.estimate == pytest.approx(
            committed[arm]["helpfulness"][0], abs=0.06
        )
    up, down = found["up-scaled"], found["down-scaled"]
    assert up.errors_normalised is not None
    assert down.helpfulness_normalised is not None
    assert up.errors_normalised.estimate > 0.5
    assert down.helpfulness_normalised.estimate > 0.5
