"""Where a run's finished responses are kept, and when they have served their purpose."""

from __future__ import annotations

import atexit
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from eft_eval import hook
from eft_eval.composite.model import CompositeModel
from eft_eval.decoding.finished import FinishedResponses
from eft_eval.errors import ConfigError
from eft_eval.files import user_path
from eft_eval.model_adapters.provenance import commit_of
from eft_eval.recipe import identity
from eft_eval.recipe.naming import code_digest, member_identity, written_at
from eft_eval.runs.completeness import unwritten
from eft_eval.streams import say
from eft_eval.version import __version__

__all__ = ["Resume"]

_FOLDER = "eft_resume"


class Resume:
    """Keeps a run's finished responses, beside its results or in a folder that the user names.

    Beside the results they are there until these are written; in a folder of the user's own they
    stay.

    Args:
        asked: ``resume=`` of ``model_args``: a folder, False for none, True or None for beside
            ``--output_path``.
        composite: The model.
        settings: The run-time arguments that change a response.

    Attributes:
        evaluated: Whether the evaluation came to its end.
        used: Keys of the responses used by all ranks.
    """

    def __init__(
        self, asked: object, composite: CompositeModel, settings: Mapping[str, Any]
    ) -> None:
        self._asked = asked
        self._composite = composite
        self._settings = dict(settings)
        self._store: FinishedResponses | None = None
        self._output: Path | None = None
        self._started = time.time()
        self.evaluated = False
        self.used: set[str] = set()
        hook.output_path = None  # of an earlier evaluation in this process

    def store(self) -> FinishedResponses | None:
        """Return where finished responses are; None where none are kept.

        Raises:
            ConfigError: The folder cannot be used.
        """
        if self._store is None and (folder := self._folder()) is not None:
            self._store = FinishedResponses(folder, self.identity())
            if self._output is not None:
                atexit.register(self._forget)
        return self._store

    def _folder(self) -> Path | None:
        if self._asked is False:
            return None
        if isinstance(self._asked, (str, Path)):
            return user_path(self._asked)
        if hook.output_path is None:
            if self._asked:
                raise ConfigError("resume=true needs --output_path; or name a folder: resume=DIR")
            return None
        self._output = Path(hook.output_path)
        file = self._output.suffix == ".json"  # as lm-eval reads it
        return (self._output.parent if file else self._output) / _FOLDER

    def identity(self) -> dict[str, Any]:
        """Return all that every answer of this run depends on."""
        members = self._composite.members
        found = {
            "name": self._composite.name,
            "composite": identity(self._composite.recipe),
            # as found: an adapter's configuration may name the model below it
            "members": {role: member_identity(one.spec) for role, one in members.items()},
            "commits": {role: commit_of(one.config, one.spec) for role, one in members.items()},
            "settings": self._settings,
            "device": self._composite.device.type,
            "versions": [__version__, *map(metadata.version, ("torch", "transformers"))],
        }
        codes = {role: code_digest(one.spec.location) for role, one in members.items()}
        if any(codes.values()):  # what trust_remote_code runs
            found["code"] = codes
        written = {role: written_at(one.spec) for role, one in members.items()}
        if any(written.values()):
            found["written"] = written
        return found

    def how_to_go_on(self, finished: int, asked: int) -> str:
        """Return the words for a run that is stopped."""
        done = f"{finished} of {asked} responses are finished"
        if self._store is None:
            return f"{done}, and lost: with --output_path or resume=DIR they are kept"
        return f"{done} and lie in {self._store.folder}; the same command goes on from there"

    def close(self) -> set[str]:
        """End writing for now; return the keys of the responses used."""
        if self._store is None:
            return set()
        self._store.close()
        return self._store.used

    def _forget(self) -> None:
        """Take the responses away once the results, which hold them, are whole."""
        if self._store is None or self._output is None or not self.evaluated:
            return
        problem = unwritten(self._output, self._started, name=self._composite.name)
        if problem is None:
            self._store.forget(self.used | self._store.used)
        elif self._store.used:  # lm-eval ends as if all were well
            say(
                f"eft-eval: {problem}; the finished responses stay in {self._store.folder}, and "
                "the same command takes them from there",
                sys.stderr,
            )
