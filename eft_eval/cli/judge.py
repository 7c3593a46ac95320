"""`eft-eval judge`: judge the saved responses of a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from eft_eval.cli.options import BatchStep
from eft_eval.errors import ConfigError, nearest

_MAPPED = ("query",)
_NOT_COMPLETE = 3


class ResponseSource(str, Enum):
    """Which text of a sample is judged."""

    resps = "resps"
    filtered_resps = "filtered_resps"


def judge(
    run_dir: Annotated[Path, typer.Argument(help="A run's folder or results file, or a pattern.")],
    batch_id: Annotated[
        str | None, typer.Argument(help="For --batch forget: the batch to give up.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="Model at the endpoint, hf:MODEL or scripted:FILE.")
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="Judge prompt (name or file) in place of the tasks' own; repeatable."),
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="Judge this task only; repeatable.")
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", help="query=PATH in a sample, such as query=doc.question."),
    ] = None,
    response: Annotated[
        ResponseSource | None,
        typer.Option(help="Judge raw or filtered responses; by default as before, at first raw."),
    ] = None,
    filter_: Annotated[
        str | None,
        typer.Option("--filter", help="Whose filtered_resps, where there are several filters."),
    ] = None,
    repeat: Annotated[
        int, typer.Option(help="Ask so often in all, to see whether the judge agrees with itself.")
    ] = 1,
    drift: Annotated[
        int, typer.Option(help="Ask again about so many prompts, to compare with what is stored.")
    ] = 0,
    bridge: Annotated[
        bool,
        typer.Option(help="Compare with the verdicts of the judge before: moving to a new one."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print calls, tokens and cost; ask nobody.")
    ] = False,
    budget: Annotated[
        float | None, typer.Option(help="US dollars that this command may spend at most.")
    ] = None,
    batch: Annotated[
        BatchStep | None,
        typer.Option(help="Ask through the Batch API, at half the price, within a day."),
    ] = None,
) -> None:
    """Judge the saved responses of a run; writes new result and samples files beside the old.

    Exit code 3: verdicts are missing, or could not be stored; the same command asks for them
    again. With --batch collect the files are written once every verdict is there; exit code 3
    until then.
    """
    from eft_eval.cli import asking
    from eft_eval.judging.rejudge import judge_run
    from eft_eval.judging.responses import Selection
    from eft_eval.judging.self_consistency import Aids
    from eft_eval.judging.settings import JudgeSettings
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.judging import judged as view
    from eft_eval.runs.saved import open_run

    if batch is BatchStep.forget:
        asking.forget_batch(batch_id)
        return
    if batch_id is not None:
        raise ConfigError(f"{batch_id!r} is one word too many; a batch is named for --batch forget")
    selection = Selection(
        prompts=tuple(prompt or ()),
        tasks=tuple(task or ()),
        query=_mapping(map_ or ()).get("query"),
        response=None if response is None else response.value,
        filter=filter_,
    )
    env = dict(os.environ)
    if dry_run and not env.get("OPENAI_API_KEY", "").strip():
        env["OPENAI_API_KEY"] = "none"  # a dry run asks nobody, so that it needs no key
    settings = JudgeSettings.from_environment(env, judge=judge)
    aids = Aids(repeats=repeat, drift=drift, bridge=bridge).check()
    asking.check_options(batch, dry_run=dry_run, drift=drift, bridge=bridge)
    run = open_run(run_dir)
    work = asking.Work(run, selection, settings, repeat)
    if dry_run:
        asking.dry_run(work, batch=batch is not None)
        return
    if batch is not None:
        complete = asking.run_batch(batch, work, budget)
        if batch is not BatchStep.collect:
            return
        if not complete:
            raise typer.Exit(_NOT_COMPLETE)
    limit = asking.budget_of(budget, settings)
    judged = judge_run(run, selection, settings=settings, budget=limit, aids=aids)
    print_document(view(judged.results, judged.judges))
    if judged.missing or judged.unstored:
        raise typer.Exit(_NOT_COMPLETE)


def _mapping(given: Sequence[str]) -> dict[str, str]:
    """Read ``--map name=PATH`` options.

    Raises:
        ConfigError: One is not of that form, or names what judge prompts do not show.
    """
    found = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or not path or name not in _MAPPED:
            hint = nearest(name, _MAPPED) if equals else ""
            raise ConfigError(f"--map is {text!r}{hint}; it must be query=PATH: query=doc.question")
        found[name] = path
    return found
