"""The one renderer of templates that people pass on: judge prompts, and members' own prompts.

A template is data: it shows values and may loop over them; it reaches no attribute that could run
anything, no file and no clock. What it costs is bounded by one budget for each rendering, which
every loop step, call, filter and printed character is taken from.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple

import jinja2
from jinja2 import meta, nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from eft_eval.errors import ConfigError

__all__ = ["LONGEST", "TemplateProblem", "check_template", "render"]

LONGEST = 2**16
"""Characters of a template."""
_WORK = 2_000_000  # characters made by one rendering, and this many of each character given:
_WORK_PER_CHARACTER = 20
_SECONDS = 10.0
_WIDEST = 200  # of an indentation and the like
_LEFT_OUT = ("pprint", "random", "urlize", "wordwrap", "xmlattr")
_GLOBALS = ("cycler", "dict", "joiner", "namespace", "range")
_PADDED = re.compile(r"\d{4}|\*|:[^}]*\{")  # widths in a format that nobody needs


class TemplateProblem(ConfigError):
    """A template is wrong, or cannot be rendered; one line."""


class _Budget:
    """What one rendering may still do."""

    def __init__(self, given: int, step: int) -> None:
        self.left = _WORK + _WORK_PER_CHARACTER * given
        self.step = step  # of a loop: as much as the template could print
        self.until = time.monotonic() + _SECONDS

    def spend(self, amount: int) -> None:
        self.left -= 1 + amount
        if self.left < 0 or time.monotonic() > self.until:
            raise TemplateProblem("it does too much: a loop or a text grows beyond all bounds")


_budget: ContextVar[_Budget] = ContextVar("budget")


class _Template(NamedTuple):
    compiled: jinja2.Template
    length: int


def render(template: str, values: Mapping[str, Any]) -> str:
    """Return the text that a template gives for ``values``, unescaped.

    Raises:
        TemplateProblem: It is wrong, shows a value that is not there, or does too much.
    """
    compiled = _compiled(template)
    token = _budget.set(_Budget(_length(values), compiled.length))
    try:
        return compiled.compiled.render(values)
    except TemplateProblem:
        raise
    except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise TemplateProblem(_one_line(error)) from error
    except (AttributeError, MemoryError, RecursionError) as error:
        raise TemplateProblem(_one_line(error)) from error
    finally:
        _budget.reset(token)


def check_template(template: str) -> set[str]:
    """Return the names of the values that a template shows.

    Raises:
        TemplateProblem: It is too long, is no template, or includes other files.
    """
    tree = _parsed(template)
    if any(True for _ in meta.find_referenced_templates(tree)):
        raise TemplateProblem("it is one file; it cannot include others")
    _compiled(template)
    return meta.find_undeclared_variables(tree)


def _parsed(template: str) -> nodes.Template:
    if len(template) > LONGEST:
        raise TemplateProblem(f"it has {len(template):,} characters; at most {LONGEST:,} are read")
    try:
        return _environment().parse(template)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateProblem(f"{error.message}, line {error.lineno}") from error
    except (jinja2.TemplateError, MemoryError, RecursionError, ValueError) as error:
        raise TemplateProblem(_one_line(error)) from error


@functools.lru_cache(maxsize=32)
def _compiled(template: str) -> _Template:
    tree = _parsed(template)
    _count_work(tree)
    try:
        return _Template(_environment().from_string(tree), len(template))
    except (jinja2.TemplateError, MemoryError, RecursionError, SyntaxError, ValueError) as error:
        raise TemplateProblem(_one_line(error)) from error


def _count_work(tree: nodes.Template) -> None:
    """Send what is looped over, compared or joined by ``~`` through filters that count."""
    for loop in tree.find_all(nodes.For):
        loop.iter = nodes.Filter(loop.iter, "_steps", [], [], None, None)
    for compared in tree.find_all(nodes.Compare):
        parts: list[Any] = [compared, *compared.ops]
        for part in parts:
            part.expr = nodes.Filter(part.expr, "_paid", [], [], None, None)
    for owner in [tree, *tree.find_all(nodes.Node)]:
        for name, value in owner.iter_fields():
            if isinstance(value, nodes.Concat):
                setattr(owner, name, _counted(value))
            elif isinstance(value, list):
                value[:] = [_counted(v) if isinstance(v, nodes.Concat) else v for v in value]


def _counted(joined: nodes.Concat) -> nodes.Filter:
    return nodes.Filter(nodes.List(joined.nodes), "_together", [], [], None, None)


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's own sandbox, in which also what is made is counted."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        times = 1
        if operator == "**" and isinstance(right, int):
            times = abs(right)
        elif operator == "*" and isinstance(left, int) != isinstance(right, int):
            repeated, number = (right, left) if isinstance(left, int) else (left, right)
            times = abs(number) if isinstance(repeated, Collection) else 1
        if operator == "%" and isinstance(left, str):
            _check_format(left, right)
        _budget.get().spend((_length(left) + _length(right)) * times)
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        made = super().wrap_str_format(value)
        if made is None:
            return None

        def counted(*given: Any, **options: Any) -> str:
            _check_format(value.__self__, [*given, *options.values()])
            return str(made(*given, **options))

        return counted

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, (bytes, int, float, complex)):
            return False
        if isinstance(obj, str) and attr not in _METHODS:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def call(*args: Any, **kwargs: Any) -> Any:  # as the sandbox's own: names belong to the callee
        environment, context, function, *given = args
        text, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
        budget = _budget.get()
        budget.spend(budget.step + _length(given))
        if isinstance(text, str) and name in _GROWING:
            return _GROWING[name](text, *given, **kwargs)
        return ImmutableSandboxedEnvironment.call(environment, context, function, *given, **kwargs)


# methods of texts: none makes a text longer than what it is given
_METHODS = frozenset(
    """
    capitalize casefold count endswith find format index isalnum isalpha isdecimal isdigit islower
    isnumeric isspace istitle isupper join lower lstrip partition removeprefix removesuffix replace
    rfind rindex rpartition rsplit rstrip split splitlines startswith strip swapcase title upper
    """.split()  # noqa: SIM905
)


def _replace(text: Any, old: Any, new: Any, count: Any = None) -> str:
    text, old, new = str(text), str(old), str(new)
    times = text.count(old) if count is None or count < 0 else min(text.count(old), count)
    _budget.get().spend(len(text) + times * len(new))
    return str(text.replace(old, new, -1 if count is None else count))


def _join(separator: str, values: Iterable[Any]) -> str:
    texts = [str(value) for value in _steps(values)]
    _budget.get().spend(sum(map(len, texts)) + len(texts) * len(separator))
    return separator.join(texts)


_GROWING: Mapping[str, Callable[..., Any]] = {"replace": _replace, "join": _join}


def _check_format(text: str, given: Any) -> None:
    if _PADDED.search(text):
        raise TemplateProblem(f"the format {text[:40]!r} pads too far")
    _budget.get().spend(len(text) + (text.count("%") + text.count("{")) * _length(given))


def _paid(value: Any) -> Any:
    _budget.get().spend(len(value) // 64 if isinstance(value, str) else _length(value))
    return value


def _together(parts: list[Any]) -> str:
    return _join("", parts)


def _steps(values: Iterable[Any]) -> Iterator[Any]:
    budget = _budget.get()
    for value in values:
        budget.spend(budget.step)
        yield value


@jinja2.pass_context
def _printed(context: Any, value: Any) -> Any:
    _budget.get().spend(_length(value))
    return value


def _watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that pays for what it is given and what it makes."""

    @functools.wraps(function)
    def watched(*given: Any, **options: Any) -> Any:
        numbers = [one for one in (*given[1:], *options.values()) if isinstance(one, int)]
        widest = max([abs(one) for one in numbers], default=0)
        if name in ("center", "indent", "tojson", "batch", "slice") and widest > _WIDEST:
            raise TemplateProblem(f"{name}({widest}) is too wide; at most {_WIDEST}")
        size = sum(map(_length, given)) + sum(map(_length, options.values()))
        budget = _budget.get()
        budget.spend(size * (max(1, widest) if name in ("indent", "tojson") else 1))
        if name == "format":
            _check_format(str(given[0]), [*given[1:], *options.values()])
        found = function(*given, **options)
        budget.spend(_length(found))
        return found

    return watched


@jinja2.pass_context
def _join_filter(context: Any, values: Any, d: str = "", attribute: Any = None) -> str:
    if attribute is not None:
        values = context.environment.filters["map"](context, values, attribute=attribute)
    return _join(str(d), values)


@functools.lru_cache(maxsize=1)
def _environment() -> _Environment:
    # plain text, never HTML; a missing value is an error, never an empty text
    made = _Environment(
        undefined=jinja2.StrictUndefined, autoescape=False, optimized=False, finalize=_printed
    )
    made.filters = {
        name: _watched(name, function)
        for name, function in made.filters.items()
        if name not in _LEFT_OUT
    }
    made.filters |= {"replace": _replace, "join": _join_filter}
    made.filters |= {"_steps": _steps, "_together": _together, "_paid": _paid}
    tests: dict[str, Any] = dict(made.tests)
    made.tests = {name: _watched(name, function) for name, function in tests.items()}
    made.globals = {name: made.globals[name] for name in _GLOBALS}
    return made


def _length(value: Any, known: dict[int, int] | None = None) -> int:
    """Return about how many characters a value has as text, parts that stand in it twice twice."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, int):
        return value.bit_length() // 3 + 1
    if isinstance(value, Namespace):
        value = object.__getattribute__(value, "_Namespace__attrs")
    if not isinstance(value, Collection) or isinstance(value, (Context, jinja2.Undefined, range)):
        return 1
    known = {} if known is None else known
    if id(value) not in known:
        known[id(value)] = 0  # where it holds itself
        parts = [*value, *value.values()] if isinstance(value, Mapping) else value
        known[id(value)] = sum(_length(one, known) + 2 for one in parts) + 2
    return known[id(value)]


def _one_line(error: Exception | MemoryError) -> str:
    return " ".join(str(error).split()) or type(error).__name__
