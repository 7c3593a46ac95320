"""What the start-up costs, and that its failures are none of lm-eval's."""

from __future__ import annotations

import importlib
import importlib.metadata
import math
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fresh_environments
import pytest
from fresh_environments import python

import eft_eval
from eft_eval import hook
from eft_eval.recipe import parse_recipe


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
