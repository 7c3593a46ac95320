"""The page as one HTML file that loads nothing and runs nothing but its own script."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup, escape

from eft_eval.characters import visible
from eft_eval.reports.document import Figure, Page, Trace
from eft_eval.reports.renderers.html.figures import (
    Drawn,
    draw,
    missing_library,
    viewer_bundle,
)

__all__ = ["page_html"]


def page_html(page: Page, *, interactive: bool = False) -> str:
    """Return a page as HTML; the same page gives the same bytes.

    Args:
        page: The page.
        interactive: Whether figures tell their numbers under the pointer; embeds Vega's viewer.

    Without Altair or vl-convert the page says so in place of each figure; all else is there.

    Raises:
        ConfigError: It is to be interactive, and Altair or vl-convert is not installed.
    """
    figures = list(_figures(page))
    drawable = missing_library() is None
    drawn = {block.name: draw(block) for block in figures} if drawable else {}
    script = _read("report.js")
    viewer = viewer_bundle() if interactive and figures else ""
    if viewer:
        viewer = _inline(viewer + "\n" + _read("interactive.js"))
    style = _read("report.css")
    data = {"tokens": {one.name: [t.details for t in one.tokens] for one in _traces(page)}}
    if viewer:
        data["charts"] = {d.name: json.loads(d.spec) for each in drawn.values() for d in each}
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            page=page,
            drawn=drawn,
            policy=_policy(style, [one for one in (script, viewer) if one]),
            style=Markup(style),  # our own file
            script=Markup(script),  # our own file
            viewer=Markup(viewer),  # vl-convert's file and our own
            data=_embedded(data),
        )
    )


def _figures(page: Page) -> Iterator[Figure]:
    for section in page.sections:
        yield from (block for block in section.blocks if isinstance(block, Figure))


def _traces(page: Page) -> Iterator[Trace]:
    for section in page.sections:
        yield from (block for block in section.blocks if isinstance(block, Trace))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters["svg"] = _svg
    environment.filters["breakable"] = _breakable
    return environment


def _shown(value: Any) -> Any:
    """Spell out what is invisible in every text that goes onto the page."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return visible(value)


def _breakable(text: str) -> Markup:
    """Return a name that may be broken after its separators."""
    escaped = str(escape(visible(text)))
    return Markup(re.sub(r"(?<=[/,_])(?=\w)", "<wbr>", escaped))  # escaped above


def _svg(panel: Drawn) -> Markup:
    return Markup(panel.svg)  # vl-convert escapes the texts in it


def _read(name: str) -> str:
    return (resources.files(__package__) / name).read_text("utf-8")


def _inline(script: str) -> str:
    """Return a script with nothing in it that an HTML parser takes for its end."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _embedded(data: Any) -> Markup:
    """Return JSON for a script element: no ``<`` in it, so that nothing can end it."""
    text = json.dumps(data, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    escaped = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Markup(escaped)  # escaped above


def _policy(style: str, scripts: list[str]) -> str:
    """Return the Content-Security-Policy: this style, these scripts, no address at all."""

    def digest(text: str) -> str:
        found = hashlib.sha256(text.encode("utf-8")).digest()
        return f"'sha256-{base64.b64encode(found).decode('ascii')}'"

    return "; ".join(
        (
            "default-src 'none'",
            f"style-src {digest(style)}",
            f"script-src {' '.join(map(digest, scripts))}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
