"""Documents whose scores changed most between two runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from reported_runs import ARMS, verdict, write_arm

from eft_eval.comparing import read_run
from eft_eval.errors import ConfigError
from eft_eval.reporting.report import make_report


def test_flips_are_the_documents_that_changed_most(tmp_path: Path) -> None:
    before = [1.0, 1.0, 1.0, 1.0, 5.0, 0.0, 1.0, 1.0]
    after = [1.0, 9.0, 2.0, 1.0, 0.0, 0.0, 4.0, 0.0]
    texts = [f"response {i}" for i in range(8)]
    reasons = [f"reason {i}" for i in range(8)]
    old = read_run(write_arm(tmp_path / "old", ARMS["small"], before, responses=texts))
    new = read_run(write_arm(tmp_path / "new", ARMS["up"], after, responses=texts, reasons=reasons))
    report = make_report([old, new], flips=2)
    (found,) = report.flips
    assert found.worse == {"fact_errors": 3, "any_right": 0}
    assert found.better == {"fact_errors": 2, "any_right": 2}
    assert [flip.doc_id for flip in found.shown] == [1, 6, 4, 7]
    first = found.shown[0]
    assert first.candidate is not None
    (said,) = first.candidate.responses
    assert (said.text, said.characters) == ("response 1", 10)
    assert said.reason == ("scored", 9.0, "reason 1")
    changes = {one.metric: one for one in first.changes}
    assert changes["fact_errors"][1:] == (1.0, 9.0, -8.0, True)
    assert changes["any_right"].listed is False
    samples = new.tasks["facts"].samples_file
    assert samples is not None
    huge = samples.read_text("utf-8").replace('\\"value\\": 9.0', f'\\"value\\": {10**400}')
    samples.write_text(huge, "utf-8")
    beyond = make_report([old, new], flips=2).flips[0].shown[0].candidate
    assert beyond is not None
    assert beyond.responses[0].reason == ("scored", None, "reason 1")
    assert make_report([old, new], flips=0).flips == ()
    with pytest.raises(ConfigError, match="flips is -1"):
        make_report([old, new], flips=-1)


def test_flips_of_a_baseline_file_have_the_candidates_texts_alone(tmp_path: Path) -> None:
    from eft_eval.comparing import bless

    write_arm(tmp_path / "old", ARMS["small"], [0.0, 1.0] * 10)
    bless(tmp_path / "old", tmp_path / "base.json")
    new = read_run(write_arm(tmp_path / "new", ARMS["up"], [1.0, 1.0] * 10))
    report = make_report([read_run(tmp_path / "base.json"), new])
    (found,) = report.flips
    assert all(flip.baseline is None and flip.candidate is not None for flip in found.shown)
    assert "no texts" in report.notes[0]


def test_log_likelihood_responses_are_shown_as_lm_eval_wrote_them(tmp_path: Path) -> None:
    from stock_runs import run_dummy, write_tasks

    tasks = write_tasks(tmp_path / "tasks")
    runs = [
        read_run(run_dummy(tasks, tmp_path / name, random_seed=seed))
        for name, seed in (("a", 1), ("b", 2))
    ]
    report = make_report(runs)
    kinds = {found.task: found for found in report.flips if found.shown}
    for found in kinds.values():
        for flip in found.shown:
            assert flip.candidate is not None
            assert all(one.reason is None and one.text for one in flip.candidate.responses)
    assert report.runs[0].decoding is None
    assert report.runs[0].members == ()


def test_verdicts_that_do_not_fit_the_responses_are_not_put_beside_them(tmp_path: Path) -> None:
    from eft_eval.reporting.flips import _said
    from eft_eval.runs.records import Sample

    both = verdict(1, "one")[:-1] + "," + verdict(None, "", "abstained")[1:]
    sample = Sample(0, "f", {}, "p", "", (["a", "b"],), (both,), {}, ("", "", ""))
    said = _said(sample)
    assert said is not None
    assert [one.reason and one.reason.status for one in said.responses] == ["scored", "abstained"]
    three_verdicts = both[:-1] + "," + verdict(2, "again")[1:]
    repeated = _said(Sample(0, "f", {}, "p", "", (["a"],), (three_verdicts,), {}, ("", "", "")))
    assert repeated is not None
    assert repeated.responses[0].reason == ("scored", 1.0, "one")
