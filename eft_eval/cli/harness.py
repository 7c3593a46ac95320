"""`eft-eval run`: delegate to lm-eval's own command line, with the hook installed."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from eft_eval import hook
from eft_eval.cli.environment import help_of
from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.files import read_text
from eft_eval.judging.judges.registry import judge_for
from eft_eval.judging.prompts.measures import MEASURES
from eft_eval.judging.settings import JudgeSettings
from eft_eval.recipe import canonical_name, parse_model_args
from eft_eval.runs.completeness import newest_results, unwritten
from eft_eval.streams import say
from eft_eval.yaml_text import YAML_ERRORS


def run_harness(arguments: list[str]) -> int:
    """Run `lm_eval run` with ``arguments``, then check what it wrote.

    Returns:
        The exit code: 3 where a judge left responses without a verdict, else 0.

    Raises:
        EftEvalError: A results or samples file that was asked for is missing or incomplete
            (lm-eval only logs that).
    """
    if not any(argument.split("=")[0] in ("--model", "-M", "--config") for argument in arguments):
        arguments = ["--model", "eft", *arguments]
    hook.only_our_tasks = asks_only_ours(_values(arguments, ("--tasks", "-t")))
    hook.install()
    for config in _values(arguments, ("--config", "-C")):
        _check_config(Path(config))
    _check_early(arguments)
    if output := _values(arguments, ("--output_path", "-o")):
        hook.check_results(output[-1])
    started = time.time()
    sys.argv = ["lm_eval", "run", *arguments]
    if {"-h", "--help"} & {*arguments}:
        atexit.register(say, help_of("run"))  # lm-eval's help ends the process
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
    if os.environ.get("RANK", "0") != "0" or {"-h", "--help"} & {*arguments}:
        return 0  # of several processes the first writes, and no other's end may stop it
    lacks_verdicts = "eft_eval.tasks.lost_verdicts" in sys.modules and _lost()
    if output:
        samples = bool({"--log_samples", "--predict_only", "-x"} & {*arguments})
        if problem := unwritten(Path(output[-1]), started, samples):
            raise EftEvalError(problem)
        lacks_verdicts = lacks_verdicts or _missing(Path(output[-1]), started)  # of all ranks
    return 3 if lacks_verdicts else 0


def _lost() -> bool:
    from eft_eval.tasks.lost_verdicts import lost_verdicts

    return bool(lost_verdicts())


def _missing(output: Path, started: float) -> bool:
    """Whether a results file of this run reports responses without a verdict."""
    shares = {f"{measure.prefix}_missing" for measure in MEASURES.values()}
    return any(
        name.partition(",")[0] in shares and isinstance(value, float) and value > 0
        for entry in newest_results(output, started).get("results", {}).values()
        for name, value in entry.items()
    )


def _check_config(path: Path) -> None:
    """Check that lm-eval can read a settings file, of which it would say so in a traceback."""
    where = f"the settings file {path}"
    try:
        content = yaml.safe_load(read_text(path, where))
    except YAML_ERRORS as error:
        why = " ".join(str(error).split())
        raise ConfigError(f"cannot read {where}: it is not YAML: {why}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{where} holds {type(content).__name__}; expected NAME: VALUE lines")


def _check_early(arguments: list[str]) -> None:
    """Check recipe and judge before lm-eval, torch and transformers take seconds to import.

    Only what the command line says plainly is read here; the run itself checks everything again.
    """
    if _values(arguments, ("--model", "-M"))[-1:] != ["eft"] or {"-h", "--help"} & {*arguments}:
        return
    model_args = _values(arguments, ("--model_args", "-a"))
    if not any(value.lstrip().startswith("{") for value in model_args):
        name = canonical_name(parse_model_args(",".join(model_args)).recipe)
        say(f"eft-eval: {name}", sys.stderr)
    asked = _asked(_values(arguments, ("--tasks", "-t")))
    judged = hook.only_our_tasks and any(our_tasks()[name] for name in asked)
    if judged and not {"--predict_only", "-x"} & {*arguments}:
        settings = JudgeSettings.from_environment()
        say(f"eft-eval: judge {settings.model} at {judge_for(settings).place}", sys.stderr)


def our_tasks() -> dict[str, bool]:
    """Return the tasks and groups that ship with eft-eval, and whether each asks a judge model."""
    files = sorted(hook.task_folder().glob("**/*.yaml"))
    configs = {one.get("group") or one["task"]: one for one in map(_task_config, files)}
    return {name: _asks_a_judge(one, configs) for name, one in configs.items()}


def _asks_a_judge(config: Mapping[str, Any], configs: Mapping[str, Mapping[str, Any]]) -> bool:
    if "group" in config:
        return any(_asks_a_judge(configs[member], configs) for member in config["task"])
    pipelines = config.get("filter_list", ())
    return any(step["function"] == "eft_judge" for one in pipelines for step in one["filter"])


@cache
def _task_config(file: Path) -> Mapping[str, Any]:
    """Return a task file of ours over the one that it includes, as lm-eval merges them."""
    config: dict[str, Any] = yaml.load(file.read_text(encoding="utf-8"), Loader=_TaskLoader)
    if "include" not in config:
        return config
    return {**_task_config((file.parent / config["include"]).resolve()), **config}


class _TaskLoader(yaml.SafeLoader):
    """Takes what `!function` names as a word, and imports nothing."""


_TaskLoader.add_constructor("!function", lambda _, node: node.value)


def _values(arguments: list[str], options: tuple[str, ...]) -> list[str]:
    """Return the values given to an option, as argparse would read them."""
    values = []
    for position, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option not in options:
            continue
        if equals:
            values.append(value)
            continue
        for following in arguments[position + 1 :]:
            if following.startswith("-"):
                break
            values.append(following)
    return values


def asks_only_ours(tasks: list[str]) -> bool:
    """Whether all tasks ship with eft-eval, of names or lists with commas; False for none."""
    asked, ours = _asked(tasks), our_tasks()
    return bool(asked) and all(name in ours for name in asked)


def _asked(tasks: list[str]) -> list[str]:
    return [name for value in tasks for name in value.split(",") if name]
