"""What `eft-eval judge RUN_A RUN_B --pairwise` does: two runs judged against each other."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from eft_eval.cli import asking
from eft_eval.errors import ConfigError
from eft_eval.judging.pairwise import TwoRuns, judge_pairs, plan_pairs
from eft_eval.judging.responses import Selection
from eft_eval.judging.settings import JudgeSettings
from eft_eval.reports.renderers.terminal import print_document
from eft_eval.reports.views.pairwise import judged_pairs as view
from eft_eval.runs.saved import open_run
from eft_eval.verdicts.store import VerdictStore, default_store_path

__all__ = ["Given", "judge_two"]


class Given(NamedTuple):
    """What the command was given, unopened."""

    first: Path
    second: str | None
    selection: Selection
    out: Path | None
    length_control: bool


def judge_two(
    given: Given, settings: JudgeSettings, *, budget: float | None, dry_run: bool
) -> bool:
    """Judge two runs against each other, or say what that would take.

    Returns:
        Whether every pair has a verdict, and all are stored.

    Raises:
        ConfigError: A run is missing, or they cannot be compared.
    """
    if given.second is None:
        raise ConfigError("--pairwise judges two runs: eft-eval judge RUN_A RUN_B --pairwise")
    a, b = open_run(given.first), open_run(given.second)
    runs = TwoRuns(a, b, given.selection, given.out, given.length_control)
    if dry_run:
        store = VerdictStore(default_store_path(), writable=False)
        asking.say_plan(plan_pairs(runs, settings, store), settings, store)
        return True
    found = judge_pairs(runs, settings, budget=asking.budgets_of(budget, [settings])[0])
    print_document(view(found, runs))
    return not (found.missing or found.unstored)
