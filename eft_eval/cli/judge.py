"""`eft-eval judge`: judge the saved responses of a run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eft_eval.cli.options import BatchStep, MapQuery, grouped, mapped_query
from eft_eval.errors import ConfigError

if TYPE_CHECKING:
    from eft_eval.judging.responses import Selection
    from eft_eval.judging.self_consistency import Aids
    from eft_eval.judging.settings import JudgeSettings

_NOT_COMPLETE = 3


class ResponseSource(str, Enum):
    """Which text of a sample is judged."""

    resps = "resps"
    filtered_resps = "filtered_resps"


@dataclass(frozen=True)
class JudgedOptions:
    """Which responses are judged, for what and by whom."""

    judge: Annotated[
        list[str] | None,
        typer.Option(
            help="Model at the endpoint or elsewhere (NAME@URL), hf:MODEL or scripted:FILE; "
            "repeatable: a panel of judges."
        ),
    ] = None
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="Judge prompt (name or file) in place of the tasks' own; repeatable."),
    ] = None
    task: Annotated[list[str] | None, typer.Option(help="Judge this task only; repeatable.")] = None
    map_: MapQuery = None
    response: Annotated[
        ResponseSource | None,
        typer.Option(help="Judge raw or filtered responses; by default as before, at first raw."),
    ] = None
    filter_: Annotated[
        str | None,
        typer.Option("--filter", help="Whose filtered_resps, where there are several filters."),
    ] = None

    def settings(self, env: Mapping[str, str]) -> list[JudgeSettings]:
        """Return the judges, one or a panel."""
        from eft_eval.judging.settings import JudgeSettings

        if not self.judge:
            return [JudgeSettings.from_environment(env)]
        return [JudgeSettings.from_environment(env, judge=one) for one in self.judge]

    def selection(self) -> Selection:
        """Return which responses are judged, and for what."""
        from eft_eval.judging.responses import Selection

        return Selection(
            prompts=tuple(self.prompt or ()),
            tasks=tuple(self.task or ()),
            query=mapped_query(self.map_),
            response=None if self.response is None else self.response.value,
            filter=self.filter_,
        )


@dataclass(frozen=True)
class AidOptions:
    """What is done beside judging, to see what the judge is worth."""

    repeat: Annotated[
        int, typer.Option(help="Ask so often in all, to see whether the judge agrees with itself.")
    ] = 1
    drift: Annotated[
        int, typer.Option(help="Ask again about so many prompts, to compare with what is stored.")
    ] = 0
    bridge: Annotated[
        bool,
        typer.Option(help="Compare with the verdicts of the judge before: moving to a new one."),
    ] = False

    def aids(self) -> Aids:
        """Return them, checked."""
        from eft_eval.judging.self_consistency import Aids

        return Aids(repeats=self.repeat, drift=self.drift, bridge=self.bridge).check()


@dataclass(frozen=True)
class AskingOptions:
    """How the judge is asked, and for how much."""

    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print calls, tokens and cost; ask nobody.")
    ] = False
    budget: Annotated[
        float | None, typer.Option(help="US dollars that this command may spend at most.")
    ] = None
    batch: Annotated[
        BatchStep | None,
        typer.Option(help="Ask through the Batch API, at half the price, within a day."),
    ] = None

    def environment(self) -> dict[str, str]:
        """Return the environment; a dry run asks nobody, so that it needs no key."""
        env = dict(os.environ)
        if self.dry_run and not env.get("OPENAI_API_KEY", "").strip():
            env["OPENAI_API_KEY"] = "none"
        return env


@dataclass(frozen=True)
class PairOptions:
    """Judging two runs against each other."""

    pairwise: Annotated[
        bool,
        typer.Option("--pairwise", help="Judge RUN_DIR against a second run, in both orders."),
    ] = False
    length_control: Annotated[
        bool,
        typer.Option("--length-control", help="Also the win rate at equal lengths (--pairwise)."),
    ] = False
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the win rates' run; RUN_A_against_RUN_B (--pairwise)."),
    ] = None

    def check(self) -> None:
        """Refuse options of --pairwise without it.

        Raises:
            ConfigError: There is one.
        """
        for name, given in (("--length-control", self.length_control), ("--out", self.out)):
            if given and not self.pairwise:
                raise ConfigError(f"{name} is of --pairwise, which judges two runs; give both")

    def check_asking(
        self, judges: Sequence[JudgeSettings], batch: BatchStep | None, beside: AidOptions
    ) -> None:
        """Refuse ways of asking that pairs do not have.

        Raises:
            ConfigError: There is one.
        """
        if batch is not None or beside != AidOptions():
            raise ConfigError(
                "--pairwise asks each pair once in either order, at once; leave out --batch, "
                "--repeat, --drift and --bridge"
            )
        if len(judges) > 1:
            raise ConfigError(
                "--pairwise asks one judge; give one --judge, and judge once for each, with an "
                "--out of its own"
            )


@grouped
def judge(
    run_dir: Annotated[Path, typer.Argument(help="A run's folder or results file, or a pattern.")],
    judged: JudgedOptions,
    beside: AidOptions,
    how: AskingOptions,
    pairs: PairOptions,
    second: Annotated[
        str | None,
        typer.Argument(help="The second run (--pairwise), or the batch (--batch forget)."),
    ] = None,
) -> None:
    """Judge the saved responses of a run; writes new result and samples files beside the old.

    With --pairwise, judge two runs against each other: the first run's win rate is a new run.

    Exit code 3: verdicts are missing, or could not be stored; the same command asks for them
    again. With --batch collect the files are written once every verdict is there; exit code 3
    until then.
    """
    from eft_eval.cli import asking
    from eft_eval.judging.panel_run import judge_run_by_panel
    from eft_eval.judging.rejudge import judge_run
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.judging import judged as view
    from eft_eval.runs.saved import open_run

    pairs.check()
    if how.batch is BatchStep.forget and not pairs.pairwise:
        asking.forget_batch(second)
        return
    if second is not None and not pairs.pairwise:
        raise ConfigError(
            f"{second!r} is one word too many; a second run is for --pairwise, a batch for --batch "
            "forget"
        )
    selection = judged.selection()
    judges = judged.settings(how.environment())
    settings = judges[0]
    aids = beside.aids()
    if pairs.pairwise:
        from eft_eval.cli.pairwise import Given, judge_two

        pairs.check_asking(judges, how.batch, beside)
        given = Given(run_dir, second, selection, pairs.out, pairs.length_control)
        if not judge_two(given, settings, budget=how.budget, dry_run=how.dry_run):
            raise typer.Exit(_NOT_COMPLETE)
        return
    asking.check_options(how.batch, dry_run=how.dry_run, drift=aids.drift, bridge=aids.bridge)
    asking.check_panel(judges, bridge=aids.bridge)
    run = open_run(run_dir)
    works = [asking.Work(run, selection, one, aids.repeats) for one in judges]
    if how.dry_run:
        asking.dry_run(works, batch=how.batch is not None)
        return
    if how.batch is not None:
        complete = asking.run_batch(how.batch, works, how.budget)
        if how.batch is not BatchStep.collect:
            return
        if not complete:
            raise typer.Exit(_NOT_COMPLETE)
    limits = asking.budgets_of(how.budget, judges)
    if len(judges) > 1:
        found = judge_run_by_panel(run, judges, selection, budgets=limits, aids=aids)
    else:
        found = judge_run(run, selection, settings=settings, budget=limits[0], aids=aids)
    print_document(view(found.results, found.judges))
    if found.missing or found.unstored:
        raise typer.Exit(_NOT_COMPLETE)
