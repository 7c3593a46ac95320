"""What the statistics take: ratings as numbers with holes, a panel of raters, cluster ids."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from eft_eval.errors import ConfigError, nearest

__all__ = ["Clusters", "Panel", "Ratings", "Rule", "Values"]

Ratings: TypeAlias = Iterable[float | None] | NDArray[Any]
"""One rater's answers in the order of the items; None or NaN where there is none."""
Panel: TypeAlias = Mapping[str, Ratings] | Sequence[Ratings] | NDArray[Any]
"""The answers of several raters to the same items: by the rater's name, as a pandas frame with a
column per rater, or as rows, one per rater, who are then R1, R2, …"""
Clusters: TypeAlias = Iterable[Hashable] | NDArray[Any]
"""What each item belongs to, such as its prompt: items that share an id are not independent."""
Rule: TypeAlias = Literal["any error", "raw"]
"""How a rating is read: "any error" makes 1 of a count above 0 (section 4.5); "raw" keeps it."""
Values: TypeAlias = NDArray[np.float64]
Codes: TypeAlias = NDArray[np.int64]


class Matrix(NamedTuple):
    """A panel as numbers: ``values`` has shape [raters, items], NaN where there is no rating."""

    names: tuple[str, ...]
    values: Values


def read_ratings(ratings: Ratings, what: str = "ratings") -> Values:
    """Return ratings as float64 with NaN for the missing ones; reject what is not a number.

    Args:
        ratings: Numbers or truth values; None, NaN and pandas' NA are missing.
        what: What to call them in an error.
    """
    if isinstance(ratings, (str, Mapping)) or not isinstance(ratings, Iterable):
        raise ConfigError(f"{what} are {ratings!r:.60}; expected one number (or None) per item")
    try:
        array = ratings if isinstance(ratings, np.ndarray) else np.asarray(list(ratings))
    except ValueError:
        raise ConfigError(f"{what} hold rows; expected one number (or None) per item") from None
    if array.ndim != 1:
        raise ConfigError(
            f"{what} have {array.ndim} dimensions; expected one number (or None) per item"
        )
    if array.dtype.kind in "biuf" or array.size == 0:
        values = array.astype(np.float64)
    else:
        values = np.array([_number(value, i, what) for i, value in enumerate(array.tolist())])
    if np.isinf(values).any():
        raise ConfigError(
            f"{what}: item {int(np.isinf(values).argmax())} is infinite; "
            "expected a finite number, or None where it is missing"
        )
    return values


def _number(value: object, item: int, what: str) -> float:
    if value is None or type(value).__name__ in {"NAType", "NaTType"}:
        return math.nan
    if isinstance(value, (bool, int, float, np.number, np.bool_)):
        return float(value)
    raise ConfigError(
        f"{what}: item {item} is {value!r}; expected a number, or None where it is missing "
        "(code categories as numbers first)"
    )


def apply_rule(values: Values, rule: Rule, what: str = "ratings") -> Values:
    """Read ratings by a rule; missing ones stay missing."""
    if rule not in get_args(Rule):
        raise ConfigError(
            f"unknown rule {rule!r}{nearest(str(rule), get_args(Rule))}; "
            f"known: {', '.join(get_args(Rule))}"
        )
    if rule == "raw":
        return values
    if (values < 0).any():  # NaN compares false
        raise ConfigError(
            f"{what}: item {int((values < 0).argmax())} is {values[values < 0][0]:g}; "
            "a count of errors is 0 or more: pass None for a missing or unreadable rating"
        )
    return np.where(np.isnan(values), values, (values > 0).astype(np.float64))


def read_pair(first: Ratings, second: Ratings, names: tuple[str, str]) -> tuple[Values, Values]:
    """Return two raters' ratings of the same items."""
    left, right = read_ratings(first, names[0]), read_ratings(second, names[1])
    check_order(names[0], first, names[1], second)
    if len(left) != len(right):
        raise ConfigError(
            f"{names[0]} have {len(left)} items and {names[1]} {len(right)}; "
            "expected the same items in the same order, None where one is missing"
        )
    return left, right


def _index(given: Any) -> Any:
    """Return the index of what pandas holds, of a mapping's first value too; None without one."""
    if isinstance(given, Mapping):
        given = next(iter(given.values()), None)
    index = getattr(given, "index", None)
    return index if hasattr(index, "equals") else None


def check_order(name: str, one: Any, other_name: str, other: Any) -> None:
    """Refuse two pandas objects whose indexes differ: nothing here joins items by an index.

    Raises:
        ConfigError: Both have an index, and they differ.
    """
    first, second = _index(one), _index(other)
    if first is not None and second is not None and not first.equals(second):
        raise ConfigError(
            f"{name} and {other_name} have different pandas indexes; expected the same items in "
            "the same order: join them first, or give .to_numpy() of each"
        )


def _by_name(panel: Any) -> dict[Any, Ratings]:
    if hasattr(panel, "items"):
        named = dict(panel.items())  # of a pandas frame too, whose len() is that of its rows
        first = next(iter(named), None)
        for name, ratings in named.items():
            check_order(f"ratings of {first}", named[first], f"ratings of {name}", ratings)
        return named
    if isinstance(panel, str) or not isinstance(panel, (Sequence, np.ndarray)):
        raise ConfigError(
            f"the panel is {panel!r:.60}; expected a mapping of rater to ratings, a pandas frame "
            "with a column per rater, or a row of ratings per rater"
        )
    return {f"R{number}": row for number, row in enumerate(panel, 1)}


def read_panel(panel: Panel, rule: Rule = "raw") -> Matrix:
    """Return a panel as a matrix; every rater must have an entry, or a hole, for every item."""
    rows = {}
    named = _by_name(panel)
    for name, ratings in named.items():
        what = f"ratings of {name}"
        rows[str(name)] = apply_rule(read_ratings(ratings, what), rule, what)
    if not rows:
        raise ConfigError("the panel has no raters; expected a mapping of rater to ratings")
    if len(rows) < len(named):
        raise ConfigError(f"two raters have the same name as text: {', '.join(map(repr, named))}")
    lengths = {name: len(row) for name, row in rows.items()}
    if len(set(lengths.values())) > 1:
        raise ConfigError(
            f"raters have different numbers of items ({lengths}); "
            "expected the same items in the same order, None where a rater has none"
        )
    return Matrix(tuple(rows), np.stack(list(rows.values())))


def read_judge(judge: Ratings, rule: Rule, panel: Panel, items: int) -> Values:
    """Return the judge's ratings of the ``items`` of a panel."""
    what = "the judge's ratings"
    verdicts = apply_rule(read_ratings(judge, what), rule, what)
    check_order("the panel", panel, what, judge)
    if len(verdicts) != items:
        raise ConfigError(
            f"the judge rated {len(verdicts)} items and the panel {items}; "
            "expected the same items in the same order, None where one is missing"
        )
    return verdicts


def read_clusters(clusters: Clusters | None, items: int) -> Codes | None:
    """Return cluster ids as numbers 0, 1, … in order of appearance; None for no clusters."""
    if clusters is None:
        return None
    codes: dict[Hashable, int] = {}
    listed = clusters.tolist() if isinstance(clusters, np.ndarray) else list(clusters)
    if len(listed) != items:
        raise ConfigError(
            f"{len(listed)} cluster ids for {items} items; expected one for each item"
        )
    for item, cluster in enumerate(listed):
        if cluster is None or cluster != cluster:
            raise ConfigError(
                f"item {item} has no cluster id; expected one for each item, such as its prompt's"
            )
    return np.array([codes.setdefault(cluster, len(codes)) for cluster in listed], dtype=np.int64)


def select(codes: Codes | None, kept: NDArray[np.bool_]) -> Codes | None:
    """Return the cluster codes of the items that are kept."""
    return None if codes is None else codes[kept]
