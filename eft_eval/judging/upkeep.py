"""Looking after a store: what is in it, reading it again, taking copies, removing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.files import Kind, check_output, check_readable, write_output
from eft_eval.judging.judges.registry import judge_class
from eft_eval.judging.outcome import is_failure, reparse
from eft_eval.judging.prompts.prompt import JudgePrompt, known_prompts, load_prompt
from eft_eval.verdicts.store import Unreadable, VerdictStore, to_record
from eft_eval.verdicts.tally import Tally
from eft_eval.verdicts.verdict import Scale, Status, Verdict

__all__ = [
    "UNREADABLE",
    "Choice",
    "Exported",
    "Group",
    "Reread",
    "check_prunable",
    "export",
    "prune",
    "reparse_store",
    "summary",
    "take_in",
]

UNREADABLE = "unreadable"
_AT_ONCE = 5000


@dataclass(frozen=True)
class Choice:
    """Which verdicts are meant: those that fit everything given.

    Attributes:
        judge: The judge's name, as asked for.
        prompt: The judge prompt's name.
        status: How they ended; ``unreadable`` are records that nobody can read any more.
        before: Stored before this date, YYYY-MM-DD, UTC.

    Raises:
        ConfigError: The status or the date is none.
    """

    judge: str | None = None
    prompt: str | None = None
    status: str | None = None
    before: str | None = None

    def __post_init__(self) -> None:
        known = [one.value for one in Status if one.has_reply]
        known.append(UNREADABLE)
        if self.status is not None and self.status not in known:
            raise ConfigError(f"--status is {self.status!r}; it must be one of {', '.join(known)}")
        if self.before is not None:
            try:
                datetime.strptime(self.before, "%Y-%m-%d").replace(tzinfo=timezone.utc)
            except ValueError:
                raise ConfigError(
                    f"--before is {self.before!r}; it must be a date, YYYY-MM-DD"
                ) from None

    @property
    def is_everything(self) -> bool:
        """Whether nothing was given."""
        return all(getattr(self, field.name) is None for field in fields(self))

    def has(self, entry: Verdict | Unreadable) -> bool:
        """Whether a stored record is meant; of one that nobody can read, only that is known."""
        if isinstance(entry, Unreadable):
            others = (self.judge, self.prompt, self.before)
            return self.status in (None, UNREADABLE) and all(one is None for one in others)
        return self._fits(
            entry.judge_model, entry.prompt_name, entry.status.value, entry.created[:10]
        )

    def counts(self, tally: Tally) -> bool:
        """Whether the verdicts of a tally are meant."""
        return self._fits(tally.judge, tally.prompt, tally.status, tally.day)

    def _fits(self, judge: str, prompt: str, status: str, day: str) -> bool:
        return (
            self.judge in (None, judge)
            and self.prompt in (None, prompt)
            and self.status in (None, status)
            and (self.before is None or day < self.before)
        )

    def among(self, store: VerdictStore) -> Iterator[Verdict | Unreadable]:
        """Iterate over what is meant, in the order in which it was stored."""
        return filter(self.has, store.entries())


class Group(NamedTuple):
    """The verdicts of one judge on one prompt that ended alike.

    Attributes:
        judge: The judge.
        prompt: The judge prompt's name and version.
        status: How they ended.
        verdicts: How many.
        tokens: Sent and received, where the endpoint counted.
        cost_usd: List price of those whose price is known.
        unpriced: How many have no known price.
        first: Date of the first,
        last: and of the last, YYYY-MM-DD.
    """

    judge: str
    prompt: str
    status: str
    verdicts: int
    tokens: int
    cost_usd: float
    unpriced: int
    first: str
    last: str


class Reread(NamedTuple):
    """What reading stored replies again gave.

    Attributes:
        read: Verdicts read.
        changes: Those now read differently, by "old status -> new status", or "value".
        unknown: Verdicts stored without a scale whose judge prompt's text is not known, by its
            name; not read.
        unreadable: Records that nobody can read any more.
    """

    read: int
    changes: dict[str, int]
    unknown: dict[str, int]
    unreadable: int


class Exported(NamedTuple):
    """How many verdicts were written, and how many records nobody can read any more."""

    verdicts: int
    unreadable: int


def summary(store: VerdictStore, choice: Choice) -> list[Group]:
    """Return what is meant in groups, sorted by judge, prompt and status."""
    tallies, unreadable = store.tally()
    groups: dict[tuple[str, str, str], Group] = {}
    for one in filter(choice.counts, tallies):
        key = (one.judge, f"{one.prompt} {one.version}", one.status)
        old = groups.get(key, Group(*key, 0, 0, 0.0, 0, one.day, one.day))
        unpriced = one.verdicts - one.priced if judge_class(one.judge).priced else 0
        groups[key] = old._replace(
            verdicts=old.verdicts + one.verdicts,
            tokens=old.tokens + one.tokens,
            cost_usd=old.cost_usd + one.cost_usd,
            unpriced=old.unpriced + unpriced,
            first=min(old.first, one.day),
            last=max(old.last, one.day),
        )
    if count := sum(map(choice.has, unreadable)):
        key = ("?", "?", UNREADABLE)
        groups[key] = Group(*key, count, 0, 0.0, 0, "", "")
    return [groups[key] for key in sorted(groups)]


def reparse_store(
    store: VerdictStore, choice: Choice, prompts: Sequence[str], *, write: bool
) -> Reread:
    """Read stored replies again with the present parser; asks nobody.

    Args:
        store: The store.
        choice: Which verdicts.
        prompts: Names or files of judge prompts beside the shipped ones, for their scales.
        write: Whether readings that differ are added to the store (the old ones stay in it), and
            what was an endpoint's failure leaves it, so that it is asked again.

    Raises:
        ConfigError: A prompt cannot be loaded.
    """
    scales = _Scales([load_prompt(name) for name in [*known_prompts(), *prompts]])
    changes: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    read = unreadable = 0
    changed: list[Verdict] = []
    failures: list[str] = []
    for verdict in choice.among(store):
        if isinstance(verdict, Unreadable):
            unreadable += 1
            continue
        scale = scales.of(verdict)
        if scale is None:
            unknown[verdict.prompt_name] += 1
            continue
        read += 1
        again = reparse(verdict, scale)
        if again.status is not verdict.status:
            changes[f"{verdict.status.value} -> {again.status.value}"] += 1
        elif again.value != verdict.value:
            changes["value"] += 1
        if again.status is Status.api_error:
            failures.append(verdict.key)
        elif (again.status, again.value, again.reason) != (
            verdict.status,
            verdict.value,
            verdict.reason,
        ):
            changed.append(again)
        if write and len(changed) >= _AT_ONCE:
            store.add_readings(changed)
            changed = []
        elif not write:
            changed.clear()
    if changed:
        store.add_readings(changed)
    if write and failures:
        store.discard(failures, is_failure)
    return Reread(read, dict(changes.most_common()), dict(unknown.most_common()), unreadable)


def export(entries: Iterable[Verdict | Unreadable], file: Path) -> Exported:
    """Write verdicts as JSON lines, oldest first.

    Raises:
        ConfigError: The file cannot be written, or is none of verdicts.
    """
    check_output(file, _EXPORTED)
    count = unreadable = 0

    def lines() -> Iterator[str]:
        nonlocal count, unreadable
        for verdict in entries:
            if isinstance(verdict, Unreadable):
                unreadable += 1
                continue
            count += 1
            yield json.dumps(verdict.to_dict(), ensure_ascii=False) + "\n"

    write_output(file, lines(), _EXPORTED)
    return Exported(count, unreadable)


def _is_exported(path: Path) -> bool:
    with path.open(encoding="utf-8") as file:
        first = json.loads(file.readline())
    return isinstance(first, dict) and {"judge_model", "prompt_sha256", "status"} <= first.keys()


_EXPORTED = Kind("file of exported verdicts", _is_exported)


def take_in(store: VerdictStore, file: Path) -> int:
    """Store the verdicts of a file that `export` or a failed store's rescue wrote; return how many.

    Raises:
        ConfigError: The file cannot be read, or is none of verdicts; nothing is stored then.
    """
    check_readable(file)
    verdicts: list[Verdict] = []
    try:
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                verdicts.append(Verdict.from_dict(json.loads(line)))
                to_record(verdicts[-1])
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, EftEvalError) as error:
        raise ConfigError(
            f"{file} is no file of verdicts (eft-eval verdicts export): after {len(verdicts)} "
            f"verdicts: {error}"
        ) from error
    before = len(store)
    store.put_many(verdicts)
    return len(store) - before


def prune(store: VerdictStore, choice: Choice) -> int:
    """Remove the verdicts that are meant; return how many.

    Raises:
        ConfigError: Everything is meant.
    """
    check_prunable(choice, store)
    return store.prune([verdict.key for verdict in choice.among(store)])


def check_prunable(choice: Choice, store: VerdictStore) -> None:
    """Refuse to remove everything, which is better done by deleting the file.

    Raises:
        ConfigError: Everything is meant.
    """
    if choice.is_everything:
        raise ConfigError(
            f"say which verdicts to remove (--judge, --prompt, --status, --before); to remove "
            f"all, delete {store.path}"
        )


class _Scales:
    """Finds the scale on which a verdict's score is read.

    A name alone counts only for verdicts stored without a scale, and only if all known prompts of
    that name have the same one.
    """

    def __init__(self, prompts: Sequence[JudgePrompt]) -> None:
        self._by_hash: dict[str, Scale] = {prompt.sha256: prompt.scale for prompt in prompts}

        self._by_name: dict[str, set[Scale]] = {}
        for prompt in prompts:
            self._by_name.setdefault(prompt.name, set()).add(prompt.scale)

    def of(self, verdict: Verdict) -> Scale | None:
        if found := self._by_hash.get(verdict.prompt_sha256) or verdict.prompt_scale:
            return found
        named = self._by_name.get(verdict.prompt_name, set())
        return next(iter(named)) if len(named) == 1 else None
