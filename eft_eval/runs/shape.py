"""The shape of results files: that of every lm-eval since 0.4.0, checked and brought to one.

| lm-eval        | what differs                                                       |
|----------------|--------------------------------------------------------------------|
| 0.4.0, 0.4.1   | no ``group_subtasks``: the aliases' indentation tells groups       |
| 0.4.0 to 0.4.2 | no ``n-samples``, hashes, names or dates; samples are a JSON array |
| 0.4.2          | ``metadata`` of a task may be a list of objects                    |
| 0.4.3 to 0.4.5 | samples do not say their filter: their order does                  |

Whatever else reads the content relies on the types that are checked here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from eft_eval.errors import ConfigError

__all__ = ["in_shape", "no_results", "without_configuration", "without_filter"]

_TABLES = (
    "results", "configs", "groups", "group_subtasks", "versions", "n-shot", "n-samples",
    "higher_is_better", "task_hashes", "config",
)  # fmt: skip
_OF_OBJECTS = {"results", "configs", "groups", "n-samples", "higher_is_better"}
_TEXTS = (
    "model_name", "lm_eval_version", "transformers_version", "git_hash", "chat_template_sha",
    "eft_judged_from",
)  # fmt: skip
_LONGEST_SHOWN = 40
_MOST_DOCUMENTS = 2**53


class _WrongShapeError(Exception):
    """A place in the file, and what was expected there."""


def no_results(content: Any) -> str | None:
    """Return why a parsed JSON file is no results file of lm-eval 0.4; None: it is one."""
    if not isinstance(content, Mapping) or not isinstance(content.get("results"), Mapping):
        return "is no results file of lm-eval"
    if "config_general" in content:
        return "is a results file of another tool (config_general), not of lm-eval"
    if not isinstance(content.get("configs"), Mapping):
        return (
            "has results but no configs: it is of an lm-eval before 0.4.0, or was trimmed; files "
            "are read as lm-eval 0.4.0 and later write them"
        )
    return None


def in_shape(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a results file's content in the shape of the present lm-eval.

    Args:
        content: As parsed; is not changed.
        where: The file, for errors.

    Raises:
        ConfigError: Something in it has another type than any lm-eval writes.
    """
    found = dict(content)
    try:
        for name in _TABLES:
            found[name] = _table(found, name)
            if content.get(name) is None and name not in ("results", "configs"):
                found.pop(name)
        for name in _TEXTS:
            _check(found.get(name), str, name, "a text")
        judged_from = found.get("eft_judged_from")
        if judged_from is not None and PurePath(judged_from).name != judged_from:
            raise _WrongShapeError(_told("eft_judged_from", judged_from, "the name of a file"))
        found["configs"] = {name: _task(name, one) for name, one in found["configs"].items()}
        if "n-samples" in found:
            found["n-samples"] = {n: _counts(n, one) for n, one in found["n-samples"].items()}
        if found.get("groups") and "group_subtasks" not in found:
            found["group_subtasks"] = _subtasks(found)
    except _WrongShapeError as error:
        raise ConfigError(
            f"{where} is a damaged results file, or of a fork that writes another: {error}; "
            "evaluate again with lm-eval"
        ) from None
    return found


def without_configuration(content: Mapping[str, Any]) -> list[str]:
    """Return the entries with figures that are neither groups nor tasks with a configuration."""
    groups = {*(content.get("groups") or ())}
    groups |= {name for name, tasks in (content.get("group_subtasks") or {}).items() if tasks}
    return [
        name
        for name, entry in content["results"].items()
        if name not in content["configs"]
        and name not in groups
        and any(isinstance(value, (int, float)) for key, value in entry.items() if "," in key)
    ]


def without_filter(content: Mapping[str, Any]) -> list[str]:
    """Return the tasks whose figures all lack a filter in their names, as some forks write."""
    return [
        name
        for name, entry in content["results"].items()
        if name in content["configs"]
        and not any("," in key for key in entry)
        and any(f"{key}_stderr" in entry for key in entry)
    ]


def _told(place: str, value: Any, expected: str) -> str:
    shown = repr(value)
    if len(shown) > _LONGEST_SHOWN:
        shown = f"{shown[:_LONGEST_SHOWN]}…"
    return f"{place} is {shown}, expected {expected}"


def _check(value: Any, kind: type | tuple[type, ...], place: str, expected: str) -> None:
    if value is not None and not isinstance(value, kind):
        raise _WrongShapeError(_told(place, value, expected))


def _table(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    table = content.get(name)
    if name == "config" and not isinstance(table, Mapping):
        return {}  # of the model nothing is known then, as where there is none
    _check(table, Mapping, name, "an object")
    found = dict(table or {})
    for key, value in found.items():
        place = f"{name}.{key}"
        if name == "n-samples" and isinstance(value, (int, float)):
            continue
        if name in _OF_OBJECTS:
            _check(value, Mapping, place, "an object")
            found[key] = {} if value is None else value
        elif name == "group_subtasks":
            _check(value, list, place, "a list of tasks")
            found[key] = [] if value is None else value
            for one in found[key]:
                if not isinstance(one, str):
                    raise _WrongShapeError(_told(place, value, "a list of tasks"))
    return found


def _counts(task: str, value: Any) -> dict[str, int]:
    """Return a task's numbers of documents; 0.4.3 and 0.4.4 write the limit, perhaps as 10.0."""
    given = {"effective": value} if isinstance(value, (int, float)) else value
    found = {}
    for key, number in given.items():
        if number is None:
            continue
        whole = isinstance(number, int) or (isinstance(number, float) and number.is_integer())
        if not whole or isinstance(number, bool) or not 0 <= number < _MOST_DOCUMENTS:
            raise _WrongShapeError(_told(f"n-samples.{task}.{key}", number, "a whole number"))
        found[key] = int(number)
    return found


def _task(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    where = f"configs.{name}"
    found = dict(config)
    metadata = found.get("metadata")
    if isinstance(metadata, list) and all(isinstance(one, Mapping) for one in metadata):
        found["metadata"] = {key: value for one in metadata for key, value in one.items()}
    for key, kind, expected in (
        ("metadata", Mapping, "an object"),
        ("dataset_kwargs", Mapping, "an object"),
        ("generation_kwargs", Mapping, "an object"),
        ("dataset_path", str, "a text"),
        ("output_type", str, "a text"),
    ):
        _check(found.get(key), kind, f"{where}.{key}", expected)
    for key in ("repeats", "num_fewshot"):
        number = found.get(key)
        if isinstance(number, float) and number.is_integer():
            found[key] = int(number)
        elif number is not None and (not isinstance(number, int) or number < 0):
            raise _WrongShapeError(_told(f"{where}.{key}", number, "a whole number"))
    if "metric_list" in found:
        found["metric_list"] = [*_objects(found, "metric_list", where, "metric")]
    if "filter_list" in found:
        found["filter_list"] = [
            {**one, "filter": [*_objects(one, "filter", f"{where}.filter_list", "function")]}
            for one in _objects(found, "filter_list", where, "name")
        ]
    return found


def _objects(
    parent: Mapping[str, Any], key: str, where: str, name: str
) -> Iterator[Mapping[str, Any]]:
    """Yield a list of objects, each with a name; none for none."""
    listed = parent.get(key)
    expected = f"a list of objects with {name}"
    _check(listed, list, f"{where}.{key}", expected)
    for one in listed or ():
        if not isinstance(one, Mapping) or not isinstance(one.get(name), str):
            raise _WrongShapeError(_told(f"{where}.{key}", listed, expected))
        yield one


def _subtasks(content: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the tasks below each group, as the indentation of the aliases shows them.

    Where the aliases show none, tasks say themselves which group they are of.
    """
    names = [*content["results"]]
    depths = [_depth(content["results"][name]) for name in names]
    found = {}
    for group in content["groups"]:
        below: list[str] = []
        if group in names:
            place = names.index(group)
            for name, depth in zip(names[place + 1 :], depths[place + 1 :], strict=True):
                if depth <= depths[place]:
                    break
                below.append(name)
        found[group] = below or [
            name
            for name, config in content["configs"].items()
            if group == config.get("group") or group in _as_list(config.get("group"))
        ]
    return found


def _depth(entry: Mapping[str, Any]) -> int:
    alias = str(entry.get("alias") or "")
    return len(alias) - len(alias.lstrip(" "))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
