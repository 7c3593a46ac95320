"""What tasks ask of models and judges, before anything is loaded: for `plan` and `study`."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from eft_eval.errors import ConfigError

if TYPE_CHECKING:
    from eft_eval.judging.cost.estimate import Ahead, Estimate
    from eft_eval.recipe import Recipe
    from eft_eval.tasks.requests import AskedTasks

__all__ = ["BYTES_PER_TOKEN", "TaskChanges", "asked_of", "counter_of", "judging_of"]

BYTES_PER_TOKEN = 4
"""What a token is assumed to be where no tokenizer is at hand."""


class TaskChanges(NamedTuple):
    """What of tasks is changed.

    Attributes:
        limit: Documents per task; below 1, a share.
        response_tokens: Length of responses; None: the longest that a task allows.
        gen_kwargs: In place of the tasks' generation settings.
    """

    limit: float | None = None
    response_tokens: int | None = None
    gen_kwargs: str | None = None


def asked_of(tasks: Sequence[str], changes: TaskChanges, count: Callable[[str], int]) -> AskedTasks:
    """Return what tasks ask; nobody is asked.

    Raises:
        EftEvalError: A task is unknown, or its data cannot be read.
    """
    from eft_eval import hook
    from eft_eval.cli.harness import asks_only_ours
    from eft_eval.tasks.requests import requests_of

    hook.only_our_tasks = asks_only_ours([*tasks])
    hook.install()
    limit, response_tokens, gen_kwargs = changes
    with _quiet():
        return requests_of(tasks, limit, count, response_tokens, gen_kwargs)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Let lm-eval say nothing of requests that nobody is going to make; warnings of ours stay."""
    levels = {"lm_eval": logging.ERROR, "lm_eval.eft": logging.WARNING}
    last = logging.lastResort
    logging.lastResort = logging.StreamHandler(sys.stderr)  # of logs without a stream of their own
    logging.lastResort.setLevel(logging.WARNING)
    before = {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # progress bars
            yield
    finally:
        logging.lastResort = last
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def counter_of(recipe: Recipe) -> Callable[[str], int]:
    """Return what counts tokens: the tuned member's tokenizer if it is here, else 4 bytes each."""
    from eft_eval.plans.members import planned_composite

    try:
        tokenizer = planned_composite(recipe).tuned.tokenizer
    except ConfigError:
        return lambda text: -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)
    return lambda text: len(tokenizer(text).input_ids)


def judging_of(
    judged: Sequence[Ahead], response_tokens: float, judge: str | None
) -> tuple[Estimate | None, str | None]:
    """Return what a judge would take, and its name; nothing where nobody is asked.

    Args:
        judged: What it would be asked.
        response_tokens: Mean length of a response.
        judge: Its name; None: the one that the environment names.
    """
    from eft_eval.judging.cost.estimate import estimate_ahead
    from eft_eval.judging.settings import JudgeSettings
    from eft_eval.verdicts.store import VerdictStore, default_store_path

    if not judged:
        return None, None
    env = dict(os.environ)
    if not env.get("OPENAI_API_KEY", "").strip():
        env["OPENAI_API_KEY"] = "none"  # nobody is asked
    settings = JudgeSettings.from_environment(env, judge=judge)
    store = VerdictStore(default_store_path(), writable=False)
    return estimate_ahead(judged, response_tokens, settings, store), settings.model
