"""Stable names of exported records: the same run has the same, another result has another."""

from __future__ import annotations

import hashlib
import re
import uuid

from eft_eval.exporting.claims import RunClaim, TaskClaim

__all__ = ["evaluation_id", "model_id", "path_part", "record_uuid", "text_hash"]

_UNSAFE = re.compile(r"[^\w.+-]", re.ASCII)
_RESERVED = {"data", "con", "prn", "aux", "nul", "unknown"}


def model_id(run: RunClaim, organization: str, repository: str | None) -> str:
    """Return ``OWNER/NAME`` of a model: its repository, else a name below the organization's.

    A composite or a local model is never given the name of a model of the hub; a name of two parts
    is kept whole, so that models of two owners stay two.
    """
    if repository or run.repository:
        return repository or str(run.repository)
    return f"{path_part(organization)}/{path_part(run.model.replace('/', '-'))}"


def evaluation_id(task: TaskClaim, model: str) -> str:
    """Return ``TASK/MODEL/STARTED/DIGEST``; judged or corrected again the digest is another."""
    return f"{path_part(task.name)}/{model}/{task.started!r}/{task.digest[:12]}"


def record_uuid(identifier: str) -> str:
    """Return a UUID in the form of version 4, made of an identifier's hash."""
    digest = hashlib.sha256(identifier.encode("utf-8")).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def text_hash(*texts: str) -> str:
    """Return the SHA-256 of texts put together, as hexadecimal digits."""
    return hashlib.sha256("".join(texts).encode("utf-8", "backslashreplace")).hexdigest()


def path_part(name: str) -> str:
    """Return a name that can be a folder's everywhere: of letters, digits, and ``._+-``."""
    safe = _UNSAFE.sub("-", name).strip(".") or "unnamed"
    return f"{safe}_" if safe.lower().split(".")[0] in _RESERVED else safe
