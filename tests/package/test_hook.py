"""The start-up hook: what it adds to lm-eval, what it leaves alone, and what it costs."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import json
import math
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fresh_environments
import pytest
from fresh_environments import call
from tiny_models import make_model

import eft_eval
from eft_eval import hook
from eft_eval.errors import ConfigError
from eft_eval.judging.metrics import scored_mean, scored_standard_error
from eft_eval.recipe import canonical_name, parse_recipe

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


def python(program: str, cwd: Path, **settings: str) -> Any:
    """Run a program in an interpreter of its own, in ``cwd``; return the JSON that it prints."""
    return json.loads(call(sys.executable, "-c", program, cwd=cwd, **settings))


def our_entry_points() -> list[importlib.metadata.EntryPoint]:
    declared = importlib.metadata.distribution("eft-eval").entry_points
    return [point for point in declared if point.group in ENTRY_POINTS]


# --- registering -------------------------------------------------------------------------------


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


# --- a later lm-eval, which loads entry points itself -------------------------------------------


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


# --- tasks ---------------------------------------------------------------------------------------


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


# --- standard errors -----------------------------------------------------------------------------


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


# --- names of runs -------------------------------------------------------------------------------


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


# --- what we wrap --------------------------------------------------------------------------------


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


# --- what it costs -------------------------------------------------------------------------------


def processor_seconds() -> float:
    """Return what all processes that ended took of the processor; other programs do not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_importing_the_package_is_quick_and_light(tmp_path: Path) -> None:
    program = "import json, sys, eft_eval; print(json.dumps(sorted(sys.modules)))"
    loaded = python(program, tmp_path)
    for heavy in ("torch", "pydantic", "lm_eval", "transformers", "typing", "yaml"):
        assert heavy not in loaded
    took = []
    for _ in range(3):
        started = processor_seconds()
        subprocess.run([sys.executable, "-c", "import eft_eval"], cwd=tmp_path, check=True)
        took.append(processor_seconds() - started)
    assert min(took) < 0.3  # the whole process


def test_names_of_the_package_are_loaded_at_first_use() -> None:
    assert set(eft_eval.__all__) <= set(dir(eft_eval))
    assert eft_eval.parse_recipe is parse_recipe
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = eft_eval.nonsense  # type: ignore[attr-defined]


@pytest.mark.slow
def test_start_up_costs_less_than_two_milliseconds(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    with_hook = fresh_environments.with_wheel(tmp_path_factory, "hooked", outer=False)
    without = fresh_environments.with_wheel(tmp_path_factory, "bare", outer=False)
    for file in without.site_packages.glob("eft_eval_autoload.*"):
        file.unlink()
    environ = fresh_environments.clean_environ()
    off = {**environ, "EFT_EVAL_NO_AUTOLOAD": "1"}
    empty = tmp_path_factory.mktemp("empty")
    cases = {
        "hook": (with_hook.python, environ),
        "switched off": (with_hook.python, off),
        "without": (without.python, environ),
    }

    def seconds(case: str) -> float:
        program, env = cases[case]
        started = processor_seconds()
        subprocess.run([program, "-c", "pass"], cwd=empty, env=env, check=True)
        return processor_seconds() - started

    def measure() -> dict[str, float]:
        """Return medians in milliseconds of 60 rounds, in which the cases take turns."""
        for case in cases:
            seconds(case)
        rounds = [{case: seconds(case) for case in cases} for _ in range(60)]
        return {case: 1000 * statistics.median(r[case] for r in rounds) for case in cases}

    def costs() -> Iterator[dict[str, float]]:
        for _ in range(3):
            medians = measure()
            yield {case: medians[case] - medians["without"] for case in ("hook", "switched off")}

    least: dict[str, float] = dict.fromkeys(("hook", "switched off"), math.inf)
    for cost in costs():
        least = {case: min(least[case], cost[case]) for case in least}
        if max(least.values()) < 2:
            break
    with capsys.disabled():
        figures = ", ".join(f"{case} {cost:.2f} ms" for case, cost in least.items())
        print(f"\nstart-up cost of `python -c pass`: {figures}")
    assert max(least.values()) < 2


# --- what fails in us is no failure of lm-eval ----------------------------------------------------


STARTED = "import site, sys; site.addsitedir(sys.argv[1]); print('started')"


@pytest.mark.parametrize(
    ("package", "said"),
    [
        (None, ""),  # uninstalled, the start-up file left behind
        ({}, ""),  # a folder left behind, with nothing in it
        ({"__init__.py": "", "hook.py": "import nothing_of_this_name"}, ""),
        ({"__init__.py": "", "hook.py": "x ="}, "eft-eval: warning: lm_eval does not see eft-eval"),
        ({"__init__.py": "", "hook.py": "def autoload(): 1 / 0"}, "ZeroDivisionError"),
    ],
)
def test_a_start_up_file_left_behind(
    package: dict[str, str] | None, said: str, tmp_path: Path
) -> None:
    root = Path(__file__).parents[2]
    (tmp_path / "left.pth").write_bytes((root / "eft_eval_autoload.pth").read_bytes())
    if package is not None:
        (tmp_path / "eft_eval" / "models").mkdir(parents=True)
        for name, text in package.items():
            (tmp_path / "eft_eval" / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", STARTED, str(tmp_path)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "started\n")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == (1 if said else 0)


def test_what_fails_in_the_hook_is_one_warning(tmp_path: Path) -> None:
    program = """
import contextlib, io, json, sys
from eft_eval import hook
def fail(module): raise AttributeError("another lm-eval:\\nno TaskIndex")
for name in hook._ACTIONS: hook._ACTIONS[name] = fail
said = io.StringIO()
with contextlib.redirect_stderr(said):
    hook.autoload()
    import lm_eval.models, lm_eval.filters, lm_eval.tasks
from lm_eval.api.registry import get_model
print(json.dumps([get_model("dummy").__name__, said.getvalue().splitlines()]))
"""
    name, said = python(program, tmp_path, EFT_EVAL_NO_AUTOLOAD="")
    assert name == "DummyLM"
    assert [line for line in said if "eft-eval" in line] == [
        "eft-eval: warning: lm_eval sees not all of eft-eval: AttributeError: another lm-eval: "
        "no TaskIndex"
    ]


def test_a_run_that_cannot_be_named_keeps_lm_evals_name(capsys: pytest.CaptureFixture[str]) -> None:
    from lm_eval.loggers.evaluation_tracker import GeneralConfigTracker

    hook.install()
    tracker = GeneralConfigTracker()
    tracker.log_experiment_args("eft", "no_such_key=1", "", "", False)
    assert "no_such_key" in capsys.readouterr().err
    assert tracker.model_source == "eft"


def test_the_loader_is_as_the_one_it_stands_for() -> None:
    found = hook._Finder().find_spec("lm_eval.models", importlib.import_module("lm_eval").__path__)
    assert found is not None
    assert found.loader.get_filename("lm_eval.models") == found.origin  # type: ignore[union-attr]
