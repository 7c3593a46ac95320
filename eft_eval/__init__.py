"""eft-eval: emulated fine-tuning (Mitchell et al. 2023) for lm-evaluation-harness.

Importing this package loads neither torch nor pydantic; the names below are loaded at first use.
"""

from eft_eval.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:  # the start-up hook imports this package in every Python process
    from eft_eval.agreement.report import Agreement
    from eft_eval.api import Composite
    from eft_eval.errors import ComparabilityError, ConfigError, EftEvalError
    from eft_eval.recipe import Recipe, canonical_name, parse_recipe
    from eft_eval.statistics.interval import Interval

__all__ = [
    "Agreement",
    "ComparabilityError",
    "Composite",
    "ConfigError",
    "EftEvalError",
    "Interval",
    "Recipe",
    "__version__",
    "canonical_name",
    "parse_recipe",
]

_HOMES = {
    "Agreement": "eft_eval.agreement.report",
    "ComparabilityError": "eft_eval.errors",
    "Composite": "eft_eval.api",
    "ConfigError": "eft_eval.errors",
    "EftEvalError": "eft_eval.errors",
    "Interval": "eft_eval.statistics.interval",
    "Recipe": "eft_eval.recipe",
    "canonical_name": "eft_eval.recipe",
    "parse_recipe": "eft_eval.recipe",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'eft_eval' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
