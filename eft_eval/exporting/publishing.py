"""May these claims be published under that name? What leaderboards and cards ask besides."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from urllib.parse import urlsplit

from eft_eval.errors import ClaimError, ConfigError
from eft_eval.exporting.claims import MemberClaim, RunClaim, TaskClaim
from eft_eval.exporting.models import REPOSITORY

__all__ = [
    "check_card",
    "check_not_component",
    "check_one_model",
    "check_public",
    "check_repository",
    "check_url",
    "iso_date",
    "merged",
]

_LONGEST_NAME = 96  # the hub's limit of a repository's id
_WORDS = re.compile(r"--|\.\.")


def iso_date(task: TaskClaim) -> str:
    """Return when a task's evaluation began, ISO 8601 in UTC to the second.

    Raises:
        ClaimError: The run does not say.
    """
    if task.started is None:
        raise ClaimError(
            f"{task.name}: the results file has no date; evaluate it again, or use csv or parquet"
        )
    moment = datetime.fromtimestamp(task.started, timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def check_repository(repository: str) -> str:
    """Return a repository's id if it can be one on the hub.

    Raises:
        ConfigError: It cannot.
    """
    good = REPOSITORY.fullmatch(repository) and len(repository) <= _LONGEST_NAME
    if not good or _WORDS.search(repository) or repository.endswith((".git", "-", ".")):
        raise ConfigError(
            f"--repo {repository!r} is no repository of the hub; expected OWNER/NAME in letters, "
            f"digits, '-', '_' and '.', at most {_LONGEST_NAME} characters"
        )
    return repository


def check_url(url: str) -> str:
    """Return an address if it is a complete one.

    Raises:
        ConfigError: It is not.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or re.search(r"\s", url):
        raise ConfigError(f"--source-url {url!r} is no address; expected https://…")
    return url


def check_public(run: RunClaim, form: str) -> None:
    """Raise unless a run's claims can be published at all.

    Args:
        run: The run's claims.
        form: Name of the format, for errors.

    Raises:
        ClaimError: It is a baseline, or scores come from a scripted judge.
    """
    if run.from_baseline:
        raise ClaimError(
            f"{run.label} is a baseline: it has no model, settings and texts, which {form} needs; "
            "export the run itself, or use csv or parquet"
        )
    for task in run.tasks:
        for claim in task.claims:
            judges = claim.judge.each if claim.judge is not None else ()
            if scripted := [one.model for one in judges if one.kind == "scripted"]:
                raise ClaimError(
                    f"{run.label}: {task.name}/{claim.key} comes from a scripted judge "
                    f"({scripted[0]}), which reads rules and judges nothing; judge it with a "
                    "model (eft-eval judge), or use csv or parquet"
                )


def check_one_model(runs: Sequence[RunClaim], form: str) -> None:
    """Raise unless all runs are of one model and no task comes twice.

    Raises:
        ClaimError: They are not.
    """
    models = {(run.path, run.model): run.label for run in runs}
    if len(models) > 1:
        several = "; ".join(f"{model} ({label})" for (_, model), label in models.items())
        raise ClaimError(f"{form} holds one model, given are {len(models)}: {several}")
    counts = Counter(task.name for run in runs for task in run.tasks)
    for name, count in counts.items():
        if count > 1:
            raise ClaimError(f"{form}: task {name!r} is in {count} of the runs; give each once")


def check_distinct(runs: Sequence[RunClaim], form: str) -> None:
    """Raise if two models, such as folders of one name, would be exported as one.

    Raises:
        ClaimError: They would.
    """
    known: dict[str, RunClaim] = {}
    for run in runs:
        other = known.setdefault(run.model, run)
        if other.path != run.path:
            raise ClaimError(
                f"{form}: {other.label} and {run.label} are of two models that are both called "
                f"{run.model}; export them apart, each with --repo OWNER/NAME"
            )


def stated(run: RunClaim, repository: str) -> RunClaim:
    """Return a single model's claims under a repository that the user names for it.

    Raises:
        ConfigError: It can be no repository.
        ClaimError: The run says that its model is another one.
    """
    check_repository(repository)
    if run.repository is not None or run.composite is not None:
        return run
    if repository.lower() in map(str.lower, run.below):
        raise ClaimError(
            f"--repo {repository} is what {run.model} lies on: the scores are not that model's"
        )
    return replace(run, repository=repository, named_by="whoever exported it (--repo)")


def merged(runs: Sequence[RunClaim], form: str) -> RunClaim:
    """Return one model's runs as one; see `check_one_model`.

    Raises:
        ClaimError: They are of several models, of members that differ, or share a task.
    """
    check_one_model(runs, form)
    first = runs[0]
    if any((run.composite, run.commit) != (first.composite, first.commit) for run in runs):
        raise ClaimError(f"{form}: the runs' members differ in commit or type; export them apart")
    return replace(
        first,
        tasks=tuple(task for run in runs for task in run.tasks),
        notes=tuple(dict.fromkeys(note for run in runs for note in run.notes)),
    )


def check_card(run: RunClaim, repository: str | None, form: str) -> str:
    """Return the repository that may carry a run's claims on the hub.

    Args:
        run: The run's claims.
        repository: The one that the user named; None for a hub model's own.
        form: Name of the format, for errors.

    Raises:
        ConfigError: A composite needs a repository and none is named, or it can be none.
        ClaimError: It is a member's, or another model's; or a member is not on the hub.
    """
    if repository is not None:
        check_repository(repository)
    if run.composite is None:
        return _own_repository(run, repository, form)
    if repository is None:
        raise ConfigError(
            f"{form}: a composite has no repository of its own; name the one that shall hold its "
            "card alone with --repo OWNER/NAME"
        )
    for member in run.composite.members:
        if member.model.lower() == repository.lower():
            raise ClaimError(
                f"--repo {repository} is the composite's {member.role}: the scores are not that "
                "model's; name a repository for the composite's card"
            )
    if reasons := list(_unknown_members(run.composite.members)):
        raise ClaimError(
            f"{run.label}: {'; '.join(dict.fromkeys(reasons))}: {form} names members that "
            "everybody can load; use eee, csv or parquet"
        )
    return repository


def check_not_component(run: RunClaim, repository: str) -> None:
    """Raise if a record would stand under a model of the hub that it is not.

    Raises:
        ConfigError: It can be no repository.
        ClaimError: It is a member's, or a demo or single model is to have another name.
    """
    check_repository(repository)
    composite = run.composite
    if composite is None:
        _own_repository(run, repository, "eee")
        return
    for member in composite.members:
        if member.model.lower() == repository.lower():
            raise ClaimError(
                f"--repo {repository} is the composite's {member.role}: the scores are not that "
                "model's"
            )
        if member.kind == "demo":
            raise ClaimError(
                f"{run.label} is of the demo's toy models ({member.model}), which are not on the "
                "hub: leave --repo out"
            )


def _unknown_members(members: Sequence[MemberClaim]) -> Iterator[str]:
    for member in members:
        if member.kind == "demo":
            yield f"{member.role} is the demo's toy model {member.model}"
        elif member.kind == "folder":
            yield f"{member.role} is the local folder {member.model}"
        elif member.commit is None:
            yield f"the commit of {member.role} {member.model} is not in the run"


def _own_repository(run: RunClaim, repository: str | None, form: str) -> str:
    if run.repository is None:
        raise ClaimError(
            f"{run.label}: model {run.model} is not known as one of the hub (a folder, or an "
            f"adapter), so {form} can put its scores under no name there; if it is, say which: "
            "--repo OWNER/NAME"
        )
    if repository is not None and repository.lower() != run.repository.lower():
        raise ClaimError(f"--repo {repository}: the scores are those of {run.repository}")
    return run.repository
