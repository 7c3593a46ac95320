"""A comparison as JUnit XML: one test case per gated metric, numbers as properties."""

from __future__ import annotations

from xml.etree import ElementTree

from eft_eval.characters import printable, visible
from eft_eval.comparing.comparison import Candidate, Comparison, Row
from eft_eval.reports.views.comparison import figure, measured, run_label, tolerance, warned

__all__ = ["comparison_junit"]


def comparison_junit(comparison: Comparison) -> str:
    """Return JUnit XML: a regression is a failure, an inconclusive metric is skipped.

    With ``fail_on_inconclusive`` that is a failure too. The text stands in the element's body,
    where GitLab and GitHub's readers look for it.
    """
    root = ElementTree.Element("testsuites", name="eft-eval compare")
    for candidate in comparison.candidates:
        root.append(_suite(comparison, candidate))
    _count(root)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{printable(text)}\n'


def _suite(comparison: Comparison, candidate: Candidate) -> ElementTree.Element:
    suite = ElementTree.Element("testsuite", name=visible(run_label(candidate.run)))
    facts = {
        "baseline": run_label(comparison.baseline),
        "outcome": candidate.outcome,
        "alpha": repr(comparison.alpha),
        "seed": str(comparison.seed),
    }
    _properties(suite, facts)
    for reason in candidate.reasons:
        case = ElementTree.SubElement(suite, "testcase", classname="compare", name="comparable")
        error = ElementTree.SubElement(
            case, "error", message="not comparable", type="not comparable"
        )
        error.text = visible(reason)
    for row in candidate.rows:
        if row.decision is not None:
            suite.append(_case(row, comparison.fail_on_inconclusive))
    if texts := warned(candidate):
        ElementTree.SubElement(suite, "system-out").text = visible("\n".join(texts))
    _count(suite)
    return suite


def _case(row: Row, fail_on_inconclusive: bool) -> ElementTree.Element:
    decision = row.decision
    assert decision is not None
    case = ElementTree.Element("testcase", classname=visible(row.task), name=visible(row.name))
    _properties(case, _facts(row))
    body = decision.reason
    if found := measured(row):
        body += f"\n{found}"
    body += f"\n{tolerance(row)}"
    if decision.fails(fail_on_inconclusive):
        kind = decision.outcome
        failure = ElementTree.SubElement(case, "failure", message=kind, type=kind)
        failure.text = visible(body)
    elif decision.outcome == "inconclusive":
        ElementTree.SubElement(
            case, "skipped", message=visible(f"{decision.reason} ({tolerance(row)})")
        )
    return case


def _facts(row: Row) -> dict[str, str]:
    decision = row.decision
    assert decision is not None
    found = {
        "baseline": figure(row.baseline),
        "candidate": figure(row.candidate),
        "difference": row.difference and row.difference.estimate,
        "difference_lower": row.difference and row.difference.lower,
        "difference_upper": row.difference and row.difference.upper,
        "documents": row.documents,
        "bound_lower": row.bounds and row.bounds.lower,
        "bound_upper": row.bounds and row.bounds.upper,
        "unknown_scores": row.bounds and row.bounds.unknown,
        "p_value": row.test and row.test.p_value,
        "p_worse_holm": decision.p_worse_holm,
        "tolerance": decision.tolerance,
        "items_to_decide": decision.items_to_decide,
        "detectable": decision.detectable,
    }
    known = {key: number for key, number in found.items() if number is not None}
    return {key: repr(number) for key, number in known.items() if number == number}


def _properties(parent: ElementTree.Element, facts: dict[str, str]) -> None:
    properties = ElementTree.SubElement(parent, "properties")
    for name, value in facts.items():
        ElementTree.SubElement(properties, "property", name=name, value=visible(value))


def _count(element: ElementTree.Element) -> None:
    for attribute, tag in (
        ("tests", "testcase"),
        ("failures", "failure"),
        ("skipped", "skipped"),
        ("errors", "error"),
    ):
        element.set(attribute, str(len(list(element.iter(tag)))))
