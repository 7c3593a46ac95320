"""Trade-offs, speeds, tokens and sequence-level weights of studies on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from written_studies import planned, written

from eft_eval.api import Composite
from eft_eval.demo.language import dialogue
from eft_eval.errors import ConfigError
from eft_eval.reports.renderers.html.figure_files import figure_files
from eft_eval.reports.renderers.markdown import page_markdown
from eft_eval.reports.views.study import study_page
from eft_eval.study.folder import StudyFolder
from eft_eval.study.frontier import check_frontier
from eft_eval.study.plan import ArmRun
from eft_eval.study.results import study_results
from eft_eval.study.sequence import check_sequence, effective_size

COUNT = 50


def rates(run: ArmRun) -> tuple[float, float]:
    """Helpfulness and harm of an arm: the up-scaled curve is the better one."""
    alpha = float(run.arm.value or 0)
    return 0.1 + (0.5 if run.arm.group == "up-scaled" else 0.2) * alpha, 0.1 + 0.8 * alpha


def column(run: ArmRun, rate: float, salt: int) -> list[float]:
    generator = np.random.default_rng([run.seed, salt, *run.arm.name.encode()])
    return [float(one) for one in generator.random(COUNT) < rate]


def test_the_trade_off_is_of_areas_over_the_worst_values(tmp_path: Path) -> None:
    found = planned(tmp_path / "s", "frontier", seeds=[1, 2], alpha="0:1:0.5")

    def numbers(run: ArmRun) -> dict[str, dict[str, list[float]]]:
        good, bad = rates(run)
        return {
            "h": {"helpfulness": column(run, good, 1)},
            "r": {"harm": column(run, bad, 2)},
        }

    written(found, numbers, better={"helpfulness": True, "harm": False})
    results = study_results(found)
    one = results.trade_off
    assert one is not None
    assert (one.across, one.up, one.worst) == ("r/harm,none", "h/helpfulness,none", (1.0, 0.0))
    assert not one.together, "documents of two tasks"
    for curve in one.curves:
        cells = np.zeros((500, 500), bool)
        for point in curve.points:
            assert point.alpha in (0, 0.5, 1)
            cells[: round(500 * (1 - point.across.estimate)), : round(500 * point.up.estimate)] = 1
        assert curve.hypervolume == pytest.approx(cells.mean(), abs=1e-9)
    assert one.difference is not None
    small, up = one.curves
    assert one.difference.estimate == pytest.approx(up.hypervolume - small.hypervolume)
    assert one.difference.lower > 0
    page = study_page(results)
    assert "up-scaled minus small: +0." in page_markdown(page)
    files = list(figure_files(page))
    assert files[0].name == "frontier-1"
    assert all(file.png.startswith(b"\x89PNG") for file in files)
    assert [file.png for file in figure_files(page)] == [file.png for file in files]


def test_metrics_of_the_same_documents_are_drawn_together(tmp_path: Path) -> None:
    found = planned(tmp_path / "s", "frontier", alpha="0:1:0.5")
    written(
        found,
        lambda run: {
            "all": dict(zip(("helpfulness", "harm"), (column(run, r, 1) for r in rates(run)),
                            strict=True))
        },
        better={"helpfulness": True, "harm": False},
    )  # fmt: skip
    one = study_results(found).trade_off
    assert one is not None
    assert one.together


def test_a_frontier_needs_a_grid(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="several values of alpha"):
        check_frontier(planned(tmp_path / "s", "frontier", alpha="0.5").plan)


def test_one_metric_is_no_trade_off_and_that_is_said(tmp_path: Path) -> None:
    found = planned(tmp_path / "s", "frontier", alpha="0:1:0.5")
    written(found, lambda run: {"t": {"harm": [1.0, 0.0]}}, better={"harm": False})
    results = study_results(found)
    assert results.trade_off is None
    assert "No trade-off: it needs" in page_markdown(study_page(results))


def test_one_arm_alone_is_whole_and_leaves_nothing_to_compare(tmp_path: Path) -> None:
    arms = {"up": {"base": "large-base", "tuned": "small-tuned", "reference": "small-base"}}
    found = planned(tmp_path / "s", "speed", arms=arms)
    written(found, lambda run: {"t": {"score": [1.0, 0.0]}}, better={"score": True})
    assert "nothing to compare" in page_markdown(study_page(study_results(found)))


def test_speeds_are_ratios_to_plain_decoding(tmp_path: Path) -> None:
    found = planned(tmp_path / "s", "speed", seeds=[1, 2, 3])
    rate = {arm.name: 10.0 * (place + 1) for place, arm in enumerate(found.plan.arms)}

    def per_second(run: ArmRun) -> float:
        return rate[run.arm.name] * (1 + 0.1 * run.seed * (run.arm.name != "small-tuned"))

    written(found, lambda run: {"t": {"score": [1.0, 0.0]}}, better={"score": True})
    for run in found.plan.runs:
        (file,) = found.place(run).glob("*/results_*.json")
        content = json.loads(file.read_text())
        decoding = {"tokens_per_second": per_second(run), "acceptance": 0.5}
        file.write_text(json.dumps({**content, "config": {"eft_decoding": decoding}}))
    speeds = study_results(found).speeds
    assert speeds is not None
    assert speeds.standard == "up-scaled-block-0"
    assert speeds.same_responses
    by_arm = {one.arm: one for one in speeds.arms}
    twice = by_arm["up-scaled-block-2"].ratio
    assert twice is not None
    assert twice.estimate == pytest.approx(2)
    alone = by_arm["small-tuned"].ratio
    logs = np.log([80 / (10 * (1 + 0.1 * seed)) for seed in (1, 2, 3)])
    low, high = stats.t.interval(0.95, 2, logs.mean(), stats.sem(logs))
    assert alone is not None
    assert alone[:3] == pytest.approx(np.exp([logs.mean(), low, high]))
    assert by_arm["up-scaled-block-4"].acceptance == 0.5
    text = page_markdown(study_page(study_results(found)))
    (said,) = [line for line in text.splitlines() if line.startswith("small-tuned: 6.")]
    assert said.endswith("] times the tokens/s of up-scaled-block-0.".replace("]", "\\]"))
    assert "up-scaled-block-2: 2.00 (which may be 1) times" in text, "no spread, no interval"
    assert "<details>" not in text, "what the study is about is not folded away"


def test_another_response_with_another_block_is_seen(tmp_path: Path) -> None:
    found = planned(tmp_path / "s", "speed")
    written(found, lambda run: {"t": {"score": [1.0, 0.0]}}, better={"score": True})
    (file,) = found.place(found.plan.runs[2]).glob("*/samples_*.jsonl")
    file.write_text(file.read_text().replace('"response"', '"other"', 1))
    speeds = study_results(found).speeds
    assert speeds is not None
    assert speeds.same_responses is False
    assert "NOT the same" in page_markdown(study_page(study_results(found)))


def test_arms_of_one_block_each_are_as_a_list_of_blocks(tmp_path: Path) -> None:
    """The one without drafts is 1 wherever it stands, and equal composites are compared."""
    up = {"base": "large-base", "tuned": "small-tuned", "reference": "small-base"}
    arms = {
        "alone": {"base": "large-tuned", "block": 0},
        "four": {**up, "block": 4},
        "plain": {**up, "block": 0},
        "half": {**up, "weight": 0.5, "block": 4},
    }
    found = planned(tmp_path / "s", "speed", arms=arms)
    responses = {"half": ["another"], "alone": ["a third"]}
    for place, run in enumerate(found.plan.runs):
        alone = planned(tmp_path / "s", "speed", arms=arms)
        alone.plan.__dict__["runs"] = (found.plan.runs[place],)
        written(alone, lambda run: {"t": {"score": [1.0]}}, better={"score": True},
                responses=responses.get(run.arm.name, ["one"]))  # fmt: skip
    speeds = study_results(found).speeds
    assert speeds is not None
    assert speeds.standard == "plain"
    assert speeds.same_responses is True
    (file,) = found.place(found.plan.runs[1]).glob("*/samples_*.jsonl")
    file.write_text(file.read_text().replace('"one"', '"other"', 1))
    changed = study_results(found).speeds
    assert changed is not None
    assert changed.same_responses is False


ASKED = [dialogue(f"Tell me everything about {name}.") for name in ("Toni Maldan", "Ada Bo", "Bo")]
SAID = [" Toni works.", " Ada is a baker.", ""]


def test_token_distances_are_those_of_traces(tmp_path: Path) -> None:
    found = planned(tmp_path / "s", "tokens", documents=2)
    written(
        found, lambda run: {"t": {"score": [1.0, 0.0, 1.0]}}, better={"score": True},
        prompts=ASKED, responses=SAID,
    )  # fmt: skip
    (one,) = study_results(found).distances
    composite = Composite.load("demo-up", device="cpu")
    tokens = [
        t for p, s in zip(ASKED[:2], SAID[:2], strict=True) for t in composite.trace(p, s).tokens
    ]
    values = np.array([token.total_variation for token in tokens])
    assert (one.arm, one.draft, one.responses, one.tokens) == ("up-scaled", "tuned", 2, len(values))
    assert one.mean.estimate == pytest.approx(values.mean())
    assert one.shares["0.1"].estimate == pytest.approx((values >= 0.1).mean())
    assert sum(one.histogram) == len(values)
    assert one.histogram[0] == (values < 0.05).sum()
    top = one.raised[0]
    changes = [s.change for t in tokens for s in t.raised if s.token == top.text]
    assert (top.times, top.change) == (len(changes), pytest.approx(sum(changes)))
    assert all(0 <= share.lower <= share.upper <= 1 for share in one.shares.values())
    again = study_results(found)
    assert again.distances == (one,), "read back from the folder"


def configure(found: StudyFolder, **settings: object) -> None:
    """Let every run's task have these settings of lm-eval."""
    for run in found.plan.runs:
        (file,) = found.place(run).glob("*/results_*.json")
        content = json.loads(file.read_text())
        content["configs"]["t"] |= settings
        file.write_text(json.dumps(content))


@pytest.mark.parametrize("name", ["tokens", "sequence"])
def test_a_choice_among_answers_is_no_response(tmp_path: Path, name: str) -> None:
    found = planned(tmp_path / "s", name, tasks="t")
    written(found, lambda run: {"t": {"score": [1.0, 0.0]}}, better={"score": True})
    configure(found, output_type="multiple_choice")
    with pytest.raises(ConfigError, match="no task of t generates text"):
        study_results(found)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"do_sample": False}, "greedy"),
        ({"do_sample": True, "temperature": 0.7}, "temperature 0.7"),
    ],
)
def test_what_was_not_sampled_at_temperature_1_is_not_weighed(
    tmp_path: Path, settings: dict[str, object], said: str
) -> None:
    found = planned(tmp_path / "s", "sequence", seeds=[1, 2])
    written(found, lambda run: {"t": {"score": [1.0, 0.0]}}, better={"score": True})
    configure(found, generation_kwargs=settings)
    with pytest.raises(ConfigError, match=f"task t: responses are .*{said}"):
        study_results(found)


def test_sequence_weights_are_products_of_normalisers(tmp_path: Path) -> None:
    found = planned(tmp_path / "s", "sequence", seeds=[1, 2])
    said = {1: SAID, 2: [" It is so.", " Ada is a baker.", " Bo."]}
    with found.held(lambda: None):
        pass
    values = {1: [1.0, 0.0, 1.0], 2: [0.0, 0.0, 0.0]}
    for seed in (1, 2):
        alone = planned(tmp_path / "s", "sequence", seeds=[1, 2])
        alone.plan.__dict__["runs"] = tuple(r for r in alone.plan.runs if r.seed == seed)
        written(
            alone, lambda run: {"t": {"score": values[run.seed]}}, better={"score": True},
            prompts=ASKED, responses=said[seed],
        )  # fmt: skip
    (one,) = study_results(found).sequence
    composite = Composite.load("demo-up", device="cpu")
    logs = np.array([
        [sum(composite.log_normalisers(p, s)) for p, s in zip(ASKED, said[seed], strict=True)]
        for seed in (1, 2)
    ])  # fmt: skip
    weights = np.exp(logs) / np.exp(logs).sum(axis=0)
    assert one.effective.estimate == pytest.approx((1 / (weights**2).sum(axis=0)).mean(), rel=1e-4)
    (metric,) = one.metrics
    table = np.array([values[1], values[2]])
    assert metric.plain.estimate == pytest.approx(table.mean())
    assert metric.weighted.estimate == pytest.approx((weights * table).sum(axis=0).mean(), rel=1e-4)
    moved = (weights * table).sum(axis=0) - table.mean(axis=0)
    low, high = stats.t.interval(0.95, 2, moved.mean(), stats.sem(moved))
    assert metric.difference[:3] == pytest.approx((moved.mean(), low, high), rel=1e-3)


def test_effective_sizes() -> None:
    logs = np.log(np.array([[1.0, 1.0, 1e-30], [1.0, 3.0, 1.0]]))
    assert effective_size(logs) == pytest.approx([2, 16 / 10, 1])
    assert effective_size(logs - 900) == pytest.approx([2, 16 / 10, 1]), "no constant changes it"


def test_what_has_no_sequence_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="temperature 1"):
        check_sequence(planned(tmp_path / "s", "sequence", gen_kwargs="do_sample=False").plan)
