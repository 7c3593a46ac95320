"""Ratings as pandas objects, lists and arrays: one result; other indexes are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from eft_eval.agreement import (
    agree,
    alternative_annotator_test,
    cohen_kappa,
    krippendorff_alpha,
    leave_one_out,
    majority,
)
from eft_eval.errors import ConfigError

pd = pytest.importorskip("pandas")

RNG = np.random.default_rng()
TRUE = RNG.integers(0, 2, 60)
ROWS = [np.where(RNG.random(60) < 0.8, TRUE, 1 - TRUE).tolist() for _ in range(3)]
JUDGE = ROWS[0][::-1]
FRAME = pd.DataFrame(dict(zip(("R1", "R2", "R3"), ROWS, strict=True)), index=range(100, 160))
PANELS = {
    "frame": FRAME,
    "lists": ROWS,
    "array": np.array(ROWS),
    "series": {name: FRAME[name] for name in FRAME},
}


@pytest.mark.parametrize("kind", PANELS)
def test_every_form_of_a_panel_is_the_same(kind: str) -> None:
    panel: Any = PANELS[kind]
    named = dict(zip(("R1", "R2", "R3"), ROWS, strict=True))
    assert krippendorff_alpha(panel) == krippendorff_alpha(named)
    assert leave_one_out(panel) == leave_one_out(named)
    np.testing.assert_array_equal(majority(panel).values, majority(named).values)
    assert agree(panel, JUDGE).pair == agree(named, JUDGE).pair
    assert agree(panel).annotators == ("R1", "R2", "R3")


def test_missing_ones_of_pandas_are_missing() -> None:
    holes = pd.Series([1, None, 0, 1], dtype="Int64")
    assert cohen_kappa(holes, [1, 1, 0, 0]) == cohen_kappa([1, None, 0, 1], [1, 1, 0, 0])


ELSEWHERE = pd.Series(JUDGE)  # 0 to 59, where the frame has 100 to 159


@pytest.mark.parametrize(
    "call",
    [
        lambda: agree(FRAME, ELSEWHERE),
        lambda: agree({name: FRAME[name] for name in FRAME}, ELSEWHERE),
        lambda: leave_one_out(FRAME, ELSEWHERE),
        lambda: alternative_annotator_test(FRAME, ELSEWHERE),
        lambda: cohen_kappa(FRAME["R1"], ELSEWHERE),
        lambda: krippendorff_alpha({"a": FRAME["R1"], "b": ELSEWHERE}),
    ],
)
def test_indexes_that_differ_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match=r"different pandas indexes.*to_numpy"):
        call()


@pytest.mark.parametrize(
    ("panel", "words"),
    [
        (JUDGE, "R1 are 1|R1 are 0"),
        ("a file", "the panel is 'a file'"),
        (5, "the panel is 5"),
        ([], "no raters"),
        ([[[0, 1], [1, 0]], [[1, 1], [0, 0]]], "2 dimensions"),
        ([[[0, 1], [1]], [[1, 1], [0, 0]]], "hold rows"),
    ],
)
def test_what_is_no_panel_is_one_line(panel: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        krippendorff_alpha(panel)


def test_what_a_notebook_shows_of_an_agreement_is_short() -> None:
    shown = repr(agree(FRAME, JUDGE))
    assert len(shown) < 300
    assert "kappa=" in shown
