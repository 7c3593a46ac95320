"""The start-up hook: our names in lm-eval's registries, once, whoever loads them."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from fresh_environments import python
from tiny_models import make_model

from eft_eval import hook
from eft_eval.errors import ConfigError

ENTRY_POINTS = {"lm_eval.models": hook.MODELS, "lm_eval.filters": hook.FILTERS}
WATCHED = (
    "lm_eval.models",
    "lm_eval.filters",
    "lm_eval.tasks._index",
    "lm_eval.api.metrics",
    "lm_eval.models.huggingface",
    "lm_eval.loggers.evaluation_tracker",
    "lm_eval.evaluator",
    "lm_eval._cli.run",
)


def our_entry_points() -> list[importlib.metadata.EntryPoint]:
    declared = importlib.metadata.distribution("eft-eval").entry_points
    return [point for point in declared if point.group in ENTRY_POINTS]


REGISTERED = """
import json, sys
import lm_eval.models, lm_eval.filters
from lm_eval.api.registry import filter_registry, model_registry
print(json.dumps({
    "finders": sum(type(f).__module__ == "eft_eval.hook" for f in sys.meta_path),
    "names": ["eft" in model_registry, "eft_judge" in filter_registry],
    "built_ins": ["hf" in model_registry, "take_first" in filter_registry],
    "heavy": [m for m in ("torch", "pydantic", "transformers") if m in sys.modules],
}))
"""


def test_a_plain_interpreter_registers_our_names_beside_the_built_in_ones(tmp_path: Path) -> None:
    assert python(REGISTERED, tmp_path) == {
        "finders": 1,
        "names": [True, True],
        "built_ins": [True, True],
        "heavy": [],
    }


def test_the_off_switch(tmp_path: Path) -> None:
    found = python(REGISTERED, tmp_path, EFT_EVAL_NO_AUTOLOAD="1")
    assert found["finders"] == 0
    assert found["names"] == [False, False]
    assert found["built_ins"] == [True, True]


def test_the_registry_imported_first_still_loads_the_built_in_models(tmp_path: Path) -> None:
    # The trap: lm-eval loads its own models only while the registry is empty.
    program = """
import json
import lm_eval.api.registry as registry
before = list(registry.model_registry.keys())
print(json.dumps([before, registry.get_model("dummy").__name__, "eft" in registry.model_registry]))
"""
    assert python(program, tmp_path) == [[], "DummyLM", True]


def test_installing_again_does_nothing() -> None:
    hook.install()
    before = list(sys.meta_path)
    hook.install()
    assert sys.meta_path == before
    assert sum(isinstance(finder, hook._Finder) for finder in sys.meta_path) == 1


@pytest.mark.slow
def test_installing_after_lm_eval_was_imported_acts_at_once(tmp_path: Path) -> None:
    program = f"""
import importlib, json
modules = [importlib.import_module(name) for name in {WATCHED!r}]
import lm_eval.evaluator_utils
from eft_eval import hook
hook.install()
from lm_eval.api.registry import filter_registry, model_registry
print(json.dumps([
    "eft" in model_registry,
    "eft_judge" in filter_registry,
    modules[2].TaskIndex.build.__module__,
    modules[3].stderr_for_metric.__module__,
    lm_eval.evaluator_utils.stderr_for_metric is modules[3].stderr_for_metric,
    modules[4].HFLM.get_model_info.__module__,
    modules[5].GeneralConfigTracker.log_experiment_args.__module__,
]))
"""
    us = "eft_eval.hook"
    assert python(program, tmp_path, EFT_EVAL_NO_AUTOLOAD="1") == [True, True, us, us, True, us, us]


def test_what_a_checkpoint_sets_of_sampling_is_in_the_results(tmp_path: Path) -> None:
    """Qwen2.5-Instruct's file; what it leaves open has transformers' default."""
    from lm_eval.models.huggingface import HFLM

    hook.install()
    for settings, expected in (
        (
            {"repetition_penalty": 1.05, "top_p": 0.8, "top_k": 20, "temperature": 0.7},
            {"repetition_penalty": 1.05, "top_p": 0.8, "top_k": 20, "temperature": 0.7},
        ),
        ({"top_k": 0, "top_p": 1.0}, {}),
        ({}, {"top_k": 50}),
    ):
        folder = Path(make_model(tmp_path / str(len(settings)), seed=1))
        (folder / "generation_config.json").write_text(json.dumps(settings))
        info = HFLM(pretrained=str(folder), device="cpu").get_model_info()
        assert info["eft_sampling_defaults"] == expected
        assert info["model_num_parameters"] > 0


def test_models_are_found_by_name() -> None:
    from lm_eval.api.registry import get_model
    from lm_eval.models.huggingface import HFLM

    from eft_eval.model_adapters.eft import EFTLM

    assert get_model("hf") is HFLM
    assert get_model("eft") is EFTLM
    assert hook.MODELS["eft"] == f"{EFTLM.__module__}:{EFTLM.__name__}"  # lm-eval compares the two


def test_the_judge_filters_are_found_by_name() -> None:
    import lm_eval.filters  # noqa: F401  # registers lm-eval's own, and ours after them
    from lm_eval.api.registry import get_filter

    from eft_eval.tasks.demo.exact_judge import ExactJudgeFilter
    from eft_eval.tasks.judge_filter import JudgeFilter

    for name, kind in {"eft_judge": JudgeFilter, "eft_demo_judge": ExactJudgeFilter}.items():
        assert get_filter(name) is kind
        assert hook.FILTERS[name] == f"{kind.__module__}:{kind.__name__}"


def test_entry_points_say_what_the_hook_says_and_resolve() -> None:
    declared: dict[str, dict[str, str]] = {group: {} for group in ENTRY_POINTS}
    for point in our_entry_points():
        declared[point.group][point.name] = point.value
    assert declared == ENTRY_POINTS
    for point in our_entry_points():
        if point.name == "eft-vllm" and find_spec("vllm") is None:
            with pytest.raises(ConfigError, match=r"eft-eval\[vllm\]"):
                point.load()
            continue
        assert point.load().__name__ == point.value.partition(":")[2]


LATER_LM_EVAL = """
import importlib.metadata, json, warnings
warnings.simplefilter("error")
from lm_eval.api.registry import filter_registry, model_registry
registries = {"lm_eval.models": model_registry, "lm_eval.filters": filter_registry}

def load_plugins():
    for group, registry in registries.items():
        for point in importlib.metadata.entry_points(group=group):
            if point.name not in registry:
                registry.register(point.name, target=point)

%s
print(json.dumps([
    type(model_registry._objs["eft"]).__name__,
    type(filter_registry._objs["eft_judge"]).__name__,
    "hf" in model_registry,
    filter_registry.get("eft_judge").__name__,
]))
"""


def test_plugins_loaded_before_our_hook_acts_are_left_alone(tmp_path: Path) -> None:
    program = LATER_LM_EVAL % "load_plugins(); import lm_eval.models, lm_eval.filters"
    assert python(program, tmp_path) == ["EntryPoint", "EntryPoint", True, "JudgeFilter"]


def test_plugins_loaded_after_our_hook_acted_do_not_conflict(tmp_path: Path) -> None:
    program = LATER_LM_EVAL % "import lm_eval.models, lm_eval.filters; load_plugins()"
    assert python(program, tmp_path) == ["str", "str", True, "JudgeFilter"]


def test_an_entry_point_of_ours_can_be_looked_up() -> None:
    from lm_eval.api.model import LM
    from lm_eval.api.registry import Registry

    registry: Any = Registry("model", base_cls=LM)
    point = next(point for point in our_entry_points() if point.group == "lm_eval.models")
    registry.register(point.name, target=point)
    assert registry.get("eft").__name__ == "EFTLM"


def test_lm_eval_still_has_what_we_wrap(tmp_path: Path) -> None:
    program = """
import inspect, json
from lm_eval.api.metrics import stderr_for_metric
from lm_eval.api.registry import filter_registry, model_registry
from lm_eval.evaluator_utils import stderr_for_metric as as_used
from lm_eval.loggers.evaluation_tracker import GeneralConfigTracker, sanitize_model_name
from lm_eval.tasks._index import TaskIndex
from lm_eval.tasks.manager import TaskIndex as as_managed

def names(function):
    return [(p.name, p.kind.name) for p in inspect.signature(function).parameters.values()]

print(json.dumps({
    "build": names(TaskIndex.build),
    "static": isinstance(vars(TaskIndex)["build"], staticmethod),
    "stderr": names(stderr_for_metric),
    "log": [name for name, _ in names(GeneralConfigTracker.log_experiment_args)],
    "sanitize": names(sanitize_model_name),
    "register": [name for name, _ in names(model_registry.register)],
    "same": [as_used is stderr_for_metric, as_managed is TaskIndex,
             type(model_registry) is type(filter_registry)],
}))
"""
    assert python(program, tmp_path, EFT_EVAL_NO_AUTOLOAD="1") == {
        "build": [["paths", "POSITIONAL_OR_KEYWORD"], ["resolve_includes", "KEYWORD_ONLY"]],
        "static": True,
        "stderr": [
            ["metric", "POSITIONAL_OR_KEYWORD"],
            ["bootstrap_iters", "POSITIONAL_OR_KEYWORD"],
        ],
        "log": [
            *("self", "model_source", "model_args"),
            *("system_instruction", "chat_template", "fewshot_as_multiturn"),
        ],
        "sanitize": [["model_name", "POSITIONAL_OR_KEYWORD"]],
        "register": ["aliases", "target"],
        "same": [True, True, True],
    }


def test_the_hook_acts_on_these_modules_and_documents_them() -> None:
    assert sorted(hook._ACTIONS) == sorted(WATCHED)
    assert all(name in str(hook.__doc__) for name in WATCHED)


@pytest.mark.parametrize("name", WATCHED)
def test_watched_modules_look_as_if_nobody_had_watched(name: str) -> None:
    from importlib.machinery import SourceFileLoader

    module = importlib.import_module(name)
    assert module.__spec__ is not None
    assert type(module.__spec__.loader) is SourceFileLoader
    assert module.__loader__ is module.__spec__.loader
    assert inspect.getsource(module) == Path(str(module.__file__)).read_text("utf-8")


def test_a_watched_module_that_does_not_exist_is_an_ordinary_import_error() -> None:
    finder = next(finder for finder in sys.meta_path if isinstance(finder, hook._Finder))
    assert finder.find_spec("lm_eval.api.metrics", []) is None
    assert finder.find_spec("json") is None
