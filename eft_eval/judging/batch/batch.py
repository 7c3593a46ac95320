"""The Batch API, detached: submit, look, collect, from any machine that has the store.

Every step is noted in the store before or in one go with what it leads to. A process that dies
between sending a batch and noting its id is no loss: the batch carries our name for it, by which
the next call finds it.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from eft_eval.errors import ConfigError, EftEvalError, nearest
from eft_eval.judging.batch.client import MARK, date, download, open_client, refused, retrieve, send
from eft_eval.judging.batch.files import BatchLimits, read_answers, request_line, split
from eft_eval.judging.batch.forms import learnt_form, recall_form
from eft_eval.judging.batch.jobs import BatchItem, BatchJob, BatchStates
from eft_eval.judging.cost.budget import Budget
from eft_eval.judging.judges.adapting import Form, form_at
from eft_eval.judging.judges.base import Failure
from eft_eval.judging.judges.client import without_echo
from eft_eval.judging.judges.endpoint import EndpointJudge
from eft_eval.judging.judges.registry import judge_for
from eft_eval.judging.outcome import PromptMark, verdict_of
from eft_eval.judging.settings import JudgeSettings
from eft_eval.streams import logger
from eft_eval.verdicts.leases import is_gone, this_process
from eft_eval.verdicts.store import VerdictStore
from eft_eval.verdicts.verdict import Verdict

if TYPE_CHECKING:
    import openai

__all__ = [
    "BatchRequest",
    "Collected",
    "JobStatus",
    "Looked",
    "Submitted",
    "collect",
    "forget",
    "status",
    "submit",
]

_log = logger("eft_eval.judging")

_ENDED = ("completed", "expired", "cancelled", "failed")
_SURELY_DEAD_SECONDS = 3600.0
_LOOKS = 2
_PAUSE_SECONDS = 3.0


class BatchRequest(NamedTuple):
    """One text to send, and the judge prompt it was made with."""

    text: str
    prompt: PromptMark


class Submitted(NamedTuple):
    """What a submit did.

    Attributes:
        jobs: The batches sent.
        requests: Requests in them.
        elsewhere: Requests left out: stored meanwhile, in an open batch, or being asked live.
        unaffordable: Requests left out because the budget might not suffice for them.
    """

    jobs: list[BatchJob]
    requests: int
    elsewhere: int
    unaffordable: int


class JobStatus(NamedTuple):
    """A batch and how far it is; the counts are the endpoint's, None where it gives none."""

    job: BatchJob
    completed: int | None
    failed: int | None
    expires: str | None


class Collected(NamedTuple):
    """What a collect did.

    Attributes:
        jobs: Batches that had ended, read now.
        verdicts: Verdicts stored from them.
        failures: Requests without a reply, counted by reason; the next submit sends them again.
        open: Batches that have not ended.
        unread: Batches that could not be read; they stay open.
    """

    jobs: list[BatchJob]
    verdicts: int
    failures: dict[str, int]
    open: list[JobStatus]
    unread: list[BatchJob]


class Looked(NamedTuple):
    """What a look at the batches gave.

    Attributes:
        open: Batches that have not ended or are not collected yet, and those that another machine
            is sending or has died over, which have no ``batch_id``.
        unread: Batches that the endpoint would not tell about; they stay open.
    """

    open: list[JobStatus]
    unread: list[BatchJob]


def submit(
    requests: Mapping[str, BatchRequest],
    settings: JudgeSettings,
    store: VerdictStore,
    *,
    budget: Budget | None = None,
    limits: BatchLimits | None = None,
) -> Submitted:
    """Send requests as batches, each request once.

    Args:
        requests: By verdict key.
        settings: The judge, at an endpoint that has the Batch API.
        store: Where the batches are noted.
        budget: What the requests may cost at most, at batch prices; None is any sum.
        limits: Of one file.

    Raises:
        ConfigError: The judge is in this process, or the endpoint takes no batch.
        EftEvalError: The connection was lost; what was sent until then is noted.
    """
    jobs: list[BatchJob] = []
    sent = 0
    with open_client(settings) as client:
        states = BatchStates(store)
        if requests:
            _recover(client, states, settings)
            recall_form(states, settings)
        free = states.sendable(list(requests), time.time())
        # what is on its way already needs nothing of the budget
        wanted = {key: request for key, request in requests.items() if key in free}
        affordable, unaffordable = _affordable(wanted, budget)
        lines = ((key, request_line(key, request.text, settings)) for key, request in affordable)
        for part in split(lines, limits or BatchLimits()):
            job = _new_job(settings, len(part))
            items = {key: _mark(requests[key].prompt) for key in part}
            own = states.prepare(job, items)
            if own:
                content = b"".join(line for key, line in part.items() if key in own)
                jobs.append(send(client, states, job.with_(requests=len(own)), content, settings))
                sent += len(own)
    return Submitted(jobs, sent, len(requests) - unaffordable - sent, unaffordable)


def status(settings: JudgeSettings, store: VerdictStore, beside: Collection[str] = ()) -> Looked:
    """Return the open batches at the judge's endpoint, and how far they are; changes nothing there.

    One that cannot be looked at does not keep the others from being shown.

    Args:
        settings: The judge.
        store: Where the batches are noted.
        beside: Endpoints that are looked at besides: nothing is said of their batches here.

    Raises:
        ConfigError: The judge is in this process, or the endpoint's batches cannot be listed.
    """
    found: list[JobStatus] = []
    errors = _Errors()
    with open_client(settings) as client:
        states = BatchStates(store)
        _recover(client, states, settings)
        for job in _open_jobs(states, settings, beside):
            with errors.of(job):
                batch = retrieve(client, job, settings)
                found.append(_status_of(job.with_(status=batch.status), batch))
        for job in states.jobs():
            if job.state == "prepared" and job.endpoint == judge_for(settings).place:
                found.append(JobStatus(job, None, None, None))
    errors.tell()
    return Looked(found, errors.jobs)


def forget(batch_id: str, store: VerdictStore) -> BatchJob:
    """Give up an open batch; the endpoint is not told. Its requests may be asked anew, and paid.

    Args:
        batch_id: The endpoint's name for it, or ours where it has none.
        store: Where it is noted.

    Raises:
        ConfigError: The store has no such open batch.
    """
    states = BatchStates(store)
    named = {job.batch_id or job.job: job for job in states.jobs() if job.is_open}
    if batch_id not in named:
        known = ", ".join(named) or "none"
        raise ConfigError(
            f"no open batch {batch_id!r}{nearest(batch_id, named)} in {store.path}; open: {known}"
        )
    job = named[batch_id].with_(state="failed", status="forgotten")
    states.update(job)
    return job


def collect(
    settings: JudgeSettings, store: VerdictStore, beside: Collection[str] = ()
) -> Collected:
    """Store the verdicts of all batches at the judge's endpoint that have ended.

    Safe to call again, at the same time too: a verdict that is stored stays as it is. A batch
    that the endpoint does not know, or whose result file cannot be read to its end, stays open,
    with nothing of it noted, and does not keep the others from being collected.

    Args:
        settings: The judge.
        store: Where the batches are noted, and their verdicts go.
        beside: Endpoints that are asked besides: nothing is said of their batches here.

    Raises:
        ConfigError: The judge is in this process, or the endpoint's batches cannot be listed.
    """
    ended, still_open = [], []
    errors = _Errors()
    failures: Counter[str] = Counter()
    stored = 0
    with open_client(settings) as client:
        states = BatchStates(store)
        _recover(client, states, settings)
        for job in _open_jobs(states, settings, beside):
            with errors.of(job):
                batch = retrieve(client, job, settings)
                job = job.with_(status=batch.status)
                if batch.status not in _ENDED:
                    still_open.append(_status_of(job, batch))
                    continue
                verdicts, without, form = _read(client, batch, job, states, settings)
                job = job.with_(state="collected", form=form.changes)
                states.finish(job, verdicts)
                ended.append(job)
                stored += len(verdicts)
                failures += without
    errors.tell()
    return Collected(ended, stored, dict(failures.most_common()), still_open, errors.jobs)


class _Errors:
    """Batches that could not be read, and one line about them all."""

    def __init__(self) -> None:
        self.jobs: list[BatchJob] = []
        self._first = ""

    @contextlib.contextmanager
    def of(self, job: BatchJob) -> Iterator[None]:
        try:
            yield
        except EftEvalError as error:
            self.jobs.append(job)
            self._first = self._first or str(error)

    def tell(self) -> None:
        if self.jobs:
            _log.warning("%d open batches cannot be read: %s", len(self.jobs), self._first)


def _affordable(
    requests: Mapping[str, BatchRequest], budget: Budget | None
) -> tuple[list[tuple[str, BatchRequest]], int]:
    if budget is None:
        return list(requests.items()), 0
    fitting = [
        (key, request)
        for key, request in requests.items()
        if budget.reserve(request.text) is not None
    ]
    return fitting, len(requests) - len(fitting)


def _new_job(settings: JudgeSettings, requests: int) -> BatchJob:
    judge = EndpointJudge(settings)
    return BatchJob(
        job=uuid.uuid4().hex,
        state="prepared",
        owner=this_process(),
        endpoint=judge_for(settings).place,
        model=settings.model,
        max_tokens=settings.max_tokens,
        structured="response_format" in judge.body(""),
        requests=requests,
        created=time.time(),
        params=dict(settings.params),
        sent=judge.sent_now,
        form=dict(form_at(judge.place, judge.name).changes),
    )


def _mark(prompt: PromptMark) -> BatchItem:
    return BatchItem(prompt.name, prompt.version, prompt.sha256, prompt.scale)


def _recover(client: openai.OpenAI, states: BatchStates, settings: JudgeSettings) -> None:
    """Find out what became of batches whose sender died before it knew."""
    import openai

    lost = {
        job.job: job
        for job in states.jobs()
        if job.state == "prepared" and job.endpoint == judge_for(settings).place and _is_dead(job)
    }
    if not lost:
        return
    for attempt in range(_LOOKS):
        if attempt:
            time.sleep(_PAUSE_SECONDS)  # a listing may be a moment behind
        try:
            for batch in client.batches.list(limit=100):
                job = lost.pop((batch.metadata or {}).get(MARK, ""), None)
                if job is not None:
                    sent = job.with_(state="submitted", batch_id=batch.id, status=batch.status)
                    states.update(sent)
                    _log.warning("found the batch %s, whose sender had stopped", batch.id)
        except (openai.OpenAIError, ValueError, RecursionError) as error:
            raise refused(error, settings) from None
        if not lost:
            return
    for job in lost.values():
        states.update(job.with_(state="failed", status="never arrived"))


def _is_dead(job: BatchJob) -> bool:
    return (
        is_gone(job.owner)
        or job.owner.rsplit("/", 1)[0] == this_process().rsplit("/", 1)[0]  # an earlier call
        or time.time() - job.created > _SURELY_DEAD_SECONDS
    )


def _open_jobs(
    states: BatchStates, settings: JudgeSettings, beside: Collection[str]
) -> Iterator[BatchJob]:
    for job in states.jobs():
        if job.state != "submitted":
            continue
        if job.endpoint == judge_for(settings).place:
            yield job
        elif job.endpoint not in beside:
            _log.warning("batch %s is at %s, not asked now", job.batch_id, job.endpoint)


def _read(
    client: openai.OpenAI,
    batch: openai.types.Batch,
    job: BatchJob,
    states: BatchStates,
    settings: JudgeSettings,
) -> tuple[list[Verdict], Counter[str], Form]:
    """Return a batch's verdicts, its requests without a reply by reason, and the form to take."""
    files = [
        download(client, file_id, settings)
        for file_id in (batch.output_file_id, batch.error_file_id)
        if file_id
    ]
    answers = read_answers(files, structured=job.structured)
    items = states.items(job)
    judge = replace(settings, model=job.model, max_tokens=job.max_tokens, params=job.params)
    parameters = EndpointJudge(judge).key()
    form = learnt_form(job, EndpointJudge(judge), answers)
    verdicts: list[Verdict] = []
    without: Counter[str] = Counter()
    for key, item in items.items():
        outcome = answers.outcomes.get(key) or Failure(_why_nothing(batch))
        outcome = without_echo(outcome, settings)
        if isinstance(outcome, Failure):
            without[outcome.error] += 1
        else:
            outcome = replace(outcome, sent=job.sent)
            verdicts.append(
                verdict_of(key, outcome, item, judge, batch=True, parameters=parameters)
            )
    if answers.unreadable:
        _log.warning("batch %s: %d lines are no answers", batch.id, answers.unreadable)
    if strange := len(answers.outcomes.keys() - items.keys()):
        _log.warning("batch %s: %d answers are to requests that it had not", batch.id, strange)
    return verdicts, without, form


def _why_nothing(batch: openai.types.Batch) -> str:
    reasons = batch.errors.data if batch.errors is not None else None
    texts = [f"{reason.code}: {reason.message}" for reason in reasons or []]
    return f"batch {batch.status}" + (f" ({texts[0]})" if texts else ", no line for this request")


def _status_of(job: BatchJob, batch: openai.types.Batch) -> JobStatus:
    counts = batch.request_counts
    return JobStatus(
        job,
        None if counts is None else counts.completed,
        None if counts is None else counts.failed,
        None if batch.expires_at is None else date(batch.expires_at),
    )
