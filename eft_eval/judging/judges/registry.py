"""Which judge a name means: a line for each kind; other packages add theirs as entry points.

A package adds a kind by an entry point in the group ``eft_eval.judges``: its name is the prefix,
its value a subclass of `Judge`. Nothing is imported before a judge of the kind is asked for.
"""

from __future__ import annotations

import functools
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, cast

from eft_eval.errors import ConfigError
from eft_eval.judging.cost.budget import Budget, Purse
from eft_eval.judging.judges.base import Judge
from eft_eval.judging.settings import JudgeSettings

__all__ = ["GROUP", "budget_for", "judge_class", "judge_for", "prefix_of"]

GROUP = "eft_eval.judges"

_JUDGES = {
    "": "eft_eval.judging.judges.endpoint:EndpointJudge",
    "hf": "eft_eval.judging.judges.local:LocalJudge",
    "scripted": "eft_eval.judging.judges.scripted:ScriptedJudge",
}


def judge_for(settings: JudgeSettings, budget: Budget | None = None) -> Judge:
    """Return the judge that the settings name, ready to be asked.

    Args:
        settings: The judge.
        budget: What may be spent; None is any sum.

    Raises:
        ConfigError: Another package's judge cannot be loaded.
    """
    return judge_class(settings.model)(settings, budget)


def budget_for(purse: Purse, settings: JudgeSettings, *, batch: bool = False) -> Budget:
    """Return a budget for a judge.

    Args:
        purse: What it spends of.
        settings: The judge; one that is priced needs a price.
        batch: Whether the Batch API's prices count.

    Raises:
        ConfigError: The model has no known price.
    """
    price = judge_for(settings).price
    if price is not None and batch:
        price = price.batch()
    return Budget(purse, settings, price)


def judge_class(model: str) -> type[Judge]:
    """Return the class of judges that a name is of.

    Raises:
        ConfigError: Another package's judge cannot be loaded.
    """
    return _load(prefix_of(model))


def prefix_of(model: str) -> str:
    """Return the prefix that tells a judge's kind; "" for a model at the endpoint.

    A colon alone tells nothing: endpoints have models such as ``llama3:8b``.
    """
    prefix, colon, _ = model.partition(":")
    return prefix if colon and (prefix in _JUDGES or prefix in _added()) else ""


@functools.cache
def _added() -> dict[str, Any]:
    return {point.name: point for point in entry_points(group=GROUP)}


@functools.cache
def _load(prefix: str) -> type[Judge]:
    if prefix in _JUDGES:
        module, _, name = _JUDGES[prefix].partition(":")
        return cast("type[Judge]", getattr(import_module(module), name))
    point = _added()[prefix]
    try:
        found = point.load()
    except Exception as error:  # whatever another package raises at import
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"the judge {prefix}: ({point.value}) cannot be loaded: {why}") from error
    if not (isinstance(found, type) and issubclass(found, Judge)):
        raise ConfigError(
            f"the judge {prefix}: ({point.value}) is no subclass of "
            "eft_eval.judging.judges.base.Judge"
        )
    return found
