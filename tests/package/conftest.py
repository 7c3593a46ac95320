"""An environment with the wheel, and an HTTP judge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import ModuleType

import fresh_environments
import pytest
from forked_commands import Commands
from fresh_environments import clean_environ
from stock_commands import Judge, Workbench, eli5_questions
from tiny_models import make_model


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    environment = fresh_environments.with_wheel(tmp_path_factory, "stock")
    # As pip writes it for lm-eval's entry point; its own is in the outer environment.
    script = environment.folder / "bin" / "lm_eval"
    script.write_text(
        f"#!{environment.python}\nimport sys\nfrom lm_eval.__main__ import cli_evaluate\n"
        "sys.exit(cli_evaluate())\n"
    )
    script.chmod(0o755)
    folder = tmp_path_factory.mktemp("bench")
    roles = ("base", "tuned", "reference")
    models = {
        role: make_model(folder / "models" / role, seed=seed, positions=1024)
        for seed, role in enumerate(roles)
    }
    settings = {
        "HF_HUB_OFFLINE": "1",
        "EFT_VERDICT_STORE": str(folder / "verdicts.sqlite3"),
        "OMP_NUM_THREADS": "1",  # threads that wait for each other cost tiny models minutes
    }
    eli5 = folder / "questions.jsonl"
    eli5.write_text("".join(json.dumps({"question": q}) + "\n" for q in eli5_questions()))
    forks = Commands(environment.python, folder, clean_environ(**settings))
    yield Workbench(environment, folder, models, settings, eli5, forks)
    forks.close()


@pytest.fixture(scope="module")
def judge(openai_server_module: ModuleType) -> Iterator[Judge]:
    judge = Judge(openai_server_module.Reply)
    with openai_server_module.OpenAIServer(judge.answer, key="sesame") as judge.server:
        yield judge
