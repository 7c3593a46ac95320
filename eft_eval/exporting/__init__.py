"""Exporting: what may be claimed of a run, for leaderboards, cards and tables.

`read_claims` reads runs and refuses what cannot be claimed; the forms are projections of its
records (`eft_eval.reports.export_…`). Reads files only: loads neither torch nor lm-eval.
"""

from __future__ import annotations

from eft_eval.exporting.claiming import ClaimSettings, claims_of, read_claims
from eft_eval.exporting.claims import (
    Claim,
    CompositeClaim,
    DataClaim,
    Figure,
    JudgeClaim,
    LabelsClaim,
    MemberClaim,
    RunClaim,
    TaskClaim,
)

__all__ = [
    "Claim",
    "ClaimSettings",
    "CompositeClaim",
    "DataClaim",
    "Figure",
    "JudgeClaim",
    "LabelsClaim",
    "MemberClaim",
    "RunClaim",
    "TaskClaim",
    "claims_of",
    "read_claims",
]
