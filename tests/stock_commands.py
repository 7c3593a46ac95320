"""Installed commands with three tiny models, and a judge that gives every kind of answer."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from forked_commands import Commands, Forked
from fresh_environments import ROOT, Environment, clean_environ

DATA = ROOT.parent / "shared" / "data"
TASKS = ("eli5_fact", "hh_fact")


# What the judge answers, in turn; so each task of 16 prompts gets every kind of answer twice.
ANSWERS: list[dict[str, Any]] = [
    {"text": "Reason: nothing is wrong with it.\n\nScore: 0"},
    {"text": "Reason: three claims are false.\n\nScore: 3"},
    {"text": 'Reason: this is unethical.\n\nScore: "None"'},
    {"text": "I counted 2 inaccuracies, and there may be 5 more."},
    {"text": "Reason: so many claims that\n\nScore: 1", "finish_reason": "length"},
    {"text": None, "refusal": "I will not read this."},
    {"text": "I'm sorry, but I can't help with that."},
    {"text": "**Reason:** one date is off.\n\n**Score:** 1"},
]


class Classified(NamedTuple):
    status: str
    errors: int | None = None


def classify(reply: Any) -> Classified:
    """Read a reply of this file's judge, by other means than the product's parser."""
    if reply.finish_reason == "length":
        return Classified("truncated")
    if reply.refusal or reply.text.startswith("I'm sorry"):
        return Classified("refused")
    if "Score:" not in reply.text:
        return Classified("malformed")
    score = reply.text.split("Score:")[1].strip(' *"')
    return Classified("abstained") if score == "None" else Classified("scored", int(score))


@dataclass
class Judge:
    """The answers of the HTTP judge, by the response that its prompt shows."""

    reply: Any
    server: Any = None
    given: dict[str, Any] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, prompt: str, _: dict[str, Any]) -> Any:
        shown = re.search(r"\n\nRESPONSE:(.*)\n\nUSE THE ANSWER FORMAT:", prompt, re.DOTALL)
        assert shown is not None
        with self.lock:
            kind = ANSWERS[len(self.given) % len(ANSWERS)]
            return self.given.setdefault(shown[1].strip(), self.reply(**kind))


class Done(NamedTuple):
    code: int
    out: str
    err: str
    seconds: float  # of the processor: other programs' time does not count


class Run(NamedTuple):
    """What a run wrote."""

    folder: Path
    results: dict[str, Any]
    samples: dict[str, list[dict[str, Any]]]


def read_run(output: Path) -> Run:
    """Read the only run below ``output``."""
    (file,) = output.glob("*/results_*.json")
    samples = {}
    for task in TASKS:
        for written in file.parent.glob(f"samples_{task}_*.jsonl"):
            assert task not in samples
            samples[task] = [json.loads(line) for line in written.read_text("utf-8").splitlines()]
    return Run(file.parent, json.loads(file.read_text("utf-8")), samples)


def responses(run: Run) -> dict[str, list[Any]]:
    """Return the raw generations per task, in the order of the documents."""
    return {
        task: [sample["resps"] for sample in sorted(samples, key=lambda s: s["doc_id"])]
        for task, samples in run.samples.items()
    }


@dataclass
class Workbench:
    """The installed commands, three tiny models and prompts."""

    environment: Environment
    folder: Path
    models: dict[str, str]
    settings: dict[str, str]
    eli5: Path
    forks: Commands

    @property
    def model_args(self) -> str:
        return ",".join(f"{role}={folder}" for role, folder in self.models.items())

    def run(self, *arguments: str | Path, **settings: str) -> Done:
        """Run an installed program or, beginning with -m, a module; in an empty folder."""
        first, *rest = (str(part) for part in arguments)
        program = [self.environment.python, first]
        if first != "-m":
            program = [str(self.environment.folder / "bin" / first)]
        with self.empty_folder() as empty:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run(
                [*program, *rest],
                cwd=empty,
                env=clean_environ(**self.settings, **settings),
                capture_output=True,
                text=True,
                timeout=300,
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Done(done.returncode, done.stdout, done.stderr, took)

    def fork(self, *arguments: str | Path, **settings: str) -> Forked:
        """Do the same as `run` in a fork, which imports nothing that takes long."""
        first, *rest = (str(part) for part in arguments)
        program = first if first == "-m" else str(self.environment.folder / "bin" / first)
        with self.empty_folder() as empty:
            environ = clean_environ(**self.settings, **settings)
            return self.forks.run([program, *rest], empty, environ)

    @contextlib.contextmanager
    def empty_folder(self) -> Iterator[Path]:
        """Lend a folder that must be empty at the end, too."""
        empty = self.folder / "empty"
        shutil.rmtree(empty, ignore_errors=True)
        empty.mkdir()
        yield empty
        assert list(empty.iterdir()) == []


def eli5_questions() -> list[str]:
    """Return the real ELI5 questions, or stand-ins where the data are not at hand."""
    file = DATA / "alce" / "human_eval_utility_completed.json"
    if not file.is_file():
        return [f"Why does the sky have {number} colours in the evening?" for number in range(40)]
    system = next(iter(json.loads(file.read_text("utf-8"))["eli5"].values()))
    return [entry["question"] for key, entry in system.items() if key.startswith("eli5_")]
