"""Every figure that a command prints on a wide terminal stands whole on a narrow one too."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from judged_runs import PEOPLE, VERDICTS, counted, items_in_order, write_judged_run, write_labels
from judging_helpers import score
from reported_runs import study
from rich.cells import cell_len
from typer.testing import CliRunner
from written_runs import write_run

from eft_eval.cli.app import app

WIDE = 1_000
WIDTHS = (60, 80, 120)
LONG = "truthfulness_of_long_answers_to_open_questions"
NAMES = tuple(f"mean_number_of_factual_errors_per_answer_{kind}" for kind in ("strict", "lenient"))
# an interval in brackets, or a number with its sign and what goes with it
FIGURES = re.compile(r"\[[-+\d.,e ]+\]|[-+]?\d[\d.,]*(?:e[-+]?\d+)?(?: %)?")


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Callable[[], list[str]]]:
    """The words of each command; a function, as some must not find what they wrote before."""
    folder = tmp_path_factory.mktemp("runs")
    arms = study(folder, 60)
    judged = write_judged_run(folder / "judged", counted(VERDICTS), repeats=2)
    labels = str(write_labels(folder / "labels.csv", items_in_order(judged), PEOPLE))
    named = [
        str(
            write_run(
                folder / name,
                {LONG: {one: [float((i * step) % 7) / 7 for i in range(50)] for one in NAMES}},
            )
        )
        for name, step in (("old", 3), ("new", 5))
    ]

    def fresh() -> list[str]:
        target = folder / "copies" / str(len([*folder.glob("copies/*")]))
        shutil.copytree(judged, target)
        return ["correct", str(target), "--labels", labels]

    fixed = {
        "compare": ["compare", *arms[:2]],
        "compare several": ["compare", *arms],
        "compare long names": ["compare", *named],
        "compare plan": ["compare", "plan", "--resolution", "0.0123"],
        "agree": ["agree", "--labels", labels, "--run", str(judged)],
        "agree plan": [
            "agree",
            "plan",
            "--half-width",
            "0.0123",
            "--correlation",
            "0.71",
            "--responses",
            "50000",
        ],
        "recipes": ["recipes"],
        "report": ["report", *arms, "--format", "md"],
    }
    return {
        **{name: (lambda words=words: words) for name, words in fixed.items()},
        "correct": fresh,
    }


def printed(words: list[str], width: int) -> str:
    done = CliRunner().invoke(app, words, env={"COLUMNS": str(width)})
    assert not isinstance(done.exception, Exception), done.exception
    assert done.exit_code in (0, 1)
    return re.sub(r"copies/\d+|_\d{4}-[\dT.-]+", "", done.stdout)


def figures(text: str) -> Counter[str]:
    return Counter(FIGURES.findall(re.sub("[│┃]", "\n", text)))


@pytest.mark.parametrize(
    "name",
    ["compare", "compare several", "compare long names", "compare plan", "agree", "agree plan",
     "recipes", "correct"],
)  # fmt: skip
def test_a_narrow_terminal_shows_every_figure(
    commands: dict[str, Callable[[], list[str]]], name: str
) -> None:
    wide = figures(printed(commands[name](), WIDE))
    assert len(wide) >= 3
    for width in WIDTHS:
        text = printed(commands[name](), width)
        assert max(map(cell_len, text.splitlines())) <= width
        assert "…" not in text
        assert wide - figures(text) == Counter()


@pytest.mark.parametrize("width", [40, *WIDTHS])
def test_long_names_are_whole(commands: dict[str, Callable[[], list[str]]], width: int) -> None:
    text = printed(commands["compare long names"](), width)
    first = [re.split("[│┃]", line)[1] if line[:1] in "│┃" else line for line in text.splitlines()]
    shown = "".join(part.strip() for part in first)
    for name in NAMES:
        assert f"{LONG}/{name},none" in shown


def test_a_judged_run_shows_every_figure(
    openai_server: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = openai_server(score, models=["judge"])
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", server.url)
    run = write_judged_run(tmp_path / "run", counted(VERDICTS[:12]), response="one {}".format)
    words = ["--judge", "judge"]
    for more in (["--dry-run"], []):
        printed(["judge", str(run), *words, *more], WIDE)  # from here on all verdicts are stored
        texts = {
            width: re.sub(r"\S*results_\S*", "", printed(["judge", str(run), *words, *more], width))
            for width in (*WIDTHS, WIDE)
        }
        for width in WIDTHS:
            tables = [line for line in texts[width].splitlines() if line[:1] in "┏┃┡│└├"]
            assert all(cell_len(line) <= width for line in tables)
            assert "…" not in texts[width]
            assert figures(texts[WIDE]) - figures(texts[width]) == Counter()


@pytest.mark.slow
def test_the_demo_shows_every_figure() -> None:
    words = ["demo", "--questions", "4"]
    wide = figures(printed(words, WIDE))
    assert len(wide) > 8
    for width in WIDTHS:
        text = printed(words, width)
        assert max(map(cell_len, text.splitlines())) <= width
        assert "…" not in text
        assert wide - figures(text) == Counter()


def test_markdown_knows_no_width(commands: dict[str, Callable[[], list[str]]]) -> None:
    assert len({printed(commands["report"](), width) for width in (*WIDTHS, WIDE)}) == 1
