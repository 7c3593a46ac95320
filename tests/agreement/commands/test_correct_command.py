"""`eft-eval correct`: new files beside the old, and the old as they were."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from judged_runs import (
    DATE,
    PEOPLE,
    VERDICTS,
    Run,
    counted,
    fails,
    hashes,
    items_in_order,
    write,
    write_judged_run,
    write_labels,
)

from eft_eval.agreement import correct_mean


def test_correct_writes_beside_the_old(
    run: Run, run_dir: Path, labels: Path, tmp_path: Path
) -> None:
    before = hashes(run_dir)
    done = run("correct", run_dir, "--labels", labels, "--json", tmp_path / "c.json")
    assert (done.code, done.err) == (0, "")
    after = hashes(run_dir)
    assert {name: after[name] for name in before} == before
    results, samples = sorted(after.keys() - before.keys())
    date = results.removeprefix("results_").removesuffix(".json")
    assert samples == f"samples_eli5_fact_{date}.jsonl"
    assert date > DATE
    assert after[samples] == before[f"samples_eli5_fact_{DATE}.jsonl"]

    new = json.loads((run_dir / results).read_text("utf-8"))
    old = json.loads((run_dir / f"results_{DATE}.json").read_text("utf-8"))
    entry = new["results"]["eli5_fact"]
    assert {k: v for k, v in entry.items() if "_ppi" not in k} == old["results"]["eli5_fact"]
    wanted = by_hand()
    assert entry["fact_any_error_ppi,factuality"] == pytest.approx(wanted.estimate)
    error = entry["fact_any_error_ppi_stderr,factuality"]
    assert error == pytest.approx(wanted.error)
    first = new["eft_corrected"]["metrics"][0]
    assert (first["task"], first["metric"]) == ("eli5_fact", "fact_any_error")
    interval = first["corrected"]["prediction_powered"]
    assert (interval["lower"], interval["upper"]) == pytest.approx(wanted.ends)
    assert first["by_majority"] is True  # three people: Rogan–Gladen takes the commonest answer
    assert first["corrected"]["rogan_gladen"] is not None
    assert new["eft_corrected"]["corrected_from"] == f"results_{DATE}.json"
    assert new["eft_corrected"] == json.loads((tmp_path / "c.json").read_text("utf-8"))
    assert new["higher_is_better"]["eli5_fact"]["fact_any_error_ppi"] is False
    assert "jane" not in (run_dir / results).read_text("utf-8")
    # the corrected run is a run: it can be read, compared and corrected again
    corrected = items_in_order(run_dir)
    assert {item.source.partition(",")[0] for item in corrected} == {samples}
    assert [one.verdict_value for one in corrected] == VERDICTS
    again = run("correct", run_dir, "--labels", labels)
    assert again.code == 0
    newest = json.loads(sorted(run_dir.glob("results_*"))[-1].read_text("utf-8"))
    assert newest["results"] == new["results"]
    assert newest["configs"] == new["configs"]


class ByHand(NamedTuple):
    estimate: float
    error: float
    ends: tuple[float, float]


def by_hand() -> ByHand:
    """Correct the any-error rate by the mean of people's labels, from the lists above."""
    shares = []
    for item in range(40):
        votes = [float(g[item] > 0) for g in PEOPLE.values() if g[item] is not None]  # type: ignore[operator]  # None is left out
        shares.append(float(np.mean(votes)))
    verdicts = [math.nan if v is None else float(v > 0) for v in VERDICTS]
    prompts = [i // 2 for i in range(60)]
    found = correct_mean(
        shares,
        verdicts[:40],
        verdicts[40:],
        clusters=prompts[:40],
        other_clusters=prompts[40:],
    )
    ends = found.prediction_powered[1:3]
    return ByHand(found.prediction_powered.estimate, found.standard_error, (ends[0], ends[1]))


def test_a_mean_count_has_no_interval_below_zero(run: Run, tmp_path: Path) -> None:
    verdicts = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0] * 3
    truth = [*[0] * 17, 9, *[0] * 2]
    folder = write_judged_run(tmp_path / "run", counted(verdicts))
    items = items_in_order(folder)[:20]
    labels = write_labels(tmp_path / "labels.csv", items, {"ann": truth})
    done = run("correct", folder, "--labels", labels)
    assert done.code == 0, done.err
    newest = json.loads(sorted(folder.glob("results_*"))[-1].read_text("utf-8"))
    (metric,) = (m for m in newest["eft_corrected"]["metrics"] if m["metric"] == "fact_errors")
    raw = correct_mean(truth, verdicts[:20], verdicts[20:])
    assert raw.prediction_powered.lower < 0
    assert raw.labels_only.interval.lower < 0
    assert raw.verdicts_only.interval.lower < 0
    for name, given in (
        ("prediction_powered", raw.prediction_powered),
        ("labels_only", raw.labels_only.interval),
        ("verdicts_only", raw.verdicts_only.interval),
    ):
        kept = metric["corrected"][name]
        kept = kept.get("interval", kept)
        assert kept["lower"] == 0
        assert kept["upper"] == pytest.approx(given.upper)
        assert kept["estimate"] == pytest.approx(given.estimate)


def test_the_harness_prints_corrected_results(run: Run, run_dir: Path, labels: Path) -> None:
    from lm_eval.utils import make_table

    assert run("correct", run_dir, "--labels", labels, "--people", "majority").code == 0
    newest = json.loads(sorted(run_dir.glob("results_*"))[-1].read_text("utf-8"))
    table = make_table({**newest, "n-shot": {}})
    (line,) = [line for line in table.splitlines() if "fact_any_error_ppi" in line]
    value = newest["results"]["eli5_fact"]["fact_any_error_ppi,factuality"]
    assert f"{value:.4f}" in line
    assert newest["eft_corrected"]["metrics"][0]["by_majority"] is False


def test_a_judge_among_the_annotators_corrects_nothing(
    run: Run, run_dir: Path, tmp_path: Path
) -> None:
    items = items_in_order(run_dir)[:40]
    people = {name: given[:40] for name, given in PEOPLE.items()}
    alone = write_labels(tmp_path / "p.csv", items, people)
    mixed = write_labels(tmp_path / "m.csv", items, {**people, "gpt-x": VERDICTS[:40]})
    found = []
    for labels, more in ((alone, ()), (mixed, ("--judge", "gpt-x")), (mixed, ())):
        out = tmp_path / "c.json"
        assert run("correct", run_dir, "--labels", labels, *more, "--json", out).code == 0
        found.append(json.loads(out.read_text("utf-8")))
    assert found[0]["metrics"] == found[1]["metrics"] != found[2]["metrics"]
    assert found[1]["annotators"] == ["A1", "A2", "A3"]


def test_judging_again_drops_the_correction(
    run: Run,
    run_dir: Path,
    labels: Path,
    openai_server: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Labels corrected the old judge's verdicts; they say nothing of another's."""
    assert run("correct", run_dir, "--labels", labels).code == 0
    server = openai_server(lambda prompt, _=None: "Reason: checked.\n\nScore: 1")
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", server.url)
    assert run("judge", run_dir).code == 0
    newest = json.loads(sorted(run_dir.glob("results_*"))[-1].read_text("utf-8"))
    assert newest["results"]["eli5_fact"]["fact_any_error,factuality"] == 1
    assert "ppi" not in json.dumps(newest)
    assert "eft_corrected" not in newest
    # the same labels correct the new verdicts
    assert run("correct", run_dir, "--labels", labels).code == 0


def test_correct_and_labels_that_cannot_correct(run: Run, run_dir: Path, tmp_path: Path) -> None:
    before = hashes(run_dir)
    items = items_in_order(run_dir)
    unscored = [item for item in items if item.verdict_value is None]
    path = write_labels(tmp_path / "l.csv", unscored, {"a": [1.0] * len(unscored)})
    fails(run("correct", run_dir, "--labels", path), "no labelled response has a score")
    head = "item_id,annotator,value\n"
    words = write(tmp_path / "w.csv", f"{head}{items[0].item_id},a,bad\n{items[1].item_id},a,ok\n")
    fails(run("correct", run_dir, "--labels", words), "--positive")
    good = write_labels(tmp_path / "g.csv", items[:20], {"a": [1.0, 0.0] * 10})
    fails(run("correct", run_dir, "--labels", good, "--power", "2"), "power is 2")
    fails(run("correct", run_dir), "--labels FILE")
    fails(run("correct", run_dir, "--labels", good, "--json", good), "choose another name")
    assert hashes(run_dir) == before
    done = run("correct", run_dir, "--labels", words, "--positive", "bad")
    assert done.code == 0
    assert "fact_any_error" in done.out
    assert "fact_errors" not in done.out


def test_labels_that_are_all_unsure_correct_nothing(
    run: Run, run_dir: Path, tmp_path: Path
) -> None:
    before = hashes(run_dir)
    rows = [f"{item.item_id},a,unsure" for item in items_in_order(run_dir)[:9]]
    head = "item_id,annotator,has_error\n"
    path = write(tmp_path / "u.csv", head + "\n".join(rows))
    fails(run("correct", run_dir, "--labels", path), "all are unsure", "nothing is corrected")
    assert hashes(run_dir) == before


def test_a_failed_write_leaves_the_run_as_it_was(
    run: Run, run_dir: Path, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results file comes last: without it there is no new run."""
    before = hashes(run_dir)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    fails(run("correct", run_dir, "--labels", labels), "No space left")
    monkeypatch.undo()
    after = hashes(run_dir)
    assert {name: after[name] for name in before} == before
    assert not [name for name in after if name.startswith("results_") and name not in before]
