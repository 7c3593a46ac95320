"""What a study would run, and the families that there are."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from eft_eval.recipe import canonical_name
from eft_eval.recipe import needs as weight_needs
from eft_eval.reports.document import Document, Table, Texts, cells, columns, warnings
from eft_eval.reports.numbers import NONE
from eft_eval.reports.views.plans import duration, gib, judging_line
from eft_eval.secrets import without_secret_flags, without_secrets
from eft_eval.study.family import MEMBERS, Family
from eft_eval.study.folder import StudyFolder
from eft_eval.study.needs import ArmNeeds, StudyNeeds, models_of, passes_of

__all__ = ["families", "study_plan"]


def study_plan(folder: StudyFolder, needs: StudyNeeds) -> Document:
    """Return arms, passes, memory, time, what judging costs, and the first run's command."""
    plan, work = folder.plan, needs.workload
    planned = any(one.plan is not None for one in needs.arms)
    names = ("models", "weights", "passes a run", "runs done")
    heads = columns(
        "arm", "composite", numbers=(*names, *(("memory", "a run takes") if planned else ()))
    )
    rows = []
    for one in needs.arms:
        runs = [run for run in plan.runs if run.arm == one.arm]
        size = weight_needs(one.arm.recipe).weight_bytes
        row = [
            one.arm.name,
            canonical_name(one.arm.recipe),
            str(models_of(one.arm)),
            "?" if size is None else f"{size / 2**30:.2f} GiB",
            "?" if work is None else f"{passes_of(one.arm, work):,.0f}",
            f"{sum(map(folder.is_done, runs))} of {len(runs)}",
        ]
        if planned:
            row += _memory_and_time(one)
        rows.append(cells(*row))
    wrong = [f"{one.arm.name}: {one.problem}" for one in needs.arms if one.problem]
    if needs.problem:
        wrong.append(f"what the tasks ask cannot be counted here: {needs.problem}")
    if plan.family.unchecked:
        wrong.append(f"{plan.family.name}: unchecked are {plan.family.unchecked}")
    table = Table(f"Study {plan.design.analysis}", heads, tuple(rows))
    return table, Texts(tuple(_lines(folder, needs))), *warnings(wrong)


def _memory_and_time(one: ArmNeeds) -> tuple[str, str]:
    if one.plan is None:
        return NONE, NONE
    size, seconds = f"{gib(one.plan.memory.total)} GiB", _seconds(one)
    return (f"{size}: does not fit", NONE) if seconds is None else (size, duration(seconds))


def _lines(folder: StudyFolder, needs: StudyNeeds) -> Iterator[str]:
    plan, design = folder.plan, folder.plan.design
    limit = "all documents" if design.limit is None else f"--limit {design.limit:.15g}"
    seeds = "1 seed" if len(design.seeds) == 1 else f"{len(design.seeds)} seeds"
    yield (
        f"{design.analysis} on {plan.family.name}: {len(plan.arms)} arms × {seeds} = "
        f"{len(plan.runs)} runs of {', '.join(without_secrets(plan.tasks))} ({limit})"
    )
    if (work := needs.workload) is not None:
        asked = []
        if work.responses:
            asked.append(
                f"{work.responses:,} responses of up to {work.response_tokens:,.0f} tokens to "
                f"prompts of {work.prompt_tokens:,.0f}"
            )
        if work.scored:
            asked.append(f"{work.scored:,} log-probabilities")
        yield f"a run asks for {' and '.join(asked) or 'nothing'}"
        yield "passes: of one row through one model, without drafts, at most"
    yield _time_left(folder, needs)
    if needs.judging is None:
        yield "judge: nobody is asked" if needs.workload is not None else "judge: not counted"
    else:
        said = judging_line(needs.judging, needs.judge)
        yield f"{said}; for the runs that are left, responses of full length"
    yield f"folder: {folder.path}; a run needs the weights of its arm, and caches on top"
    first = plan.runs[0]
    command = plan.command(first, folder.place(first), folder.responses(first))
    yield "first command: " + shlex.join(without_secret_flags(command))


def _time_left(folder: StudyFolder, needs: StudyNeeds) -> str:
    """Return how long the runs that are left take: by those that are whole, else by the plans."""
    runs = folder.plan.runs
    known = [seconds for run in runs if (seconds := folder.seconds(run)) is not None]
    left = [run.arm for run in runs if not folder.is_done(run)]
    if known:
        mean = sum(known) / len(known)
        return (
            f"time: about {duration(len(left) * mean)} left, as runs took {duration(mean)} so far"
        )
    planned = {one.arm.name: _seconds(one) for one in needs.arms}
    estimates = [planned[arm.name] for arm in left]
    if None in estimates:
        if any(one.plan or one.problem for one in needs.arms):
            return "time: unknown: not every arm that is left has one"
        return "time: unknown; --hardware NAME estimates it, and memory"
    in_all = sum(one for one in estimates if one is not None)
    return f"time: about {duration(in_all)}, loading not counted (docs/scale.md)"


def _seconds(one: ArmNeeds) -> float | None:
    """Return how long a run takes by its plan; None where there is none, or it does not fit."""
    if one.plan is None or not one.plan.memory.fits:
        return None
    return one.plan.speed.generation_seconds + one.plan.speed.scoring_seconds


def families(found: Sequence[Family]) -> Document:
    """Return the families with their models."""
    rows = []
    for one in found:
        models = [
            f"{name}: {one.members[name].model}" if name in one.members else f"{name}: {NONE}"
            for name in MEMBERS[:4]
        ]
        models += [f"{name}: {size.base.model}" for name, size in one.between.items()]
        rows.append(cells(one.name, one.description, "; ".join(models), one.unchecked or ""))
    table = Table("Families", columns("name", "models", "members", "unchecked"), tuple(rows))
    lines = (
        "A family of your own is a YAML file of four lines, small-base: MODEL, small-tuned: …, "
        "large-base: …, large-tuned: …, or the options of these names.",
    )
    return table, Texts(lines)
