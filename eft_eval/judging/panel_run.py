"""Judging a saved run by a panel: its judges are asked at the same time, each with its own places.

What one judge cannot give costs nothing of the others.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.judging.asking import cancel_asking
from eft_eval.judging.cost.budget import Budget
from eft_eval.judging.judged_files import Judged, JudgedRun, write_judged
from eft_eval.judging.judges.lookup import EndpointDown
from eft_eval.judging.panel import judge_names, panel_agreement, panel_verdicts
from eft_eval.judging.progress import bars
from eft_eval.judging.rejudge import AskedJudge, say_missing
from eft_eval.judging.responses import Assignment, Selection, assign, panel_in, panel_of
from eft_eval.judging.self_consistency import Aids
from eft_eval.judging.settings import JudgeSettings
from eft_eval.runs.saved import SavedRun, open_run
from eft_eval.runs.writing import check_writable
from eft_eval.streams import logger
from eft_eval.verdicts.verdict import Status

__all__ = ["judge_run_by_panel"]

_log = logger("eft_eval.judging")

_LOOK_SECONDS = 0.1


def judge_run_by_panel(
    run: SavedRun | Path | str,
    judges: Sequence[JudgeSettings],
    selection: Selection | None = None,
    *,
    budgets: Sequence[Budget | None] | None = None,
    aids: Aids | None = None,
) -> JudgedRun:
    """Judge the saved responses of a run by several judges, as `judge_run` does by one.

    Each judge's verdicts have a pipeline of their own, ``NAME@JUDGE``; the pipeline ``NAME`` has
    the panel's: the judges' mean, of classes what most of them say, where every judge gave a score.
    A judge that fails leaves its responses without a verdict, and nothing else.

    Args:
        run: An opened run, or what `eft_eval.runs.saved.open_run` takes.
        judges: Two or more, each once.
        selection: What to judge, with which prompts; by default the run's own tasks with theirs.
        budgets: Per judge what may be spent; None is any sum.
        aids: Repeated asking and drift check, of each judge; there is no bridge from one judge to
            several.

    Raises:
        ConfigError: There is no such run, its folder cannot be written, a judge is given twice or
            cannot be used; then nobody was asked.
        EftEvalError: There is not a single verdict; then nothing is written.
    """
    aids = (aids or Aids()).check()
    models = [one.model for one in judges]
    names = dict(zip(judge_names(models), models, strict=True))
    if len(judges) < 2:
        raise ConfigError("a panel has two judges or more; give --judge for each")
    if aids.bridge:
        raise ConfigError("--bridge compares an old judge with one new; give one --judge")
    run = run if isinstance(run, SavedRun) else open_run(run)
    assignments = assign(run, selection)
    check_writable(run.tasks[one.task].file for one in assignments)
    given = [panel_of(one, names) for one in assignments]
    for pipeline, (_, members) in zip(assignments, given, strict=True):
        _check_names(run, pipeline, members)
    with bars() as bar:
        works = [
            _Work(AskedJudge(one, budget, bar), [members[place] for _, members in given], aids)
            for place, (one, budget) in enumerate(
                zip(judges, budgets or [None] * len(judges), strict=True)
            )
        ]
        with ThreadPoolExecutor(len(works), thread_name_prefix="eft-look-up") as pool:
            for looked in [pool.submit(work.look_up) for work in works]:
                looked.result()  # before anybody is asked
        _at_the_same_time(works)
    missing = _missing(works)
    judged: list[Judged] = []
    for place, (whole, _) in enumerate(given):
        each = [work.judged[place] for work in works]
        by_judge = {name: one.groups for name, one in zip(names, each, strict=True)}
        found = panel_agreement(by_judge, whole.measure, whole.prompt_ids)
        notes = {"panel": found.as_dict()}
        judged += [Judged(whole, panel_verdicts(by_judge), [], notes, None), *each]
    unstored = sum(work.asked.unstored for work in works)
    return write_judged(run, judged, missing)._replace(unstored=unstored)


def _check_names(run: SavedRun, pipeline: Assignment, members: Sequence[Assignment]) -> None:
    """Refuse pipelines of judges that would take the place of others.

    Raises:
        ConfigError: The task has a filter of that name, which is no judge of its panel.
    """
    known = {
        str(one["name"])
        for one in run.tasks[pipeline.task].config.get("filter_list") or ()
        if panel_in(one) is None
    }
    for one in members:
        if one.name in known:
            raise ConfigError(f"task {one.task!r} has a filter {one.name!r} already; rename it")


class _Work:
    """What one judge does, and what came of it; never raises while it is asked."""

    def __init__(self, asked: AskedJudge, given: Sequence[Assignment], aids: Aids) -> None:
        self.asked = asked
        self.judged: list[Judged] = []
        self._given = given
        self._aids = aids
        self._failure: str | None = None
        self._cancelled = threading.Event()

    def look_up(self) -> None:
        """See whether the judge is there; where nobody answers, the others are asked all the same.

        Raises:
            ConfigError: It cannot be asked.
        """
        for given in self._given:
            try:
                self.asked.look_up(given)
            except EndpointDown as error:
                self._failure = str(error)

    def run(self) -> None:
        """Ask about every pipeline; one that fails has no verdicts."""
        for given in self._given:
            if self._cancelled.is_set():
                return
            if self._failure is None:
                try:
                    self.judged.append(self.asked.judge(given, self._aids))
                    continue
                except EftEvalError as error:
                    self._failure = str(error)
                except Exception as error:  # noqa: BLE001  # the other judges' work must be kept
                    _log.error("%s: %r; please report this", self._model, error, exc_info=True)
                    self._failure = f"{type(error).__name__}: {error}"
            self.judged.append(self.asked.without_asking(given, self._failure))

    def cancel(self) -> None:
        """Ask for nothing more."""
        self._cancelled.set()

    @property
    def _model(self) -> str:
        return self.asked.settings.model


def _at_the_same_time(works: Sequence[_Work]) -> None:
    """Let every judge be asked, each in a thread of its own; an interrupt ends all of them."""
    with ThreadPoolExecutor(len(works), thread_name_prefix="eft-panel") as pool:
        futures = [pool.submit(work.run) for work in works]
        try:
            while wait(futures, timeout=_LOOK_SECONDS).not_done:
                pass
        except BaseException:
            for work in works:
                work.cancel()
            while wait(futures, timeout=_LOOK_SECONDS).not_done:
                cancel_asking()
            raise
        for future in futures:
            future.result()


def _missing(works: Sequence[_Work]) -> int:
    """Return how many verdicts are missing; one line for each judge that lacks some.

    Raises:
        EftEvalError: There is not a single verdict.
    """
    lost, verdicts, lines = 0, [], []
    for work in works:
        every = [v for one in work.judged for group in one.groups for v in group]
        missing = [v.error for v in every if v.status is Status.api_error]
        lost += len(missing)
        verdicts += every
        if missing:
            counts = f"{len(missing)} of {len(every)} responses have no verdict ({missing[0]})"
            lines.append(f"judge {work.asked.settings.model}: {counts}")
    if lines:
        say_missing(lines, verdicts)
    return lost
