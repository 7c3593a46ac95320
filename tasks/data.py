"""Prompts of the ELI5 and HH tasks: a fixed selection from the user's files or from the hub.

`load_eli5` and `load_hh` are the ``custom_dataset`` of the task YAML; `describe` tells where the
prompts of the same settings came from. There is no random choice: duplicates go, the rest is
ordered by the SHA-256 of the question, the first ``n_prompts`` are used. Cached per process.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from eft_eval.errors import ConfigError, nearest
from eft_eval.runs.metadata import PromptData
from eft_eval.streams import logger
from eft_eval.tasks.sources import (
    NO_COLUMN,
    DataFile,
    Hub,
    LeftOut,
    eli5_question,
    find_files,
    given_hubs,
    hh_question,
    hub_failure,
    hub_id,
    is_hub_error,
    read_rows,
    short_names,
    snapshot,
)

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["HH_REPOSITORY", "HH_REVISION", "describe", "load_eli5", "load_hh"]

_log = logger("eft_eval.tasks")
_N_PROMPTS = 256  # as in the paper


class _Task(NamedTuple):
    """What differs between the two data sets."""

    name: Literal["eli5", "hh"]
    env: str
    hubs: tuple[Hub, ...]  # the first that exists
    revision: str  # of the first hub
    max_words: int | None
    columns: str
    question: Callable[[Mapping[str, object]], str | LeftOut]


_ELI5 = _Task(
    name="eli5",
    env="EFT_ELI5_DATA",
    hubs=(Hub("facebook/kilt_tasks", ("eli5/test-*.parquet",)), Hub("Pavithree/eli5", ("*test*",))),
    revision="main",
    max_words=30,
    columns="question, input, title, prompt, instruction, messages or conversations",
    question=eli5_question,
)
HH_REPOSITORY = "Anthropic/hh-rlhf"
HH_REVISION = "09be8c5bbc57cb3887f3a9732ad6aa7ec602a1fa"
_HH = _Task(
    name="hh",
    env="EFT_HH_DATA",
    hubs=(Hub(HH_REPOSITORY, ("harmless-base/test.jsonl*", "helpful-base/test.jsonl*")),),
    revision=HH_REVISION,
    max_words=None,
    columns="chosen and rejected, or prompt, question, instruction, messages or conversations",
    question=hh_question,
)
_TASKS = {task.name: task for task in (_ELI5, _HH)}


class _Prompt(NamedTuple):
    question: str
    prompt_id: str
    source: str


def load_eli5(
    *,
    eli5_data: object = None,
    eli5_revision: object = _ELI5.revision,
    n_prompts: object = _N_PROMPTS,
    max_words: object = _ELI5.max_words,
    **_: object,
) -> dict[str, Dataset]:
    """Load ELI5 questions: the split ``test`` with the columns question, prompt_id and source.

    Args:
        eli5_data: File, folder, list of files or the hub's ``OWNER/NAME``; else
            ``EFT_ELI5_DATA``; else the default data set of the hub.
        eli5_revision: Branch, tag or commit of the hub data set.
        n_prompts: How many questions to use.
        max_words: Longest question allowed, in words; None for no limit.

    Raises:
        ConfigError: A setting or a file is wrong, or the hub cannot be reached.
    """
    return _as_dataset(_prompts(_ELI5, eli5_data, eli5_revision, n_prompts, max_words)[0])


def load_hh(
    *,
    hh_data: object = None,
    hh_revision: object = _HH.revision,
    n_prompts: object = _N_PROMPTS,
    max_words: object = _HH.max_words,
    **_: object,
) -> dict[str, Dataset]:
    """Load single-turn prompts of HH-RLHF, helpful-base and harmless-base, as `load_eli5` does.

    Args:
        hh_data: File, folder, list of files or the hub's ``OWNER/NAME``; else ``EFT_HH_DATA``;
            else the default data set of the hub.
        hh_revision: Branch, tag or commit of the hub data set.
        n_prompts: How many prompts to use.
        max_words: Longest prompt allowed, in words; None for no limit.

    Raises:
        ConfigError: A setting or a file is wrong, or the hub cannot be reached.
    """
    return _as_dataset(_prompts(_HH, hh_data, hh_revision, n_prompts, max_words)[0])


def describe(name: str, /, **settings: object) -> PromptData:
    """Tell where `load_eli5` ("eli5") or `load_hh` ("hh") finds its prompts with these settings."""
    if name not in _TASKS:
        raise ConfigError(
            f"no data set {name!r}{nearest(name, _TASKS)}; known: {', '.join(_TASKS)}"
        )
    task = _TASKS[name]
    return _prompts(
        task,
        settings.get(f"{name}_data"),
        settings.get(f"{name}_revision", task.revision),
        settings.get("n_prompts", _N_PROMPTS),
        settings.get("max_words", task.max_words),
    )[1]


def _as_dataset(prompts: tuple[_Prompt, ...]) -> dict[str, Dataset]:
    from datasets import Dataset

    return {"test": Dataset.from_list([prompt._asdict() for prompt in prompts])}


def _prompts(
    task: _Task, data: object, revision: object, n_prompts: object, max_words: object
) -> tuple[tuple[_Prompt, ...], PromptData]:
    """Check the settings, stat the files and read them, or reuse what was read before."""
    n = _count("n_prompts", n_prompts)
    unlimited = max_words is None or str(max_words).lower() == "none"
    words = None if unlimited else _count("max_words", max_words)
    if not isinstance(revision, str) or not revision:
        raise ConfigError(f"{task.name}_revision: {revision!r} is not a branch, tag or commit")
    setting = f"{task.name}_data"
    if not data and os.environ.get(task.env):
        setting, data = task.env, os.environ[task.env]
    if (repo := hub_id(data)) is not None:
        revision = "main" if revision == task.revision else revision
        return _select(task._replace(hubs=given_hubs(repo)), (), revision, n, words)
    files = find_files(data, setting) if data else ()
    return _select(task, files, "" if files else revision, n, words)


def _count(setting: str, value: object) -> int:
    """Read a whole number of at least 1; the command line may hand it over as text."""
    text = str(value).strip() if isinstance(value, (int, str)) else ""
    if re.fullmatch("0*[1-9][0-9]{0,8}", text):  # neither True nor 2.5
        return int(text)
    raise ConfigError(f"{setting}: {value!r} is not a whole number of at least 1")


@functools.lru_cache(maxsize=16)
def _select(
    task: _Task, files: tuple[DataFile, ...], revision: str, n_prompts: int, max_words: int | None
) -> tuple[tuple[_Prompt, ...], PromptData]:
    """Read all rows, drop what cannot be used and take the first prompts in hash order."""
    repo, commit, named = "", None, short_names(files)
    if not files:
        repo, commit, named = _from_hub(task, revision)
    left_out: dict[str, Counter[str]] = {"rejected": Counter(), "skipped": Counter()}
    prompts: dict[str, _Prompt] = {}  # by SHA-256 of the question
    for name, path in named:
        for question in _questions(task, path, name):
            if isinstance(question, LeftOut):
                left_out[question.kind][question.reason] += 1
            elif max_words and len(question.split()) > max_words:
                left_out["skipped"][f"more than {max_words} words"] += 1
            elif (key := hashlib.sha256(question.encode()).hexdigest()) in prompts:
                left_out["skipped"]["duplicate"] += 1
            else:
                source = f"{repo}/{name}" if repo else name
                prompts[key] = _Prompt(question, prompt_id=key[:16], source=source)
    used = tuple(prompts[key] for key in sorted(prompts)[:n_prompts])
    provenance = PromptData(
        name=task.name,
        kind="hub" if repo else "file",
        origin=repo or ", ".join(name for name, _ in named),
        revision=commit,
        files={name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in named},
        rows=len(prompts) + sum(count.total() for count in left_out.values()),
        rejected=dict(sorted(left_out["rejected"].items())),
        skipped=dict(sorted(left_out["skipped"].items())),
        usable=len(prompts),
        used=len(used),
        max_words=max_words,
        prompts_sha256=hashlib.sha256("\0".join(p.question for p in used).encode()).hexdigest(),
    )
    _check_enough(provenance, n_prompts)
    return used, provenance


def _questions(task: _Task, path: Path, name: str) -> Iterator[str | LeftOut]:
    """Yield the question, or the reason to leave it out, of every row of one file."""
    found: set[str] = set()
    lacking = True
    for row in read_rows(path, name):
        found.update(row)
        outcome = task.question(row)
        lacking = lacking and outcome == NO_COLUMN
        yield outcome
    if found and lacking:
        has = ", ".join(sorted(found))
        raise ConfigError(f"{name}: no column {task.columns}; its columns are: {has}")


def _check_enough(made: PromptData, n_prompts: int) -> None:
    """Log one line of counts; refuse an empty selection, and a short one from the hub."""
    counts = [*made.rejected.items(), *made.skipped.items()]
    left_out = ", ".join(f"{count} {reason}" for reason, count in counts) or "none"
    _log.info(
        "%s: %s of %s usable prompts used, %s rows read from %s (left out: %s)",
        *(made.name, made.used, made.usable, made.rows, made.origin, left_out),
    )
    if not made.usable:
        raise ConfigError(f"{made.origin}: no usable prompt in {made.rows} rows ({left_out})")
    few = f"{made.origin}: n = {made.usable} usable prompts, fewer than n_prompts={n_prompts}"
    if made.usable < n_prompts and made.kind == "hub":
        raise ConfigError(f"{few}; lower it with --metadata n_prompts={made.usable}")
    if made.usable < n_prompts:
        _log.warning("%s: all of them are used", few)


def _from_hub(task: _Task, revision: str) -> tuple[str, str, list[tuple[str, Path]]]:
    """Return repository, commit and the (name, path) of the files of the first hub."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    use_file = f"--metadata {task.name}_data=FILE or {task.env}=FILE"
    given = task.hubs != _TASKS[task.name].hubs
    here = f", and there is no file or folder {task.hubs[0].repo}" if given else ""
    for hub in task.hubs:
        try:
            return (hub.repo, *snapshot(hub, revision))
        except RevisionNotFoundError as error:
            raise ConfigError(f"{task.name}_revision: {hub.repo} has no {revision!r}") from error
        except RepositoryNotFoundError as error:
            if revision != "main" or hub.repo == task.hubs[-1].repo:
                raise ConfigError(
                    f"data set {hub.repo} is missing on the hub{here}, or not open to you; set "
                    f"{use_file}"
                ) from error
            _log.warning("%s is missing on the hub: trying %s", hub.repo, task.hubs[-1].repo)
        except Exception as error:
            if not is_hub_error(error):
                raise
            if hub is not task.hubs[-1] and hub.repo == task.hubs[-1].repo:
                continue  # it has no test files
            raise ConfigError(
                f"cannot get {hub.repo} from the hub, and it is not in the cache{here} "
                f"({hub_failure(error)}): "
                f"connect once, or set {use_file}"
            ) from error
    raise AssertionError("the last hub returns or raises")
