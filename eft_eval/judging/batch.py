"""The Batch API, detached: submit, look, collect, from any machine that has the store.

Every step is noted in the store before or in one go with what it leads to. A process that dies
between sending a batch and noting its id is no loss: the batch carries our name for it, by which
the next call finds it.
"""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, NamedTuple

from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.judging.batch_requests import BatchLimits, read_answers, request_line, split
from eft_eval.judging.batch_state import BatchItem, BatchJob, BatchStates
from eft_eval.judging.budget import Budget
from eft_eval.judging.claims import is_gone, this_process
from eft_eval.judging.client import explain
from eft_eval.judging.judge import PromptMark, verdict_of
from eft_eval.judging.replies import Failure
from eft_eval.judging.settings import OPENAI_URL, JudgeSettings
from eft_eval.judging.store import VerdictStore
from eft_eval.judging.verdict import Verdict

if TYPE_CHECKING:
    import openai

__all__ = ["BatchRequest", "Collected", "JobStatus", "Submitted", "collect", "status", "submit"]

_log = logging.getLogger("eft_eval.judging")

_TIMEOUT_SECONDS = 600.0
_MARK = "eft_job"
_ENDED = ("completed", "expired", "cancelled", "failed")
_SURELY_DEAD_SECONDS = 3600.0


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
    """

    jobs: list[BatchJob]
    verdicts: int
    failures: dict[str, int]
    open: list[JobStatus]


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
    affordable, unaffordable = _affordable(requests, budget)
    lines = ((key, request_line(key, request.text, settings)) for key, request in affordable)
    jobs: list[BatchJob] = []
    sent = 0
    with _client(settings) as client:
        states = BatchStates(store)
        _recover(client, states, settings)
        for part in split(lines, limits or BatchLimits()):
            job = _new_job(settings, len(part))
            items = {key: _mark(requests[key].prompt) for key in part}
            own = states.prepare(job, items)
            if own:
                content = b"".join(line for key, line in part.items() if key in own)
                jobs.append(_send(client, states, job.with_(requests=len(own)), content, settings))
                sent += len(own)
    return Submitted(jobs, sent, len(affordable) - sent, unaffordable)


def status(settings: JudgeSettings, store: VerdictStore) -> list[JobStatus]:
    """Return the open batches at the judge's endpoint, and how far they are; changes nothing there.

    Raises:
        ConfigError: The endpoint cannot be asked.
    """
    with _client(settings) as client:
        states = BatchStates(store)
        _recover(client, states, settings)
        found = []
        for job in _open_jobs(states, settings):
            batch = _retrieve(client, job, settings)
            found.append(_status_of(job.with_(status=batch.status), batch))
        return found


def collect(settings: JudgeSettings, store: VerdictStore) -> Collected:
    """Store the verdicts of all batches at the judge's endpoint that have ended.

    Safe to call again, at the same time too: a verdict that is stored stays as it is.

    Raises:
        ConfigError: The endpoint cannot be asked.
        EftEvalError: A result file cannot be read to its end; nothing of it is noted.
    """
    ended, still_open = [], []
    failures: Counter[str] = Counter()
    stored = 0
    with _client(settings) as client:
        states = BatchStates(store)
        _recover(client, states, settings)
        for job in _open_jobs(states, settings):
            batch = _retrieve(client, job, settings)
            job = job.with_(status=batch.status)
            if batch.status not in _ENDED:
                still_open.append(_status_of(job, batch))
                continue
            verdicts, without = _read(client, batch, job, states, settings)
            job = job.with_(state="collected")
            states.finish(job, verdicts)
            ended.append(job)
            stored += len(verdicts)
            failures += without
    return Collected(ended, stored, dict(failures.most_common()), still_open)


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
    return BatchJob(
        job=uuid.uuid4().hex,
        state="prepared",
        owner=this_process(),
        endpoint=settings.endpoint,
        model=settings.model,
        max_tokens=settings.max_tokens,
        structured=settings.asks_for_json,
        requests=requests,
        created=time.time(),
    )


def _mark(prompt: PromptMark) -> BatchItem:
    return BatchItem(prompt.name, prompt.version, prompt.sha256, prompt.scale)


def _send(
    client: openai.OpenAI,
    states: BatchStates,
    job: BatchJob,
    content: bytes,
    settings: JudgeSettings,
) -> BatchJob:
    import openai

    try:
        file = client.files.create(file=(f"eft-{job.job}.jsonl", content), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={_MARK: job.job},
        )
    except openai.APIStatusError as error:
        if error.status_code < 500:  # a 5xx may come after the batch was made
            states.update(job.with_(state="failed", status=f"HTTP status {error.status_code}"))
        raise _refused(error, settings) from None
    except openai.APIConnectionError as error:
        raise EftEvalError(
            f"the connection to {settings.endpoint} was lost while a batch was sent "
            f"({explain(error, settings)}); submit again later: it looks first whether this one "
            "arrived"
        ) from None
    job = job.with_(state="submitted", batch_id=batch.id, status=batch.status)
    states.update(job)
    return job


def _recover(client: openai.OpenAI, states: BatchStates, settings: JudgeSettings) -> None:
    """Find out what became of batches whose sender died before it knew."""
    import openai

    lost = {
        job.job: job
        for job in states.jobs()
        if job.state == "prepared" and job.endpoint == settings.endpoint and _is_dead(job)
    }
    if not lost:
        return
    try:
        for batch in client.batches.list(limit=100):
            name = (batch.metadata or {}).get(_MARK, "")
            if name in lost:
                job = lost.pop(name)
                states.update(job.with_(state="submitted", batch_id=batch.id, status=batch.status))
                _log.warning("found the batch %s, whose sender had stopped", batch.id)
    except openai.OpenAIError as error:
        raise _refused(error, settings) from None
    for job in lost.values():
        states.update(job.with_(state="failed", status="never arrived"))


def _is_dead(job: BatchJob) -> bool:
    return (
        is_gone(job.owner)
        or job.owner.rsplit("/", 1)[0] == this_process().rsplit("/", 1)[0]  # an earlier call
        or time.time() - job.created > _SURELY_DEAD_SECONDS
    )


def _open_jobs(states: BatchStates, settings: JudgeSettings) -> Iterator[BatchJob]:
    for job in states.jobs():
        if job.state != "submitted":
            continue
        if job.endpoint == settings.endpoint:
            yield job
        else:
            _log.warning("batch %s is at %s, not asked now", job.batch_id, job.endpoint)


def _retrieve(client: openai.OpenAI, job: BatchJob, settings: JudgeSettings) -> openai.types.Batch:
    import openai

    assert job.batch_id is not None
    try:
        return client.batches.retrieve(job.batch_id)
    except openai.NotFoundError:
        raise ConfigError(
            f"{settings.endpoint} knows no batch {job.batch_id} (submitted {_date(job.created)}); "
            "is OPENAI_API_KEY that of the same project?"
        ) from None
    except openai.OpenAIError as error:
        raise _refused(error, settings) from None


def _read(
    client: openai.OpenAI,
    batch: openai.types.Batch,
    job: BatchJob,
    states: BatchStates,
    settings: JudgeSettings,
) -> tuple[list[Verdict], Counter[str]]:
    """Return a batch's verdicts, and its requests without a reply by reason."""
    files = [
        _download(client, file_id, settings)
        for file_id in (batch.output_file_id, batch.error_file_id)
        if file_id
    ]
    answers = read_answers(files, structured=job.structured)
    items = states.items(job)
    judge = replace(settings, model=job.model, max_tokens=job.max_tokens)
    verdicts: list[Verdict] = []
    without: Counter[str] = Counter()
    for key, item in items.items():
        outcome = answers.outcomes.get(key) or Failure(_why_nothing(batch))
        if isinstance(outcome, Failure):
            without[outcome.error] += 1
        else:
            verdicts.append(verdict_of(key, outcome, item, judge, batch=True))
    if answers.unreadable:
        _log.warning("batch %s: %d lines are no answers", batch.id, answers.unreadable)
    if strange := len(answers.outcomes.keys() - items.keys()):
        _log.warning("batch %s: %d answers are to requests that it had not", batch.id, strange)
    return verdicts, without


def _download(client: openai.OpenAI, file_id: str, settings: JudgeSettings) -> str:
    import openai

    try:
        return client.files.content(file_id).content.decode("utf-8")
    except (openai.OpenAIError, UnicodeDecodeError) as error:
        raise EftEvalError(
            f"cannot read the result file {file_id} at {settings.endpoint} "
            f"({explain(error, settings)}); collect again later"
        ) from None


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
        None if batch.expires_at is None else _date(batch.expires_at),
    )


@contextlib.contextmanager
def _client(settings: JudgeSettings) -> Iterator[openai.OpenAI]:
    """Open a client that tries nothing twice: a batch that is sent twice is paid twice."""
    if settings.kind != "endpoint":
        raise ConfigError(f"--batch needs a judge at an endpoint; {settings.model!r} runs here")
    import openai

    with openai.OpenAI(
        api_key=settings.api_key,
        base_url=settings.base_url or OPENAI_URL,
        max_retries=0,
        timeout=_TIMEOUT_SECONDS,
    ) as client:
        yield client


def _refused(error: Exception, settings: JudgeSettings) -> ConfigError:
    return ConfigError(
        f"{settings.endpoint} does not do what the Batch API needs: {explain(error, settings)}"
    )


def _date(unix: float) -> str:
    return datetime.fromtimestamp(unix, timezone.utc).isoformat(sep=" ", timespec="minutes")
