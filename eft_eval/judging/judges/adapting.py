"""A request's form: fields that an endpoint refuses are renamed or left out, once for a process."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from eft_eval.judging.judges.endpoint_errors import EndpointError

__all__ = ["Form", "adapted", "forget", "form_at", "remember"]

_LIMITS = ("max_tokens", "max_completion_tokens")
_FIXED = ("model", "messages")
_STATUSES = (None, 200, 400, 422)
_REFUSAL = re.compile(
    r"unsupported|not supported|does(n't| not) support|unrecogni[sz]ed|unknown|unexpected"
    r"|not (permitted|allowed|implemented|accepted|recognized)|extra (inputs|fields)|deprecated"
    r"|extra_forbidden|must be|should be|has to be|strictly|invalid|only .{0,60}(value|allowed)"
    r"|less than|greater than|out of range|refused|no such (parameter|argument|field)",
    re.IGNORECASE,
)
_CONTEXT = re.compile(
    r"context[_ ](length|window|limit|size)|maximum context|max_model_len|token count"
    r"|(prompt|input|request)\b.{0,20}too (long|large)|too many (input )?tokens|longer than",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Form:
    """How requests differ from what is asked.

    Attributes:
        changes: Per refused field, the name under which it is sent, or None: not at all.
    """

    changes: Mapping[str, str | None] = field(default_factory=dict)

    def apply(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request's fields in this form."""
        kept = ((self.changes.get(name, name), value) for name, value in fields.items())
        return {name: value for name, value in kept if name is not None}

    def without(self, name: str) -> Form:
        """Return the form in which a field is not sent."""
        return Form({**self.changes, name: None})

    def refused(self, name: str) -> Form:
        """Return the form after a field was refused, named as it is sent."""
        asked = next((old for old, new in self.changes.items() if new == name), name)
        if name in _LIMITS and asked == name:
            other = _LIMITS[1 - _LIMITS.index(name)]
            return Form({**self.changes, name: other})
        return self.without(asked)

    def told(self, before: Form) -> str:
        """Return what is different from a form before, in words."""
        new = [
            (old, now) for old, now in self.changes.items() if before.changes.get(old, old) != now
        ]
        return ", ".join(
            f"without {old}" if now is None else f"with {now} in place of {old}" for old, now in new
        )


_forms: dict[tuple[str, str], Form] = {}


def form_at(place: str, model: str) -> Form:
    """Return the form in which an endpoint takes requests for a model, as far as is known."""
    return _forms.get((place, model), Form())


def remember(place: str, model: str, form: Form) -> None:
    """Note the form for as long as the process lives."""
    _forms[place, model] = form


def forget() -> None:
    """Ask all endpoints again in the form that is wished."""
    _forms.clear()


def adapted(form: Form, sent: Mapping[str, Any], error: EndpointError) -> Form | None:
    """Return the form after an error, None where it is about no field that could be left out.

    Args:
        form: In which the request was sent.
        sent: The request.
        error: What the endpoint said to it.
    """
    about_text = error.kind != "request" or error.status not in _STATUSES
    said = " ".join((*error.codes, error.words))
    if about_text or _CONTEXT.search(said):
        return None
    names = [name for name in sent if name not in _FIXED]
    fields = {re.split(r"[.\[]", one)[0] for one in error.named}
    found = [name for name in names if name in fields]
    if not found and _REFUSAL.search(said):
        quoted = [name for name in names if re.search(rf"[\"'`]{name}\b", error.words)]
        bare = [n for n in names if n != "stream" and re.search(rf"(?<![\w-]){n}(?![\w-])", said)]
        found = quoted or bare
    for name in found:
        form = form.refused(name)
    return form if found else None
