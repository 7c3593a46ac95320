"""What a run of tasks would ask of a model: lm-eval builds its requests, a counter takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.model import LM

from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.judging.cost.estimate import Ahead
from eft_eval.judging.prompts.prompt import load_prompt
from eft_eval.model_adapters.generation import generation_plan
from eft_eval.plans.speed import Workload
from eft_eval.tasks.judge_filter import nobody_asked

__all__ = ["AskedTasks", "requests_of"]

_DEFAULT_TOKENS = 256


@dataclass(frozen=True)
class AskedTasks:
    """What tasks ask for.

    Attributes:
        workload: Of the model.
        judged: What a judge would be asked, without the responses.
        configs: The tasks' settings as a results file would have them.
    """

    workload: Workload
    judged: tuple[Ahead, ...]
    configs: Mapping[str, Mapping[str, Any]]


def requests_of(
    tasks: Sequence[str],
    limit: float | None,
    count: Callable[[str], int],
    response_tokens: int | None = None,
    gen_kwargs: str | None = None,
) -> AskedTasks:
    """Return what a run of tasks would ask, of the model and of a judge; asks nobody.

    Args:
        tasks: As ``lm_eval --tasks`` takes them.
        limit: Documents per task; below 1, a share.
        count: Tells the tokens of a text.
        response_tokens: Length of the responses; None: the longest that each task allows.
        gen_kwargs: In place of the tasks' generation settings, as lm-eval takes them.

    Raises:
        EftEvalError: A task is unknown, its data cannot be read, or no run takes its generation
            settings.
    """
    from lm_eval import simple_evaluate

    counter = _Counter(count, response_tokens)
    try:
        with nobody_asked():
            found = simple_evaluate(
                model=counter,
                tasks=[*tasks],
                limit=limit,
                gen_kwargs=gen_kwargs,
                predict_only=True,
                bootstrap_iters=0,
            )
    except EftEvalError:
        raise
    except Exception as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"--tasks {','.join(tasks)}: cannot be read: {why[:400]}") from error
    return AskedTasks(counter.workload(), tuple(_judged(found)), found["configs"])


class _Counter(LM):  # type: ignore[misc]  # lm-eval ships no types
    """A model that counts what it is asked, and answers with nothing."""

    def __init__(self, count: Callable[[str], int], response_tokens: int | None) -> None:
        super().__init__()
        self._count = count
        self._response_tokens = response_tokens
        self._prompts: list[int] = []
        self._responses: list[int] = []
        self._scored: list[int] = []

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        for request in requests:
            context, settings = request.args
            longest = generation_plan(settings, _DEFAULT_TOKENS, None).max_new_tokens
            self._prompts.append(self._count(context))
            self._responses.append(min(self._response_tokens or longest, longest))
        return [""] * len(requests)

    def loglikelihood(
        self, requests: list[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        for request in requests:
            context, continuation = request.args
            self._scored.append(max(self._count(context), 1) + self._count(continuation))
        return [(0.0, False)] * len(requests)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        self._scored += [1 + self._count(request.args[0]) for request in requests]
        return [0.0] * len(requests)

    def workload(self) -> Workload:
        """Return what was asked for."""
        rows = [sum(pair) for pair in zip(self._prompts, self._responses, strict=True)]
        return Workload(
            responses=len(self._prompts),
            prompt_tokens=_mean(self._prompts),
            response_tokens=_mean(self._responses),
            scored=len(self._scored),
            scored_tokens=_mean(self._scored),
            longest=max([*rows, *self._scored], default=1),
        )


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values) if values else 0.0


def _judged(found: Any) -> Iterator[Ahead]:
    """Yield what a judge would be asked of every document."""
    for task, samples in found["samples"].items():
        config = found["configs"][task]
        for pipeline in config.get("filter_list") or ():
            for step in pipeline["filter"]:
                if step["function"] != "eft_judge":
                    continue
                prompt = load_prompt(str(step.get("prompt") or "factuality"))
                field = step.get("question", "question")
                for sample in samples:
                    query = str(sample["doc"].get(field, ""))
                    text = prompt.render(query=query, response="")
                    yield Ahead(prompt.name, text, int(config.get("repeats") or 1), task)
