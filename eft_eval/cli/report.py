"""`eft-eval report`: runs on one page, as an offline HTML file or as Markdown."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eft_eval.cli.options import ComparingOptions, grouped
from eft_eval.errors import ConfigError
from eft_eval.files import check_output, text_kind, write_output
from eft_eval.streams import say, show

if TYPE_CHECKING:
    from eft_eval.agreement.report import Agreement


_REPORT = text_kind(
    "report of eft-eval",
    r'<!DOCTYPE html>.*<p class="eyebrow">eft-eval report</p>|### .*<sub>Made by eft-eval ',
)


class Form(str, Enum):
    """Forms of a report."""

    html = "html"
    md = "md"


@dataclass(frozen=True)
class PageOptions:
    """What the page is, and what it shows."""

    out: Annotated[Path | None, typer.Option(help="The file; --format md may go to stdout.")] = None
    form: Annotated[Form, typer.Option("--format", help="A page, or Markdown.")] = Form.html
    gate: Annotated[
        bool, typer.Option("--gate", help="Open with the verdict: is a run worse than the first?")
    ] = False
    flips: Annotated[
        int, typer.Option(min=0, help="Documents shown per metric that got worse, and better.")
    ] = 3
    interactive: Annotated[
        bool, typer.Option("--interactive", help="Figures tell their numbers under the pointer.")
    ] = False
    title: Annotated[str | None, typer.Option(help="Title of the page.")] = None


@dataclass(frozen=True)
class MoreSources:
    """What the page shows beside the runs."""

    trace: Annotated[
        list[Path] | None,
        typer.Option(help="JSON of `eft-eval trace --json`, or a folder of such; repeatable."),
    ] = None
    agreement: Annotated[
        list[Path] | None, typer.Option(help="JSON of `eft-eval agree --json`; repeatable.")
    ] = None
    arm: Annotated[
        list[str] | None,
        typer.Option(help="ARM=RUN, where a run does not say it: small, large, up, down."),
    ] = None


@grouped
def report(
    runs: Annotated[
        list[str],
        typer.Argument(help="Runs' folders, results files or patterns; the first is the baseline."),
    ],
    page: PageOptions,
    more: MoreSources,
    comparing: ComparingOptions,
) -> None:
    """Put runs on one page: arms, frontiers, tables, figures, flips, agreement, speed, provenance.

    With --gate it opens with the verdict. Exit code 0 whatever that is; `eft-eval compare` gates.
    """
    from eft_eval.reporting.report import make_report
    from eft_eval.reports.views.report import page_of
    from eft_eval.runs.reading import read_runs
    from eft_eval.runs.traces import read_traces

    _check_out(page.out, page.form)
    sources, arms = _sources(runs, more.arm or [])
    settings = comparing.settings()
    found = make_report(
        read_runs(sources, settings.cluster),
        settings,
        arms=arms,
        traces=[found for path in more.trace or [] for found in read_traces(path)],
        agreements=[_read_agreement(path) for path in more.agreement or []],
        flips=page.flips,
        title=page.title or "",
        gate=page.gate,
        command=_command(runs, {**vars(page), **vars(more), **vars(comparing)}),
    )
    if page.form is Form.md:
        from eft_eval.reports.renderers.markdown import ROOM, page_markdown

        text = page_markdown(page_of(found, ROOM))
    else:
        from eft_eval.reports.renderers.html.figures import missing_library
        from eft_eval.reports.renderers.html.html import page_html

        if (missing := missing_library()) and not page.interactive:
            say(
                f"eft-eval: the page has tables and no figures: {missing} is not installed "
                '(pip install "eft-eval[report]")',
                sys.stderr,
            )
        text = page_html(page_of(found), interactive=page.interactive)
    _write(text, page.out)


def _check_out(out: Path | None, form: Form) -> None:
    """Check before anything is read that the page can be written."""
    if out is None:
        if form is Form.html:
            raise ConfigError("a page needs a file: --out report.html (--format md may do without)")
        return
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder; expected a file such as {out / 'report.html'}")
    if out.suffix in (".json", ".jsonl"):
        raise ConfigError(f"--out {out}: expected a name such as report.{form.value}")
    check_output(out, _REPORT)


def _sources(runs: Sequence[str], arms: Sequence[str]) -> tuple[list[str], dict[int, str]]:
    """Return all runs, those named only by --arm last, and by position the arms as given."""
    sources = list(runs)
    named: dict[int, str] = {}
    for text in arms:
        name, equals, source = text.partition("=")
        if not equals or not source:
            raise ConfigError(f"--arm {text}: expected ARM=RUN, such as small=out/small")
        if source not in sources:
            sources.append(source)
        place = sources.index(source)
        if place in named:
            raise ConfigError(f"--arm {text}: {source} is already said to be {named[place]}")
        named[place] = name
    return sources, named


def _read_agreement(path: Path) -> Agreement:
    from eft_eval.agreement.report import Agreement
    from eft_eval.records import read_record_file, restored

    what = "the JSON of `eft-eval agree --json`"
    content = read_record_file(path, what)
    if content.get("format") != "eft-eval agreement":
        raise ConfigError(f"{path} is {content.get('format')!r}; expected {what}")
    return restored(Agreement, content, str(path))


def _command(runs: Sequence[str], options: dict[str, Any]) -> str:
    """Return the command as it can be run again."""
    words = ["eft-eval", "report", *runs]
    for name in ("out", "title", "config", "cluster"):
        if options[name] is not None:
            words += [f"--{name}", str(options[name])]
    for name in ("trace", "agreement", "arm"):
        for one in options[name] or []:
            words += [f"--{name}", str(one)]
    if options["form"] is not Form.html:
        words += ["--format", options["form"].value]
    if options["flips"] != 3:
        words += ["--flips", str(options["flips"])]
    for name in ("gate", "interactive", "allow_prompt_change"):
        if options[name]:
            words.append(f"--{name.replace('_', '-')}")
    return shlex.join(words)


def _write(text: str, out: Path | None) -> None:
    if out is None:
        show(text)
        return
    write_output(out, [text], _REPORT)
    say(f"written: {out} ({len(text.encode('utf-8')) / 1e6:.2f} MB)", sys.stderr)
