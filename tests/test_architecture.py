"""The house (docs/architecture.md): rooms import downwards, and nothing imports in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"characters", "errors", "secrets", "version"}),
    frozenset({"files", "records", "streams", "templates", "yaml_text"}),
    frozenset({"statistics", "recipe", "verdicts"}),
    frozenset({"engine", "runs"}),
    frozenset({"composite"}),
    frozenset({"decoding", "judging", "comparing", "labels", "vllm"}),
    frozenset({"api", "agreement", "reporting", "exporting", "plans"}),
    frozenset({"demo", "hook", "study"}),
    frozenset({"reports", "tasks", "prompts", "model_adapters", "browser", "training"}),
    frozenset({"cli"}),
    frozenset({"", "__main__"}),  # the package's own face hands names on
)
"""Rooms from the ground up; one imports from its own floor and those below."""

QUIET = ("torch", "transformers", "lm_eval", "sqlite3", "asyncio", "openai", "jinja2")
READERS = ("comparing", "agreement", "reporting", "exporting", "reports.document", "browser.server")


def modules_of(root: Path) -> dict[str, Path]:
    """Return every shipped module; the linked root folders stand under eft_eval."""
    found = {}
    for file in (root / "eft_eval").glob("**/*.py"):
        found[_module(file.relative_to(root))] = file
    for link in (root / "eft_eval").iterdir():
        if link.is_symlink():
            for file in link.resolve().glob("**/*.py"):
                found[_module("eft_eval" / file.relative_to(root))] = file
    return found


def _module(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(text: str, known: Mapping[str, object]) -> Iterator[str]:
    """Yield the modules of ours that a text imports, inside functions and for types too.

    A name that a package's face hands on counts as an import of the package.
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports are not used"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in known:
                    yield whole
                elif node.module in known:
                    yield str(node.module)


def graph_of(root: Path) -> dict[str, set[str]]:
    """Return module -> the modules of ours that it imports."""
    known = modules_of(root)
    return {
        name: {*imports_of(file.read_text("utf-8"), known)} - {name} for name, file in known.items()
    }


def floor_of(module: str) -> int:
    """Return a module's floor; 0 is the ground."""
    room = [*module.split("."), ""][1]
    (floor,) = (number for number, rooms in enumerate(FLOORS) if room in rooms)
    return floor


def upward(graph: Mapping[str, set[str]]) -> list[str]:
    """Return the imports that run from a lower floor to a higher one."""
    return [
        f"{one} -> {other}"
        for one, others in sorted(graph.items())
        for other in sorted(others)
        if floor_of(other) > floor_of(one)
    ]


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the groups of nodes that reach each other."""
    reached: dict[str, set[str]] = {}
    for node in graph:
        seen, todo = set(), [node]
        while todo:
            for other in graph.get(todo.pop(), ()):
                if other not in seen:
                    seen.add(other)
                    todo.append(other)
        reached[node] = seen
    groups = {
        frozenset(other for other in reached[node] if node in reached[other])
        for node in graph
        if node in reached[node]
    }
    return sorted(sorted(group) for group in groups)


def of_rooms(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Return the same graph between rooms."""
    rooms: dict[str, set[str]] = {}
    for one, others in graph.items():
        room = one.split(".")[1] if "." in one else ""
        rooms.setdefault(room, set()).update(
            {other.split(".")[1] for other in others if "." in other} - {room}
        )
    return rooms


def test_rooms_import_downwards() -> None:
    assert upward(graph_of(ROOT)) == []


def test_nothing_imports_in_a_circle() -> None:
    graph = graph_of(ROOT)
    # a package's face imports what it hands on, and its modules lie below it by their names
    files = {
        one: {other for other in others if not one.startswith(f"{other}.")}
        for one, others in graph.items()
    }
    assert circles(files) == []
    assert circles(of_rooms(graph)) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("eft_eval.statistics.kappa", "from eft_eval.runs.reading import read_run"),
        ("eft_eval.runs.reading", "def f():\n    from eft_eval.judging import judge_responses"),
        ("eft_eval.recipe.model", "if TYPE_CHECKING:\n    from eft_eval.demo.family import MODELS"),
        ("eft_eval.engine.cache", "import eft_eval.composite.model"),
    ],
)
def test_a_planted_upward_import_is_seen(module: str, line: str) -> None:
    graph = graph_of(ROOT)
    graph[module] |= {*imports_of(line, modules_of(ROOT))}
    (found,) = upward(graph)
    assert found.startswith(f"{module} -> ")


def test_a_planted_circle_is_seen() -> None:
    graph = graph_of(ROOT)
    graph["eft_eval.statistics.interval"] |= {"eft_eval.statistics.kappa"}
    assert any("eft_eval.statistics.kappa" in circle for circle in circles(graph))


@pytest.mark.parametrize("room", READERS)
def test_what_reads_files_loads_nothing_heavy(room: str) -> None:
    code = f"import eft_eval.{room}, sys; print(sorted({{*{QUIET}}} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def outside_engine(text: str) -> list[str]:
    """Return the names that a text takes from transformers, how it logs apart."""
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    found = [n for n in nodes if f"{n.module}.".startswith("transformers.")]
    whole = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Import)]
    names = [alias.name for node in found for alias in node.names if alias.name != "logging"]
    return names + [a.name for n in whole for a in n.names if a.name == "transformers"]


def test_only_the_engine_runs_transformers_models() -> None:
    """The demo trains; the adapter names the class that HFLM asks for; trl takes callbacks."""
    found = {
        name: names
        for name, file in modules_of(ROOT).items()
        if name.split(".")[1:2] not in (["engine"], ["demo"])
        and (names := outside_engine(file.read_text("utf-8")))
    }
    assert found.pop("eft_eval.model_adapters.eft") == ["AutoModelForCausalLM"]
    assert found.pop("eft_eval.training.tuning") == ["PrinterCallback", "TrainerCallback"]
    assert found == {}
    planted = "import transformers\ndef f():\n    from transformers import GenerationConfig"
    assert outside_engine(planted) == ["GenerationConfig", "transformers"]
