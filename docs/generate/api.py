"""The library's reference: what the packages list in ``__all__``, from their docstrings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import griffe

HEAD = """<!-- made by `python -m docs.generate`: edit the docstrings -->

# Library

What the packages list as public (`__all__`); what is not listed is free to change. A name that
several packages offer is described once. Start at the [index](../index.md).

"""
LONG = 88
MODULES = ("api", "errors")
"""Modules that are public beside the packages."""


def api_reference(root: Path) -> str:
    """Return the reference of all public names as Markdown; nothing is imported."""
    package = griffe.load("eft_eval", search_paths=[root], docstring_parser="google")
    assert isinstance(package, griffe.Module)
    seen: dict[str, str] = {}
    parts = [_module(one, seen) for one in _packages(package)]
    return HEAD + "\n".join(parts).strip() + "\n"


def _packages(package: griffe.Module) -> Iterator[griffe.Module]:
    """Yield the package and those of its rooms that list public names."""
    yield package
    for name in sorted(package.members):
        member = package.members[name]
        if not isinstance(member, griffe.Module) or not member.exports or name == "cli":
            continue
        if member.is_subpackage or name in MODULES:
            yield member


def _module(module: griffe.Module, seen: dict[str, str]) -> str:
    parts = [f"## {module.path}\n"]
    if module.docstring is not None:
        parts.append(_marked(module.docstring.value) + "\n")
    known = []
    for name in sorted(map(str, module.exports or ())):
        if name.startswith("_"):
            continue
        found = _target(module, name)
        if found.path in seen:
            known.append(f"`{name}` (see [{seen[found.path]}](#{_anchor(seen[found.path])}))")
            continue
        seen[found.path] = f"{module.path}.{name}"
        parts.append(f"### {module.path}.{name}\n")
        parts.append(_described(found))
    if known:
        parts.append("Also here: " + ", ".join(known) + ".\n")
    return "\n".join(parts)


def _target(module: griffe.Module, name: str) -> griffe.Object:
    member = module.members[name]
    found = member.final_target if isinstance(member, griffe.Alias) else member
    if isinstance(found, griffe.Module):  # a function in a module of its own name
        return _target(found, name)
    return found


def _described(found: griffe.Object) -> str:
    parts = []
    if isinstance(found, griffe.Function):
        parts.append(_code(_signature(found, found.name)))
    elif isinstance(found, griffe.Attribute):
        parts.append(_code(found.source.strip()))
    elif isinstance(found, griffe.Class):
        bases = ", ".join(map(str, found.bases))
        parts.append(_code(f"class {found.name}({bases})" if bases else f"class {found.name}"))
    if found.docstring is not None:
        parts += _sections(found.docstring)
    if isinstance(found, griffe.Class):
        parts += _members(found)
    return "\n".join(parts)


def _members(found: griffe.Class) -> Iterator[str]:
    """Yield the fields that the docstring does not describe, then the public methods."""
    sections = found.docstring.parsed if found.docstring is not None else []
    told = {
        item.name
        for section in sections
        if isinstance(section, griffe.DocstringSectionAttributes)
        for item in section.value
    }
    fields = [
        f"- `{one.name}{_typed(one.annotation)}`{_default(one)}"
        for one in found.members.values()
        if isinstance(one, griffe.Attribute) and one.is_public
        if one.name not in told and "property" not in one.labels
    ]
    if fields:
        yield "\n".join(fields) + "\n"
    inherited = (one.final_target for one in found.inherited_members.values())
    for one in (*found.members.values(), *inherited):
        if one.docstring is None or not one.is_public:
            continue
        if isinstance(one, griffe.Function):
            yield _code(_signature(one, f"{found.name}.{one.name}"))
            yield from _sections(one.docstring)
        elif isinstance(one, griffe.Attribute) and "property" in one.labels:
            yield _code(f"{found.name}.{one.name}{_typed(one.annotation)}  # property")
            yield from _sections(one.docstring)


def _sections(docstring: griffe.Docstring) -> list[str]:
    parts = []
    for section in docstring.parsed:
        if isinstance(section, griffe.DocstringSectionText):
            parts.append(_marked(section.value) + "\n")
        elif isinstance(section, griffe.DocstringSectionAdmonition):
            parts.append(f"{section.title}: {_marked(section.value.contents)}\n")
        else:
            parts.append(f"{section.kind.value.capitalize()}:\n")
            parts.append("\n".join(map(_item, section.value)) + "\n")
    return parts


def _item(item: griffe.DocstringElement) -> str:
    text = " ".join(_marked(item.description).split())
    name = getattr(item, "name", "") or str(item.annotation or "")
    return f"- `{name}`: {text}" if name else f"- {text}"


def _signature(function: griffe.Function, name: str) -> str:
    """Return a signature; a long one has a parameter per line."""
    shown, kinds = [], griffe.ParameterKind
    starred = False
    for one in function.parameters:
        if one.name in ("self", "cls") and not shown:
            continue
        if one.kind is kinds.keyword_only and not starred:
            shown.append("*")
            starred = True
        star = {kinds.var_positional: "*", kinds.var_keyword: "**"}.get(one.kind, "")
        starred = starred or star == "*"
        text = f"{star}{one.name}{_typed(one.annotation)}"
        if one.default is not None and not star:
            text += f" = {one.default}" if one.annotation is not None else f"={one.default}"
        shown.append(text)
    result = f" -> {function.returns}" if function.returns is not None else ""
    line = f"{name}({', '.join(shown)}){result}"
    if len(line) <= LONG:
        return line
    return f"{name}(\n" + "".join(f"    {one},\n" for one in shown) + f"){result}"


def _typed(annotation: object) -> str:
    return f": {annotation}" if annotation is not None else ""


def _default(one: griffe.Attribute) -> str:
    return f", by default `{one.value}`" if one.value is not None else ""


def _code(text: str) -> str:
    return f"```python\n{text}\n```\n"


def _marked(text: str) -> str:
    """Return a docstring's text as Markdown: double backquotes are single ones."""
    return re.sub(r"``([^`]+)``", r"`\1`", text)


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
