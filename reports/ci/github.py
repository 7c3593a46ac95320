"""A comparison as GitHub's workflow commands: ``::error`` lines become annotations."""

from __future__ import annotations

from eft_eval.characters import one_line, printable
from eft_eval.comparing.comparison import Comparison
from eft_eval.reports.views.comparison import measured, tolerance, tolerances, warned

__all__ = ["comparison_github"]


def comparison_github(comparison: Comparison) -> str:
    """Return one line per gated metric that did not pass, per warning, and for each candidate."""
    lines = []
    for candidate in comparison.candidates:
        for reason in candidate.reasons:
            title = "eft-eval compare: not comparable"
            lines.append(_line("error", title, f"{candidate.run.label}: {reason}"))
        for row in candidate.rows:
            if row.decision is None or row.decision.outcome == "pass":
                continue
            failed = row.decision.fails(comparison.fail_on_inconclusive)
            facts = [one for one in (measured(row), tolerance(row)) if one]
            text = f"{row.decision.reason} ({', '.join(facts)})"
            title = f"{row.decision.outcome}: {row.name}"
            lines.append(_line("error" if failed else "warning", title, text))
        for text in warned(candidate):
            title = "eft-eval compare: warning"
            lines.append(_line("warning", title, f"{candidate.run.label}: {text}"))
        title = f"eft-eval compare: {candidate.outcome}"
        text = f"{candidate.run.label}: {candidate.sentence}"
        if accepted := tolerances(candidate):
            text += f" ({accepted})"
        lines.append(_line("notice", title, text))
    return "\n".join(lines) + "\n"


def _line(kind: str, title: str, text: str) -> str:
    name = _escaped(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{kind} title={name}::{_escaped(text)}"


def _escaped(text: str) -> str:
    return printable(one_line(text)).replace("%", "%25")
