"""Tiny models with adapters."""

from __future__ import annotations

from pathlib import Path

import pytest
from adapters import make_adapter
from tiny_models import make_model


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    small = make_model(folder / "small")
    make_model(folder / "large", hidden=64, seed=3)
    make_adapter(folder / "one", small, seed=1)
    make_adapter(folder / "two", small, seed=2, use_dora=True)
    return folder
