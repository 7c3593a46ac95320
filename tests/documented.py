"""The code blocks of the documentation, and what has to happen before some of them.

A comment of HTML right above a block says what a reader need not see, a note per line:

- ``not run: REASON``: the block needs what is not here; its options are checked all the same;
- ``first: STEP``: a function below, called with the page's folder, plays people and endpoints;
- ``exit code: N``: how the block ends, other than with 0;
- ``not compared: REASON``: a block of text that is no output of the block before it;
- ``figures within X: REASON``: how far the output's numbers may be from those shown.

A block of data whose first line is a comment with a file's name, or that has one behind its
language, is that file for the blocks that follow.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from judged_runs import VERDICTS, counted, write_judged_run
from markdown_it import MarkdownIt
from openai_server import OpenAIServer
from pairs_of_runs import write_responses

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTES = ("not run", "first", "exit code", "not compared", "figures within")


class Block(NamedTuple):
    """A fenced block of a page.

    Attributes:
        page: The page's file name.
        line: Where it begins, from 1.
        language: The first word after the fence.
        name: The file that it is; empty if none.
        text: What it holds.
        notes: What the comment above it says.
    """

    page: str
    line: int
    language: str
    name: str
    text: str
    notes: Mapping[str, str]

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Return a page's blocks in their order; an indented one has no language."""
    found: list[Block] = []
    comment, ends = "", -1
    for token in MarkdownIt().parse(page.read_text("utf-8")):
        if token.type == "html_block" and token.map is not None:
            comment, ends = token.content, token.map[1]
        elif token.type in ("fence", "code_block") and token.map is not None:
            start = token.map[0]
            language, _, name = token.info.strip().partition(" ")
            if not name and (named := re.match(r"# ([\w.-]+\.\w+)\b", token.content)):
                name = named[1] if language in ("yaml", "toml") else ""
            notes = _notes(comment) if ends == start else {}
            found.append(Block(page.name, start + 1, language, name, token.content, notes))
    return found


def _notes(comment: str) -> dict[str, str]:
    lines = re.sub(r"^<!--|-->\s*$", "", comment.strip()).strip().splitlines()
    notes = {}
    for line in lines:
        key, _, value = line.strip().partition(":")
        known = next((note for note in NOTES if key == note or key.startswith(note + " ")), key)
        notes[known] = value.strip() if key == known else key.removeprefix(known).strip()
    return notes


# --- steps: called with the page's folder and what closes at its end; return settings


Step = Callable[[Path, contextlib.ExitStack], Mapping[str, str]]


def judged_run(folder: Path, _: contextlib.ExitStack) -> Mapping[str, str]:
    """A judged run of eli5_fact in ``out``."""
    write_judged_run(folder / "out" / "judged", counted(VERDICTS * 4))
    return {}


def composite_run(folder: Path, _: contextlib.ExitStack) -> Mapping[str, str]:
    """A judged run in ``out`` of a composite whose members have commits."""
    from exported_runs import write_composite_run

    write_composite_run(folder / "out", VERDICTS * 2)
    return {}


def two_runs(folder: Path, _: contextlib.ExitStack) -> Mapping[str, str]:
    """Two judged runs, ``out/base`` and ``out/new``."""
    from reported_runs import ARMS, write_arm

    for name, arm, verdicts in (("base", "small", VERDICTS), ("new", "up", VERDICTS[::-1])):
        write_arm(folder / "out" / name, ARMS[arm], [float(count or 0) for count in verdicts])
    return {"GITHUB_STEP_SUMMARY": str(folder / "summary.md")}


def two_models(folder: Path, _: contextlib.ExitStack) -> Mapping[str, str]:
    """Two models' responses to the same questions, ``run_a`` and ``run_b``."""
    for name, every in (("a", 2), ("b", 3)):
        texts = [
            f"Because{' it is' * (place % 7)}." if place % every else "No" + " idea" * (place % 5)
            for place in range(40)
        ]
        write_responses(folder / f"run_{name}", texts, f"model-{name}")
    return {}


def people_label(folder: Path, _: contextlib.ExitStack) -> Mapping[str, str]:
    """Three people answer all items of the Potato project ``project``, each in their own way."""
    for place, person in enumerate(("ann", "ben", "cleo")):
        _answer(folder / "project", person, [(number % (4 + place)) // 2 for number in range(100)])
    return {}


def adjudicators_label(folder: Path, _: contextlib.ExitStack) -> Mapping[str, str]:
    """An adjudicator answers all items of the Potato project ``gold``."""
    _answer(folder / "gold", "gail", [number % 2 for number in range(40)])
    return {}


def endpoint(_: Path, closing: contextlib.ExitStack) -> Mapping[str, str]:
    """A judge's endpoint on loopback."""
    server = closing.enter_context(OpenAIServer(lambda *_: "Reason: fine.\n\nScore: 1"))
    return {"EFT_JUDGE_BASE_URL": server.url}


STEPS: Mapping[str, Step] = {
    step.__name__: step
    for step in (
        judged_run,
        composite_run,
        two_runs,
        two_models,
        people_label,
        adjudicators_label,
        endpoint,
    )
}


def _answer(project: Path, person: str, errors: Sequence[int]) -> None:
    """Write what Potato keeps of a person's answers."""
    lines = (project / "data" / "items.jsonl").read_text("utf-8").splitlines()
    given = {
        json.loads(line)["id"]: [
            [{"schema": "error_count", "name": "number"}, str(count)],
            [{"schema": "has_error", "name": "yes" if count else "no"}, "true"],
        ]
        for line, count in zip(lines, errors, strict=False)
    }
    folder = project / "annotation_output" / person
    folder.mkdir(parents=True)
    state = {"user_id": person, "instance_id_to_label_to_value": given}
    (folder / "user_state.json").write_text(json.dumps(state), "utf-8")
