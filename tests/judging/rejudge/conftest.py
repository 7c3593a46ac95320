"""A run of the harness that is judged later."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rejudged_runs import QUESTIONS, Runs, answer, evaluate
from tiny_models import make_model


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, openai_server_module: ModuleType) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    data = folder / "questions.jsonl"
    data.write_text("\n".join(json.dumps({"question": text}) for text in QUESTIONS))
    model = make_model(folder / "tiny", positions=512)
    with (
        openai_server_module.OpenAIServer(answer) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("EFT_JUDGE_BASE_URL", server.url)
        patch.setenv("EFT_VERDICT_STORE", str(folder / "verdicts.sqlite3"))
        return Runs(
            evaluate(folder / "unjudged", model, data, predict_only=True),
            evaluate(folder / "judged", model, data, predict_only=False),
        )


@pytest.fixture
def run_dir(runs: Runs, tmp_path: Path) -> Path:
    """A fresh copy of the unjudged run."""
    return Path(shutil.copytree(runs.unjudged, tmp_path / "run"))


@pytest.fixture
def server(openai_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A judge that answers as it did in the judged run."""
    judge = openai_server(answer)
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", judge.url)
    return judge
