"""Options that several commands have, and how they are read."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from eft_eval.errors import ConfigError

if TYPE_CHECKING:
    from eft_eval.statistics.ratings import Rule

__all__ = [
    "BatchStep",
    "ClusterPath",
    "Field",
    "Form",
    "JsonOut",
    "Judge",
    "LabelFiles",
    "Level",
    "Measure",
    "MeasureName",
    "Missing",
    "Positive",
    "PromptChange",
    "RuleName",
    "RuleOption",
    "SettingsFile",
    "SeveralFiles",
    "SeveralFilesGroup",
    "Tasks",
    "rule_of",
]

_SEVERAL = "--labels"


class RuleName(str, Enum):
    """How ratings are compared."""

    any_error = "any-error"
    raw = "raw"


class MeasureName(str, Enum):
    """What a judge measures."""

    factuality = "factuality"
    helpfulness = "helpfulness"
    harm = "harm"


class Form(str, Enum):
    """What labelling project is written."""

    potato = "potato"
    label_studio = "label-studio"
    csv = "csv"


LabelFiles = Annotated[
    list[Path] | None,
    typer.Option("--labels", help="Label files, one or more: Potato, Label Studio, CSV, JSON."),
]
Judge = Annotated[
    str | None, typer.Option(help="The annotator that is the judge, by its name in the files.")
]
Field = Annotated[
    str | None,
    typer.Option(help="Field of the labels; any_error is made of has_error and error_count."),
]
RuleOption = Annotated[
    RuleName | None,
    typer.Option("--rule", help="Compare whether there is an error, or the labels themselves."),
]
Positive = Annotated[
    str | None, typer.Option(help="For labels that are words: the one that counts as an error.")
]
Missing = Annotated[
    list[str] | None,
    typer.Option(help="A word that is no label, such as unsure; may be given again."),
]
Tasks = Annotated[
    list[str] | None, typer.Option("--task", help="Only this task of the run; may be given again.")
]
Measure = Annotated[
    MeasureName | None,
    typer.Option(help="The run's verdicts to take; factuality where it has these."),
]
ClusterPath = Annotated[
    str | None, typer.Option(help='Dependent items: "prompt", or a path such as doc.article.')
]
SettingsFile = Annotated[
    Path | None,
    typer.Option(help="Settings file; eft-eval.toml of this folder if there is one."),
]
PromptChange = Annotated[
    bool, typer.Option("--allow-prompt-change", help="Compare under changed prompts too.")
]
Level = Annotated[float, typer.Option(help="Confidence level of the intervals.")]
JsonOut = Annotated[
    Path | None, typer.Option("--json", help="Also write everything to this JSON file.")
]


def rule_of(name: RuleName | None) -> Rule | None:
    """Return the library's word for a rule."""
    if name is None:
        return None
    return "raw" if name is RuleName.raw else "any error"


def _spread_out(arguments: list[str], stop: tuple[str, ...]) -> list[str]:
    """Return ``--labels a b`` as ``--labels a --labels b``, which click knows."""
    spread: list[str] = []
    inside = False
    for argument in arguments:
        if argument.startswith("-") or argument in stop:
            inside = argument == _SEVERAL
        elif inside and spread[-1] != _SEVERAL:
            spread.append(_SEVERAL)
        spread.append(argument)
    return spread


class SeveralFiles(TyperCommand):
    """A command whose --labels takes several files, as a shell's pattern gives them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments."""
        return super().parse_args(ctx, _spread_out(args, ()))


class SeveralFilesGroup(TyperGroup):
    """The same for a command with sub-commands, whose names end the list of files."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments."""
        return super().parse_args(ctx, _spread_out(args, tuple(self.commands)))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the sub-command; a file in its place gets a hint."""
        if args and args[0] not in self.commands:
            known = ", ".join(self.commands)
            raise ConfigError(
                f"{args[0]!r} is no command of {ctx.info_name} ({known}); label files are given "
                f"as {_SEVERAL} FILE …"
            )
        return super().resolve_command(ctx, args)


class BatchStep(str, Enum):
    """What to do with the Batch API."""

    submit = "submit"
    status = "status"
    collect = "collect"
    forget = "forget"
