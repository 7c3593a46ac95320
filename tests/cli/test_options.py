"""Records of options: one option for each field, and the record for the command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from eft_eval.cli.options import LabelOptions, ProjectOptions, grouped


@dataclass(frozen=True)
class Draw:
    """What is drawn."""

    count: Annotated[int, typer.Option(min=0, help="How many to draw.")] = 30
    word: Annotated[list[str] | None, typer.Option(help="May be given again.")] = None


@dataclass(frozen=True)
class OtherProject(ProjectOptions):
    """Where another project is written."""

    out: Annotated[Path, typer.Option(help="Another folder.")]


@pytest.fixture
def app_and_given() -> tuple[typer.Typer, dict[str, Any]]:
    given: dict[str, Any] = {}
    app = typer.Typer()

    @app.command()
    @grouped
    def command(
        run: Annotated[str, typer.Argument(help="The run.")],
        project: OtherProject,
        labels: LabelOptions,
        draw: Draw = Draw(),
        level: float = 0.95,
    ) -> None:
        """Do something."""
        given.update(run=run, project=project, labels=labels, draw=draw, level=level)

    return app, given


def test_options_become_the_records_they_are_fields_of(
    app_and_given: tuple[typer.Typer, dict[str, Any]],
) -> None:
    app, given = app_and_given
    words = "R --out o --labels a --labels b --task t --word x --word y --level 0.9 --port 81"
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 0, done.output
    assert given["run"] == "R"
    assert given["project"] == OtherProject(Path("o"), port=81)
    assert given["labels"] == LabelOptions(labels=[Path("a"), Path("b")], task=["t"])
    assert given["draw"] == Draw(30, ["x", "y"])
    assert given["level"] == 0.9
    reading = given["labels"].reading()
    assert (reading.tasks, reading.missing, reading.measure) == (("t",), (), None)


def test_what_a_field_demands_is_demanded(
    app_and_given: tuple[typer.Typer, dict[str, Any]],
) -> None:
    app, given = app_and_given
    for words in (["R"], ["R", "--out", "o", "--count", "-1"], ["--out", "o"]):
        assert CliRunner().invoke(app, words).exit_code == 2
    assert not given
    text = CliRunner().invoke(app, ["--help"]).output
    assert "Another folder" in text
    assert "A new folder for the labelling project" not in text
    assert text.index("--out") < text.index("--labels") < text.index("--count")
