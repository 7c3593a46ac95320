"""The whole protocol with a real Potato: every step by its command, the answers over HTTP."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from judged_runs import counted, items_in_order, write_judged_run
from potato_server import Server, Session, free_port, potato_python

from eft_eval.agreement import pair_agreement

pytestmark = pytest.mark.slow

VERDICTS = [0, 2, 1, 0, None, 3, 0, 1, 1, 0, 2, 0]
PEOPLE = {
    "jane@example.com": [0, 1, 1, 1, 2, 0, 0, 1, 0, 0, 4, 0],
    "Bob": [0, 2, 0, 1, 0, 0, 0, 2, 0, 1, 1, 0],
}


def eft_eval(*arguments: str | Path) -> str:
    """Run the command in a process of its own, as a user does."""
    command = [sys.executable, "-m", "eft_eval", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def started(printed: str, project: Path, port: int) -> Iterator[Server]:
    """Start the project by the one command that was printed for it."""
    command = re.search(r"^next: (.*)", printed, re.M)
    assert command is not None
    server = Server(project, port, command[1])
    try:
        server.wait()
        yield server
    finally:
        server.stop()


def answer(server: Server, name: str, ids: Sequence[str], value: Callable[[int], float]) -> None:
    session = Session(server.url)
    session.log_in(name)
    for place, item_id in enumerate(ids):
        number = value(place)
        word = "yes" if number else "no"
        given = {"error_count:::number": f"{number:g}", f"has_error:::{word}": word}
        session.answer(item_id, given)


def test_the_protocol_end_to_end(tmp_path: Path) -> None:
    potato_python()  # skips before anything is written
    run_dir = write_judged_run(tmp_path / "run", counted(VERDICTS))
    ids = [item.item_id for item in items_in_order(run_dir)]
    project, port = tmp_path / "project", free_port()
    printed = eft_eval("labels", "export", run_dir, "--out", project, "--port", str(port))
    with started(printed, project, port) as server:
        for name, given in PEOPLE.items():
            answer(server, name, ids, lambda place, given=given: given[place])  # type: ignore[misc]  # a default argument binds the loop's value
        server.stored([*PEOPLE])
        exported = server.export("csv", tmp_path / "exported")
    labels = tmp_path / "labels.csv"
    printed = eft_eval("labels", "import", exported, "--key", run_dir, "--out", labels)
    assert "48 labels of 12 items" in printed
    out = tmp_path / "a.json"
    printed = eft_eval("agree", "--labels", labels, "--run", run_dir, "--json", out)
    found = json.loads(out.read_text("utf-8"))

    both = list(zip(*PEOPLE.values(), strict=True))
    people = [float(a > 0) if (a > 0) == (b > 0) else None for a, b in both]
    judge = [None if v is None else float(v > 0) for v in VERDICTS]
    wanted = pair_agreement(people, judge)
    assert found["pair"]["table"] == [list(row) for row in wanted.table or ()]
    assert found["counted"]["tied"] == people.count(None)
    assert found["counted"]["unscored"] == {"abstained": 1}
    alike = sum((a > 0) == (b > 0) for a, b in both) / 12
    assert found["people"]["agreement"]["interval"]["estimate"] == pytest.approx(alike)
    for text in (printed, labels.read_text("utf-8"), out.read_text("utf-8")):
        assert "jane" not in text
        assert "Bob" not in text
    # the live store says the same without Potato's export
    again = tmp_path / "live.json"
    eft_eval("agree", "--labels", project, "--run", run_dir, "--json", again)
    assert json.loads(again.read_text("utf-8"))["pair"] == found["pair"]

    adjudicate(tmp_path, run_dir, project)


def adjudicate(folder: Path, run_dir: Path, labels: Path) -> None:
    """Draw the disagreements, label them as the author who sides with the judge, import."""
    gold, port = folder / "gold", free_port()
    printed = eft_eval(
        *("gold", "sample", run_dir, "--labels", labels, "--out", gold, "--port", str(port)),
        *("--agreements", "2"),
    )
    key: dict[str, Any] = json.loads((folder / "gold.gold-key.json").read_text("utf-8"))
    ids = list(key["items"])
    with started(printed, gold, port) as server:
        page = Session(server.url).log_in("author")
        assert "gold-key" not in page
        answer(server, "author", ids, lambda place: key["items"][ids[place]]["judge"])
        server.stored(["author"])
    out = folder / "g.json"
    printed = eft_eval(
        *("gold", "import", gold, "--key", folder / "gold.gold-key.json"),
        *("--by", "one author", "--json", out),
    )
    outcome = json.loads(out.read_text("utf-8"))["outcome"]
    assert outcome["with_judge"] == outcome["adjudicated"] == key["disagreements"] > 0
    assert (outcome["agreements_checked"], outcome["agreements_right"]) == (2, 2)
    assert "one author (G1), blind" in printed
