"""Options that several commands have, and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from enum import Enum
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from eft_eval.errors import ConfigError, nearest

if TYPE_CHECKING:
    from eft_eval.agreement.label_reading import LabelReading
    from eft_eval.comparing.settings import GateSettings
    from eft_eval.labels.reading import FileReading

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
    preference = "preference"


class Form(str, Enum):
    """What labelling project is written."""

    potato = "potato"
    label_studio = "label-studio"
    csv = "csv"


Judge = Annotated[
    str | None, typer.Option(help="The annotator that is the judge, by its name in the files.")
]
RuleOption = Annotated[
    RuleName | None,
    typer.Option("--rule", help="Compare whether there is an error, or the labels themselves."),
]
ItemColumn = Annotated[
    str | None,
    typer.Option(
        "--item", help="Column of a table, or data field of a task, that holds the items' ids."
    ),
]
PersonPerFile = Annotated[
    bool,
    typer.Option(
        "--person-per-file", help="Each file is one person's, as of several local Label Studios."
    ),
]
MapLabels = Annotated[
    Path | None,
    typer.Option(
        help="YAML or JSON of LABEL: CLASS, also under the names of fields; null: no label."
    ),
]
MapQuery = Annotated[
    list[str] | None,
    typer.Option("--map", help="query=PATH in a sample, such as query=doc.question."),
]
_MAPPED = ("query",)
Tasks = Annotated[
    list[str] | None, typer.Option("--task", help="Only this task of the run; may be given again.")
]
Level = Annotated[float, typer.Option(help="Confidence level of the intervals.")]
JsonOut = Annotated[
    Path | None, typer.Option("--json", help="Also write everything to this JSON file.")
]


def words_of(options: Any) -> dict[str, Any]:
    """Return a record of options with the library's words for choices."""
    return {
        name: one.value.replace("-", " ") if isinstance(one, Enum) else one
        for name, one in vars(options).items()
    }


def mapped_query(given: Sequence[str] | None) -> str | None:
    """Return the path that ``--map query=PATH`` gives.

    Raises:
        ConfigError: One is not of that form, or names what judge prompts do not show.
    """
    found = {}
    for text in given or ():
        name, equals, path = text.partition("=")
        if not equals or not path or name not in _MAPPED:
            hint = nearest(name, _MAPPED) if equals else ""
            raise ConfigError(f"--map is {text!r}{hint}; it must be query=PATH: query=doc.question")
        found[name] = path
    return found.get("query")


def file_reading(item: str | None, person_per_file: bool, map_labels: Path | None) -> FileReading:
    """Return what the user says of label files.

    Raises:
        ConfigError: The map of labels cannot be read, or is none.
    """
    from eft_eval.labels.meanings import Meanings, read_meanings
    from eft_eval.labels.reading import FileReading

    meanings = Meanings() if map_labels is None else read_meanings(map_labels)
    return FileReading(item, person_per_file, meanings=meanings)


@dataclass(frozen=True)
class LabelOptions:
    """Options of every command that holds labels against a run."""

    labels: Annotated[
        list[Path] | None,
        typer.Option("--labels", help="Label files, one or more: Potato, Label Studio, CSV, JSON."),
    ] = None
    judge: Judge = None
    field: Annotated[
        str | None,
        typer.Option(help="Field of the labels; any_error is made of has_error and error_count."),
    ] = None
    positive: Annotated[
        str | None, typer.Option(help="For labels that are words: the one that counts as an error.")
    ] = None
    missing: Annotated[
        list[str] | None,
        typer.Option(help="A word that is no label, such as unsure; may be given again."),
    ] = None
    map_labels: MapLabels = None
    item: ItemColumn = None
    person_per_file: PersonPerFile = False
    map_: MapQuery = None
    task: Tasks = None

    @property
    def files(self) -> list[Path]:
        """The label files.

        Raises:
            ConfigError: There are none.
        """
        if not self.labels:
            raise ConfigError("there are no label files; name them with --labels FILE …")
        return self.labels

    def reading(self) -> LabelReading:
        """Return how they are read."""
        from eft_eval.agreement.label_reading import LabelReading

        return LabelReading(
            field=self.field,
            positive=self.positive,
            missing=tuple(self.missing or ()),
            judge=self.judge,
            tasks=tuple(self.task) if self.task else None,
            files=file_reading(self.item, self.person_per_file, self.map_labels),
            query=mapped_query(self.map_),
        )


@dataclass(frozen=True)
class MeasuredLabelOptions(LabelOptions):
    """The same where a run may be judged for several measures."""

    measure: Annotated[
        MeasureName | None,
        typer.Option(help="The run's verdicts to take; factuality where it has these."),
    ] = None

    def reading(self) -> LabelReading:
        """Return how they are read."""
        return replace(super().reading(), measure=words_of(self)["measure"])


@dataclass(frozen=True)
class ProjectOptions:
    """Where a labelling project is written, and for which tool."""

    out: Annotated[Path, typer.Option(help="A new folder for the labelling project.")]
    form: Annotated[Form, typer.Option("--format", help="For which tool.")] = Form.potato
    port: Annotated[int, typer.Option(help="Where Potato is to listen.")] = 8000


@dataclass(frozen=True)
class ComparingOptions:
    """Options of every command that compares runs."""

    config: Annotated[
        Path | None,
        typer.Option(help="Settings file; eft-eval.toml of this folder if there is one."),
    ] = None
    cluster: Annotated[
        str | None, typer.Option(help='Dependent items: "prompt", or a path such as doc.article.')
    ] = None
    allow_prompt_change: Annotated[
        bool, typer.Option("--allow-prompt-change", help="Compare under changed prompts too.")
    ] = False

    def given(self) -> dict[str, Any]:
        """The settings that were given; None for the others."""
        return {"cluster": self.cluster, "allow_prompt_change": self.allow_prompt_change or None}

    def settings(self) -> GateSettings:
        """Return the settings file's settings, and those given over them."""
        from eft_eval.comparing.settings import read_settings, settings_with

        return settings_with(read_settings(self.config), self.given())


class _Report(Protocol):
    def to_dict(self) -> dict[str, Any]: ...


_Found = TypeVar("_Found", bound=_Report)


def reported(path: Path | None, kind: str, make: Callable[[], _Found]) -> _Found:
    """Return a result; it is also written as JSON, to a path that is looked at beforehand.

    Raises:
        ConfigError: The file exists and is no report of this kind, or cannot be written.
    """
    from eft_eval.records import check_report_path, write_report

    if path is not None:
        check_report_path(path, kind)
    found = make()
    if path is not None:
        write_report(path, found.to_dict())
    return found


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take records of options: typer sees one option for each of their fields."""
    records: dict[str, type] = {}
    parameters = []
    for one in signature(command, eval_str=True).parameters.values():
        record: type = one.annotation
        if not is_dataclass(record):
            parameters.append(one.replace(kind=Parameter.KEYWORD_ONLY))
            continue
        records[one.name] = record
        hints = get_type_hints(record, include_extras=True)
        for field in fields(record):
            default = Parameter.empty if field.default is MISSING else field.default
            parameters.append(
                Parameter(
                    field.name,
                    Parameter.KEYWORD_ONLY,
                    default=default,
                    annotation=hints[field.name],
                )
            )

    def call(**given: Any) -> None:
        for name, record in records.items():
            given[name] = record(**{field.name: given.pop(field.name) for field in fields(record)})
        command(**given)

    call.__name__, call.__doc__ = command.__name__, command.__doc__
    call.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in parameters}
    return call


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
