"""Figures: Altair writes them, vl-convert renders them to SVG. Optional: ``eft-eval[report]``.

Colours are plain ones of the light page; the style sheet gives each another one in the dark.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any, NamedTuple

from eft_eval.characters import visible
from eft_eval.errors import ConfigError
from eft_eval.reports.document import Bar, Figure, Line, Panel, Plane

__all__ = ["Drawn", "draw", "missing_library", "png", "viewer_bundle"]

INK, MUTED, GRID, ACCENT, PAPER = "#1b2733", "#52606d", "#dde3ea", "#0b61a4", "#fffffe"
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
"""vl-convert carries the first of these, and the others are as wide: no machine's fonts matter."""

_WIDTH = 380
_ROW = 26
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")


class Drawn(NamedTuple):
    """A panel as it stands on the page.

    Attributes:
        name: Its id.
        svg: Without an outer label; the page gives it one.
        text: What it shows in words, for those who do not see it.
        spec: Its Vega-Lite specification as JSON.
    """

    name: str
    svg: str
    text: str
    spec: str


def draw(figure: Figure) -> list[Drawn]:
    """Return a figure's panels, drawn. The same figure gives the same bytes.

    Raises:
        ConfigError: Altair or vl-convert is not installed.
    """
    _, converter = _libraries()
    found = []
    for number, panel in enumerate(figure.panels, start=1):
        if isinstance(panel, Panel):
            chart = _panel(panel)
        elif isinstance(panel, Line):
            chart = _line(panel)
        else:
            chart = _plane(panel)
        spec = chart.to_dict()
        name = f"{figure.name}-{number}"
        svg = _anonymous(converter.vegalite_to_svg(spec), name)
        text = json.dumps(spec, sort_keys=True, ensure_ascii=True)
        found.append(Drawn(name, svg, visible(_words(panel)), text))
    return found


def png(panel: Drawn, scale: float = 2.0) -> bytes:
    """Return a panel as pixels on white; the same panel gives the same bytes.

    Args:
        panel: What `draw` returned.
        scale: Pixels for each of the drawing's.
    """
    _, converter = _libraries()
    spec = {**json.loads(panel.spec), "background": "white"}
    pixels: bytes = converter.vegalite_to_png(spec, scale=scale)
    return pixels


def viewer_bundle() -> str:
    """Return the JavaScript of Vega, Vega-Lite and vega-embed, as vl-convert carries it.

    Raises:
        ConfigError: vl-convert is not installed.
    """
    _, converter = _libraries()
    bundle: str = converter.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle


def missing_library() -> str | None:
    """Return what figures need and is not installed; None where all is there."""
    return next((name for name in ("altair", "vl_convert") if find_spec(name) is None), None)


def _libraries() -> tuple[Any, Any]:
    try:
        import altair
        import vl_convert
    except ImportError as error:
        raise ConfigError(
            f"the page's figures need {error.name}, which is not installed: "
            'pip install "eft-eval[report]"'
        ) from error
    return altair, vl_convert


def _panel(panel: Panel) -> Any:
    altair, _ = _libraries()
    rows = [_row(bar) for bar in panel.bars]
    order = [row["label"] for row in rows]
    y = altair.Y("label:N", title=None, sort=order, axis=altair.Axis(ticks=False, domain=False))
    values = altair.Chart(altair.InlineData(values=rows))
    tips = ["label:N", *(altair.Tooltip(f"{name}:Q", format=".4f") for name in _ENDS)]
    scale = altair.Scale(zero=bool(panel.marks), nice=True, padding=8)
    x = altair.X("estimate:Q", title=visible(panel.axis), scale=scale)
    layers = [
        altair.Chart(altair.InlineData(values=[{"x": at}]))
        .mark_rule(color=MUTED, strokeDash=[2, 3] if name == "tolerance" else [6, 4])
        .encode(x=altair.X("x:Q"))
        for name, at in panel.marks.items()
    ]
    layers += [
        values.mark_rule(color=ACCENT, strokeWidth=2).encode(
            x=altair.X("lower:Q"), x2="upper:Q", y=y
        ),
        values.mark_point(color=ACCENT, strokeWidth=2, size=70, opacity=1).encode(
            x=x,
            y=y,
            fill=altair.condition("datum.first", altair.value(PAPER), altair.value(ACCENT)),
            tooltip=tips,
        ),
    ]
    return _styled(altair.layer(*layers), panel.title, _WIDTH, 70 + _ROW * len(rows))


def _line(panel: Line) -> Any:
    altair, _ = _libraries()
    rows = [
        {"at": at, "series": visible(name), **_row(bar)}
        for name, points in panel.series
        for at, bar in points
    ]
    base = altair.Chart(altair.InlineData(values=rows))
    x = altair.X("at:Q", title=panel.axis, scale=altair.Scale(nice=False, zero=False, padding=12))
    y = altair.Y("estimate:Q", title=None, scale=altair.Scale(zero=False))
    tips = [altair.Tooltip("at:Q", title=panel.axis)]
    tips += [altair.Tooltip(f"{name}:Q", format=".4f") for name in _ENDS]
    line, point = _told_apart([name for name, _ in panel.series])
    chart = altair.layer(
        base.mark_line(color=ACCENT, strokeWidth=1.5).encode(x=x, y=y, **line),
        base.mark_rule(color=ACCENT, strokeWidth=2).encode(
            x=x, y=altair.Y("lower:Q"), y2="upper:Q"
        ),
        base.mark_point(color=ACCENT, fill=ACCENT, size=60, opacity=1).encode(
            x=x, y=y, tooltip=tips, **point
        ),
    )
    return _styled(chart, panel.title, _WIDTH, 240 + _legend_height(panel))


def _plane(panel: Plane) -> Any:
    altair, _ = _libraries()
    rows = [
        {
            "label": label,
            "place": place,
            "series": visible(name),
            "x": across.estimate,
            "y": up.estimate,
            **{f"x_{name}": end for name, end in (("low", across.lower), ("high", across.upper))},
            **{f"y_{name}": end for name, end in (("low", up.lower), ("high", up.upper))},
        }
        for name, points in panel.series
        for place, (label, across, up) in enumerate(points)
    ]
    base = altair.Chart(altair.InlineData(values=rows))
    scale = altair.Scale(zero=False, padding=14)
    x = altair.X("x:Q", title=visible(panel.axis_x), scale=scale)
    y = altair.Y("y:Q", title=visible(panel.axis_y), scale=scale)
    tips = ["label:N", *(altair.Tooltip(f"{name}:Q", format=".4f") for name in ("x", "y"))]
    line, point = _told_apart([name for name, _ in panel.series])
    chart = altair.layer(
        base.mark_line(color=ACCENT, strokeWidth=1.5).encode(x=x, y=y, order="place:Q", **line),
        base.mark_rule(color=MUTED).encode(x=altair.X("x_low:Q"), x2="x_high:Q", y=y),
        base.mark_rule(color=MUTED).encode(x=x, y=altair.Y("y_low:Q"), y2="y_high:Q"),
        base.mark_point(color=ACCENT, fill=ACCENT, size=60, opacity=1).encode(
            x=x, y=y, tooltip=tips, **point
        ),
        base.mark_text(color=INK, align="left", dx=7, dy=13).encode(x=x, y=y, text="label:N"),
    )
    return _styled(chart, panel.title, _WIDTH, 300 + _legend_height(panel))


def _told_apart(names: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what tells series apart without colour: dashes of lines and shapes of points."""
    if len(names) < 2:
        return {}, {}
    altair, _ = _libraries()
    domain = [visible(name) for name in names]
    legend = altair.Legend(
        orient="bottom", direction="vertical", title=None, labelLimit=_WIDTH - 60,
        labelColor=INK, symbolStrokeColor=ACCENT, symbolFillColor=ACCENT, labelFontSize=11.5,
    )  # fmt: skip
    dashes = [_DASHES[place % len(_DASHES)] for place, _ in enumerate(domain)]
    shapes = [_SHAPES[place % len(_SHAPES)] for place, _ in enumerate(domain)]
    line = altair.StrokeDash(
        "series:N", scale=altair.Scale(domain=domain, range=dashes), sort=domain, legend=legend
    )
    point = altair.Shape(
        "series:N", scale=altair.Scale(domain=domain, range=shapes), sort=domain, legend=legend
    )
    return {"strokeDash": line}, {"shape": point}


def _legend_height(panel: Line | Plane) -> int:
    return 14 + 20 * len(panel.series) if len(panel.series) > 1 else 0


_ENDS = ("estimate", "lower", "upper")


def _row(bar: Bar) -> dict[str, Any]:
    return {
        "label": visible(bar.label),
        "estimate": bar.estimate,
        "lower": bar.estimate if bar.lower is None else bar.lower,
        "upper": bar.estimate if bar.upper is None else bar.upper,
        "first": bar.first,
    }


def _styled(chart: Any, title: str, width: int, height: int) -> Any:
    altair, _ = _libraries()
    return (
        chart.properties(
            title=visible(title),
            width=width,
            height=height,
            autosize=altair.AutoSizeParams(type="fit", contains="padding"),
        )
        .configure(font=FONT, aria=False, background="transparent", padding=6)
        .configure_view(stroke=None)
        .configure_title(anchor="start", fontSize=12.5, color=INK, limit=width - 10, offset=8)
        .configure_axis(
            gridColor=GRID, domainColor=MUTED, tickColor=MUTED, labelColor=INK, titleColor=MUTED,
            labelFontSize=11.5, titleFontSize=11, titleFontWeight="normal", labelLimit=150,
            titleLimit=width - 20, tickCount=5, titlePadding=6, labelOverlap="greedy",
            labelFlush=False,
        )
        .configure_axisY(labelPadding=6)
    )  # fmt: skip


def _words(panel: Panel | Line | Plane) -> str:
    """Return what a panel shows, in words."""
    if isinstance(panel, Plane):
        parts: Iterable[str] = (
            f"{_of(name, panel)}{label}: {panel.axis_x} {across.text}, {panel.axis_y} {up.text}"
            for name, points in panel.series
            for label, across, up in points
        )
    elif isinstance(panel, Line):
        parts = (
            f"{_of(name, panel)}{bar.text}" for name, points in panel.series for _, bar in points
        )
    else:
        parts = (bar.text for bar in panel.bars)
    return f"{panel.title}: {'; '.join(parts)}"


def _of(name: str, panel: Line | Plane) -> str:
    return f"{name}, " if len(panel.series) > 1 else ""


def _anonymous(svg: str, name: str) -> str:
    """Return an SVG for a page of several: no roles inside, ids of its own, no fixed size."""
    svg = re.sub(r' (?:role|aria-[a-z]+)="[^"]*"', "", svg)
    svg = re.sub(r'\b(id="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    width, height = re.findall(r'(?:width|height)="(\d+)"', svg)[:2]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
    head += f' width="{width}" height="{height}"'
    head += f' role="img" aria-labelledby="{name}-text">'
    return head + svg.partition(">")[2]
