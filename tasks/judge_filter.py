"""The lm-eval filter ``eft_judge``: a task's responses in, verdicts out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from lm_eval.api.filter import Filter

from eft_eval.errors import EftEvalError
from eft_eval.judging.judge import UNFINISHED, JudgeItem, judge_responses
from eft_eval.judging.outcome import unfinished, unjudged
from eft_eval.judging.progress import judging_progress
from eft_eval.judging.prompts.measures import Measure, measure_of
from eft_eval.judging.prompts.prompt import load_prompt
from eft_eval.judging.settings import JudgeSettings
from eft_eval.model_adapters.samples import UnfinishedResponse
from eft_eval.streams import logger
from eft_eval.tasks.lost_verdicts import LostVerdicts, note_lost
from eft_eval.verdicts.store import VerdictStore, default_store_path
from eft_eval.verdicts.text import query_id, write_verdicts
from eft_eval.verdicts.verdict import Status, Verdict

log = logger("lm_eval.eft")
_asking = ContextVar("_asking", default=True)


@contextmanager
def nobody_asked() -> Iterator[None]:
    """Within it no filter asks its judge: every response is one that was not judged."""
    token = _asking.set(False)
    try:
        yield
    finally:
        _asking.reset(token)


class JudgeFilter(Filter):  # type: ignore[misc]  # lm-eval ships no types
    """Judges every response of a task; endpoint, key and model come from the environment.

    Args (in task YAML, beside ``function: eft_judge``):
        prompt: A shipped judge prompt's name, or the path of a template file.
        question: The document's field with the user's query, for prompts that show it.
        repeats: Responses per prompt; ranks may append a clone's answer, which is not judged.
        measure: What the task's metrics are of; a prompt that measures something else is refused.
    """

    def __init__(
        self,
        prompt: str = "factuality",
        question: str = "question",
        repeats: int = 1,
        measure: str | None = None,
    ) -> None:
        super().__init__()
        self._prompt = load_prompt(prompt)
        self._measure = measure_of(self._prompt, measure)
        self._question = question
        self._repeats = repeats

    def apply(self, resps: Iterable[Sequence[str]], docs: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return per document a JSON array of verdicts, one per response."""
        groups = [
            [
                JudgeItem(text, self._query(doc), isinstance(text, UnfinishedResponse))
                for text in responses[: self._repeats]
            ]
            for responses, doc in zip(resps, docs, strict=True)
        ]
        if _asking.get():
            rest = iter(self._judge([item for group in groups for item in group]))
            by_doc = [[next(rest) for _ in group] for group in groups]
            _report(by_doc, self._measure)
        else:
            nobody = JudgeSettings("nobody", "http://localhost", "no-key")
            not_asked = unjudged(self._prompt, nobody, "not asked")
            by_doc = [[not_asked for _ in group] for group in groups]
        return [
            write_verdicts(of_doc, self._measure.name, query_id(group[0].query))
            for of_doc, group in zip(by_doc, groups, strict=True)
        ]

    def _query(self, doc: Mapping[str, Any]) -> str | None:
        return str(doc[self._question]) if self._question in doc else None

    def _judge(self, items: Sequence[JudgeItem]) -> list[Verdict]:
        settings = JudgeSettings.from_environment()
        label = f"Judging {self._measure.name} with {settings.model}"
        try:
            store = VerdictStore(default_store_path())
            with judging_progress(label, len(items)) as progress:
                return judge_responses(items, self._prompt, settings, store, progress)
        except EftEvalError as error:
            # raising here would lose the responses, which lm-eval has not written yet
            log.error("judging stopped: %s", error)
            why = str(error)
        except Exception as error:
            log.error("judging stopped: %r; please report this", error, exc_info=True)
            why = f"{type(error).__name__}: {error}"
        return [
            unfinished(UNFINISHED, self._prompt, settings)
            if item.unfinished
            else unjudged(self._prompt, settings, why)
            for item in items
        ]


def _report(by_doc: Sequence[Sequence[Verdict]], measure: Measure) -> None:
    verdicts = [verdict for of_doc in by_doc for verdict in of_doc]
    counts = Counter(verdict.status.value for verdict in verdicts)
    parts = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    log.info("judged %d responses: %s", len(verdicts), parts)
    if missing := [v for v in verdicts if v.status is Status.api_error]:
        log.warning(
            "%d of %d responses have no verdict (%s); they are counted as %s_missing, and "
            "`eft-eval judge RUN_DIR` asks for them again",
            len(missing),
            len(verdicts),
            missing[0].error,
            measure.prefix,
        )
        why = " ".join(str(missing[0].error).split())
        note_lost(LostVerdicts(measure, len(missing), len(verdicts), why))
    for name, bounds in measure.bounds(by_doc).items():
        if bounds.unknown and bounds.lower is not None:
            upper = "no limit" if bounds.upper is None else f"{bounds.upper:.4f}"
            log.info(
                "%s: from %.4f to %s, depending on the %d unknown responses",
                name,
                bounds.lower,
                upper,
                bounds.unknown,
            )
