"""The figure of the first page, from what `eft-eval study scaling` wrote of the demo."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import altair
import vl_convert

INK, MUTED, GRID, ACCENT = "#1b2733", "#52606d", "#d3dae2", "#0b61a4"
DARK = {INK: "#e6edf3", MUTED: "#9fb0c0", GRID: "#3a4653", ACCENT: "#6cb6ff"}
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
ARMS = {
    "up-scaled": "up-scaled: large base, small delta",
    "down-scaled": "down-scaled: small base, large delta",
}
METRICS = {
    "demo_fact/fact_errors,exact": "Fewer factual errors",
    "demo_help/helpfulness,exact": "More helpfulness",
}
ENDS = "datum.value == 0 ? 'small tuned' : datum.value == 1 ? 'large tuned' : ''"


def normalised_improvement(results: Path) -> str:
    """Return an SVG of what up- and down-scaling reach between the tuned models alone."""
    found = json.loads(results.read_text(encoding="utf-8"))["carried_over"]
    arms = {one["metric"]: one["improvements"] for one in found}
    panels = [
        _panel(arms[metric], title, first=place == 0)
        for place, (metric, title) in enumerate(METRICS.items())
    ]
    chart = (
        altair.hconcat(*panels, spacing=28)
        .configure(font=FONT, background="transparent", padding=6)
        .configure_view(stroke=None)
        .configure_title(anchor="start", frame="group", fontSize=14, color=INK, offset=10)
        .configure_axis(
            gridColor=GRID, labelColor=INK, labelFontSize=12, domain=False, ticks=False,
            labelLimit=300,
        )
    )  # fmt: skip
    svg = vl_convert.vegalite_to_svg(chart.to_dict())
    svg = re.sub(r' (?:role|aria-[a-z]+)="[^"]*"', "", svg)
    head, _, rest = svg.partition(">")
    words = "; ".join(
        f"{title.lower()}, {arm}: {_shown(arms[metric][arm])}"
        for metric, title in METRICS.items()
        for arm in ARMS
    )
    rules = "".join(
        f'[fill="{a}"]{{fill:{b}}}[stroke="{a}"]{{stroke:{b}}}' for a, b in DARK.items()
    )
    return (
        f'{head} role="img"><title>Normalised improvement (small tuned = 0, large tuned = 1) with '
        f"95 % intervals: {words}</title>"
        f"<style>@media (prefers-color-scheme:dark){{{rules}}}</style>{rest}\n"
    )


def _shown(interval: Any) -> str:
    return "{estimate:.2f} [{lower:.2f}, {upper:.2f}]".format(**interval)


def _panel(improvements: Any, title: str, *, first: bool) -> Any:
    rows = [
        {
            "arm": label,
            "value": improvements[arm]["estimate"],
            "lower": improvements[arm]["lower"],
            "upper": improvements[arm]["upper"],
            "text": _shown(improvements[arm]).replace("-", "−"),
        }
        for arm, label in ARMS.items()
    ]
    axis = altair.Axis(domain=False, labelPadding=8) if first else None
    y = altair.Y("arm:N", title=None, sort=list(ARMS.values()), axis=axis)
    scale = altair.Scale(domain=[-0.45, 1.3], nice=False)
    ends = altair.Axis(values=[0, 0.5, 1], labelExpr=ENDS, labelFontSize=11.5)
    x = altair.X("value:Q", title=None, scale=scale, axis=ends)
    base = altair.Chart(altair.InlineData(values=rows))
    layers = (
        base.mark_rule(color=ACCENT, strokeWidth=2.5).encode(
            x=altair.X("lower:Q"), x2="upper:Q", y=y
        ),
        base.mark_point(color=ACCENT, fill=ACCENT, size=80, opacity=1).encode(x=x, y=y),
        base.mark_text(color=INK, dy=-12, fontSize=12).encode(x=x, y=y, text="text:N"),
    )
    return altair.layer(*layers).properties(title=title, width=250, height=100)
