"""Numbers that are equal but for a sum's last digits are the same in a file."""

from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from eft_eval.statistics.interval import Interval
from eft_eval.statistics.rounding import rounded, rounded_ends


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=50), st.randoms())
def test_the_order_of_a_sum_does_not_show(values: list[float], order: object) -> None:
    shuffled = values.copy()
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = rounded(sum(values)), rounded(sum(shuffled))
    assert first == second or math.isclose(first, second, rel_tol=2e-11)  # at a border
    assert math.isclose(first, math.fsum(values), rel_tol=2e-11)


def test_what_is_written() -> None:
    assert json.dumps(rounded(0.1 + 0.2)) == "0.3"
    assert rounded(None) is None
    assert math.isnan(rounded(math.nan))
    interval = Interval(0.1 + 0.2, 1 / 3, math.inf, 0.95, "t")
    assert rounded_ends(interval) == interval._replace(lower=0.333333333333)
    assert rounded_ends(None) is None
