"""Fresh environments for tests: the project as a wheel, in a virtual environment of its own.

The environment sees the packages that the tests run with through a path line, which runs none of
*their* start-up files: what starts up there is what our wheel brought.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[1]
OUTER = [path for path in sys.path if path.endswith("site-packages")]


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    folder: Path

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    @property
    def site_packages(self) -> Path:
        return next((self.folder / "lib").glob("python*/site-packages"))


def clean_environ(**settings: str) -> dict[str, str]:
    """Return os.environ without a judge, data, recipes, paths and threads, plus ``settings``."""
    foreign = ("EFT_", "OMP_", "OPENAI_", "PYTHON", "PIP_NO", "PIP_REQUIRE", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, **settings}


def call(*command: str | Path, cwd: Path, **settings: str) -> str:
    """Run a command that must succeed and return its stdout."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean_environ(**settings),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.fail(f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def copy_of_the_source(target: Path) -> Path:
    """Copy the files that git knows, or would add, to ``target``: no build leftovers."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip(f"needs a git checkout: {listed.stderr.strip()}")
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name, follow_symlinks=False)
    return target


def built_wheel(factory: pytest.TempPathFactory) -> Path:
    """Return the project's wheel, built once per session from a copy of the source."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # by all workers
    folder = shared / "built_wheel"
    with FileLock(shared / "built_wheel.lock"):
        if not (folder / "dist").exists():
            source = copy_of_the_source(folder / "source")
            call(sys.executable, "-m", "build", "-wn", "-o", folder / "dist", source, cwd=folder)
    return next((folder / "dist").glob("*.whl"))


def new_environment(folder: Path, *, outer: bool) -> Environment:
    """Make an empty environment; ``outer`` shows it the packages that these tests run with."""
    call(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    environment = Environment(folder)
    if outer:
        (environment.site_packages / "zz_outer.pth").write_text("\n".join(OUTER) + "\n")
    return environment


def install(environment: Environment, *what: str | Path) -> None:
    """pip-install something that is at hand, without its dependencies."""
    # the outer environment may hold this project too, and pip would take that for installed
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed")
    pip = (sys.executable, "-m", "pip", "--python", environment.python)
    call(*pip, "install", "--quiet", *options, *what, cwd=environment.folder)


def with_wheel(factory: pytest.TempPathFactory, name: str, *, outer: bool = True) -> Environment:
    """Make an environment with the built wheel in it."""
    environment = new_environment(factory.mktemp(name) / "venv", outer=outer)
    install(environment, built_wheel(factory))
    return environment


def python(program: str, cwd: Path, **settings: str) -> Any:
    """Run a program in an interpreter of its own, in ``cwd``; return the JSON that it prints."""
    return json.loads(call(sys.executable, "-c", program, cwd=cwd, **settings))
