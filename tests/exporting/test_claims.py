"""What may be claimed of a run: numbers against the run's own, and each defect refused."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import exported_runs as runs
import numpy as np
import pytest
import statsmodels.stats.proportion as proportion
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from stock_runs import run_dummy, write_tasks
from written_runs import write_run

from eft_eval.comparing import Column, ItemSeen, MetricKey, bless, read_run
from eft_eval.errors import ClaimError, ConfigError
from eft_eval.exporting import ClaimSettings, RunClaim, claims_of, read_claims
from eft_eval.exporting.figures import figure_of
from eft_eval.judging import Status
from eft_eval.judging.prompts.measures import MEASURES
from eft_eval.judging.prompts.ranges import best_value, range_of


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, openai_server_module: ModuleType) -> Path:
    """A composite of cached hub models on judged, generation, choice and perplexity tasks."""
    folder = tmp_path_factory.mktemp("real")

    def answer(prompt: str, _: object) -> str:
        return runs.REPLIES[len(prompt) % len(runs.REPLIES)]

    tasks = ["eli5_fact", "sums", "sums_gen", "sums_text"]
    with (
        openai_server_module.OpenAIServer(answer) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        return runs.run_composite(folder, patch, server.url, tasks)


def claims(folder: Path | str, **options: Any) -> RunClaim:
    (found,) = read_claims([folder], ClaimSettings(**options))
    return found


def figures(run: RunClaim) -> dict[str, Any]:
    return {f"{task.name}/{claim.key}": claim for task in run.tasks for claim in task.claims}


# --- what a real run gives ------------------------------------------------------------------------


def test_a_real_composite(real: Path) -> None:
    found = claims(real)
    assert found.composite is not None
    assert found.model == found.composite.name == read_run(real).model
    assert found.repository is None
    members = {member.role: member for member in found.composite.members}
    for role, name in runs.MEMBERS.items():
        assert (members[role].model, members[role].kind) == (name, "hub")
        assert members[role].commit == runs.commit_of(name)
    assert members["reference"].coefficient == -1.0
    assert found.composite.recipe.count("revision: ") == 3
    tasks = {task.name: task for task in found.tasks}
    assert set(tasks) >= {"eli5_fact", "sums", "sums_choice", "sums_gen", "sums_text"}
    assert tasks["sums"].members == ("sums_choice", "sums_choice_again")
    assert tasks["sums"].documents == 12
    fact = tasks["eli5_fact"]
    _, results = runs.results_of(real)
    assert fact.started == results["date"]
    assert (fact.lm_eval_version, fact.eft_eval_version) == ("0.4.13", "0.1.0")
    assert not fact.limited
    assert json.loads(fact.generation)["max_gen_toks"] == 8
    judge = fact.claims[0].judge
    assert judge is not None
    assert (judge.kind, judge.prompt) == ("endpoint", "factuality")
    assert "factual inaccuracies" in str(judge.prompt_text)
    assert judge.total == len(runs.QUESTIONS)


def test_values_and_errors_are_those_of_lm_eval(real: Path) -> None:
    _, results = runs.results_of(real)
    compared = 0
    for name, claim in figures(claims(real)).items():
        task, _, metric = name.partition("/")
        entry = results["results"].get(task) or results["groups"][task]
        assert claim.figure.value == entry[metric]
        theirs = entry[metric.replace(",", "_stderr,")]
        if isinstance(theirs, float) and claim.figure.standard_error is not None:
            assert claim.figure.standard_error == pytest.approx(theirs, abs=1e-12), name
            compared += 1
    assert compared >= 10


def test_a_recipe_that_is_pinned_is_the_one_of_its_name(real: Path, tmp_path: Path) -> None:
    from eft_eval.recipe import canonical_name, parse_recipe

    composite = claims(real).composite
    assert composite is not None
    file = tmp_path / "recipe.yaml"
    file.write_text(composite.recipe)
    assert canonical_name(parse_recipe(file)) == composite.pinned_name
    assert [spec.revision for _, spec in parse_recipe(file).members] == [
        member.commit for member in composite.members
    ]


def test_the_same_run_gives_the_same_record(real: Path) -> None:
    assert claims(real) == claims(real)
    first, second = claims(real), claims(real, level=0.9)
    assert [t.digest for t in first.tasks] == [t.digest for t in second.tasks]
    assert len({task.digest for task in first.tasks}) == len(first.tasks)


# --- statistics -----------------------------------------------------------------------------------


def column(values: list[float | None], metric: str) -> tuple[Column, list[ItemSeen]]:
    numbers = [value for value in values if value is not None]
    key = MetricKey(metric, "none")
    items = [ItemSeen(i, f"d{i}", f"p{i}", f"p{i}") for i in range(len(values))]
    return Column(key, statistics.fmean(numbers), None, True, tuple(values), True), items


@given(st.lists(st.sampled_from([0.0, 1.0, None]), min_size=2).filter(any))
def test_rates_have_wilsons_interval(values: list[float | None]) -> None:
    found = figure_of(*column(values, "acc"), len(values), 0.9)
    numbers = [value for value in values if value is not None]
    lower, upper = proportion.proportion_confint(sum(numbers), len(numbers), 0.1, "wilson")
    assert found.interval is not None
    assert (found.interval.lower, found.interval.upper) == pytest.approx((lower, upper), abs=1e-9)
    assert (found.n, found.missing) == (len(numbers), len(values) - len(numbers))


@given(st.lists(st.integers(0, 9), min_size=2).filter(lambda v: len(set(v)) > 1))
def test_counts_have_a_t_interval_that_stays_above_zero(values: list[int]) -> None:
    found = figure_of(*column([float(v) for v in values], "fact_errors"), len(values), 0.95)
    error = float(stats.sem(values))
    lower, upper = stats.t.interval(0.95, len(values) - 1, np.mean(values), error)
    assert found.interval is not None
    assert found.standard_error == pytest.approx(error)
    assert found.interval.lower == pytest.approx(max(0.0, lower), abs=1e-9)
    assert found.interval.upper == pytest.approx(upper)


def test_repeated_prompts_are_clusters() -> None:
    one, items = column([0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0], "acc")
    shared = [ItemSeen(i.doc_id, i.doc_hash, i.prompt_hash, f"p{i.doc_id // 2}") for i in items]
    alone, together = figure_of(one, items, 8, 0.95), figure_of(one, shared, 8, 0.95)
    assert alone.standard_error is not None
    assert together.standard_error is not None
    assert together.standard_error > 1.3 * alone.standard_error
    assert (together.clusters, together.error_method) == (4, "clustered by prompt")


def test_one_document_has_no_standard_error(tmp_path: Path) -> None:
    folder = write_run(tmp_path, {"t": {"fact_errors": [2.0]}})
    (claim,) = figures(claims(folder)).values()
    assert (claim.figure.standard_error, claim.figure.interval) == (None, None)


@pytest.mark.parametrize("name", [m for one in MEASURES.values() for m in one.metrics])
def test_every_metric_of_ours_has_a_range_and_a_best_value(name: str) -> None:
    higher = {m: h for one in MEASURES.values() for m, h in one.metrics.items()}[name]
    found = range_of(name)
    assert found is not None
    assert found == range_of(f"{name}_ppi")
    assert best_value(name, higher) == (1.0 if higher else 0.0)
    assert math.isinf(found[1]) == (name == "fact_errors")


# --- judges ---------------------------------------------------------------------------------------


def test_verdicts_that_are_no_answer_are_counted_and_shown(tmp_path: Path) -> None:
    verdicts = [0, 1, 2, 0] * 10 + [Status.refused, Status.malformed, None]
    folder = runs.write_composite_run(tmp_path, verdicts)
    with pytest.raises(ClaimError, match=r"2 of 43 verdicts of gpt-4.1-2025-04-14 are no answer"):
        claims(folder, max_unknown=0.04)
    found = claims(folder)
    assert any("2 of 43 verdicts" in note for note in found.notes)
    claim = figures(found)["eli5_fact/fact_errors,factuality"]
    assert claim.judge.unknown == 2
    assert claim.judge.unknown_share == pytest.approx(2 / 43)
    assert claim.figure.missing == 3, "an abstention is an answer, but no number"
    lower, upper = claim.possible
    assert lower == pytest.approx(30 / 42)
    assert upper == pytest.approx((30 + 2 * 2) / 42)
    assert lower < claim.figure.value < upper


def test_a_prompt_that_changed_has_no_text(tmp_path: Path) -> None:
    folder = runs.write_composite_run(tmp_path)
    samples = runs.samples_of(folder, "eli5_fact")
    known = runs.load_prompt("factuality").sha256
    samples.write_text(samples.read_text().replace(known, "0" * 64))
    claim = figures(claims(folder))["eli5_fact/fact_errors,factuality"]
    assert claim.judge.prompt_text is None
    own = tmp_path / "own.jinja"
    own.write_text(runs.load_prompt("factuality").template)
    with pytest.raises(ConfigError, match=r"own.jinja' has no metadata"):
        claims(folder, judge_prompts=(str(own),))


def test_a_judge_in_a_folder_has_no_path(tmp_path: Path) -> None:
    folder = runs.write_composite_run(tmp_path)
    samples = runs.samples_of(folder, "eli5_fact")
    asked = '\\"judge_model\\": \\"'
    text = samples.read_text().replace(asked + runs.JUDGE, f"{asked}hf:/home/me/judge")
    samples.write_text(text)
    judge = figures(claims(folder))["eli5_fact/fact_errors,factuality"].judge
    assert (judge.model, judge.kind) == ("hf:judge", "hf")


# --- what is refused ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def stock(tasks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_dummy(tasks, tmp_path_factory.mktemp("out"))


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def drop_a_line(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def change_a_score(path: Path) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["acc"] = 1.0 - lines[0]["acc"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (cut_off, "the file is cut off, or damaged"),
        (drop_a_line, "lacks 1 of 6 documents"),
        (change_a_score, "acc,none is reported as .*, the samples give"),
        (lambda path: path.write_text(""), "holds no samples"),
    ],
)
def test_damaged_runs_are_refused(
    stock: Path, tmp_path: Path, damage: Callable[[Path], Any], complaint: str
) -> None:
    folder = runs.copy_run(stock, tmp_path)
    damage(runs.samples_of(folder, "sums_choice"))
    with pytest.raises(ClaimError, match=complaint) as raised:
        claims(folder)
    assert "\n" not in str(raised.value)
    with pytest.raises(ClaimError, match=complaint):
        claims(folder, metrics=("sums_choice/acc",))
    with pytest.raises(ClaimError, match=complaint):
        claims(folder, metrics=("sums/*",))
    assert figures(claims(folder, metrics=("sums_gen/*",))).keys() == {
        "sums_gen/exact_match,strict",
        "sums_gen/exact_match,flexible",
    }


def test_a_results_file_that_is_cut_off_is_refused(stock: Path, tmp_path: Path) -> None:
    folder = runs.copy_run(stock, tmp_path)
    file, _ = runs.results_of(folder)
    cut_off(file)
    with pytest.raises(ConfigError, match="cut off"):
        claims(folder)


@pytest.mark.parametrize("value", [float("nan"), "N/A", None, float("inf")])
def test_what_is_no_number_is_left_out_and_refused_by_name(
    stock: Path, tmp_path: Path, value: object
) -> None:
    folder = runs.copy_run(stock, tmp_path)
    file, content = runs.results_of(folder)
    content["results"]["sums_text"]["word_perplexity,none"] = value
    file.write_text(json.dumps(content))
    found = claims(folder)
    assert "sums_text" not in [task.name for task in found.tasks]
    assert "left out: sums_text/word_perplexity,none has no number (NaN or N/A)" in found.notes
    for pattern in ("sums_text/word_perplexity", "sums_text/word_perplexity,none"):
        with pytest.raises(ClaimError, match="has no number"):
            claims(folder, metrics=("sums_gen/*", pattern))
    assert claims(folder, metrics=("*/*",)).tasks == found.tasks


def test_a_score_outside_its_range_is_refused(stock: Path, tmp_path: Path) -> None:
    folder = write_run(tmp_path, {"t": {"acc": [0.5, 1.9]}})
    with pytest.raises(ClaimError, match=r"t/acc,none is 1.2, but acc lies from 0 to 1"):
        claims(folder)


def test_limited_runs_need_a_word(tasks: Path, tmp_path: Path) -> None:
    folder = run_dummy(tasks, tmp_path, names=["sums_choice", "sums_gen"], limit=2)
    with pytest.raises(ClaimError, match=r"sums_choice has 2 of 6 documents \(--limit\)"):
        claims(folder)
    found = claims(folder, allow_limit=True)
    assert all(task.limited and task.available == 6 for task in found.tasks)
    assert "--limit 2" in found.tasks[0].command
    whole = run_dummy(tasks, tmp_path / "whole", names=["sums_choice"], limit=6)
    assert not claims(whole).tasks[0].limited, "a limit that leaves nothing out is none"


def test_runs_without_metrics_are_refused(tasks: Path, tmp_path: Path) -> None:
    folder = run_dummy(tasks, tmp_path, names=["sums_gen"], predict_only=True)
    with pytest.raises(ClaimError, match=r"they were bypassed \(--predict_only\): judge it first"):
        claims(folder)
    with pytest.raises(ConfigError, match="there are none: its metrics were bypassed"):
        claims(folder, metrics=("sums_gen/exact_match",))


def test_runs_without_samples_say_so(tasks: Path, tmp_path: Path) -> None:
    folder = run_dummy(tasks, tmp_path, names=["sums_choice"], log_samples=False)
    (task,) = claims(folder).tasks
    assert not task.checked
    assert task.claims[0].figure.n == 6
    judged = runs.write_composite_run(tmp_path / "judged")
    runs.samples_of(judged, "eli5_fact").unlink()
    with pytest.raises(ClaimError, match="was judged, but its samples are not here"):
        claims(judged)


def test_files_of_other_commits_are_not_mixed(tmp_path: Path) -> None:
    folder = runs.write_composite_run(tmp_path)
    file, content = runs.results_of(folder)
    content["config"]["eft_members"]["base"]["commit"] = "0" * 40
    for key in ("results", "configs"):
        content[key] = {"other": content[key]["eli5_fact"]}
    file.with_name("results_2026-11-21T10-00-00.000000.json").write_text(json.dumps(content))
    with pytest.raises(ClaimError, match=r"made by different models \(eft_members differs\)"):
        claims(folder)


def test_a_composite_that_does_not_say_of_what_is_refused(tmp_path: Path) -> None:
    folder = runs.write_composite_run(tmp_path)
    file, content = runs.results_of(folder)
    del content["config"]["eft_members"]
    file.write_text(json.dumps(content))
    with pytest.raises(ClaimError, match=r"does not say what its composite is made of \(KeyError"):
        claims(folder)
    file, content = runs.results_of(runs.write_composite_run(tmp_path / "weight"))
    content["config"]["eft_recipe"]["deltas"][0]["weight"] = 10**400
    file.write_text(json.dumps(content))
    with pytest.raises(ClaimError, match=r"made of \(OverflowError"):
        claims(file.parent)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"metrics": ("sums_gen/exact_mach",)}, r"did you mean 'sums_gen/exact_match'"),
        ({"level": 1.0}, "--level 1.0: expected a number between 0 and 1"),
        ({"max_unknown": 1.5}, "--max-unknown 1.5: expected a share from 0 to 1"),
        ({"judge_prompts": ("no.jinja",)}, "the judge prompt 'no.jinja' does not exist"),
    ],
)
def test_wrong_settings(stock: Path, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as raised:
        claims(stock, **options)
    assert "\n" not in str(raised.value)


def test_a_baseline_has_numbers_and_no_settings(stock: Path, tmp_path: Path) -> None:
    bless(stock, tmp_path / "base.json")
    found = claims(tmp_path / "base.json")
    assert found.from_baseline
    of_run = figures(claims(stock, metrics=("sums_[cg]*",)))
    for name, claim in figures(found).items():
        if name in of_run:
            assert claim.figure == of_run[name].figure
    assert {task.started for task in found.tasks} == {None}


def test_older_runs_of_lm_eval(stock: Path) -> None:
    for version in ("0.4.8", "0.4.11"):
        folder = (Path(__file__).parents[1] / "data") / "lm_eval_runs" / version
        assert figures(claims(folder)).keys() == figures(claims(stock)).keys()
        assert claims(folder).tasks[0].lm_eval_version in ("", version)


# --- corrected scores -----------------------------------------------------------------------------


def test_corrected_scores_have_their_own_interval(real: Path, tmp_path: Path) -> None:
    from judged_runs import write_labels

    from eft_eval.agreement import LabelReading
    from eft_eval.agreement.correct import correct_run
    from eft_eval.labels import read_items

    folder = runs.copy_run(real, tmp_path)
    items = read_items(folder, tasks=["eli5_fact"])
    scored = [item for item in items if item.verdict_value is not None]
    labels = write_labels(
        tmp_path / "labels.csv", scored[:6], {"jane": [0, 1, 2, 0, 1, 0], "bob": [0, 1, 1, 0, 1, 0]}
    )
    before = {task.name: task for task in claims(folder).tasks}
    corrected = correct_run(folder, [labels], LabelReading(tasks=("eli5_fact",)))
    found = claims(folder)
    after = {task.name: task for task in found.tasks}
    by_metric = {one.metric: one.corrected for one in corrected.metrics}
    for metric, one in by_metric.items():
        claim = figures(found)[f"eli5_fact/{metric}_ppi,factuality"]
        given = one.prediction_powered
        assert claim.figure.value == pytest.approx(given.estimate)
        assert claim.figure.interval.lower == pytest.approx(max(0.0, given.lower))
        assert claim.figure.interval.upper == pytest.approx(given.upper)
        assert claim.figure.error_method == "prediction-powered"
        assert (claim.labels.labels, claim.labels.annotators) == (6, 2)
        assert claim.labels.verdicts_only == pytest.approx(one.verdicts_only.interval.estimate)
        assert claim.judge is not None
    assert "fact_any_error" in by_metric
    assert after["eli5_fact"].digest != before["eli5_fact"].digest
    assert after["sums_gen"].digest == before["sums_gen"].digest


def test_reading_loads_neither_torch_nor_lm_eval(real: Path) -> None:
    code = (
        "import sys; from eft_eval.exporting import read_claims, ClaimSettings, claims_of; "
        f"found = read_claims([{str(real)!r}], ClaimSettings()); "
        "from eft_eval.reports.exports.every_eval_ever_samples import eee_files; "
        "from eft_eval.reports.exports.every_eval_ever import Evaluator; "
        "from eft_eval.reports.exports.table import table_csv, claims_table; "
        "eee_files(found, Evaluator('Lab', 'other', None), True); table_csv(claims_table(found)); "
        "bad = {'torch', 'lm_eval', 'transformers', 'datasets', 'pyarrow'} & set(sys.modules); "
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_claims_of_takes_a_run_that_was_read(stock: Path) -> None:
    assert claims_of(read_run(stock), ClaimSettings()) == claims(stock)
