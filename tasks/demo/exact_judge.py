"""The lm-eval filter ``eft_demo_judge``: responses of a demo task in, exact verdicts out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lm_eval.api.filter import Filter

from eft_eval.demo.judge import Score, judge
from eft_eval.demo.world import make_world
from eft_eval.errors import ConfigError, nearest
from eft_eval.tasks.demo.task import as_question
from eft_eval.verdicts.text import write_verdicts


class ExactJudgeFilter(Filter):  # type: ignore[misc]  # lm-eval ships no types
    """Judges every response; args: ``score``, one of errors, helpful, harm."""

    def __init__(self, score: str = "errors") -> None:
        super().__init__()
        known = [one.value for one in Score]
        if score not in known:
            raise ConfigError(
                f"eft_demo_judge: no score {score!r}{nearest(score, known)}; "
                f"expected one of {', '.join(known)}"
            )
        self._score = Score(score)

    def apply(self, resps: Iterable[Sequence[str]], docs: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return per document a JSON array of verdicts, one per response."""
        world = make_world()
        return [
            write_verdicts([judge(text, as_question(doc), world, self._score) for text in texts])
            for texts, doc in zip(resps, docs, strict=True)
        ]
