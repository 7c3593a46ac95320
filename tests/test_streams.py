"""What a terminal or a CI log gets, whatever files, names and texts hold: nothing obeyed."""
# ruff: noqa: E501  # commands read best in one line

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import exported_runs
import judged_runs
import pytest
import written_runs

from eft_eval.cli import main
from eft_eval.errors import ConfigError
from eft_eval.labels.responses import read_items
from eft_eval.streams import logger, say_error
from eft_eval.verdicts.store import VerdictStore

EVIL = "x\x1b[31m\x1b]0;t\x07\n::error::boom\r##[error]y \u202eabc\u202c"
ACCS = {"t": {"acc": [1.0, 0.0] * 30}}
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]|^\\s*::[a-z]|##\\[", re.MULTILINE)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["eft-eval", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    return run


COMMANDS = [
    *("compare {e}run {e}run", "compare {e}run {e}none", "compare {e}run {e}run --format markdown"),
    *("compare {e}run {e}run --format github", "compare {e}run {e}run --format junit"),
    *("compare {e}run {e}run --format json", "compare {e}run {e}run --config {e}.toml"),
    *("report {e}run --format md", "report {e}run --out {e}.html", "report {e}run --out {e}run"),
    *("bless {e}run --out {e}.json", "bless {e}none --out {e}1.json"),
    *("export {e}composite --format csv --out {e}.csv", "export {e}none --format csv"),
    "export {e}composite --format csv --out {e}folder",
    *("export {e}composite --format csv --samples", "export {e}composite --format model-card --repo me/x"),
    "export {e}composite --format eee --organization {e} --samples --out {e}eee",
    "export {e}composite --format model-card --repo me/x --out {e}card",
    *("labels export {e}judged --out {e}l --format csv", "labels export {e}none --out {e}l2"),
    *("labels import {e}labels.csv --out {e}back.csv", "labels import {e}none --out {e}b.csv"),
    "labels import {e}labels.csv --out {e}back.csv --key {e}judged",
    "agree --labels {e}labels.csv --run {e}judged --json {e}agree.json",
    *("agree --labels {e}none --run {e}judged", "agree --labels {e}labels.csv --run {e}judged --task {e}"),
    "correct {e}judged --labels {e}labels.csv --json {e}correct.json",
    "gold sample {e}judged --labels {e}labels.csv --out {e}gold --key {e}key.json --format csv",
    *("verdicts list --store {e}.sqlite3", "verdicts list --store {e}none"),
    *("verdicts list --store {e}.sqlite3 --judge {e}", "verdicts reparse --store {e}.sqlite3"),
    *("verdicts export {e}v.jsonl --store {e}.sqlite3", "verdicts import {e}v.jsonl --store {e}2.sqlite3"),
    *("verdicts import {e}labels.csv --store {e}.sqlite3", "verdicts prune --judge {e} --store {e}.sqlite3"),
    "verdicts prune --judge {e} --yes --store {e}.sqlite3",
    *("judge {e}judged --prompt {e}none.jinja", "judge {e}judged --judge scripted:{e}none.yaml"),
    *("judge {e}judged --judge scripted:{e}.yaml", "judge {e}judged --judge hf:{e}none"),
    *("trace hello --recipe {e}.yaml", "trace hello --recipe {e}none.yaml", "recipes {e}"),
    *("demo --family {e}none", "demo train --quick --out {e}run"),
]  # fmt: skip


def test_nothing_that_is_obeyed_comes_out(
    command: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "10000")
    texts = [f"{EVIL}{number}" for number in range(60)]
    written_runs.write_run(Path(f"{EVIL}run"), ACCS, model=EVIL, prompts=texts, responses=texts)
    exported_runs.write_composite_run(Path(f"{EVIL}composite"))
    run = Path(f"{EVIL}judged")
    verdicts = judged_runs.counted([1.0, 0.0, 2.0, 0.0, 1.0, 0.0, 1.0, 3.0])
    verdicts = [replace(one, judge_model=EVIL, reason=EVIL, raw=EVIL) for one in verdicts]
    judged_runs.write_judged_run(run, verdicts, response=lambda number: f"{EVIL}{number}")
    people = [1.0, 1.0, 2.0, 0.0, 0.0, 0.0, 1.0, 2.0]
    file = Path(f"{EVIL}labels.csv")
    judged_runs.write_labels(file, read_items(run), {EVIL: people, f"{EVIL}2": people})
    VerdictStore(Path(f"{EVIL}.sqlite3")).put(verdicts[0])
    Path(f"{EVIL}.yaml").write_text(json.dumps({EVIL: {EVIL: EVIL}}))
    Path(f"{EVIL}.toml").write_text(json.dumps(EVIL) + " = 1")
    Path(f"{EVIL}folder").mkdir()
    obeyed, codes = {}, {}
    for line in COMMANDS:
        codes[line], said = command(*(word.replace("{e}", EVIL) for word in line.split()))
        assert said, line
        assert "Traceback" not in said, line
        if "--format github" in line:
            said = re.sub(r"^::notice title=[^:]*::", "", said, flags=re.M)
        if found := OBEYED.search(said):
            obeyed[line] = said[max(0, found.start() - 80) : found.end() + 80]
    print(codes)
    assert obeyed == {}
    expected = {line: 2 for line in COMMANDS if "none" in line or "folder" in line}
    assert {line: codes[line] for line in expected} == expected


def test_errors_and_log_lines_are_one_line_without_credentials(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    evil = f"{EVIL} https://me:s3cr3t@host/?sig=s3cr3t Bearer s3cr3ts3cr3t"
    say_error(ConfigError(evil))
    logger("eft_eval.test").warning("one %s", evil)
    with caplog.at_level(logging.WARNING):
        logger("eft_eval.test").warning("two %s", evil)
    for said in (capsys.readouterr().err.splitlines()[0], caplog.messages[-1]):
        assert OBEYED.search(said) is None
        assert "s3cr3t" not in said
        assert "boom" in said


def test_every_logger_of_ours_is_such_a_one() -> None:
    root = Path(__file__).parents[1]
    plain = re.compile(
        r"getLogger\([\"'](eft_eval|lm_eval\.eft)|(?<![\w.])print\((?!document_markdown)"
    )
    found = [
        f"{file.relative_to(root)}: {line.strip()}"
        for room in ("eft_eval", "model_adapters", "tasks", "reports")
        for file in sorted((root / room).rglob("*.py"))
        for line in file.read_text("utf-8").splitlines()
        if plain.search(line)
    ]
    assert found == [
        "eft_eval/cli/app.py: print(__version__)",
        'eft_eval/cli/app.py: print(named_recipe_text(name), end="")',
        "eft_eval/hook.py: print(*values, **options)",
        "eft_eval/streams.py: print(printable(one_line(text)), file=file, flush=file is not None)",
    ]
