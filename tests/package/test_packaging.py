"""What is shipped: every package and data file, and nothing beside them at the top level."""

from __future__ import annotations

import fnmatch
import importlib.metadata
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import fresh_environments
import pytest
from fresh_environments import ROOT, call, clean_environ
from setuptools import find_packages

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
LINKED = ("model_adapters", "prompts", "reports", "tasks")
"""Root folders that eft_eval/ has a relative link to."""
START_UP = {"eft_eval_autoload.pth", "eft_eval_autoload.start"}
DATA = {
    ".yaml", ".yml", ".jinja", ".json", ".md", ".safetensors", ".typed", ".html", ".css", ".js",
}  # fmt: skip


def files_of_packages() -> dict[str, list[str]]:
    """Return package -> names of its files, for the package's folder and the linked ones."""
    found: dict[str, list[str]] = {}
    for folder in (ROOT / "eft_eval", *(ROOT / name for name in LINKED)):
        for file in sorted(folder.rglob("*")):
            if file.suffix in {".py", *DATA} and "__pycache__" not in file.parts:
                inside = file.parent.relative_to(ROOT).parts
                package = ".".join(inside if inside[0] == "eft_eval" else ("eft_eval", *inside))
                found.setdefault(package, []).append(file.name)
    return found


def is_package_data(package: str, name: str) -> bool:
    """Whether a file is package data of its folder, or of a package further up."""
    parts = package.split(".")
    return any(
        fnmatch.fnmatch("/".join((*parts[depth:], name)), pattern)
        for depth in range(1, len(parts) + 1)
        for pattern in SETUPTOOLS["package-data"].get(".".join(parts[:depth]), [])
    )


def test_root_folders_are_linked_relatively() -> None:
    links = {
        path.name: path.readlink() for path in (ROOT / "eft_eval").iterdir() if path.is_symlink()
    }
    assert links == {name: Path("..", name) for name in LINKED}


def test_python_folders_are_packages() -> None:
    modules = {
        package
        for package, names in files_of_packages().items()
        if any(name.endswith(".py") for name in names)
    }
    assert sorted(modules) == sorted(find_packages(str(ROOT), include=["eft_eval*"]))


def test_every_data_file_is_package_data() -> None:
    forgotten = [
        f"{package}: {name}"
        for package, names in files_of_packages().items()
        for name in names
        if Path(name).suffix in DATA and not is_package_data(package, name)
    ]
    assert forgotten == []


def test_constraints_pin_every_requirement_to_the_version_that_is_tested() -> None:
    pins = {}
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            name, version = re.fullmatch(r"([\w.-]+)==([\w.]+)", line).groups()  # type: ignore[union-attr]
            pins[re.sub(r"[-_.]+", "-", name).lower()] = version
    project = PROJECT["project"]
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
        name = re.match(r"[\w.-]+", requirement)[0].lower()  # type: ignore[index]
        assert re.sub(r"[-_.]+", "-", name) in pins
    assert pins["torch"] == "2.13.0"


def test_tests_run_against_the_installed_package() -> None:
    import eft_eval
    import eft_eval.tasks

    installed = importlib.metadata.distribution("eft-eval")
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        assert Path(eft_eval.__file__) == ROOT / "eft_eval" / "__init__.py"
        assert Path(str(eft_eval.tasks.__file__)).resolve() == ROOT / "tasks" / "__init__.py"
    else:
        site_packages = Path(str(installed.locate_file("")))
        assert Path(eft_eval.__file__) == site_packages / "eft_eval" / "__init__.py"
        assert Path(str(eft_eval.tasks.__file__)).is_relative_to(site_packages / "eft_eval")
    assert str(ROOT) not in sys.path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fresh_environments.built_wheel(tmp_path_factory)


@pytest.mark.slow
def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"{wheel.name.partition('-py3')[0]}.dist-info"
        record = archive.read(f"{info}/RECORD").decode()
    expected = {
        f"{package.replace('.', '/')}/{name}"
        for package, files in files_of_packages().items()
        for name in files
    }
    assert {name for name in names if not name.startswith(info)} == expected | START_UP
    assert {line.split(",")[0] for line in record.splitlines()} == names
    assert f"{info}/licenses/LICENSE" in names


@pytest.mark.slow
def test_sdist_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    source = fresh_environments.copy_of_the_source(tmp_path / "source")
    call(sys.executable, "-m", "build", "-n", "-o", tmp_path / "dist", source, cwd=tmp_path)
    (second,) = (tmp_path / "dist").glob("*.whl")
    (sdist,) = (tmp_path / "dist").glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as direct, zipfile.ZipFile(second) as by_way_of_sdist:
        assert sorted(direct.namelist()) == sorted(by_way_of_sdist.namelist())
        for name in direct.namelist():
            assert direct.read(name) == by_way_of_sdist.read(name), name
    with tarfile.open(sdist) as archive:
        shipped = {name.partition("/")[2] for name in archive.getnames()}
    assert {"constraints.txt", "CHANGELOG.md", "CITATION.cff", "LICENSE", *START_UP} <= shipped
    assert not any(name.startswith(("tests/", "build/", ".git", "tasks/")) for name in shipped)


@pytest.mark.slow
def test_editable_install_starts_up_too(tmp_path: Path) -> None:
    source = fresh_environments.copy_of_the_source(tmp_path / "source")
    environment = fresh_environments.new_environment(tmp_path / "venv", outer=True)
    fresh_environments.install(environment, "--editable", source)
    names = sorted(
        file.name for file in environment.site_packages.iterdir() if file.suffix == ".pth"
    )
    assert {file.name for file in environment.site_packages.iterdir()} >= START_UP
    finder = next(name for name in names if name.startswith("__editable__"))
    assert names.index(finder) < names.index("eft_eval_autoload.pth")
    assert not (environment.site_packages / "eft_eval").exists()

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    program = (
        "import sys; started = 'eft_eval.hook' in sys.modules; import eft_eval.tasks.data;"
        "import eft_eval.prompts; print(started, eft_eval.tasks.data.__file__)"
    )
    printed = call(environment.python, "-c", program, cwd=elsewhere)
    assert printed.split() == ["True", str(source / "eft_eval" / "tasks" / "data.py")]


@pytest.mark.slow
def test_a_clone_without_links_is_one_line(tmp_path: Path) -> None:
    source = fresh_environments.copy_of_the_source(tmp_path / "source")
    link = source / "eft_eval" / "tasks"
    link.unlink()
    link.write_text("../tasks", encoding="utf-8")  # what git writes without core.symlinks
    done = subprocess.run(
        [sys.executable, "-m", "build", "-wn", "-o", str(tmp_path / "dist"), str(source)],
        cwd=tmp_path,
        env=clean_environ(),
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert (
        "eft_eval/tasks is a text file where the repository has a link" in done.stderr + done.stdout
    )


@pytest.mark.slow
def test_mypy_as_ci_runs_it_finds_a_planted_error(tmp_path: Path) -> None:
    command = 'check "$bin/mypy" -p eft_eval\n'
    assert command in (ROOT / ".ci" / "run").read_text("utf-8")
    source = fresh_environments.copy_of_the_source(tmp_path / "source")
    module = source / "tasks" / "sources.py"
    planted = len(module.read_text("utf-8").splitlines()) + 1
    with module.open("a", encoding="utf-8") as stream:
        stream.write("planted: int = 'no number'\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "-p", "eft_eval"],
        cwd=source,
        env=clean_environ(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"eft_eval/tasks/sources.py:{planted}: error" in done.stdout
    assert "[assignment]" in done.stdout
