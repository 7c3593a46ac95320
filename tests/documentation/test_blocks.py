"""Every code block of README and docs is run, read or compared; what cannot run here says why."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from documented import NOTES, PAGES, STEPS, Block, blocks_of
from typer.main import get_command

from eft_eval.cli.app import app
from eft_eval.comparing import read_settings
from eft_eval.judging.judges.registry import GROUP
from eft_eval.judging.judges.scripted import load_script
from eft_eval.recipe import parse_model_args, parse_recipe
from eft_eval.study.design import find_design
from eft_eval.study.family import find_family
from eft_eval.study.plan import plan_study
from eft_eval.training.settings import find_training

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BLOCKS = {page.name: blocks_of(page) for page in PAGES}
LANGUAGES = {"sh", "python", "yaml", "toml", "json", "text"}
SLOW = re.compile(r"\blm_eval\b|\beft-eval (run|demo|trace)\b")
"""Commands that load models: many seconds each."""


def prices(path: Path) -> object:
    """Read a price table as ``EFT_JUDGE_PRICES`` is read."""
    from eft_eval.judging.cost.prices import price_of

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EFT_JUDGE_PRICES", str(path))
        return price_of("NAME")


def entry_points(path: Path) -> object:
    """Return the entry points of judges that a package's settings name."""
    return tomllib.loads(path.read_text("utf-8"))["project"]["entry-points"][GROUP]


READERS: Mapping[str, Callable[[Path], object]] = {
    "eft-eval.toml": read_settings,
    "judge.yaml": load_script,
    "pairs.yaml": load_script,
    "strict.yaml": load_script,
    "mine.yaml": lambda path: parse_recipe({"model": str(path)}),
    "my-family.yaml": lambda path: find_family(str(path)),
    "my-pair.yaml": lambda path: find_training(str(path), {}),
    "small-pair.yaml": lambda path: find_training(str(path), {}),
    "my-study.yaml": lambda path: plan_study(find_design(str(path), {})),
    "prices.json": prices,
    "pyproject.toml": entry_points,
}


def of(*languages: str) -> list[Any]:
    """Return the blocks of these languages as parameters."""
    return [
        pytest.param(block, id=block.where)
        for blocks in BLOCKS.values()
        for block in blocks
        if block.language in languages
    ]


def test_every_block_says_what_it_is() -> None:
    assert sum(map(len, BLOCKS.values())) > 20
    for blocks in BLOCKS.values():
        before = None
        for block in blocks:
            assert block.language in LANGUAGES, f"{block.where}: name its language, and fence it"
            assert set(block.notes) <= set(NOTES), f"{block.where}: {dict(block.notes)}"
            assert all(block.notes.values()), f"{block.where}: a note without its reason"
            assert block.notes.get("first", "judged_run") in STEPS, block.where
            if block.language == "text" and "not compared" not in block.notes:
                assert before is not None, block.where
                assert before.language == "sh", f"{block.where}: whose output is it?"
            before = block


# --- commands exist


@pytest.mark.parametrize("block", of("sh"))
def test_commands_and_options_exist(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for one in BLOCKS[block.page]:
        if one.name:
            (tmp_path / one.name).write_text(one.text, "utf-8")
    for words in commands(block.text):
        if words[0] == "eft-eval" and words[1] != "run":
            check_ours(words[1:], block.where)
        elif words[0] in ("lm_eval", "eft-eval"):
            check_harness(words[2 if words[0] == "eft-eval" else 1 :], block.where)


def test_what_does_not_exist_is_seen() -> None:
    for wrong in ("eft-eval jugde out", "eft-eval judge out --dry", "eft-eval agree plan --wide 1"):
        with pytest.raises(AssertionError, match="here"):
            check_ours(wrong.split()[1:], "here")
    with pytest.raises(AssertionError, match="here"):
        check_harness(["--model", "eft", "--task", "demo", "--outputs", "x"], "here")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_in_the_text_exist(page: Path) -> None:
    """Code within sentences names options of ours, of lm_eval, or of a tool that it names."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
    for code in re.findall(r"`([^`\n]+)`", text):
        if not OTHERS.search(code):
            named = set(re.findall(r"(?<![\w-])--[a-z][a-z_-]*", code))
            assert named <= options_of_all() | harness_options(), f"{page.name}: `{code}`"


OTHERS = re.compile(r"\b(python|pip|pytest|every_eval_ever|git)\b")


@functools.cache
def options_of_all() -> set[str]:
    """Return the options of all commands of eft-eval."""
    todo: list[Any] = [get_command(app)]
    found = {"--help"}
    while todo:
        command = todo.pop()
        todo += getattr(command, "commands", {}).values()
        found |= {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    return found


@functools.cache
def harness_options() -> set[str]:
    """Return the options of ``lm_eval run``."""
    from lm_eval._cli.harness import HarnessCLI

    (commands,) = (
        action.choices
        for action in HarnessCLI()._parser._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return {name for action in commands["run"]._actions for name in action.option_strings}


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of a block, without comments and redirections."""
    for line in text.replace("\\\n", " ").splitlines():
        words: list[str] = []
        for word in shlex.split(line, comments=True):
            if word in ("&&", ">", ">>", "|"):
                break
            words.append(word)
        if words:
            yield words


def check_ours(words: list[str], where: str) -> None:
    """Fail where a command of eft-eval or one of its options does not exist."""
    command: Any = get_command(app)
    while words and hasattr(command, "commands"):
        if words[0] in command.commands:
            command = command.commands[words.pop(0)]
        elif "runs" in command.commands:  # compare's own
            command = command.commands["runs"]
        else:
            assert command.invoke_without_command, f"{where}: no command {words[0]}"
            break
    if command.context_settings.get("ignore_unknown_options"):  # the rest is another command's
        return
    known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    named = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert named <= known | {"--help"}, f"{where}: no options {named - known}"


def check_harness(words: list[str], where: str) -> None:
    """Fail where lm_eval has no such option, or a composite cannot be read."""
    known = harness_options()
    named = {word for word in words if word.startswith("--")}
    assert named <= known, f"{where}: lm_eval has no {named - known}"
    if "--model_args" in words and words[words.index("--model") + 1] == "eft":
        parse_model_args(words[words.index("--model_args") + 1])


# --- data is read


@pytest.mark.parametrize("block", of("yaml", "toml", "json"))
def test_data_is_read_by_its_reader(block: Block, tmp_path: Path) -> None:
    assert block.name in READERS, f"{block.where}: name the file, and its reader above"
    file = tmp_path / block.name
    file.write_text(block.text, "utf-8")
    assert READERS[block.name](file)


# --- Python is run


@pytest.mark.parametrize("block", of("python"))
def test_python_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with contextlib.ExitStack() as closing:
        if step := block.notes.get("first"):
            STEPS[step](tmp_path, closing)
        exec(compile(block.text, block.where, "exec"), {})  # the page's own code


# --- commands are run


def run_by_page() -> list[Any]:
    """Return the pages with commands that can run here; those that load models are slow."""
    found = []
    for page, blocks in BLOCKS.items():
        run = [one for one in blocks if one.language == "sh" and "not run" not in one.notes]
        if run:
            slow = any(SLOW.search(one.text) for one in run)
            found.append(pytest.param(page, id=page, marks=[pytest.mark.slow] if slow else []))
    return found


@pytest.mark.parametrize("page", run_by_page())
def test_commands_run(page: str, tmp_path: Path) -> None:
    """Run a page's shell blocks in their order in one folder, as a reader would."""
    settings = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "EFT_VERDICT_STORE": str(tmp_path / "verdicts.sqlite3"),
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "COLUMNS": "200",
    }
    printed = None
    with contextlib.ExitStack() as closing:
        for block in BLOCKS[page]:
            if block.name:
                (tmp_path / block.name).write_text(block.text, "utf-8")
            if block.language == "sh":
                printed = None
                if "not run" in block.notes:
                    continue
                if step := block.notes.get("first"):
                    settings |= STEPS[step](tmp_path, closing)
                printed = shell(block, tmp_path, settings)
            elif block.language == "text" and printed and "not compared" not in block.notes:
                compare(block, printed)


def shell(block: Block, folder: Path, settings: Mapping[str, str]) -> str:
    """Run a block; return what it printed."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=folder,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    expected = int(block.notes.get("exit code", "0"))
    assert done.returncode == expected, f"{block.where}: {done.stderr[-2000:]}"
    return done.stdout


NUMBER = re.compile(r"\d+(?:\.\d+)?")


def compare(block: Block, printed: str) -> None:
    """Fail unless the block's lines are among those printed, in their order.

    Spaces may differ, and numbers by as much as the block's note allows.
    """
    within = float(block.notes.get("figures within", "0").split(":")[0])
    rest = [" ".join(line.split()) for line in printed.splitlines()]
    for line in filter(None, (" ".join(line.split()) for line in block.text.splitlines())):
        while rest and not alike(line, rest[0], within):
            rest.pop(0)
        assert rest, f"{block.where}: not printed: {line}\n{printed}"
        rest.pop(0)


def alike(shown: str, printed: str, within: float) -> bool:
    """Return whether two lines are the same but for numbers within a distance; … is anything."""
    masked = re.escape(NUMBER.sub("\0", shown)).replace("…", ".*")
    found = re.fullmatch(masked.replace(re.escape("\0"), f"({NUMBER.pattern})"), printed)
    if found is None:
        return False
    pairs = zip(NUMBER.findall(shown), found.groups(), strict=True)
    return all(abs(float(one) - float(other)) <= within for one, other in pairs)


def test_outputs_are_compared() -> None:
    shown = Block("page", 1, "text", "", "| a |  1.25 |\n", {})
    compare(shown, "head\n| a | 1.25 |\n")
    with pytest.raises(AssertionError, match="not printed"):
        compare(shown, "| a | 1.26 |")
    near = shown._replace(notes={"figures within": "0.02: rounding"})
    compare(near, "| a | 1.26 |")
    for wrong in ("| b | 1.25 |", "| a | 1.25 | 2 |"):
        with pytest.raises(AssertionError, match="not printed"):
            compare(near, wrong)
    compare(shown._replace(text="| a | 1.25 … |\n"), "| a | 1.25 of 3 |")


def test_readers_can_fail(tmp_path: Path) -> None:
    for name, text in (("eft-eval.toml", "[gate]\nalfa = 1\n"), ("mine.yaml", "bases: x\n")):
        file = tmp_path / name
        file.write_text(text, "utf-8")
        with pytest.raises(Exception, match=r"alfa|bases"):
            READERS[name](file)
