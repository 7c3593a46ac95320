"""The start-up hook: makes eft-eval visible to the stock `lm_eval` command.

lm-eval 0.4.13 loads no plugins. A start-up file (`.pth`; `.start` from Python 3.15, PEP 829)
calls `install`, which puts one finder on `sys.meta_path`. The finder waits for the modules below
and acts right after each was imported; nothing of lm-eval, torch or pydantic is imported here.

| module                             | what is done                                              |
|------------------------------------|-----------------------------------------------------------|
| lm_eval.models                     | our models registered lazily, unless a name is taken      |
| lm_eval.filters                    | our judge filters registered in the same way              |
| lm_eval.tasks._index               | wrap ``TaskIndex.build``: our task folder after lm-eval's |
| lm_eval.api.metrics                | wrap ``stderr_for_metric``: closed forms of our own       |
| lm_eval.models.huggingface         | wrap ``HFLM.get_model_info``: sampling settings that the  |
|                                    | checkpoint sets are noted in the results                  |
| lm_eval.evaluator                  | wrap ``evaluate``: model ``eft`` checks settings first    |
| lm_eval.loggers.evaluation_tracker | wrap ``GeneralConfigTracker.log_experiment_args``: runs   |
|                                    | of our models are named after the composite; wrap         |
|                                    | ``EvaluationTracker.__init__``: where a run is written    |
| lm_eval.evaluator                  | wrap ``simple_evaluate`` and filter its log: no secrets   |
|                                    | in the arguments of runs that we take part in             |
| lm_eval.evaluator                  | wrap ``get_git_commit_hash``: outside of a repository git |
|                                    | says nothing in runs that we take part in                 |
| lm_eval._cli.run                   | ``print`` in it: the same for the line of arguments       |

``EFT_EVAL_NO_AUTOLOAD=1`` switches the start-up file off. Installing twice does nothing. A later
lm-eval that reads entry points finds the names registered and skips them.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing and importlib cost start-up time in every Python process
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

MODELS = {
    "eft": "eft_eval.model_adapters.eft:EFTLM",
    "eft-vllm": "eft_eval.model_adapters.eft_vllm:EFTVLLM",
}
FILTERS = {
    "eft_judge": "eft_eval.tasks.judge_filter:JudgeFilter",
    "eft_demo_judge": "eft_eval.tasks.demo.exact_judge:ExactJudgeFilter",
}

only_our_tasks = False
"""Set by `eft-eval run` and `plan` when only our tasks are asked: lm-eval's own are not indexed."""


output_path: str | None = None
"""Where the evaluation of the newest model ``eft`` is written; None where nobody said."""


def autoload() -> None:
    """Entry of the start-up files: install the hook unless EFT_EVAL_NO_AUTOLOAD is set."""
    if not os.environ.get("EFT_EVAL_NO_AUTOLOAD"):
        try:
            install()
        except Exception as error:  # noqa: BLE001  # lm-eval goes on without us
            _warn(error)


def install() -> None:
    """Install the finder, and act at once on watched modules that are already imported."""
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _Finder())
    for name, act in _ACTIONS.items():
        if name in sys.modules:
            _try(act, sys.modules[name])


def _try(act: Callable[[ModuleType], None], module: ModuleType) -> None:
    """Act on a module of lm-eval; where that fails, lm-eval goes on without us."""
    try:
        act(module)
    except Exception as error:  # noqa: BLE001  # whatever fails, lm-eval goes on
        _warn(error)


_warned = False


def _warn(error: Exception) -> None:
    """Say once in one line that something is missing; no warning of Python's, which may raise."""
    global _warned
    if not _warned and sys.stderr is not None:
        from eft_eval.streams import say

        text = " ".join(f"{type(error).__name__}: {error}".split())
        say(f"eft-eval: warning: lm_eval sees not all of eft-eval: {text}", sys.stderr)
    _warned = True


class _Finder:
    """Finds the watched modules as Python would, and lets them act after their import."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _ACTIONS:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    # not a subclass of importlib.abc.Loader: importing that costs start-up time
                    spec.loader = _Loader(spec.loader, _ACTIONS[name])  # type: ignore[assignment]
                return spec
        return None


class _Loader:
    """Runs the original loader, puts it back in its place, then runs the action."""

    def __init__(self, loader: Any, act: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._act = act

    def __getattr__(self, name: str) -> Any:  # what readers of specs ask a loader for
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _try(self._act, module)


def _register_model(module: ModuleType) -> None:
    from lm_eval.api.registry import model_registry

    for name, target in MODELS.items():
        if name not in model_registry:
            model_registry.register(name, target=target)


def _register_filters(module: ModuleType) -> None:
    from lm_eval.api.registry import filter_registry

    for name, target in FILTERS.items():
        if name not in filter_registry:
            filter_registry.register(name, target=target)


def _add_tasks(module: Any) -> None:
    """Wrap TaskIndex.build so that our task folder follows lm-eval's default one."""
    from pathlib import Path

    original = module.TaskIndex.build
    default = Path(module.__file__).parent
    ours = task_folder()

    def build(paths: Any, **options: Any) -> Any:
        wanted: list[Path] = []
        for path in map(Path, paths):
            if path != default:
                wanted.append(path)
            else:
                wanted += [ours] if only_our_tasks else [default, ours]
        return original(wanted, **options)

    module.TaskIndex.build = staticmethod(build)


def task_folder() -> Any:
    """Return the folder of our task YAML files (a pathlib.Path), importing no task code."""
    from importlib.util import find_spec
    from pathlib import Path

    spec = find_spec("eft_eval.tasks")
    if spec is None or spec.origin is None:
        raise ImportError("eft_eval.tasks is not installed: reinstall eft-eval")
    return Path(spec.origin).parent


def _closed_form_errors(module: Any) -> None:
    """Wrap stderr_for_metric: ``closed_form_stderr`` of an aggregation replaces the bootstrap."""
    original = module.stderr_for_metric

    def stderr_for_metric(metric: Any, bootstrap_iters: int) -> Any:
        own = getattr(metric, "closed_form_stderr", None)
        if own is not None and bootstrap_iters > 0:
            return own
        return original(metric, bootstrap_iters)

    module.stderr_for_metric = stderr_for_metric
    user = sys.modules.get("lm_eval.evaluator_utils")  # imported it by name, if already there
    if user is not None and getattr(user, "stderr_for_metric", None) is original:
        setattr(user, "stderr_for_metric", stderr_for_metric)  # noqa: B010  # a plain module to mypy


def _name_runs(module: Any) -> None:
    """Wrap log_experiment_args: runs are named after their composite; note where they go."""
    tracker = module.GeneralConfigTracker
    original = tracker.log_experiment_args
    begin = module.EvaluationTracker.__init__

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        # no field of the dataclass, so that no results file has it
        self.general_config_tracker.eft_output_path = self.output_path

    def log_experiment_args(self: Any, *args: Any, **kwargs: Any) -> None:
        global output_path
        original(self, *args, **kwargs)
        if self.model_source in MODELS:
            output_path = getattr(self, "eft_output_path", None)
            model_args = kwargs["model_args"] if "model_args" in kwargs else args[1]
            try:
                from eft_eval.recipe import canonical_name, parse_model_args, split_recipe

                if self.model_source != "eft":  # other engines' own arguments are none of ours
                    model_args = split_recipe(model_args)[0]
                name = canonical_name(parse_model_args(model_args).recipe)
                sanitized = module.sanitize_model_name(name)
            except Exception as error:  # noqa: BLE001  # whatever fails, lm-eval goes on
                _warn(error)  # the run keeps the name that lm-eval gave it
            else:
                self.model_name, self.model_name_sanitized = name, sanitized

    tracker.log_experiment_args = log_experiment_args
    module.EvaluationTracker.__init__ = __init__


def _ours(model: object) -> bool:
    """Whether a run's model, tasks or command are ours."""
    parts = ("cli.app", "tasks.judge_filter", "tasks.judged")
    return model in MODELS or any(f"eft_eval.{part}" in sys.modules for part in parts)


def _masked(text: str) -> str:
    from eft_eval.runs.masking import mask_line

    return mask_line(text)


def _mask_results(module: Any) -> None:
    """Wrap simple_evaluate, and filter what is logged there: no secret of arguments comes out."""
    import logging
    from functools import wraps

    original = module.simple_evaluate

    @wraps(original)
    def simple_evaluate(*args: Any, **kwargs: Any) -> Any:
        results = original(*args, **kwargs)
        try:
            if results is not None and _ours(results["config"]["model"]):
                from eft_eval.runs.masking import mask_results

                mask_results(results)
        except Exception as error:  # noqa: BLE001  # whatever fails, lm-eval goes on
            _warn(error)
        return results

    def plain(record: logging.LogRecord) -> bool:
        try:
            text = record.getMessage()
            if _ours(None) or text.startswith(
                tuple(f"Initializing {model} model" for model in MODELS)
            ):
                record.msg, record.args = _masked(text), ()
        except Exception as error:  # noqa: BLE001  # whatever fails, lm-eval goes on
            _warn(error)
        return True

    module.simple_evaluate = simple_evaluate
    logging.getLogger(module.__name__).addFilter(plain)


def _mask_prints(module: Any) -> None:
    """Mask the line of arguments above lm-eval's tables."""

    def shown(*values: Any, **options: Any) -> None:
        text = values[0] if values and isinstance(values[0], str) else ""
        if "gen_kwargs: (" in text and _ours(text.partition(" (")[0]):
            values = (_masked(text), *values[1:])
        print(*values, **options)

    module.print = shown


def _note_sampling(module: Any) -> None:
    """Wrap HFLM.get_model_info: what the checkpoint's generation_config sets is in the results."""
    original = module.HFLM.get_model_info

    def get_model_info(self: Any) -> Any:
        info = original(self)
        try:
            from eft_eval.engine.sampling_defaults import sampling_defaults
            from eft_eval.runs.conditions import SAMPLING_KEY

            info[SAMPLING_KEY] = sampling_defaults(self._model)
        except Exception as error:  # noqa: BLE001  # whatever fails, lm-eval goes on
            _warn(error)  # the results do not say it
        return info

    module.HFLM.get_model_info = get_model_info


def _check_first(module: Any) -> None:
    """Wrap evaluate: model ``eft`` checks what the tasks ask for before anything is built."""
    original = module.evaluate

    def evaluate(*args: Any, **kwargs: Any) -> Any:
        lm = kwargs["lm"] if "lm" in kwargs else args[0]
        check = getattr(getattr(lm, "lm", lm), "check_evaluation", None)
        if check is not None:
            if output_path:
                check_results(output_path)
            tasks = kwargs["task_dict"] if "task_dict" in kwargs else args[1]
            check(tasks.get("tasks", {}), kwargs.get("apply_chat_template") or False)
        return original(*args, **kwargs)

    module.evaluate = evaluate


def check_results(path: str) -> None:
    """Check before any work that lm-eval can write where ``--output_path`` says.

    Raises:
        ConfigError: It cannot.
    """
    from pathlib import Path

    from eft_eval.errors import ConfigError
    from eft_eval.files import check_folder

    folder = Path(path)
    try:
        check_folder(folder.parent if folder.suffix == ".json" else folder)
    except ConfigError as error:
        raise ConfigError(f"--output_path {path}: {error}") from None


def _quiet_git(module: Any) -> None:
    """Wrap get_git_commit_hash: what git says where there is no repository is no news of a run."""
    original = module.get_git_commit_hash

    def get_git_commit_hash() -> Any:
        import subprocess

        if not (
            _ours(None)
            or any(f"eft_eval.model_adapters.{name}" in sys.modules for name in ("eft", "eft_vllm"))
        ):
            return original()
        try:
            command = ["git", "describe", "--always"]  # as lm-eval asks
            known = subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            known = True  # there is no git, of which lm-eval says nothing
        if known:
            return original()
        from lm_eval.loggers.utils import get_commit_from_path

        return get_commit_from_path(os.getcwd())

    module.get_git_commit_hash = get_git_commit_hash


def _wrap_evaluator(module: Any) -> None:
    _mask_results(module)
    _quiet_git(module)
    _check_first(module)


_ACTIONS: dict[str, Callable[[Any], None]] = {
    "lm_eval.models": _register_model,
    "lm_eval.filters": _register_filters,
    "lm_eval.tasks._index": _add_tasks,
    "lm_eval.api.metrics": _closed_form_errors,
    "lm_eval.models.huggingface": _note_sampling,
    "lm_eval.loggers.evaluation_tracker": _name_runs,
    "lm_eval.evaluator": _wrap_evaluator,
    "lm_eval._cli.run": _mask_prints,
}
