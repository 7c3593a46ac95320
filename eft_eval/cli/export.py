"""`eft-eval export`: a run's scores for leaderboards, cards and tables."""

from __future__ import annotations

import filecmp
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eft_eval.cli.options import Level, grouped
from eft_eval.errors import ConfigError
from eft_eval.files import (
    check_parent,
    is_stream,
    make_folder,
    put,
    staged,
    write_lines,
    write_whole,
)
from eft_eval.streams import say, show

if TYPE_CHECKING:
    from eft_eval.exporting.claims import RunClaim


class Form(str, Enum):
    """What is written."""

    eee = "eee"
    hf_eval_results = "hf-eval-results"
    model_card = "model-card"
    csv = "csv"
    parquet = "parquet"


class Relationship(str, Enum):
    """Between who evaluated and the model."""

    first_party = "first_party"
    third_party = "third_party"
    collaborative = "collaborative"
    other = "other"


@dataclass(frozen=True)
class Asked:
    """What is written, and where."""

    form: Annotated[Form, typer.Option("--format", help="What to write.")]
    out: Annotated[
        Path | None,
        typer.Option(help="File (csv, parquet) or folder; text goes to stdout without it."),
    ] = None
    samples: Annotated[
        bool, typer.Option("--samples", help="eee, csv, parquet: single documents with texts.")
    ] = False
    repo: Annotated[
        str | None,
        typer.Option(help="OWNER/NAME on the hub: holds the composite's card, or is the model."),
    ] = None
    organization: Annotated[str | None, typer.Option(help="eee: who evaluated.")] = None
    relationship: Annotated[
        Relationship, typer.Option(help="eee: of who evaluated to the model.")
    ] = Relationship.other
    benchmark: Annotated[
        list[str] | None,
        typer.Option(help="hf-eval-results: TASK=OWNER/NAME:TASK_ID, or …@REVISION; repeatable."),
    ] = None
    source_url: Annotated[
        str | None, typer.Option(help="hf-eval-results: where readers find more.")
    ] = None
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that hold something else.")
    ] = False


@dataclass(frozen=True)
class ClaimOptions:
    """Which scores are written, and which are refused."""

    metric: Annotated[
        list[str] | None,
        typer.Option(help="TASK/METRIC or TASK/METRIC,FILTER to export, with *; repeatable."),
    ] = None
    judge_prompt: Annotated[
        list[str] | None,
        typer.Option(help="File of a judge prompt that is not shipped; repeatable."),
    ] = None
    level: Level = 0.95
    max_unknown: Annotated[
        float, typer.Option(help="Largest share of verdicts that may be no answer.")
    ] = 0.05
    allow_limit: Annotated[
        bool, typer.Option("--allow-limit", help="Export --limit runs, and say so.")
    ] = False


@grouped
def export(
    runs: Annotated[
        list[str], typer.Argument(help="A run's folder or results file, or a pattern.")
    ],
    asked: Asked,
    of: ClaimOptions,
) -> None:
    """Write a run's scores for leaderboards (eee, hf-eval-results), a model card, csv or parquet.

    Refused, with the reason: incomplete runs, --limit runs, metrics without a number, scores under
    the name of a composite's member. Nothing is uploaded.
    """
    from eft_eval.exporting.claiming import ClaimSettings, read_claims
    from eft_eval.reports.exports.phrases import known_by

    _check_options(asked)
    settings = ClaimSettings(
        metrics=tuple(of.metric or ()),
        level=of.level,
        allow_limit=of.allow_limit,
        max_unknown=of.max_unknown,
        judge_prompts=tuple(of.judge_prompt or ()),
    )
    claims = read_claims(runs, settings)
    if asked.samples:
        from eft_eval.exporting.documents import check_documents

        for run in claims:
            check_documents(run)
    _TABLES.get(asked.form, _files)(claims, asked)
    for run in claims:
        for note in (*run.notes, *known_by(run)):
            say(f"eft-eval: note: {run.label}: {note}", sys.stderr)


def _check_options(asked: Asked) -> None:
    """Raise on an option that this format has no use for, or lacks."""
    form = asked.form
    fits = {
        "--samples": (asked.samples, (Form.eee, Form.csv, Form.parquet)),
        "--repo": (asked.repo, (Form.eee, Form.hf_eval_results, Form.model_card)),
        "--organization": (asked.organization, (Form.eee,)),
        "--benchmark": (asked.benchmark, (Form.hf_eval_results,)),
        "--source-url": (asked.source_url, (Form.hf_eval_results,)),
    }
    for name, (given, forms) in fits.items():
        if given and form not in forms:
            known = ", ".join(one.value for one in forms)
            raise ConfigError(f"{name} belongs to {known}, not to --format {form.value}")
    if form is Form.eee and not (asked.organization or "").strip():
        raise ConfigError("eee records say who evaluated: add --organization NAME")
    if asked.out is None and form in (Form.eee, Form.parquet):
        what = "folder" if form is Form.eee else "file"
        raise ConfigError(f"--format {form.value} writes no text: add --out with a {what}")
    if asked.out is not None:
        check_parent(asked.out)
    if asked.out is not None and form in _TABLES and asked.out.is_dir():
        raise ConfigError(f"--out {asked.out} is a folder; {form.value} is one file")
    if asked.out is not None and form not in _TABLES and asked.out.is_file():
        raise ConfigError(f"--out {asked.out} is a file; {form.value} takes a folder")


def _files(claims: Sequence[RunClaim], asked: Asked) -> None:
    """Write the files of eee, hf-eval-results or model-card."""
    files = _content(claims, asked)
    if asked.out is None:
        for _, lines in files:
            show("".join(lines))
        return
    with staged(asked.out) as part:
        names = []
        for name, lines in files:
            make_folder((part / name).parent)
            write_lines(part / name, lines)
            names.append(name)
        for name in names:
            _check_free(asked.out / name, part / name, asked.overwrite)
        for name in names:
            put(part / name, asked.out / name)
            say(str(asked.out / name))


def _content(claims: Sequence[RunClaim], asked: Asked) -> Iterator[tuple[str, Iterable[str]]]:
    from eft_eval.exporting import publishing
    from eft_eval.exporting.benchmarks import read_benchmarks
    from eft_eval.reports.exports.every_eval_ever import Evaluator
    from eft_eval.reports.exports.every_eval_ever_samples import eee_streams
    from eft_eval.reports.exports.hub import hub_files
    from eft_eval.reports.exports.model_card import model_card

    form = asked.form.value
    for run in claims:
        publishing.check_public(run, form)
    publishing.check_distinct(claims, form)
    if asked.repo is not None:
        publishing.check_one_model(claims, "--repo")
        claims = [publishing.stated(run, asked.repo) for run in claims]
    if asked.form is Form.eee:
        for run in claims:
            if asked.repo is not None:
                publishing.check_not_component(run, asked.repo)
        who = Evaluator(str(asked.organization).strip(), asked.relationship.value, asked.repo)
        return eee_streams(claims, who, asked.samples)
    run = publishing.merged(claims, form)
    repository = publishing.check_card(run, asked.repo, form)
    if asked.form is Form.model_card:
        if run.composite is None:
            say(
                f"eft-eval: note: {repository} has a card of its own: add to it what it lacks of "
                "this one",
                sys.stderr,
            )
        return iter([("README.md", [model_card(run, repository)])])
    url = None if asked.source_url is None else publishing.check_url(asked.source_url)
    found = hub_files(run, read_benchmarks(asked.benchmark or ()), url)
    say(
        f"eft-eval: note: for the repository {repository}; the hub shows scores of benchmarks on "
        "its own list alone, and this registers none",
        sys.stderr,
    )
    return ((name, [text]) for name, text in found.items())


def _csv(claims: Sequence[RunClaim], asked: Asked) -> None:
    from eft_eval.reports.exports.table import table_csv

    text = table_csv(_table(claims, asked))
    if asked.out is None:
        show(text)
    elif is_stream(asked.out):
        write_lines(asked.out, [text])
    else:
        with staged(asked.out) as part:
            write_lines(part / "table", [text])
            _check_free(asked.out, part / "table", asked.overwrite)
            put(part / "table", asked.out)
        say(str(asked.out))


def _parquet(claims: Sequence[RunClaim], asked: Asked) -> None:
    from eft_eval.reports.exports.table import write_parquet

    assert asked.out is not None
    out, table = asked.out, _table(claims, asked)
    _check_free(out, None, asked.overwrite)
    write_whole(out, lambda part: write_parquet(table, part))
    say(str(out))


def _table(claims: Sequence[RunClaim], asked: Asked) -> Any:
    from eft_eval.reports.exports.table import claims_table, documents_table

    return documents_table(claims) if asked.samples else claims_table(claims)


def _check_free(path: Path, new: Path | None, overwrite: bool) -> None:
    """Raise where a file would be lost: one that exists with other content than the new one."""
    if overwrite or not path.exists() or is_stream(path):
        return
    try:
        same = path.is_file() and (
            path.stat().st_size == 0 or (new is not None and filecmp.cmp(path, new, shallow=False))
        )
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    if not same:
        raise ConfigError(f"{path} exists and holds something else; --overwrite replaces it")


_TABLES = {Form.csv: _csv, Form.parquet: _parquet}
