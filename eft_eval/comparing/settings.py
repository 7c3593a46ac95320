"""What a gate demands: ``eft-eval.toml``, a closed schema, and the command's options over it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from eft_eval.errors import ConfigError, nearest
from eft_eval.files import check_readable
from eft_eval.records import finite_number
from eft_eval.runs.samples import PROMPT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["GateSettings", "MetricSettings", "read_settings", "settings_with"]

FILE_NAME = "eft-eval.toml"
Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class MetricSettings:
    """What is demanded of one metric.

    Attributes:
        tolerance: Largest drop that is accepted, in the metric's own units; None takes the
            gate's.
        better: Its better direction, where the run does not say or says it wrongly.
        accept_inconclusive: Whether "inconclusive" counts as pass; None takes the gate's.
    """

    tolerance: float | None = None
    better: Better | None = None
    accept_inconclusive: bool | None = None


@dataclass(frozen=True)
class GateSettings:
    """What a gate demands.

    Attributes:
        alpha: One-sided error probability, in (0, 0.5).
        level: Confidence level of the intervals shown.
        tolerance: Largest accepted drop of every metric that has none of its own.
        gated: Metrics that are gated, as patterns ``task/metric`` or ``task/metric,filter`` with
            ``*``; none gates every score that can be, of a panel of judges the panel's alone.
        unscored_tolerance: Largest growth of a share of responses without a score: missing,
            refused, unreadable, unfinished. Beyond it the gate is inconclusive, with exit code 3.
        most_missing: Largest share of responses without a verdict in either run.
        fail_on_inconclusive: Whether an inconclusive gate ends with exit code 3.
        accept_inconclusive: Whether "inconclusive" counts as pass.
        allow_prompt_change: Whether the prompts may differ.
        cluster: What makes items dependent: "prompt", or a path into a sample.
        flips: Number of random sign flips.
        seed: Of the sign flips.
        metrics: Demands of single metrics, by pattern.
    """

    alpha: float = 0.05
    level: float = 0.95
    tolerance: float = 0.0
    gated: tuple[str, ...] = ()
    unscored_tolerance: float = 0.05
    most_missing: float = 0.05
    fail_on_inconclusive: bool = False
    accept_inconclusive: bool = False
    allow_prompt_change: bool = False
    cluster: str = PROMPT
    flips: int = 10_000
    seed: int = 0
    metrics: Mapping[str, MetricSettings] = field(default_factory=dict)


_MOST_FLIPS = 10_000_000  # 80 MB


def read_settings(path: Path | None, folder: Path = Path()) -> GateSettings:
    """Read the ``[gate]`` of a settings file.

    Args:
        path: The file; None takes ``eft-eval.toml`` of ``folder`` if there is one.
        folder: Where to look.

    Raises:
        ConfigError: The file is missing, is no TOML, or has an unknown or wrong key.
    """
    if path is None:
        path = folder / FILE_NAME
        if not (path.exists() or path.is_symlink()):  # a dangling link is no missing file
            return GateSettings()
    check_readable(path)
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error
    for key in content:
        if key != "gate":
            raise ConfigError(f"{path}: unknown key {key!r}{nearest(key, ['gate'])}; known: gate")
    return _gate(content.get("gate", {}), str(path))


def settings_with(settings: GateSettings, options: Mapping[str, Any]) -> GateSettings:
    """Return settings with the command's options over them; None leaves a setting as it is.

    Raises:
        ConfigError: A value is wrong.
    """
    given = {key: value for key, value in options.items() if value is not None}
    return _check(replace(settings, **given), "the command line")


def _gate(table: Any, where: str) -> GateSettings:
    names = [one.name for one in fields(GateSettings)]
    values = _table(table, names, f"{where}: [gate]")
    listed = values.pop("metrics", {})
    if not isinstance(listed, Mapping):
        raise ConfigError(f"{where}: [gate.metrics] is {listed!r}; expected tables of metrics")
    metrics = {}
    known = [one.name for one in fields(MetricSettings)]
    for pattern, one in listed.items():
        place = f'{where}: [gate.metrics."{pattern}"]'
        metrics[pattern] = _check_metric(MetricSettings(**_table(one, known, place)), place)
    if isinstance(values.get("gated"), list):
        values["gated"] = tuple(values["gated"])
    return _check(GateSettings(**values, metrics=metrics), f"{where}: [gate]")


def _table(table: Any, known: Sequence[str], where: str) -> dict[str, Any]:
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} is {table!r}; expected a table with {', '.join(known)}")
    for key in table:
        if key not in known:
            hint = nearest(key, known)
            raise ConfigError(f"{where}: unknown key {key!r}{hint}; known: {', '.join(known)}")
    return dict(table)


def _check(settings: GateSettings, where: str) -> GateSettings:
    _number(settings.alpha, f"{where}: alpha", 0.0, 0.5)
    _number(settings.level, f"{where}: level", 0.0, 1.0)
    _tolerance(settings.tolerance, where)
    _share(settings.unscored_tolerance, f"{where}: unscored_tolerance")
    _share(settings.most_missing, f"{where}: most_missing")
    _whole(settings.flips, f"{where}: flips", 1_000)
    if settings.flips > _MOST_FLIPS:
        raise ConfigError(f"{where}: flips is {settings.flips:,}; at most {_MOST_FLIPS:,}")
    _whole(settings.seed, f"{where}: seed", 0)
    for name in ("fail_on_inconclusive", "accept_inconclusive", "allow_prompt_change"):
        _boolean(getattr(settings, name), f"{where}: {name}")
    if not isinstance(settings.cluster, str) or not settings.cluster:
        raise ConfigError(
            f'{where}: cluster is {settings.cluster!r}; expected "prompt", or a path into a '
            'sample such as "doc.article"'
        )
    patterns = settings.gated
    if not isinstance(patterns, tuple) or not all(isinstance(one, str) for one in patterns):
        raise ConfigError(
            f'{where}: gated is {patterns!r}; expected a list such as ["demo_fact/fact_errors"]'
        )
    return settings


def _check_metric(settings: MetricSettings, where: str) -> MetricSettings:
    if settings.tolerance is not None:
        _tolerance(settings.tolerance, where)
    if settings.better not in (None, "higher", "lower"):
        raise ConfigError(f'{where}: better is {settings.better!r}; expected "higher" or "lower"')
    if settings.accept_inconclusive is not None:
        _boolean(settings.accept_inconclusive, f"{where}: accept_inconclusive")
    return settings


def _tolerance(value: Any, where: str) -> None:
    number = None if isinstance(value, bool) else finite_number(value)
    if number is None or number < 0:
        raise ConfigError(
            f"{where}: tolerance is {value!r}; expected a number of 0 or more, in the metric's "
            "own units (0.02 is 2 points of a share)"
        )


def _number(value: Any, what: str, above: float, below: float) -> None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (good and above < value < below):
        raise ConfigError(f"{what} is {value!r}; expected a number between {above:g} and {below:g}")


def _share(value: Any, what: str) -> None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (good and 0 <= value <= 1):
        raise ConfigError(f"{what} is {value!r}; expected a share from 0 to 1 (0.05 is 5 points)")


def _whole(value: Any, what: str, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{what} is {value!r}; expected a whole number of {least:,} or more")


def _boolean(value: Any, what: str) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"{what} is {value!r}; expected true or false")
