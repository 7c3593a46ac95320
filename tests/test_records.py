"""Parsed JSON as typed records and numbers."""

from __future__ import annotations

import json
import math
from typing import NamedTuple

import pytest

from eft_eval.errors import ConfigError
from eft_eval.records import finite_number, restored


class One(NamedTuple):
    number: float
    count: int = 0


@pytest.mark.parametrize("text", ["null", '"1"', "[1]", "NaN", "-Infinity", "1e999", f"-{10**400}"])
def test_what_no_float_holds_is_no_number(text: str) -> None:
    assert finite_number(json.loads(text)) is None


def test_numbers_of_parsed_json() -> None:
    assert [finite_number(one) for one in (3, 0.5, True, 2**1023)] == [3.0, 0.5, 1.0, 2.0**1023]
    assert type(finite_number(3)) is float


def test_numbers_of_records() -> None:
    assert math.isnan(restored(One, {"number": None}, "file").number)
    assert restored(One, {"number": 3}, "file").number == 3.0
    for other in (10**400, math.inf, True, "3"):
        with pytest.raises(ConfigError, match=r"^file.number is .*; expected a number"):
            restored(One, {"number": other}, "file")
    for other in (10**400, 1.0, True, None):
        with pytest.raises(ConfigError, match=r"^file.count is .*; expected a whole number"):
            restored(One, {"number": 1, "count": other}, "file")
