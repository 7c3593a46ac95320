"""Fixtures that several test files share."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("steady", deadline=None)  # a busy machine is no failure
settings.load_profile("steady")


@pytest.fixture(scope="session")
def openai_server_module() -> ModuleType:
    """The module tests/openai_server.py, loaded by its path; `Reply` is in it."""
    path = Path(__file__).with_name("openai_server.py")
    spec = importlib.util.spec_from_file_location("openai_server", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def openai_server(openai_server_module: ModuleType) -> Iterator[Callable[..., Any]]:
    """Start `OpenAIServer(answer, **options)`, as often as wanted; all are closed at the end."""
    with contextlib.ExitStack() as running:
        yield lambda answer, **options: running.enter_context(
            openai_server_module.OpenAIServer(answer, **options)
        )
