"""Which responses are a pair: what is left out and said, and what cannot be compared."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judged_pairs import N, odd_judge, words, written
from judged_runs import Run, counted, fails, write_judged_run
from pairs_of_runs import preferring, the_longer, write_responses

from eft_eval.verdicts.verdict import Status


def test_what_differs_is_left_out_and_said(
    run: Run, judge: Callable[..., Any], tmp_path: Path
) -> None:
    questions = [f"Question {i}?" for i in range(8)]
    a = write_responses(
        tmp_path / "a",
        [["one", "two"], "", ["x"], None, "same", "fine", "only a", "also"],
        "a",
        questions=questions,
    )
    others = ["Question 0?", "Question 1?", "Another text?", *questions[3:6], "Question 9?"]
    b = write_responses(
        tmp_path / "b",
        ["uno", "dos", "tres", "cuatro", " same\n", "", "nueve"],
        "b",
        questions=others,
        ids=[0, 1, 2, 3, 4, 5, 9],
    )
    server = judge(preferring(lambda _: 1))
    done = run("judge", a, b, "--pairwise")
    assert done.code == 3, "a response that never came has no verdict"
    for line in (
        "5 documents, 5 pairs; 4 documents scored",
        "documents left out: 2 only in A, 1 only in B, 1 with other texts in B",
        "responses left out, as the other run has fewer repeats: 1",
        "pairs of which a response never came: 1",
        "empty responses of A: 1",
        "empty responses of B: 1",
        "pairs of equal responses: 1",
    ):
        assert line in done.out
    assert len(server.chats) == 7, "equal responses are one question in both orders"
    found = written(tmp_path / "a_against_b")
    assert found.value("pair_missing") == pytest.approx(1 / 5)
    assert found.metadata["eft_pairwise"]["counts"]["other_text"] == 1
    assert [line["doc_id"] for line in found.lines] == [0, 1, 3, 4, 5]


def test_repeats_are_pairs_of_one_document_and_equal_prompts_one_cluster(
    run: Run, judge: Callable[..., Any], tmp_path: Path
) -> None:
    questions = [f"Question {i // 2}?" for i in range(12)]
    a = write_responses(
        tmp_path / "a", [[f"a{i}", "a" * (i + 1)] for i in range(12)], "a", questions=questions
    )
    b = write_responses(
        tmp_path / "b", [["bbbbbb", "bbbbbb"] for _ in range(12)], "b", questions=questions
    )
    judge(preferring(the_longer))
    done = run("judge", a, b, "--pairwise")
    assert done.code == 0, done
    assert "12 documents, 24 pairs" in done.out
    assert "standard errors are clustered by 6 prompts" in done.out
    found = written(tmp_path / "a_against_b")
    values = np.array([line["win_rate"] for line in found.lines])
    expected = [(0 + (0.5 if i == 5 else float(i > 5))) / 2 for i in range(12)]
    assert values.tolist() == expected
    sums = (values - values.mean()).reshape(6, 2).sum(axis=1)
    error = math.sqrt(6 / 5 * float(sums @ sums)) / 12
    assert found.results["win_rate_stderr,preference"] == pytest.approx(error)


def test_unfinished_reasoning_is_no_answer(
    run: Run, judge: Callable[..., Any], tmp_path: Path
) -> None:
    a = tmp_path / "a"
    unfinished = counted([0, 1, 2])
    unfinished[0] = unfinished[0].__class__(
        **{**unfinished[0].__dict__, "status": Status.unfinished, "value": None}
    )
    write_judged_run(a, unfinished, response=lambda i: "" if i == 0 else f"alpha {i}")
    b = write_judged_run(tmp_path / "b", counted([0, 0, 0]), response="beta {}".format)
    server = judge(preferring(lambda _: 1))
    done = run("judge", a, b, "--pairwise")
    assert done.code == 0, done
    assert "pairs with a response whose reasoning did not end: 1" in done.out
    assert "empty responses" not in done.out
    assert len(server.chats) == 4
    found = written(tmp_path / "a_against_b", "eli5_fact_pairwise_helpfulness")
    assert found.value("pair_unfinished") == pytest.approx(1 / 3)


def test_what_cannot_be_compared_is_one_line(
    run: Run, judge: Callable[..., Any], two: tuple[Path, Path], tmp_path: Path
) -> None:
    server = judge(odd_judge)
    a, b = two
    fails(run("judge", a, "--pairwise"), "judges two runs: eft-eval judge RUN_A RUN_B --pairwise")
    fails(run("judge", a, b), "is one word too many; a second run is for --pairwise")
    fails(run("judge", a, a, "--pairwise"), "are one run", "give two")
    fails(run("judge", a, tmp_path / "none", "--pairwise"), "there is no file or folder")
    fails(
        run("judge", a, b, "--pairwise", "--task", "hulp"), "no task 'hulp' (did you mean 'help'?"
    )
    fails(run("judge", a, b, "--out", "x"), "--out is of --pairwise")
    fails(run("judge", a, b, "--length-control"), "--length-control is of --pairwise")
    for option in (("--repeat", "2"), ("--batch", "submit"), ("--batch", "forget"), ("--bridge",)):
        fails(run("judge", a, b, "--pairwise", *option), "leave out --batch, --repeat")
    fails(run("judge", a, b, "--pairwise", "--prompt", "helpfulness"), "needed is 'preference'")
    fails(run("judge", a, "--prompt", "pairwise_helpfulness"), "shows two responses", "--pairwise")
    fails(run("judge", a, b, "--pairwise", "--judge", "j", "--judge", "k"), "asks one judge")
    other = write_responses(tmp_path / "other", ["x"], "m", task="another")
    fails(run("judge", a, other, "--pairwise"), "have no task in common: help; and another")
    texts = write_responses(tmp_path / "texts", ["x"] * 3, "m", questions=["p?", "q?", "r?"])
    fails(run("judge", a, texts, "--pairwise"), "have no document in common; 3 have one id")
    same = write_responses(tmp_path / "same", words(1, 30, "alpha"), "m")
    fails(run("judge", a, same, "--pairwise"), "are equal; there is nothing to compare")
    choice = {"output_type": "multiple_choice"}
    scored = write_responses(tmp_path / "scored", ["x"], "m", config=choice)
    fails(run("judge", scored, b, "--pairwise"), "no task that generates text in common")
    fails(run("judge", scored, b, "--pairwise", "--task", "help"), "generates no text to judge")
    bare = write_responses(tmp_path / "bare", ["x"], "m")
    next(bare.glob("samples_*")).unlink()
    fails(run("judge", a, bare, "--pairwise"), "so no responses; was the run made with")
    fails(run("judge", a, b, "--pairwise", "--out", b), "holds another run", "--out")
    fails(run("judge", a, b, "--pairwise", "--out", tmp_path), "holds another run (a/results_")
    fails(run("judge", a, b, "--pairwise", "--out", next(a.iterdir())), "is no folder")
    assert not server.chats
    assert not [*tmp_path.glob("*_against_*")]


def test_nothing_is_written_without_a_verdict(
    run: Run, judge: Callable[..., Any], two: tuple[Path, Path], openai_server_module: Any
) -> None:
    judge(lambda *_: openai_server_module.Reply(status=400, code="bad"))
    done = run("judge", *two, "--pairwise")
    fails(done, f"{N} of {N} pairs lack a verdict", "nothing is written")
    assert not (two[0].parent / "a_against_b").exists()
