"""A judged task over three tiny models, in process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from judged_tasks import QUESTIONS
from tiny_models import byte_tokenizer, make_model

from eft_eval import hook


@pytest.fixture(scope="session")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("family")
    return {
        "base": make_model(folder / "base", seed=1),
        "tuned": make_model(folder / "tuned", seed=2, tokenizer=byte_tokenizer(chat=True)),
        "reference": make_model(folder / "reference", seed=3),
    }


@pytest.fixture
def run(
    paths: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Run eli5_fact on four questions; keywords go to simple_evaluate."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    data = tmp_path / "questions.jsonl"
    data.write_text("".join(json.dumps({"question": q}) + "\n" for q in QUESTIONS))

    def evaluate(url: str | None, metadata: dict[str, Any] | None = None, **options: Any) -> Any:
        if url:
            monkeypatch.setenv("EFT_JUDGE_BASE_URL", url)
        manager = TaskManager(
            include_path=str(hook.task_folder()),
            include_defaults=False,
            metadata={"eli5_data": str(data), **(metadata or {})},
        )
        return lm_eval.simple_evaluate(
            model="eft",
            model_args={**paths, **options.pop("model_args", {})},
            tasks=options.pop("tasks", ["eli5_fact"]),
            task_manager=manager,
            batch_size=4,
            gen_kwargs="max_gen_toks=8",
            **options,
        )

    evaluate.data = data  # type: ignore[attr-defined]  # for tests that need the file
    return evaluate
