"""`eft-eval study` and `eft-eval families`: the paper's experiments on any family."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eft_eval.cli.options import grouped
from eft_eval.errors import ConfigError
from eft_eval.streams import say

if TYPE_CHECKING:
    from eft_eval.study.folder import StudyFolder
    from eft_eval.study.plan import StudyPlan
    from eft_eval.study.running import Outcome

_NOT_WHOLE = 3


@dataclass(frozen=True)
class FamilyOptions:
    """Whose models are studied."""

    family: Annotated[
        str | None,
        typer.Option(
            help="A family's name, or its YAML file; several with commas: `scaling` averages."
        ),
    ] = None
    small_base: Annotated[str | None, typer.Option(help="Small pre-trained model.")] = None
    small_tuned: Annotated[str | None, typer.Option(help="Fine-tuned from it.")] = None
    large_base: Annotated[str | None, typer.Option(help="Large pre-trained model.")] = None
    large_tuned: Annotated[str | None, typer.Option(help="Fine-tuned from it.")] = None


@dataclass(frozen=True)
class DesignOptions:
    """What of the study is changed."""

    tasks: Annotated[str | None, typer.Option(help="Tasks of lm-eval, with commas.")] = None
    seeds: Annotated[str | None, typer.Option(help="Seeds of the noise, with commas.")] = None
    limit: Annotated[float | None, typer.Option(help="Documents per task, or a share.")] = None
    alpha: Annotated[
        str | None, typer.Option(help="Grid of `frontier`: FROM:TO:STEP, or values with commas.")
    ] = None
    weight: Annotated[str | None, typer.Option(help="Grid of `weights`, likewise.")] = None
    documents: Annotated[
        int | None, typer.Option(help="Responses that tokens and sequence look into, per task.")
    ] = None
    batch_size: Annotated[str | None, typer.Option(help="Rows at a time.")] = None
    engine: Annotated[str | None, typer.Option(help="eft or eft-vllm.")] = None
    gen_kwargs: Annotated[str | None, typer.Option(help="As lm-eval takes them.")] = None
    judge: Annotated[
        str | None, typer.Option(help="The judge's name; by default EFT_JUDGE_MODEL.")
    ] = None


@dataclass(frozen=True)
class RunningOptions:
    """How it is run."""

    out: Annotated[
        Path | None, typer.Option(help="Folder of the study; the same goes on with it.")
    ] = None
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time; each loads its models.")] = 1
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show arms, passes, memory and what judging costs; run nothing."
        ),
    ] = False
    hardware: Annotated[
        str | None,
        typer.Option(help="With --dry-run: memory and time there, such as 8xA100-80GB or CPU."),
    ] = None


@grouped
def study(
    name: Annotated[
        str,
        typer.Argument(
            help="scaling, frontier, truncation, speed, tokens, sequence, weights, or a YAML file."
        ),
    ],
    family: FamilyOptions,
    design: DesignOptions,
    running: RunningOptions,
) -> None:
    """Run one of the paper's experiments: arms × tasks, as plain lm-eval runs in one folder.

    Ends with exit code 3 where an arm failed or lacks verdicts; the same command goes on from
    there, and redoes nothing that is whole.
    """
    plans = [_plan(name, one, design) for one in _each(family)]
    folders = _folders(plans, running.out)
    if running.dry_run:
        _show_plans(folders, running.hardware)
        return
    if running.hardware is not None:
        raise ConfigError("--hardware is of --dry-run: a study runs on this machine")
    for folder in folders:
        if not any(map(folder.is_done, folder.plan.runs)):  # else tasks have been read already
            from eft_eval.cli.study_ahead import check_ahead

            check_ahead(folder.plan)
            break
    whole = [_run(folder, running.jobs) for folder in folders]
    if len(folders) > 1:
        _write_averages(folders)
    if not all(whole):
        raise typer.Exit(_NOT_WHOLE)


def _each(options: FamilyOptions) -> list[FamilyOptions]:
    """Return the options of every family that is named, of a list with commas."""
    if options.family is None:
        return [options]
    names = [name.strip() for name in options.family.split(",") if name.strip()]
    if not names:
        raise ConfigError(f"--family {options.family!r} names no family")
    return [replace(options, family=name) for name in names]


def _folders(plans: Sequence[StudyPlan], out: Path | None) -> list[StudyFolder]:
    """Return a study's folder, or one for each of several families, checked."""
    from eft_eval.study.averages import check_families
    from eft_eval.study.folder import StudyFolder

    names = "+".join(plan.family.name for plan in plans)
    path = out or Path(f"study-{plans[0].design.analysis}-{names}")
    if len(plans) == 1:
        folders = [StudyFolder(path, plans[0])]
    else:
        check_families(plans)
        if StudyFolder(path, plans[0]).has_begun:
            raise ConfigError(f"{path} holds the study of one family; choose another --out")
        folders = [StudyFolder(path / plan.family.name, plan) for plan in plans]
        ours = {folder.path.name for folder in folders}
        others = path.is_dir() and any(one.name not in ours for one in path.iterdir())
        if others and not any(folder.has_begun for folder in folders):
            raise ConfigError(f"{path} is not empty and holds no study; choose another --out")
    for folder in folders:
        folder.check()
    return folders


def _show_plans(folders: Sequence[StudyFolder], hardware: str | None) -> None:
    from eft_eval.cli.study_ahead import needs_of
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.study_plan import study_plan

    for folder in folders:
        print_document(study_plan(folder, needs_of(folder, hardware)))


def _write_averages(folders: Sequence[StudyFolder]) -> None:
    from eft_eval.cli.study_output import write_outputs
    from eft_eval.reports.views.study_families import families_page
    from eft_eval.study.averages import averages_of

    found = averages_of(folders)
    write_outputs(folders[0].path.parent, families_page(found), found.as_dict())


def _plan(name: str, family: FamilyOptions, options: DesignOptions) -> StudyPlan:
    from eft_eval.study.design import find_design, own_family
    from eft_eval.study.frontier import check_frontier
    from eft_eval.study.plan import plan_study
    from eft_eval.study.scaling import check_scaling
    from eft_eval.study.sequence import check_sequence

    models = {key.replace("_", "-"): value for key, value in vars(family).items()}
    named = models.pop("family")
    own = own_family(models)
    if own is not None and named is not None:
        raise ConfigError("give --family, or the models one by one, not both")
    changes: dict[str, Any] = {"family": own or named}
    for key, value in vars(options).items():
        changes[key.replace("_", "-")] = value
    judge = changes.pop("judge") or os.environ.get("EFT_JUDGE_MODEL", "")
    if options.tasks is not None and not options.tasks.replace(",", "").strip():
        raise ConfigError(f"--tasks {options.tasks!r} names no task")
    if options.seeds is not None:
        changes["seeds"] = _whole_numbers(options.seeds)
    plan = plan_study(find_design(name, changes), judge)
    checks = {"scaling": check_scaling, "frontier": check_frontier, "sequence": check_sequence}
    if plan.design.analysis in checks:
        checks[plan.design.analysis](plan)
    if plan.design.engine == "eft-vllm":
        from eft_eval.study.engines import check_engine

        check_engine(plan)
    return plan


def _whole_numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds {text}: expected whole numbers, such as 1,2,3") from None


def _run(folder: StudyFolder, jobs: int) -> bool:
    """Run what is not whole and write the results; whether all is whole."""
    from eft_eval.cli.study_output import write_outputs
    from eft_eval.reports.views.study import study_page
    from eft_eval.study.results import study_results
    from eft_eval.study.running import Settings, run_arms

    def waiting() -> None:
        say(f"{folder.path}: another process runs this study; waiting for it", sys.stderr)

    judge = folder.plan.judge
    with folder.held(waiting) as lock:
        environment = {"EFT_JUDGE_MODEL": judge} if judge else {}
        outcomes = run_arms(folder, Settings(jobs, environment, lock, _tell))
        _prepare(folder)
        results = study_results(folder)
        write_outputs(folder.path, study_page(results), results.as_dict())
    wrong = [one for one in outcomes if not one.is_whole]
    for one in wrong:
        say(f"eft-eval: {one.run.name}: {one.state}: {one.reason}", sys.stderr)
    if wrong:
        say(
            f"eft-eval: {len(wrong)} of {len(outcomes)} runs are not whole; the same command goes "
            "on with them",
            sys.stderr,
        )
    return not wrong


def _prepare(folder: StudyFolder) -> None:
    """Let models that are asked again run as the runs did, where the study asks any."""
    if folder.plan.design.analysis not in ("tokens", "sequence"):
        return
    from transformers.utils import logging

    from eft_eval.model_adapters.settings import limit_threads, pick_device

    logging.disable_progress_bar()
    limit_threads(folder.plan.arms[0].recipe, pick_device(None))


def _tell(outcome: Outcome) -> None:
    text = f"[{outcome.number}/{outcome.total}] {outcome.run.name}: {outcome.state}"
    if outcome.state == "done":
        text += f" in {_duration(outcome.seconds)}"
    elif outcome.reason:
        text += f" ({outcome.reason})"
    if outcome.left and outcome.state != "kept":
        text += f"; about {_duration(outcome.left)} left"
    say(text, sys.stderr)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def families() -> None:
    """List the families that `eft-eval study --family` knows."""
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.study_plan import families as view
    from eft_eval.study.family import family_names, find_family

    print_document(view([find_family(name) for name in family_names()]))
