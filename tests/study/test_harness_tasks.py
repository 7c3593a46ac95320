"""Tasks of lm-eval in studies: filters, several metrics, groups, and what is no mean."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lm_eval.tasks
import numpy as np
import pytest
from scipy import stats
from written_studies import planned, written

from eft_eval.errors import ConfigError
from eft_eval.reports.renderers.markdown import page_markdown
from eft_eval.reports.views.study import study_page
from eft_eval.study.folder import StudyFolder
from eft_eval.study.plan import ArmRun
from eft_eval.study.results import study_results

COUNT = 40
SHIFT = {"small-tuned": 0.0, "down-scaled": 0.1, "up-scaled": 0.6, "large-tuned": 1.0}


def drawn(run: ArmRun, task: str) -> list[float]:
    generator = np.random.default_rng([run.seed, *run.arm.name.encode(), *task.encode()])
    return [float(one) for one in generator.normal(2 + SHIFT[run.arm.name], 0.4, COUNT)]


def change(found: StudyFolder, edit: Any) -> None:
    """Change every run's results file."""
    for run in found.plan.runs:
        (file,) = found.place(run).glob("*/results_*.json")
        content = json.loads(file.read_text())
        edit(content, run)
        file.write_text(json.dumps(content))


def test_every_metric_has_its_own_direction(tmp_path: Path) -> None:
    """Bigger is better of one, smaller of another, and of a third nobody says it."""
    found = planned(tmp_path / "s", "scaling", tasks="t", seeds=[1, 2])

    def numbers(run: ArmRun) -> dict[str, dict[str, list[float]]]:
        up = drawn(run, "t")
        return {"t": {"level": up, "loss": [-one for one in up], "size": up, "decline": up}}

    written(found, numbers, better={"level": True, "loss": False, "size": True, "decline": False})
    change(found, lambda content, run: content["higher_is_better"]["t"].pop("size"))
    results = study_results(found)
    means = {one.metric: one for one in results.scores}
    assert [*means] == ["t/level,none", "t/loss,none", "t/size,none", "t/decline,none"]
    assert [one.higher_is_better for one in results.scores] == [True, False, None, False]
    by_name = {one.metric: one for one in results.carried_over}
    assert [*by_name] == ["t/level,none", "t/loss,none", "t/decline,none"], "none of no direction"
    columns = {
        arm.name: np.mean([drawn(run, "t") for run in found.plan.runs if run.arm == arm], axis=0)
        for arm in found.plan.arms
    }
    small, large = columns["small-tuned"].mean(), columns["large-tuned"].mean()
    for arm in ("up-scaled", "down-scaled"):
        ratio = (columns[arm].mean() - small) / (large - small)
        for name in ("t/level,none", "t/loss,none"):
            one = by_name[name].improvements[arm]
            assert one is not None
            assert one.estimate == pytest.approx(ratio)
        assert by_name["t/decline,none"].improvements[arm] is None
    text = page_markdown(study_page(results))
    assert f"t/decline,none: large tuned - small tuned is {large - small:+.4f}" in text
    assert "the large tuned model is the worse one, no improvement to carry over." in text
    assert "| t/size,none | 40 |" in text


def test_what_is_no_mean_is_shown_as_reported(tmp_path: Path) -> None:
    """Perplexities, groups, and metrics of which no document has a number in every run."""
    found = planned(tmp_path / "s", "scaling", tasks="t,holes", seeds=[1, 2])
    reported = {run: 10 + 4 * SHIFT[run.arm.name] + run.seed for run in found.plan.runs}

    def numbers(run: ArmRun) -> dict[str, dict[str, list[float | None]]]:
        place = found.plan.runs.index(run)
        holes: list[float | None] = [None] * len(found.plan.runs)
        holes[place] = 1.0
        logs = [-one for one in drawn(run, "t")]
        return {"t": {"level": [*drawn(run, "t")], "perplexity": logs}, "holes": {"acc": holes}}

    def edit(content: dict[str, Any], run: ArmRun) -> None:
        content["results"]["t"]["perplexity,none"] = reported[run]
        content["configs"]["t"]["metric_list"][1]["aggregation"] = "perplexity"
        content["groups"] = {"both": {"alias": "both", "level,none": reported[run] / 2}}
        content["group_subtasks"] = {"both": ["t", "holes"]}
        content["higher_is_better"]["both"] = {"level": True}

    written(found, numbers, better={"level": True, "perplexity": False, "acc": True})
    change(found, edit)
    results = study_results(found)
    assert [one.metric for one in results.scores] == ["t/level,none"]
    by_name = {one.metric: one for one in results.aggregates}
    assert {name: one.reason for name, one in by_name.items()} == {
        "t/perplexity,none": "no mean of documents",
        "holes/acc,none": "no document has a number in every run",
        "both/level,none": "of a group",
    }
    assert by_name["t/perplexity,none"].higher_is_better is False
    for arm, shift in SHIFT.items():
        assert by_name["t/perplexity,none"].values[arm] == pytest.approx(11.5 + 4 * shift)
        assert by_name["both/level,none"].values[arm] == pytest.approx(5.75 + 2 * shift)
        assert by_name["holes/acc,none"].values[arm] == 1.0
    text = page_markdown(study_page(results))
    assert "| t/perplexity,none ↓ | 11.5000 | 13.9000 | 11.9000 | 15.5000 |" in text


def test_runs_whose_samples_are_lost_are_one_line(tmp_path: Path) -> None:
    found = planned(tmp_path / "s", "scaling", tasks="t")
    written(found, lambda run: {"t": {"level": drawn(run, "t")}})
    (file,) = found.place(found.plan.runs[1]).glob("*/samples_*.jsonl")
    file.write_text("".join(line + "\n" for line in file.read_text().splitlines()[:-3]))
    with pytest.raises(ConfigError, match=r"up-scaled.*37.*the same command makes the run anew"):
        study_results(found)


def test_a_gap_without_an_interval_is_nothing_to_divide_by(tmp_path: Path) -> None:
    """The same difference in every document says nothing of others, as of one document."""
    found = planned(tmp_path / "s", "scaling", tasks="t,one")
    same = {name: [shift] * COUNT for name, shift in SHIFT.items()}
    written(
        found, lambda run: {"t": {"acc": same[run.arm.name]},
                            "one": {"acc": [SHIFT[run.arm.name]]}}
    )  # fmt: skip
    results = study_results(found)
    for one in results.carried_over:
        assert one.gap.estimate == 1
        assert math.isnan(one.gap.lower)
        assert set(one.improvements.values()) == {None}
    text = page_markdown(study_page(results))
    assert text.count("+1.0000, without an interval: nothing is said") == 2


HARNESS = Path(lm_eval.tasks.__file__).parent
ARMS = """
analysis: scaling
family: demo
arms:
  small-tuned: {base: small-tuned}
  up-scaled: {base: large-base, tuned: small-tuned, reference: small-base}
  large-tuned: {base: large-tuned}
"""


def local(folder: Path, name: str, include: str, split: str, rows: list[Any], more: str) -> str:
    """Write one of lm-eval's tasks over rows of our own, and return its file."""
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = folder / f"{name}.yaml"
    file.write_text(
        f"include: {HARNESS / include}\ntask: {name}\ndataset_path: json\ndataset_name: null\n"
        f"dataset_kwargs: {{data_files: {{{split}: {data}}}}}\n{more}"
    )
    return str(file)


def harness_tasks(folder: Path) -> str:
    """Return tasks of the shapes of GSM8K, TruthfulQA and WikiText."""
    sums = [(place % 7 + 1, place % 5 + 2) for place in range(10)]
    gsm = [{"question": f"{a} + {b}?", "answer": f"It is {a + b}.\n#### {a + b}"} for a, b in sums]
    towns = [f"In {name}" for name in ("Anora", "Belo", "Cado")]
    choices = [
        {"question": f"Where does Toni {place} live?"}
        | {f"mc{kind}_targets": {"choices": towns, "labels": [1, kind - 1, 0]} for kind in (1, 2)}
        for place in range(10)
    ]
    pages = [{"page": "Ada Bo is a baker . " * (1 + place % 3)} for place in range(10)]
    greedy = "generation_kwargs: {until: ['Question:'], do_sample: false, max_gen_toks: 8}\n"
    few = f"training_split: null\nfewshot_split: test\nnum_fewshot: 1\n{greedy}"
    names = [
        local(folder, "my_gsm8k", "gsm8k/gsm8k.yaml", "test", gsm, few),
        local(folder, "my_wiki", "wikitext/wikitext.yaml", "test", pages,
              "training_split: null\nvalidation_split: null\n"),
    ]  # fmt: skip
    for kind in (1, 2):
        include = f"truthfulqa/truthfulqa_mc{kind}.yaml"
        names.append(local(folder, f"my_mc{kind}", include, "validation", choices, ""))
    return ",".join(names)


def ifeval(folder: Path) -> str:
    for package in ("immutabledict", "langdetect", "nltk"):
        pytest.importorskip(package)
    kinds = ["punctuation:no_comma", "change_case:english_lowercase"]
    rows = [
        {"key": place, "prompt": f"Write {place}, please.", "kwargs": [{}, {}][: 1 + place % 2],
         "instruction_id_list": kinds[: 1 + place % 2]}
        for place in range(10)
    ]  # fmt: skip
    more = "generation_kwargs: {until: [], do_sample: false, max_gen_toks: 8}\n"
    return local(folder, "my_ifeval", "ifeval/ifeval.yaml", "train", rows, more)


def studied(tasks: str, folder: Path) -> dict[str, Any]:
    (folder / "three.yaml").write_text(ARMS)
    words = [folder / "three.yaml", "--tasks", tasks, "--out", folder / "s"]
    done = subprocess.run(
        [sys.executable, "-m", "eft_eval", "study", *map(str, words)],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((folder / "s" / "results.json").read_text())
    return found


def samples(folder: Path, arm: str, task: str, wanted: str = "none") -> list[Mapping[str, Any]]:
    (file,) = (folder / "s" / "arms" / arm / "seed-1234").glob(f"*/samples_{task}_*.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return sorted((one for one in lines if one["filter"] == wanted), key=lambda one: one["doc_id"])


@pytest.mark.slow
def test_tasks_of_the_harness_are_metrics(tmp_path: Path) -> None:
    results = studied(harness_tasks(tmp_path), tmp_path)
    scores = {one["metric"]: one for one in results["scores"]}
    assert {*scores} == {
        "my_gsm8k/exact_match,strict-match", "my_gsm8k/exact_match,flexible-extract",
        "my_mc1/acc,none", "my_mc2/acc,none",
    }  # fmt: skip
    for name, one in scores.items():
        assert one["higher_is_better"]
        task, _, key = name.partition("/")
        metric, _, filter_name = key.partition(",")
        for arm, mean in one["means"].items():
            values = [line[metric] for line in samples(tmp_path, arm, task, filter_name)]
            assert mean["estimate"] == pytest.approx(np.mean(values))
    (mc2,) = [one for one in results["carried_over"] if one["metric"] == "my_mc2/acc,none"]
    small, up, large = (
        np.array([line["acc"] for line in samples(tmp_path, arm, "my_mc2")])
        for arm in ("small-tuned", "up-scaled", "large-tuned")
    )
    found = mc2["improvements"]["up-scaled"]
    gap = stats.ttest_1samp(large - small, 0)
    assert (found is not None) == (gap.pvalue < 0.05 and gap.statistic > 0)
    if found is not None:
        assert found["estimate"] == pytest.approx((up - small).mean() / (large - small).mean())
        for end in (found["lower"], found["upper"]):
            moved = (up - small) - end * (large - small)
            assert stats.ttest_1samp(moved, 0).pvalue == pytest.approx(0.05, abs=1e-3)
    aggregates = {one["metric"]: one for one in results["aggregates"]}
    assert {name: one["higher_is_better"] for name, one in aggregates.items()} == {
        "my_wiki/word_perplexity,none": False, "my_wiki/byte_perplexity,none": False,
        "my_wiki/bits_per_byte,none": False,
    }  # fmt: skip
    for arm in ("small-tuned", "up-scaled", "large-tuned"):
        pairs = np.array([line["word_perplexity"] for line in samples(tmp_path, arm, "my_wiki")])
        value = math.exp(-pairs[:, 0].sum() / pairs[:, 1].sum())
        assert aggregates["my_wiki/word_perplexity,none"]["values"][arm] == pytest.approx(value)


@pytest.mark.slow
def test_ifeval_itself_is_a_metric(tmp_path: Path) -> None:
    results = studied(ifeval(tmp_path), tmp_path)
    scores = {one["metric"]: one for one in results["scores"]}
    assert {*scores} == {f"my_ifeval/prompt_level_{kind}_acc,none" for kind in ("strict", "loose")}
    aggregates = {one["metric"]: one for one in results["aggregates"]}
    assert {*aggregates} == {
        f"my_ifeval/inst_level_{kind}_acc,none" for kind in ("strict", "loose")
    }
    for arm in ("small-tuned", "up-scaled", "large-tuned"):
        lines = samples(tmp_path, arm, "my_ifeval")
        mean = scores["my_ifeval/prompt_level_strict_acc,none"]["means"][arm]
        assert mean["estimate"] == np.mean([line["prompt_level_strict_acc"] for line in lines])
        each = [one for line in lines for one in line["inst_level_strict_acc"]]
        found = aggregates["my_ifeval/inst_level_strict_acc,none"]["values"][arm]
        assert found == pytest.approx(np.mean(each))
