"""What else differs between two runs: conditions that may move scores by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eft_eval.comparing.comparison import Change
from eft_eval.runs.conditions import bears_on_scores, conditions_of
from eft_eval.runs.records import Run

__all__ = ["changes_between", "unlike_sampling", "warnings_of"]


def changes_between(baseline: Run, candidate: Run) -> tuple[Change, ...]:
    """Return the conditions that both runs tell and that differ; those that matter come first."""
    before, after = conditions_of(baseline), conditions_of(candidate)
    found = [
        Change(name, before[name], after[name], bears_on_scores(name))
        for name in before
        if name in after and before[name] != after[name]
    ]
    return tuple(sorted(found, key=lambda one: not one.bears_on_scores))


def warnings_of(changes: Sequence[Change]) -> Iterator[str]:
    """Yield a sentence per condition that may move scores by itself."""
    for one in changes:
        if one.bears_on_scores:
            yield (
                f"{one.what} differs: {one.baseline} in the baseline, {one.candidate} in the "
                "candidate"
            )


def unlike_sampling(runs: Sequence[Run], names: Sequence[str]) -> Iterator[str]:
    """Yield a sentence per task whose responses the runs sampled by different rules.

    Args:
        runs: The runs.
        names: What to call them.
    """
    by_task: dict[str, dict[str, list[str]]] = {}
    for run, name in zip(runs, names, strict=True):
        for condition, rule in conditions_of(run).items():
            if condition.startswith("sampling of "):
                rules = by_task.setdefault(condition.removeprefix("sampling of "), {})
                rules.setdefault(rule, []).append(name)
    for task, rules in by_task.items():
        if len(rules) > 1:
            listed = "; ".join(f"{', '.join(who)}: {rule}" for rule, who in rules.items())
            yield f"{task}: not all runs sampled by the same rule, so they differ in it: {listed}"
