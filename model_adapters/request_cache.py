"""lm-eval's request cache (``--use_cache``) for composites: a table each, and no samples in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.model import hash_args
from sqlitedict import SqliteDict

from eft_eval.composite.mathematics import hash_of
from eft_eval.model_adapters.samples import UnfinishedResponse

__all__ = ["RequestCache"]


class RequestCache(SqliteDict):  # type: ignore[misc]  # sqlitedict ships no types
    """A table of lm-eval's cache that keeps what a request alone determines.

    lm-eval looks responses up by prompt and settings as the task words them. It leaves out what
    says ``do_sample``, but settings sample without that word, too, and repeats of a request would
    all get one sample. Answers of unfinished reasoning are left out as well, since whoever takes
    them from the cache counts them no more.
    """

    _sampled: set[str]

    @classmethod
    def adopt(cls, table: Any, identity: Mapping[str, Any]) -> RequestCache:
        """Turn the cache that lm-eval opened into one for this composite only."""
        table.__class__ = cls
        own: RequestCache = table
        own._sampled = set()
        text = json.dumps(identity, sort_keys=True, default=str)
        own.tablename = f"eft_{hash_of(text) & (2**63 - 1):016x}"
        own.conn.execute(
            f'CREATE TABLE IF NOT EXISTS "{own.tablename}" (key TEXT PRIMARY KEY, value BLOB)'
        )
        own.conn.commit()
        return own

    def leave_out(self, arguments: Sequence[Any]) -> None:
        """Keep no response of a generation request, which samples."""
        self._sampled.add(hash_args("generate_until", arguments))

    def __setitem__(self, key: str, value: Any) -> None:
        if key not in self._sampled and not isinstance(value, UnfinishedResponse):
            super().__setitem__(key, value)
