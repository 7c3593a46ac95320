"""What the hook does in a run: tasks that are found, standard errors, and the run's name."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eft_eval import hook
from eft_eval.judging.metrics import scored_mean, scored_standard_error
from eft_eval.recipe import canonical_name, parse_recipe


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that lm-eval searches, in order; its own thousands of files are left out."""
    from lm_eval.tasks._index import TaskIndex

    original: Callable[[Path], Iterator[Path]] = TaskIndex._iter_yaml_files
    roots: list[Path] = []

    def iterate(root: Path) -> Iterator[Path]:
        roots.append(root)
        return iter(()) if root == default_folder() else original(root)

    monkeypatch.setattr(TaskIndex, "_iter_yaml_files", staticmethod(iterate))
    monkeypatch.setattr(hook, "only_our_tasks", False)  # a command in this process may have set it
    return roots


def default_folder() -> Path:
    import lm_eval.tasks

    return Path(lm_eval.tasks.__file__).parent


def our_folder() -> Path:
    import eft_eval.tasks

    return Path(str(eft_eval.tasks.__file__)).parent


def test_our_tasks_follow_the_default_ones(searched: list[Path], tmp_path: Path) -> None:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(tmp_path))
    assert searched == [default_folder(), our_folder(), tmp_path]
    assert {"eli5_fact", "hh_fact"} <= set(manager.all_subtasks)


def test_include_defaults_false_is_honoured(searched: list[Path], tmp_path: Path) -> None:
    from lm_eval.tasks import TaskManager

    assert TaskManager(include_defaults=False, include_path=str(tmp_path)).all_tasks == []
    assert searched == [tmp_path]
    TaskManager(include_defaults=False)
    assert searched == [tmp_path]


def test_a_users_task_of_the_same_name_wins(searched: list[Path], tmp_path: Path) -> None:
    from lm_eval.tasks import TaskManager

    (tmp_path / "mine.yaml").write_text("task: eli5_fact\ndataset_path: mine\n")
    index = TaskManager(include_path=[str(tmp_path)]).task_index
    assert index["eli5_fact"].yaml_path == tmp_path / "mine.yaml"
    assert Path(str(index["hh_fact"].yaml_path)).is_relative_to(our_folder())


def test_only_our_tasks_are_indexed_where_asked(
    searched: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.tasks import TaskManager

    monkeypatch.setattr(hook, "only_our_tasks", True)
    TaskManager()
    assert searched == [our_folder()]


def test_standard_errors_have_a_closed_form_for_ours_only() -> None:
    import lm_eval.evaluator_utils
    from lm_eval.api import metrics

    stderr_for_metric = metrics.stderr_for_metric
    assert lm_eval.evaluator_utils.stderr_for_metric is stderr_for_metric
    assert stderr_for_metric(scored_mean, 100_000) is scored_standard_error
    assert stderr_for_metric(scored_mean, 0) is None
    assert scored_standard_error([1, 2, None, 6]) == pytest.approx(
        statistics.stdev([1, 2, 6]) / math.sqrt(3)
    )
    assert stderr_for_metric(metrics.mean, 100_000) is metrics.mean_stderr
    assert stderr_for_metric(metrics.mean, 0) is None
    assert stderr_for_metric(max, 100_000) is None
    bootstrapped = stderr_for_metric(metrics.nanmean, 100_000)
    assert bootstrapped is not None
    assert bootstrapped.__module__ == "lm_eval.api.metrics"


def test_lm_eval_asks_with_the_arguments_that_we_wrap() -> None:
    """`calculate_aggregate_metric` calls by keyword or position: either reaches our wrap."""
    from lm_eval.api import metrics

    named = metrics.stderr_for_metric(metric=scored_mean, bootstrap_iters=10)
    assert named is metrics.stderr_for_metric(scored_mean, 10)


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, str]:
    """A composite of three folders; a name needs no weights."""
    members = {}
    for role in ("base", "tuned", "reference"):
        (tmp_path / role).mkdir()
        (tmp_path / role / "config.json").write_text(json.dumps({"role": role}))
        members[role] = str(tmp_path / role)
    return members


def run_name(*arguments: Any, **options: Any) -> str:
    from lm_eval.loggers.evaluation_tracker import GeneralConfigTracker
    from lm_eval.utils import sanitize_model_name

    tracker = GeneralConfigTracker()
    tracker.log_experiment_args(*arguments, **options)
    assert tracker.model_source == (arguments[0] if arguments else options["model_source"])
    assert tracker.model_name is not None
    assert tracker.model_name_sanitized == sanitize_model_name(tracker.model_name)
    assert tracker.system_instruction == "be brief"
    assert tracker.system_instruction_sha is not None
    return tracker.model_name


REST = {"system_instruction": "be brief", "chat_template": None, "fewshot_as_multiturn": False}


def test_every_form_of_a_command_is_named_after_the_composite(
    recipe: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = canonical_name(parse_recipe(recipe))
    text = ",".join(f"{key}={value}" for key, value in recipe.items())
    file = tmp_path / "mine.yaml"
    delta = f"{{tuned: {recipe['tuned']}, reference: {recipe['reference']}}}"
    file.write_text(f"base: {recipe['base']}\ndeltas: [{delta}]\n")
    forms: list[Any] = [recipe, {**recipe, "weight": 1.0, "device": "cpu"}, text, f"model={file}"]
    for model_args in forms:
        assert run_name(model_source="eft", model_args=model_args, **REST) == name
        assert run_name("eft", model_args, *REST.values()) == name
    monkeypatch.setenv("EFT_RECIPE", str(file))
    for nothing in ("", None, {}, "batch_size=2"):
        assert run_name(model_source="eft", model_args=nothing, **REST) == name
    assert name.startswith("eft_base+tuned-vs-reference_")


def test_runs_of_other_models_keep_their_names(recipe: dict[str, str]) -> None:
    for model_args in ("pretrained=gpt2,dtype=float32", {"pretrained": "gpt2"}):
        assert run_name(model_source="hf", model_args=model_args, **REST) == "gpt2"
    assert run_name("hf", f"pretrained={recipe['base']}", *REST.values()) == recipe["base"]
