"""Single calls to the Batch API, each failure one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.judging.batch.jobs import BatchJob, BatchStates
from eft_eval.judging.judges.client import explain, make_blocking_client
from eft_eval.judging.judges.endpoint import EndpointJudge
from eft_eval.judging.judges.registry import judge_class, judge_for
from eft_eval.judging.settings import JudgeSettings

if TYPE_CHECKING:
    import openai

__all__ = ["MARK", "check_batch", "date", "download", "open_client", "refused", "retrieve", "send"]

MARK = "eft_job"
"""The key of our name for a batch in its metadata."""

_TIMEOUT_SECONDS = 600.0
_MOST_BYTES = 4 * 2**30  # of a result file: 50,000 replies


def check_batch(settings: JudgeSettings) -> None:
    """Refuse a judge that is at no endpoint.

    Raises:
        ConfigError: It is not.
    """
    if not issubclass(judge_class(settings.model), EndpointJudge):
        raise ConfigError(f"--batch needs a judge at an endpoint; {settings.model!r} is none")


@contextlib.contextmanager
def open_client(settings: JudgeSettings) -> Iterator[openai.OpenAI]:
    """Open a client that tries nothing twice: a batch that is sent twice is paid twice."""
    check_batch(settings)
    with make_blocking_client(settings, _TIMEOUT_SECONDS, most_bytes=_MOST_BYTES) as client:
        yield client


def send(
    client: openai.OpenAI,
    states: BatchStates,
    job: BatchJob,
    content: bytes,
    settings: JudgeSettings,
) -> BatchJob:
    """Send one batch, and note what came of it.

    Raises:
        ConfigError: The endpoint refused it.
        EftEvalError: The connection was lost; it may have arrived.
    """
    import openai

    try:
        file = client.files.create(file=(f"eft-{job.job}.jsonl", content), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={MARK: job.job},
        )
    except openai.APIStatusError as error:
        if error.status_code < 500:  # a 5xx may come after the batch was made
            states.update(job.with_(state="failed", status=f"HTTP status {error.status_code}"))
        raise refused(error, settings) from None
    except openai.APIConnectionError as error:
        raise EftEvalError(
            f"the connection to {judge_for(settings).place} was lost while a batch was sent "
            f"({explain(error, settings)}); submit again later: it looks first whether this one "
            "arrived"
        ) from None
    job = job.with_(state="submitted", batch_id=batch.id, status=batch.status)
    states.update(job)
    return job


def retrieve(client: openai.OpenAI, job: BatchJob, settings: JudgeSettings) -> openai.types.Batch:
    """Return a batch as the endpoint has it.

    Raises:
        ConfigError: The endpoint does not know it, or cannot be asked.
    """
    import openai

    assert job.batch_id is not None
    try:
        return client.batches.retrieve(job.batch_id)
    except openai.NotFoundError:
        raise ConfigError(
            f"{judge_for(settings).place} knows no batch {job.batch_id} (submitted "
            f"{date(job.created)}); is {settings.key_from} that of the same project?"
        ) from None
    except (openai.OpenAIError, ValueError, RecursionError) as error:
        raise refused(error, settings) from None


def download(client: openai.OpenAI, file_id: str, settings: JudgeSettings) -> str:
    """Return a result file's text.

    Raises:
        EftEvalError: It cannot be read to its end.
    """
    import openai

    try:
        return client.files.content(file_id).content.decode("utf-8")
    except (openai.OpenAIError, UnicodeDecodeError) as error:
        raise EftEvalError(
            f"cannot read the result file {file_id} at {judge_for(settings).place} "
            f"({explain(error, settings)}); collect again later"
        ) from None


def refused(error: Exception, settings: JudgeSettings) -> ConfigError:
    """Return the error for an endpoint that does not do what is needed."""
    return ConfigError(
        f"{judge_for(settings).place} does not do what the Batch API needs: "
        f"{explain(error, settings)}"
    )


def date(unix: float) -> str:
    """Return a Unix time as UTC, to the minute."""
    return datetime.fromtimestamp(unix, timezone.utc).isoformat(sep=" ", timespec="minutes")
