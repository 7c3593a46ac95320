"""Writing whole or not at all; and that nothing else in the product deletes or replaces files."""

from __future__ import annotations

import ast
import os
import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner
from written_runs import write_run

from eft_eval import files
from eft_eval.cli import main
from eft_eval.cli.app import app
from eft_eval.errors import ConfigError
from eft_eval.recipe import parse_recipe

ROOT = Path(__file__).parent.parent
NOTES = files.text_kind("note", "note:")
DANGEROUS = {
    "rmtree", "unlink", "rmdir", "removedirs", "remove_tree", "write_text", "write_bytes", "rename",
    "replace", "truncate", "move", "copyfile", "copy", "copytree", "mkdtemp",
}  # fmt: skip
# who writes into a new folder of its own, or takes back what it has just written
KNOWN = {
    "eft_eval/cli/app.py": {"open"},
    "eft_eval/files.py": {"rmtree", "rmdir", "rename", "replace", "mkdtemp", "open"},
    "eft_eval/agreement/protocol.py": {"unlink"},
    "eft_eval/decoding/finished.py": {"rmdir", "write_bytes", "replace", "unlink", "open"},
    "eft_eval/demo/building.py": {"unlink", "open"},
    "eft_eval/demo/study.py": {"write_text"},
    "eft_eval/labels/label_studio.py": {"write_text"},
    "eft_eval/labels/potato.py": {"write_text", "open"},
    "eft_eval/labels/project.py": {"write_text"},
    "eft_eval/labels/saving.py": {"unlink"},
    "eft_eval/labels/tables.py": {"open"},
    "eft_eval/study/folder.py": {"rmtree", "open"},  # a finished run's responses, which it resumed
    "eft_eval/study/running.py": {"open"},
    "eft_eval/training/folder.py": {"rmtree", "open"},  # checkpoints in a folder of this training
    "eft_eval/training/tuning.py": {"unlink"},
}


def writes_in(tree: ast.AST) -> set[str]:
    """Return the names of the calls in a module that write, replace or delete files."""
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = (
            node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        )
        texts = [a.value for a in node.args if isinstance(a, ast.Constant)]
        if name == "open" and any(isinstance(t, str) and re.match("[wax+]", t) for t in texts):
            found.add(name)
        of = ast.unparse(node.func).rpartition(".")[0]
        owners = {"replace": "os", "copy": "shutil", "remove": "os", "move": "shutil"}
        if name in DANGEROUS and of == owners.get(name, of):
            found.add(name)
    return found


def test_nothing_else_writes_replaces_or_deletes() -> None:
    shipped = [path for room in ("eft_eval", "model_adapters", "tasks", "prompts", "reports")
               for path in (ROOT / room).rglob("*.py")]  # fmt: skip
    assert len(shipped) > 200
    found = {
        str(path.relative_to(ROOT)): writes_in(ast.parse(path.read_text("utf-8")))
        for path in shipped
        if not any(parent.is_symlink() for parent in path.parents)
    }
    assert {name: calls for name, calls in found.items() if calls - KNOWN.get(name, set())} == {}
    assert writes_in(ast.parse("import shutil; shutil.rmtree(x); p.open('w')")) == {
        "rmtree",
        "open",
    }


def test_a_failing_writer_leaves_what_was(tmp_path: Path) -> None:
    note = tmp_path / "note"
    files.write_output(note, ["note: one"], NOTES)

    def lines():  # type: ignore[no-untyped-def]
        yield "note: two"
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        files.write_output(note, lines(), NOTES)
    assert note.read_text() == "note: one"
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_names_that_no_file_can_have_are_one_line(tmp_path: Path) -> None:
    for check in (lambda path: files.check_output(path, NOTES), files.check_new_folder):
        with pytest.raises(ConfigError):
            check(tmp_path / ("x" * 300))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ConfigError):
        files.write_output(tmp_path / "loop", ["note:"], NOTES)
    (tmp_path / "file").write_text("note:")
    with pytest.raises(ConfigError, match="no folder"):
        files.check_output(tmp_path / "file" / "x", NOTES)
    with pytest.raises(ConfigError):
        files.check_new_folder(tmp_path / "file" / "x" / "y")


def test_a_folder_is_replaced_by_the_same_files_only(tmp_path: Path) -> None:
    def put(text: str, *names: str) -> None:
        with files.replaced_folder(tmp_path / "models") as part:
            for name in names:
                (part / name).parent.mkdir(exist_ok=True)
                (part / name).write_text(text)

    put("one", "a/weights", "b")
    put("two", "a/weights", "b", "c")
    assert (tmp_path / "models" / "a" / "weights").read_text() == "two"
    (tmp_path / "models" / "a" / "thesis.tex").symlink_to("elsewhere")
    with pytest.raises(ConfigError, match="which is not ours"):
        put("three", "a/weights", "b", "c")
    assert (tmp_path / "models" / "a" / "weights").read_text() == "two"
    assert os.listdir(tmp_path) == ["models"]


def test_a_folder_is_new_or_empty(tmp_path: Path) -> None:
    with files.new_folder(tmp_path / "a" / "b") as part:
        (part / "x").write_text("x")
    assert (tmp_path / "a" / "b" / "x").read_text() == "x"
    with pytest.raises(ConfigError, match="not empty"), files.new_folder(tmp_path / "a"):
        pass
    with pytest.raises(RuntimeError), files.new_folder(tmp_path / "c"):
        raise RuntimeError
    assert os.listdir(tmp_path) == ["a"]


def test_what_has_no_end_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device or a pipe in a file's place is one line in every command, at once."""
    monkeypatch.chdir(tmp_path)
    write_run(Path("run"), {"t": {"acc": [1.0, 0.0] * 10}})
    os.mkfifo("pipe")
    for name in ("/dev/zero", "pipe"):
        for line in (
            "compare X run",
            "compare run run --config X",
            "report X --out r.html",
            "report run --format md --trace X",
            "report run --format md --agreement X",
            "bless X --out b.json",
            "export X --format csv",
            "labels export X --out l",
            "agree --labels x.csv --run X",
            "correct X --labels x.csv",
            "judge X",
            "judge run --prompt X",
            "judge run --judge scripted:X",
            "verdicts list --store X",
            "verdicts import X --store v.sqlite3",
            "recipes X",
            "trace hello --recipe X",
            "agree --labels X --run run",
            "correct run --labels X",
            "gold sample run --labels X --out g",
            "gold import X --key k.json --by us",
            "labels import X --out l.csv",
            "verdicts reparse --store X",
            "verdicts prune --judge j --store X",
            "run --config X --tasks demo",
        ):
            done = CliRunner().invoke(app, line.replace("X", name).split())
            assert isinstance(done.exception, ConfigError), (line, name, done.exception)
            assert "\n" not in str(done.exception)


@pytest.mark.skipif(not Path("/proc/kmsg").exists(), reason="no files of the kernel's own")
def test_a_file_of_the_kernels_may_wait_and_is_not_read(tmp_path: Path) -> None:
    """They say that they are regular files of 0 bytes, and some end only when the machine does."""
    link = tmp_path / "prompt.jinja"
    link.symlink_to("/proc/kmsg")
    for path in (link, Path("/proc/kmsg"), Path("/proc/self/environ")):
        with pytest.raises(ConfigError, match="it is the kernel's, and no file"):
            files.check_readable(path, pipes=True)
        with pytest.raises(ConfigError, match="cannot read the prompt: it is the kernel's"):
            files.read_text(path, "the prompt")
    for prompt in (f"@{link}", "/proc/kmsg.jinja/../kmsg.txt", "@/proc/kmsg"):
        with pytest.raises(ConfigError):
            parse_recipe({"model": "demo", "base.prompt": prompt})


ODD = {
    "empty": b"",
    "utf-16": "a: 1".encode("utf-16"),
    "binary": bytes(range(256)),
    "nul": b"a\0b",
    "deep": b"[" * 100_000,
    "surrogate": b'{"a": "\xed\xa0\x80"}',
    "digits": b'{"a": ' + b"9" * 5000 + b"}",
    "list": b"[1, 2]",
    "null": b"null",
    "number": b"12",
}


@pytest.mark.parametrize("name", [*ODD, "folder", "loop", "dangling", "/dev/null"])
def test_settings_of_lm_eval_that_are_none_are_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if name in ODD:
        Path(name).write_bytes(ODD[name])
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    Path("dangling").symlink_to("nowhere")
    for option in (["--config", name], [f"-C={name}"]):
        done = CliRunner().invoke(app, ["run", *option])
        assert isinstance(done.exception, ConfigError), done.exception
        assert name in str(done.exception)
        assert "\n" not in str(done.exception)


@pytest.mark.parametrize("content", ["null", "12", "[1, 2]", '"x"', "", "[" * 100_000])
def test_a_configuration_that_is_no_object_is_one_line(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model").mkdir()
    Path("config.json").write_text(content)
    Path("model/config.json").write_text(content)
    for given in ("config.json", "./model"):
        done = CliRunner().invoke(app, ["check-model", given])
        assert isinstance(done.exception, ConfigError), done.exception
        assert "\n" not in str(done.exception)


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="no pipes of a shell")
def test_a_shells_pipe_is_read(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(write)
    try:
        files.check_readable(Path(f"/dev/fd/{read}"), pipes=True)
        with pytest.raises(ConfigError):
            files.check_readable(Path(f"/dev/fd/{read}"))
    finally:
        os.close(read)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError):
        files.check_readable(tmp_path / "pipe", pipes=True)


def test_deep_json_and_too_much_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(Path("run"), {"t": {"acc": [1.0, 0.0] * 10}})
    Path("deep.json").write_text("[" * 100_000 + "]" * 100_000)
    Path("deep.toml").write_text("a = " + "[" * 100_000 + "]" * 100_000)
    for line in ("report run --format md --trace deep.json", "compare run run --config deep.toml"):
        monkeypatch.setattr(sys, "argv", ["eft-eval", *line.split()])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert len(capsys.readouterr().err.splitlines()) == 1

    def too_much(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("eft_eval.runs.reading.read_run", too_much)
    monkeypatch.setattr(sys, "argv", ["eft-eval", "compare", "run", "run"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, capsys.readouterr().err) == (2, "eft-eval: error: out of memory\n")
