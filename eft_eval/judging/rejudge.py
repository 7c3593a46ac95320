"""Judging a saved run: responses from its samples files, new files beside the old.

Reads and writes lm-eval's files, yet imports neither lm_eval nor torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eft_eval.errors import EftEvalError
from eft_eval.judging.availability import preflight
from eft_eval.judging.comparison import compare
from eft_eval.judging.cost.budget import Budget
from eft_eval.judging.judge import JudgeItem, judge_responses, plan
from eft_eval.judging.judged_files import Judged, JudgedRun, write_judged
from eft_eval.judging.outcome import unjudged
from eft_eval.judging.progress import Bar, judging_progress
from eft_eval.judging.prompts.prompt import JudgePrompt
from eft_eval.judging.responses import (
    Assignment,
    Selection,
    assign,
    verdicts_of_another_judge,
)
from eft_eval.judging.self_consistency import Aids, ask_drift, ask_repeats
from eft_eval.judging.settings import JudgeSettings
from eft_eval.runs.saved import SavedRun, open_run
from eft_eval.runs.writing import check_writable
from eft_eval.streams import logger
from eft_eval.verdicts.store import VerdictStore, default_store_path
from eft_eval.verdicts.verdict import Status, Verdict

__all__ = ["AskedJudge", "JudgedRun", "judge_run", "say_missing"]

_Record = dict[str, Any]
_log = logger("eft_eval.judging")


def judge_run(
    run: SavedRun | Path | str,
    selection: Selection | None = None,
    *,
    settings: JudgeSettings | None = None,
    budget: Budget | None = None,
    aids: Aids | None = None,
) -> JudgedRun:
    """Judge the saved responses of a run.

    The new files are written once all responses were asked about, and no existing file is
    changed: for each results file that judged tasks are from, one of its own, which stands in its
    place. A response that got no verdict counts as missing; calling again asks for those only.
    Where all verdicts are stored, the judge need not be there any more. Metrics, sample lines and
    filters of pipelines that are not judged now stay as they were; means over groups of tasks
    that hold a judged one are left out.

    Args:
        run: An opened run, or what `eft_eval.runs.saved.open_run` takes.
        selection: What to judge, with which prompts; by default the run's own tasks with theirs.
        settings: The judge; by default that of the environment.
        budget: What may be spent; None is any sum.
        aids: Repeated asking, drift check and bridge; by default none of them.

    Raises:
        ConfigError: There is no such run, its folder cannot be written, or the judge or a prompt
            cannot be used.
        EftEvalError: A stored verdict cannot be read, or there is not a single verdict; then
            nothing is written.
    """
    run = run if isinstance(run, SavedRun) else open_run(run)
    assignments = assign(run, selection)
    check_writable(run.tasks[one.task].file for one in assignments)
    aids = (aids or Aids()).check()
    settings = settings or JudgeSettings.from_environment()
    old: list[list[list[Verdict]] | None] = [None] * len(assignments)
    if aids.bridge:  # before anybody is asked
        old = [verdicts_of_another_judge(run, one, settings.model) for one in assignments]
    judge = AskedJudge(settings, budget)
    judged = [
        judge.judge(assignment, aids, before)
        for assignment, before in zip(assignments, old, strict=True)
    ]
    verdicts = [verdict for one in judged for group in one.groups for verdict in group]
    missing = [v.error for v in verdicts if v.status is Status.api_error]
    if missing:
        counts = f"{len(missing)} of {len(verdicts)} responses have no verdict ({missing[0]})"
        say_missing([counts], verdicts)
    return write_judged(run, judged, len(missing))._replace(unstored=judge.unstored)


def say_missing(lines: Sequence[str], verdicts: Iterable[Verdict]) -> None:
    """Warn that verdicts are missing.

    Args:
        lines: How many, and why.
        verdicts: All that were asked for.

    Raises:
        EftEvalError: There is not a single one.
    """
    if not any(verdict.status.has_reply for verdict in verdicts):
        what = "; ".join(lines)
        raise EftEvalError(f"{what}; nothing is written, the same command asks again")
    for line in lines:
        _log.warning("%s; counted as missing, the same command asks for them again", line)


class AskedJudge:
    """A judge and its store, ready to be asked.

    Args:
        settings: The judge.
        budget: What may be spent; None is any sum.
        bar: Shows how far it is.
    """

    def __init__(
        self, settings: JudgeSettings, budget: Budget | None, bar: Bar = judging_progress
    ) -> None:
        self.settings = settings
        self._budget = budget
        self._bar = bar
        self._store = VerdictStore(default_store_path())
        self._looked_up = False

    @property
    def unstored(self) -> int:
        """How many verdicts could not be stored."""
        return self._store.unstored

    def judge(
        self, given: Assignment, aids: Aids, before: list[list[Verdict]] | None = None
    ) -> Judged:
        """Return the verdicts on all responses of a pipeline, and what is asked for besides.

        Args:
            given: What is judged.
            aids: What is done beside judging.
            before: Another judge's verdicts to compare with.
        """
        groups = self.ask(given, 0)
        notes: _Record = {}
        further: list[Verdict] = []

        def again(part: Assignment, repeat: int) -> list[list[Verdict]]:
            asked = self.ask(part, repeat)
            further.extend(verdict for group in asked for verdict in group)
            return asked

        if aids.repeats > 1:
            found = ask_repeats(given, groups, aids.repeats, again)
            notes["self_agreement"] = found.as_dict()
        if aids.drift:
            drift = ask_drift(given, groups, aids.drift, again)
            notes["drift"] = None if drift is None else drift.as_dict()
        if before is not None:
            bridge = compare(before, groups, given.measure, given.prompt_ids)
            notes["bridge"] = bridge.as_dict()
        return Judged(given, groups, further, notes, self.settings)

    def ask(self, given: Assignment, repeat: int) -> list[list[Verdict]]:
        """Return the verdicts on all responses of a pipeline, one asking's."""
        items = [item for group in given.items for item in group]
        verdicts = self.ask_about(items, given.prompt, f"{given.task} ({given.name})", repeat)
        rest = iter(verdicts)
        return [[next(rest) for _ in group] for group in given.items]

    def ask_about(
        self, items: Sequence[JudgeItem], prompt: JudgePrompt, what: str, repeat: int = 0
    ) -> list[Verdict]:
        """Return one verdict per item; the judge is looked up before its first call.

        Args:
            items: What is judged.
            prompt: The judge prompt.
            what: What people are told is judged.
            repeat: See `judge_responses`.
        """
        self._look_up(items, prompt, repeat)
        with self._bar(f"Judging {what} with {self.settings.model}", len(items)) as progress:
            return judge_responses(
                items,
                prompt,
                self.settings,
                self._store,
                progress,
                budget=self._budget,
                repeat=repeat,
            )

    def without_asking(self, given: Assignment, why: str) -> Judged:
        """Return the verdicts that are stored, all that can be read; the others are missing.

        Args:
            given: What is judged.
            why: Why nobody is asked.
        """
        items = [item for group in given.items for item in group]
        try:
            planned = plan(items, given.prompt, self.settings, self._store)
            keys, found = planned.keys, planned.found
        except EftEvalError:  # the store may be why nobody is asked
            keys, found = [""] * len(items), {}
        lost = unjudged(given.prompt, self.settings, f"not sent: {why}")
        rest = (found.get(key, replace(lost, key=key)) for key in keys)
        groups = [[next(rest) for _ in group] for group in given.items]
        return Judged(given, groups, [], {}, self.settings)

    def look_up(self, given: Assignment) -> None:
        """See whether the judge is there, once, and only if it must be asked something.

        Raises:
            ConfigError: It cannot be asked.
        """
        self._look_up([item for group in given.items for item in group], given.prompt, 0)

    def _look_up(self, items: Sequence[JudgeItem], prompt: JudgePrompt, repeat: int) -> None:
        if self._looked_up:
            return
        if plan(items, prompt, self.settings, self._store, repeat=repeat).missing:
            self._looked_up = True
            if warning := preflight(self.settings):
                _log.warning("%s", warning)
