r"""What the sources hold: data files and hub data sets, their rows, and the question in a row.

Knows nothing of selection or of lm-eval.

An HH-RLHF row is a pair of dialogues ``{"chosen", "rejected"}``. The prompt of a dialogue is the
text before its last ``"\n\nAssistant:"``; it is single-turn if it holds exactly one
``"\n\nHuman:"``. Counted on the test splits: in harmless-base 662 of 2,312 rows are single-turn,
and in 5 rows the prompts of chosen and rejected differ; in helpful-base it is 700 of 2,354, and 9.
Of these 14 rows 5 (1 and 4) are single-turn: one of the two dialogues has an assistant's turn more.
"""

from __future__ import annotations

import fnmatch
import functools
import gzip
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from eft_eval.errors import ConfigError
from eft_eval.files import check_readable, described_start, user_path

__all__ = [
    "NO_COLUMN",
    "DataFile",
    "Hub",
    "LeftOut",
    "eli5_question",
    "find_files",
    "first_line",
    "given_hubs",
    "hh_question",
    "hub_failure",
    "hub_id",
    "is_hub_error",
    "is_single_turn",
    "prompt_of",
    "read_rows",
    "short_names",
    "snapshot",
]

_HUB_TIMEOUT = 10.0  # seconds until a hub that does not answer counts as unreachable
_SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".json.gz", ".parquet")

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_GZIP = b"\x1f\x8b"

HUMAN = "\n\nHuman:"
ASSISTANT = "\n\nAssistant:"


class DataFile(NamedTuple):
    """One file of the user's, in a form that changes when its content does: a cache key."""

    path: str
    mtime_ns: int
    size: int


class Hub(NamedTuple):
    """Files of one hub data set; every pattern must match at least one file."""

    repo: str
    patterns: tuple[str, ...]


class LeftOut(NamedTuple):
    """Why a row is not used: rejected for a defect, or skipped, as sound but not asked for."""

    reason: str
    kind: Literal["rejected", "skipped"] = "rejected"


NO_COLUMN = LeftOut("no question column")
NOT_TEXT = LeftOut("not text")
EMPTY = LeftOut("empty prompt")
NO_MARKERS = LeftOut("no dialogue markers")
MARKERS_IN_QUESTION = LeftOut("dialogue markers in a bare question")
PROMPTS_DIFFER = LeftOut("prompts of chosen and rejected differ")
MULTI_TURN = LeftOut("multi-turn", "skipped")
SYSTEM = LeftOut("system message", "skipped")
INPUT = LeftOut("instruction with an input", "skipped")
TEMPLATED = LeftOut("a chat template's marks in the prompt")
_MARKS = re.compile(  # what renderings of a chat begin with
    r"\s*(<s>|<\|begin_of_text\|>|<bos>|<\|endoftext\|>)?\s*"
    r"(<\|(im_start|start_header_id|user|system)\|>|\[INST\]|<start_of_turn>|<\uff5cUser\uff5c>"
    r"|### Instruction:|Below is an instruction that describes a task)"
)
_ROLES = {"human": "user", "gpt": "assistant"}  # of ShareGPT
_PROMPTS = ("prompt", "question", "instruction")  # TRL and DPO, ours, UltraFeedback
_FORM = {"instruction", "input"}  # Alpaca


def eli5_question(row: Mapping[str, object]) -> str | LeftOut:
    """Return the question of an ELI5 row: the first present of question, input, title, prompt."""
    if row.keys() >= _FORM:
        return _of_form(row)
    found = _asked(_first(row, "question", "input", "title", *_PROMPTS))
    return _of_dialogue(row) if found is NO_COLUMN else found


def hh_question(row: Mapping[str, object]) -> str | LeftOut:
    """Return the human turn of an HH row: from chosen and rejected, else prompt, else question."""
    chosen, rejected = row.get("chosen"), row.get("rejected")
    given = _first(row, *_PROMPTS)
    if row.keys() >= _FORM:
        return _of_form(row)
    if chosen is None or rejected is None:
        question = _of_dialogue(row) if given is NO_COLUMN else _asked(given)
        if isinstance(question, str) and (HUMAN.strip() in question or ASSISTANT in question):
            return MARKERS_IN_QUESTION
        return question
    if given is not NO_COLUMN and not all(_is_dialogue(one) for one in (chosen, rejected)):
        return _more_turns(chosen, rejected) or _asked(given)  # the others hold the answers
    if isinstance(chosen, list) and isinstance(rejected, list):
        if NOT_TEXT in (_of_messages(chosen), _of_messages(rejected)):
            return NOT_TEXT
        asked = _of_messages(chosen[:-1])
        return asked if asked == _of_messages(rejected[:-1]) else PROMPTS_DIFFER
    if not isinstance(chosen, str) or not isinstance(rejected, str):
        return NOT_TEXT
    prompt = prompt_of(chosen)
    if prompt is None or prompt_of(rejected) is None:
        return NO_MARKERS
    if not is_single_turn(prompt):
        return MULTI_TURN
    if prompt != prompt_of(rejected):
        return PROMPTS_DIFFER
    human = prompt.partition(HUMAN)[2]
    return MULTI_TURN if ASSISTANT in human else _bare(human)


def _more_turns(*dialogues: object) -> LeftOut | None:
    """Return why the prompt beside two dialogues is not all that they were answers to."""
    for dialogue in dialogues:
        roles = [one.get("role") for one in _objects(dialogue)]
        if "system" in roles:
            return SYSTEM
        if roles.count("user") > 1 or roles.count("assistant") > 1:
            return MULTI_TURN
    return None


def _objects(value: object) -> list[Mapping[str, object]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _of_form(row: Mapping[str, object]) -> str | LeftOut:
    """Return an instruction that has no input of its own; with one it is no question."""
    return INPUT if row["input"] else _asked(row["instruction"])


def _of_dialogue(row: Mapping[str, object]) -> str | LeftOut:
    """Return the only user's turn of a row's messages, whose last is the answer."""
    messages = _first(row, "messages", "conversations")
    if not isinstance(messages, list):
        return NO_COLUMN
    messages = [_as_message(one) for one in messages]
    is_answer = any(one.get("role") == "assistant" for one in _objects(messages[-1:]))
    return _of_messages(messages[:-1] if is_answer else messages)


def _as_message(one: object) -> object:
    """Return a turn as OpenAI's chats have it; ShareGPT's are ``from`` and ``value``."""
    if not isinstance(one, dict) or not {"from", "value"} <= one.keys():
        return one
    return {"role": _ROLES.get(str(one["from"]), one["from"]), "content": one["value"]}


def prompt_of(dialogue: str) -> str | None:
    """Return the text before the last assistant marker, or None for text without both markers."""
    prompt, marker, _ = dialogue.rpartition(ASSISTANT)
    return prompt if marker and HUMAN in prompt else None


def is_single_turn(prompt: str) -> bool:
    """Whether the human speaks exactly once in a prompt."""
    return prompt.count(HUMAN) == 1


def _is_dialogue(value: object) -> bool:
    return isinstance(value, str) and prompt_of(value) is not None


def _asked(value: object) -> str | LeftOut:
    """Return what the user asks: in a text, a dialogue up to the assistant's turn, or messages."""
    if isinstance(value, list):
        return _of_messages(value)
    if isinstance(value, str) and value.lstrip().startswith(HUMAN.strip()):
        human, marker, rest = ("\n\n" + value.lstrip()).partition(HUMAN)[2].partition(ASSISTANT)
        if marker and not rest.strip():
            return MULTI_TURN if HUMAN in human else _bare(human)
    return _bare(value)


def _of_messages(messages: list[object]) -> str | LeftOut:
    """Return the only user's turn of chat messages."""
    turns: list[tuple[object, object]] = []
    for one in messages:
        if not isinstance(one, dict) or not {"role", "content"} <= one.keys():
            return NOT_TEXT
        turns.append((one["role"], one["content"]))
    if not turns:
        return EMPTY
    if any(role == "system" for role, _ in turns):
        return SYSTEM
    return _bare(_text_in(turns[0][1])) if [role for role, _ in turns] == ["user"] else MULTI_TURN


def _text_in(content: object) -> object:
    """Return the text of a message's content, also where that is one part of it."""
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict):
        return content[0].get("text") if content[0].get("type") == "text" else content
    return content


def _first(row: Mapping[str, object], *columns: str) -> object:
    """Return the first value that is present, or `NO_COLUMN`."""
    return next((row[name] for name in columns if row.get(name) is not None), NO_COLUMN)


def _bare(text: object) -> str | LeftOut:
    """Strip a question, or say why it cannot be used as text."""
    if isinstance(text, LeftOut):
        return text
    if not isinstance(text, str) or any("\ud800" <= sign <= "\udfff" for sign in text):
        return NOT_TEXT
    return TEMPLATED if _MARKS.match(text) else text.strip() or EMPTY


def _is_data_file(path: Path) -> bool:
    """Whether `read_rows` can read a file of this name."""
    return path.name.endswith(_SUFFIXES) and not path.name.startswith(".")


def hub_id(data: object) -> str | None:
    """Return the data set of the hub that is named, ``OWNER/NAME``; None for what is a path."""
    if not isinstance(data, str) or not _REPOSITORY.fullmatch(data) or data.endswith(_SUFFIXES):
        return None
    return None if user_path(data).exists() else data


def given_hubs(repo: str) -> tuple[Hub, ...]:
    """Return what to take of a data set: its test files, else all."""
    return (Hub(repo, ("*test*",)), Hub(repo, ("*",)))


def find_files(data: object, setting: str) -> tuple[DataFile, ...]:
    """Expand a path or a list of paths; the files of a folder come by name.

    Args:
        data: What the user gave: files and folders.
        setting: Where it was given, for the messages.

    Raises:
        ConfigError: Something is missing or is no data file.
    """
    found: list[Path] = []
    for item in data if isinstance(data, (list, tuple)) else [data]:
        if not isinstance(item, (str, os.PathLike)):
            raise ConfigError(f"{setting}: {item!r} is not a path")
        path = user_path(item)
        inside = [path]
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.is_file() and _is_data_file(p))
            if not inside:
                raise ConfigError(f"{setting}: folder {path} holds no {', '.join(_SUFFIXES)}")
        elif not path.is_file():
            raise ConfigError(f"{setting}: there is no file or folder {path}")
        elif not _is_data_file(path):
            raise ConfigError(f"{setting}: {path} is none of {', '.join(_SUFFIXES)}")
        found += inside
    stats = [(path.resolve(), path.stat()) for path in found]
    return tuple(DataFile(str(path), stat.st_mtime_ns, stat.st_size) for path, stat in stats)


def short_names(files: tuple[DataFile, ...]) -> list[tuple[str, Path]]:
    """Pair files with names for results: the file's own, with its folder if two agree."""
    paths = [Path(file.path) for file in files]
    unique = len({path.name for path in paths}) == len(paths)
    return [(path.name if unique else f"{path.parent.name}/{path.name}", path) for path in paths]


def read_rows(path: Path, name: str) -> Iterator[Mapping[str, object]]:
    """Yield the rows of a JSON, JSON Lines or parquet file, gzipped or not.

    Args:
        path: The file.
        name: What to call it in messages.

    Raises:
        ConfigError: The file cannot be read, or a row is not an object.
    """
    if path.name.endswith(".parquet"):
        rows = _parquet_rows(path, name)
    else:
        rows = _json_rows(_text(path, name), name, lines=".jsonl" in path.name)
    for place, row in rows:
        if not isinstance(row, dict):
            raise ConfigError(f"{name}, {place}: a JSON object is needed, not {type(row).__name__}")
        yield row


def _text(path: Path, name: str) -> str:
    check_readable(path, pipes=True)
    try:
        stored = path.read_bytes()
        raw = gzip.decompress(stored) if _is_gzipped(path, name, stored) else stored
        return raw.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ConfigError(f"{name} cannot be read: {error}") from error


def _is_gzipped(path: Path, name: str, stored: bytes) -> bool:
    if stored.startswith(_GZIP):
        return True
    if words := described_start(stored):
        raise ConfigError(f"{name} is {words}")
    return path.suffix == ".gz"


def _json_rows(text: str, name: str, *, lines: bool) -> Iterator[tuple[str, object]]:
    """Yield (place, row) pairs; either kind of file may turn out to be the other."""
    lines = lines and not text.lstrip().startswith("[")
    try:
        whole = None if lines else json.loads(text)
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data"):
            raise ConfigError(f"{name}, line {error.lineno}: not JSON ({error.msg})") from error
        lines = True
    except (ValueError, RecursionError) as error:  # endless numbers and nesting
        raise ConfigError(f"{name}: no JSON to be read ({first_line(error)})") from error
    if lines:
        yield from _json_lines(text, name)
    elif isinstance(whole, list):
        yield from ((f"item {number}", row) for number, row in enumerate(whole, 1))
    else:
        raise ConfigError(f"{name}: a list of JSON objects is needed, not {type(whole).__name__}")


def _json_lines(text: str, name: str) -> Iterator[tuple[str, object]]:
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: U+2028 is legal in JSON
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except json.JSONDecodeError as error:
                raise ConfigError(f"{name}, line {number}: not JSON ({error.msg})") from error
            except (ValueError, RecursionError) as error:
                said = first_line(error)
                raise ConfigError(f"{name}, line {number}: no JSON to be read ({said})") from error


def _parquet_rows(path: Path, name: str) -> Iterator[tuple[str, object]]:
    from pyarrow import ArrowException, parquet

    try:
        rows: list[object] = parquet.read_table(path).to_pylist()
    except (OSError, ArrowException) as error:
        raise ConfigError(f"{name} cannot be read as parquet: {first_line(error)}") from error
    yield from ((f"row {number}", row) for number, row in enumerate(rows, 1))


def first_line(error: Exception) -> str:
    """Return a message that fits into one line."""
    return (str(error).splitlines() or [""])[0][:120]


def is_hub_error(error: Exception) -> bool:
    """Whether the hub failed, by whichever HTTP client huggingface_hub is built on."""
    return isinstance(error, OSError) or type(error).__module__.startswith(("httpx", "requests"))


def hub_failure(error: Exception) -> str:
    """Return why the hub gave nothing, in a few words."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    return f"{type(error).__name__}: {first_line(error)}"


def snapshot(hub: Hub, revision: str) -> tuple[str, list[tuple[str, Path]]]:
    """Download one commit of a data set, or find it in the cache; return the commit and the files.

    A pinned commit in the cache needs no connection. Otherwise one short question to the hub comes
    first, because a download retries for half a minute before it gives up.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    get = functools.partial(
        snapshot_download, hub.repo, repo_type="dataset", allow_patterns=list(hub.patterns)
    )
    if re.fullmatch("[0-9a-f]{40}", revision):
        try:
            return _files_in(hub, get(revision=revision, local_files_only=True))
        except FileNotFoundError:
            pass  # not in the cache yet
    try:
        HfApi().dataset_info(hub.repo, revision=revision, timeout=_HUB_TIMEOUT)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise
    except Exception as error:
        if not is_hub_error(error):
            raise
        try:
            return _files_in(hub, get(revision=revision, local_files_only=True))
        except FileNotFoundError:
            raise error from None
    return _files_in(hub, get(revision=revision))


def _files_in(hub: Hub, snapshot: str) -> tuple[str, list[tuple[str, Path]]]:
    """Return the commit, which names the folder of a snapshot, and the data files in it."""
    folder = Path(snapshot)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and _is_data_file(path))
    named = [(path.relative_to(folder).as_posix(), path) for path in paths]
    for pattern in hub.patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name, _ in named):
            raise FileNotFoundError(f"no file {pattern} at commit {folder.name}")
    wanted = [item for item in named if any(fnmatch.fnmatchcase(item[0], p) for p in hub.patterns)]
    return folder.name, wanted
