"""What `eft-eval judge` does besides asking at once: dry runs, budgets and the Batch API."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from eft_eval.cli.options import BatchStep
from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.judging.availability import preflight
from eft_eval.judging.batch.batch import BatchRequest, JobStatus, collect, forget, status, submit
from eft_eval.judging.batch.client import check_batch
from eft_eval.judging.batch.jobs import BatchJob
from eft_eval.judging.cost.budget import Budget, Purse
from eft_eval.judging.cost.estimate import Estimate, Planned, estimate, plan_run
from eft_eval.judging.judge import ABSENT, UNFINISHED
from eft_eval.judging.judges.registry import budget_for, judge_for
from eft_eval.judging.outcome import is_failure
from eft_eval.judging.panel import judge_names
from eft_eval.judging.responses import Selection, assign
from eft_eval.judging.settings import JudgeSettings
from eft_eval.runs.saved import SavedRun
from eft_eval.runs.writing import check_writable
from eft_eval.streams import logger, say
from eft_eval.verdicts.store import VerdictStore, default_store_path

__all__ = [
    "Work",
    "budgets_of",
    "check_options",
    "check_panel",
    "dry_run",
    "forget_batch",
    "run_batch",
    "say_plan",
]

_log = logger("eft_eval.judging")


class Work(NamedTuple):
    """What is to be judged, by whom."""

    run: SavedRun
    selection: Selection
    settings: JudgeSettings
    repeats: int

    def plan(self, store: VerdictStore) -> list[Planned]:
        """Return what is stored and what is to be asked."""
        assignments = assign(self.run, self.selection)
        return plan_run(assignments, self.settings, store, self.repeats)


def budgets_of(
    usd: float | None, judges: Sequence[JudgeSettings], *, batch: bool = False
) -> list[Budget | None]:
    """Return the budget that ``--budget`` asks for, for each judge; all spend of one sum."""
    if usd is None:
        return [None] * len(judges)
    purse = Purse(usd)
    return [budget_for(purse, one, batch=batch) for one in judges]


def dry_run(works: Sequence[Work], *, batch: bool) -> None:
    """Print calls, tokens and cost, of each judge and of all; asks nobody."""
    store = VerdictStore(default_store_path(), writable=False)
    found = [say_plan(work.plan(store), work.settings, store, batch=batch) for work in works]
    if len(found) > 1:
        say(f"all {len(found)} judges    {_total(found)}")


def _total(found: Sequence[Estimate]) -> str:
    calls = f"{sum(one.new for one in found)} new calls, {sum(one.stored for one in found)} stored"
    costs = [(one.cost_usd, one.worst_usd) for one in found]
    known = [(cost, worst) for cost, worst in costs if cost is not None and worst is not None]
    if len(known) < len(costs):
        return f"{calls}, cost unknown"
    cost, worst = (sum(column) for column in zip(*known, strict=True))
    return f"{calls}, {cost:.4f} USD, at most {worst:.4f}"


def say_plan(
    planned: Sequence[Planned], settings: JudgeSettings, store: VerdictStore, *, batch: bool = False
) -> Estimate:
    """Print calls, tokens and cost of a plan, and return them."""
    found = estimate(planned, settings, store, batch=batch)
    say(f"judge           {settings.model} at {judge_for(settings).place}")
    for one in planned:
        again = f", asking {one.repeat + 1}" if one.repeat else ""
        counts = f"{len(one.plan.missing)} new, {len(one.plan.stored)} stored"
        lacking = one.plan.found.keys() - one.plan.stored
        if unreadable := len(lacking - {ABSENT, UNFINISHED}):
            counts += f", {unreadable} unreadable in the store"
        if ABSENT in lacking:
            counts += f", {one.plan.keys.count(ABSENT)} without a response"
        if UNFINISHED in lacking:
            counts += f", {one.plan.keys.count(UNFINISHED)} unfinished"
        say(f"                {one.pipeline.task}, {one.pipeline.name}{again}: {counts}")
    say(f"calls           {found.new} new, {found.stored} stored")
    say(f"prompt tokens   {found.prompt_tokens:,} ({found.prompt_rule})")
    say(f"reply tokens    {found.reply_tokens:,} ({found.reply_rule})")
    if found.cost_usd is None or found.worst_usd is None:
        say(
            f"cost            unknown: no price of {settings.model} in the price table "
            "(EFT_JUDGE_PRICES names a file with more)"
        )
    elif found.price_table is None:
        say("cost            0 USD (in this process)")
    else:
        kind = "batch prices" if batch else "list prices"
        say(
            f"cost            {found.cost_usd:.4f} USD, at most {found.worst_usd:.4f} "
            f"({kind} of {found.price_table})"
        )
    return found


def run_batch(step: BatchStep, works: Sequence[Work], usd: float | None) -> bool:
    """Submit, look or collect, for each judge; prints what happened.

    Returns:
        Whether all verdicts of the run are stored now.

    Raises:
        ConfigError: A judge has no Batch API; then nothing is sent.
        EftEvalError: Some batch could not be read; all others were.
    """
    judges = [work.settings for work in works]
    for one in judges:
        check_batch(one)
    store = VerdictStore(default_store_path())
    unread: list[BatchJob] = []
    places = {judge_for(one).place: one for one in judges}  # each has its batches of any judge
    if step is BatchStep.submit:
        for work, budget in zip(works, budgets_of(usd, judges, batch=True), strict=True):
            _submit(work, store, budget)
    elif step is BatchStep.status:
        looked = [status(one, store, places) for one in places.values()]
        _print_open([job for one in looked for job in one.open])
        unread = [job for one in looked for job in one.unread]
    else:
        unread = _collect(places, store)
    if unread:
        names = ", ".join(str(job.batch_id) for job in unread)
        raise EftEvalError(
            f"batches that could not be read stay open: {names}; `eft-eval judge RUN_DIR --batch "
            "forget BATCH_ID` gives one up, and its requests are then asked anew"
        )
    return not any(one.plan.missing for work in works for one in work.plan(store))


def _submit(work: Work, store: VerdictStore, budget: Budget | None) -> None:
    planned = work.plan(store)
    check_writable(work.run.tasks[one.pipeline.task].file for one in planned)
    requests = {
        key: BatchRequest(text, one.pipeline.prompt)
        for one in planned
        for key, text in one.plan.missing.items()
    }
    store.discard([key for one in planned for key in one.plan.failures], is_failure)
    if requests and (warning := preflight(work.settings)):
        _log.warning("%s", warning)
    done = submit(requests, work.settings, store, budget=budget)
    for job in done.jobs:
        say(f"submitted {job.batch_id}: {job.requests} requests to {job.model}")
    if done.elsewhere:
        say(f"{done.elsewhere} requests are on their way already")
    if done.unaffordable:
        say(f"{done.unaffordable} requests left out: --budget might not suffice for them")
    if not requests:
        say(f"nothing to submit: every verdict of {work.settings.model} is stored")


def forget_batch(batch_id: str | None) -> None:
    """Give up an open batch.

    Raises:
        ConfigError: There is no such batch.
    """
    if batch_id is None:
        raise ConfigError(
            "--batch forget needs a batch: eft-eval judge RUN_DIR BATCH_ID --batch forget"
        )
    job = forget(batch_id, VerdictStore(default_store_path()))
    say(f"forgotten {batch_id}: {job.requests} requests may be asked anew")


def _collect(places: Mapping[str, JudgeSettings], store: VerdictStore) -> list[BatchJob]:
    found = [collect(one, store, places) for one in places.values()]
    failures: Counter[str] = Counter()
    for done in found:
        for job in done.jobs:
            say(f"collected {job.batch_id}: {job.status}")
        failures.update(done.failures)
    say(f"{sum(done.verdicts for done in found)} verdicts stored")
    for reason, count in failures.most_common():
        say(f"{count} requests without a reply ({reason}); submit again to ask for them")
    _print_open([job for done in found for job in done.open])
    return [job for done in found for job in done.unread]


def _print_open(found: list[JobStatus]) -> None:
    if not found:
        say("no open batches")
    for one in found:
        if one.job.batch_id is None:
            say(
                f"prepared {one.job.job}: {one.job.requests} requests, perhaps sent by another "
                "machine; looked up at the endpoint an hour after its start"
            )
            continue
        done = "unknown" if one.completed is None else one.completed
        failed = f", {one.failed} failed" if one.failed else ""
        expires = f", expires {one.expires} UTC" if one.expires else ""
        say(
            f"open {one.job.batch_id}: {one.job.status}, {done} of {one.job.requests} "
            f"done{failed}{expires}"
        )


def check_panel(judges: Sequence[JudgeSettings], *, bridge: bool) -> None:
    """Refuse what several judges cannot do together.

    Raises:
        ConfigError: They cannot; or one is there twice.
    """
    judge_names([one.model for one in judges])
    if bridge and len(judges) > 1:
        raise ConfigError("--bridge compares an old judge with one new; give one --judge")


def check_options(step: BatchStep | None, *, dry_run: bool, drift: int, bridge: bool) -> None:
    """Refuse options that do not go together.

    Raises:
        ConfigError: They do not.
    """
    if dry_run and drift:
        raise ConfigError("--dry-run cannot tell what --drift will ask; give them one at a time")
    if step is not None and drift:
        raise ConfigError("--drift asks at once; it cannot be used with --batch")
    if step in (BatchStep.submit, BatchStep.status) and bridge:
        raise ConfigError(
            f"--bridge compares verdicts; --batch {step.value} gets none: give it "
            "with --batch collect"
        )
