"""What a study would run, and the families that there are."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from eft_eval.recipe import canonical_name, needs
from eft_eval.reports.document import Document, Table, Texts, cells, columns, warnings
from eft_eval.reports.numbers import NONE
from eft_eval.secrets import without_secret_flags, without_secrets
from eft_eval.study.family import MEMBERS, Family
from eft_eval.study.folder import StudyFolder

__all__ = ["families", "study_plan"]


def study_plan(folder: StudyFolder) -> Document:
    """Return arms, memory, and the first run's command."""
    plan = folder.plan
    rows = []
    for arm in plan.arms:
        runs = [run for run in plan.runs if run.arm == arm]
        done = sum(map(folder.is_done, runs))
        need = needs(arm.recipe)
        members = len({spec.model for _, spec in arm.recipe.members})
        size = "?" if need.weight_bytes is None else f"{need.weight_bytes / 2**30:.2f} GiB"
        rows.append(
            cells(
                arm.name, canonical_name(arm.recipe), str(members), size, f"{done} of {len(runs)}"
            )
        )
    heads = columns("arm", "composite", numbers=("models", "weights", "runs done"))
    design = plan.design
    limit = "all documents" if design.limit is None else f"--limit {design.limit:.15g}"
    known = [seconds for run in plan.runs if (seconds := folder.seconds(run)) is not None]
    left = len(plan.runs) - len(known)
    time = f"about {left * sum(known) / len(known):.0f} s of them left" if known else "time unknown"
    seeds = "1 seed" if len(design.seeds) == 1 else f"{len(design.seeds)} seeds"
    lines = (
        f"{design.analysis} on {plan.family.name}: {len(plan.arms)} arms × {seeds} = "
        f"{len(plan.runs)} runs of {', '.join(without_secrets(plan.tasks))} ({limit}); {time}",
        f"folder: {folder.path}; one run at a time needs the largest arm's weights (caches on top)",
        "what judging would cost: `eft-eval judge` RUN with its dry run, after the first arm",
        "first command: "
        + shlex.join(
            without_secret_flags(
                plan.command(
                    plan.runs[0], folder.place(plan.runs[0]), folder.responses(plan.runs[0])
                )
            )
        ),
    )
    family = plan.family
    unchecked = [f"{family.name}: unchecked are {family.unchecked}"] if family.unchecked else []
    return (
        Table(f"Study {design.analysis}", heads, tuple(rows)),
        Texts(lines),
        *warnings(unchecked),
    )


def families(found: Sequence[Family]) -> Document:
    """Return the families with their models."""
    rows = []
    for one in found:
        models = [
            f"{name}: {one.members[name].model}" if name in one.members else f"{name}: {NONE}"
            for name in MEMBERS[:4]
        ]
        rows.append(cells(one.name, one.description, "; ".join(models), one.unchecked or ""))
    table = Table("Families", columns("name", "models", "members", "unchecked"), tuple(rows))
    lines = (
        "A family of your own is a YAML file of four lines, small-base: MODEL, small-tuned: …, "
        "large-base: …, large-tuned: …, or the options of these names.",
    )
    return table, Texts(lines)
