"""The cache's memory: given back as soon as its batch has ended."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_models import make_model

from eft_eval import Composite
from eft_eval.engine import states
from eft_eval.engine.cache import RowCache


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No collector of cycles meanwhile."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_caches_of_an_ended_batch_are_gone_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uncollected: None
) -> None:
    made: list[weakref.ref[RowCache]] = []

    def remembered(*arguments: Any) -> RowCache:
        cache = RowCache(*arguments)
        made.append(weakref.ref(cache))
        return cache

    monkeypatch.setattr(states, "RowCache", remembered)
    roles = {
        "base": make_model(tmp_path / "base", hidden=96),
        "tuned": make_model(tmp_path / "tuned", seed=1),
        "reference": make_model(tmp_path / "reference", seed=2),
    }
    composite = Composite.load(roles, device="cpu")
    composite.generate(["a", "some words", "more"], max_new_tokens=4, batch_size=2)
    assert len(made) >= 3
    assert [one() for one in made] == [None] * len(made)
