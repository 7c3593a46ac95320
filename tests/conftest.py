"""Fixtures that several test files share."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("steady", deadline=None)  # a busy machine is no failure
settings.load_profile("steady")


# Read by the libraries at their import, so that a test that needs none of them loads none.
os.environ["HF_HUB_OFFLINE"] = "1"  # a test must never wait for a network that is not there
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TQDM_DISABLE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # tiny models run several times faster on one than on two
# The background jobs of a shell ignore Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# A terminal's size, which readline tells to the workers of xdist; what we print asks for it.
for size in ("COLUMNS", "LINES"):
    os.environ.pop(size, None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return a worker for each core, up to 8, for whole folders; none for single files."""
    if any(".py" in argument for argument in config.args):
        return 0
    return min(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1, 8)


def pytest_collection_finish() -> None:
    """Spare the garbage collector what was imported: statsmodels calls it in every correction."""
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Ask for the description of the machine once: lm-eval runs `pip list` for it in every run."""
    machine = sys.modules.get("torch.utils.collect_env")
    if machine is not None and not hasattr(machine.get_pretty_env_info, "cache_info"):
        machine.get_pretty_env_info = functools.cache(machine.get_pretty_env_info)  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the developer's judge, data and store out of the tests."""
    for name in (*os.environ,):
        if name.startswith(("EFT_", "OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("EFT_VERDICT_STORE", str(tmp_path / "verdicts.sqlite3"))


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
    from eft_eval.judging.judges import adapting

    adapting.forget()  # a port may be that of another test's server before
    with contextlib.ExitStack() as running:
        yield lambda answer, **options: running.enter_context(
            openai_server_module.OpenAIServer(answer, **options)
        )


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that writes golden files anew."""
    parser.addoption("--regenerate-golden", action="store_true", help="Write golden files anew.")
