"""What each view of a composite reads before the response: the tuned member's text, or its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eft_eval.composite.model import CompositeModel
from eft_eval.errors import ConfigError
from eft_eval.recipe import PLAIN_PROMPT
from eft_eval.templates import TemplateProblem, render

__all__ = ["view_tokens"]

_PLAIN = (
    "{% if messages %}{{ messages | map(attribute='content') | join('\n\n') }}\n\n"
    "{% else %}{{ prompt }}{% endif %}"
)


def view_tokens(
    composite: CompositeModel,
    text: str,
    tokens: list[int],
    messages: Sequence[Mapping[str, str]] = (),
    moved: str = "",
) -> tuple[list[int], ...]:
    """Return what each view reads, in the order of `CompositeModel.views`.

    A view without a prompt form of its own reads ``tokens``, as in the paper; another reads its
    template over ``prompt`` and ``messages``; ``plain`` is the turns' bare text.

    Args:
        composite: The model.
        text: What the tuned member reads.
        tokens: The same as tokens.
        messages: The chat turns that ``text`` was rendered from, if it was.
        moved: White space at the end of ``text`` that is no part of ``tokens``: it begins the
            continuation, so that no view reads it twice.

    Raises:
        ConfigError: A prompt holds a token that some member cannot read, or a prompt form cannot
            be rendered.
    """
    sequences = []
    for view in composite.views:
        if view.prompt is None:
            sequences.append(tokens)
            continue
        form = _PLAIN if view.prompt == PLAIN_PROMPT else view.prompt
        rendered = _rendered(form, text, messages).removesuffix(moved)
        encoding = composite.encoding
        sequences.append(encoding.tokens(rendered) or [encoding.prefix_token])
    for sequence in sequences:
        composite.check_tokens(sequence)
    return tuple(sequences)


def _rendered(form: str, text: str, messages: Sequence[Mapping[str, str]]) -> str:
    try:
        return render(form, {"prompt": text, "messages": list(messages)})
    except TemplateProblem as problem:
        raise ConfigError(
            f"a member's prompt {form[:60]!r} cannot be rendered: {problem}"
        ) from None
