"""The chat turns behind lm-eval's prompts, which members with a prompt form of their own read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from eft_eval.composite.model import CompositeModel
from eft_eval.composite.prompting import view_tokens
from eft_eval.errors import ConfigError, EftEvalError, nearest
from eft_eval.streams import logger

__all__ = ["ChatTurns", "check_template_args", "template_text"]

log = logger("lm_eval.eft")


_OWN = ("conversation", "tokenize", "add_generation_prompt", "continue_final_message")
"""Arguments of `apply_chat_template` that lm-eval gives itself."""


def check_template_args(given: Mapping[str, Any]) -> None:
    """Raise ConfigError where ``chat_template_args`` hold what is no variable of a template."""
    if "chat_template" in given:
        raise ConfigError(
            "chat_template_args: 'chat_template' is no variable of one: name one of the tuned "
            "member's with --apply_chat_template NAME, or save another with its tokenizer"
        )
    if own := [name for name in _OWN if name in given]:
        raise ConfigError(f"chat_template_args: {own[0]!r} is set by lm-eval; leave it out")


class ChatTurns:
    """Remembers which turns a prompt was rendered from, and if a chat template was used at all.

    Attributes:
        rendered: Whether prompts are rendered with the chat template.
        asked_for: Whether lm-eval's request cache asked for the template's name; with cached
            requests nothing is rendered again.
    """

    def __init__(self, composite: CompositeModel) -> None:
        self._composite = composite
        self._own_prompts = any(view.prompt for view in composite.views)
        self._turns: dict[str, list[dict[str, str]]] = {}
        self._checked = False
        self.rendered = self.asked_for = False

    def render(
        self, turns: list[dict[str, str]], template: Callable[[list[dict[str, str]]], str]
    ) -> str:
        """Return the prompt of turns, and note that it is theirs.

        A system turn that the template refuses, or leaves out, is in nobody's prompt.

        Args:
            turns: What is given to the template.
            template: Renders turns.

        Raises:
            ConfigError: The template cannot render them.
        """
        try:
            text = template(turns)
            self.rendered = True
            if self._own_prompts:
                others = [turn for turn in turns if turn["role"] != "system"]
                left_out = 0 < len(others) < len(turns) and template(others) == text
                self._turns[text] = others if left_out else turns
        except EftEvalError:
            raise
        except Exception as error:  # a template may do anything
            said = " ".join(str(error).split())[:300]
            raise ConfigError(
                f"{self._composite.tuned.label}: its chat template cannot render the turns: {said} "
                f"({type(error).__name__})"
            ) from error
        return text

    def check(self, tokenizer: Any) -> None:
        """Warn once where a chat model is asked without its template."""
        if self._checked:
            return
        self._checked = True
        unused = not (self.rendered or self.asked_for)
        if unused and getattr(tokenizer, "chat_template", None):
            log.warning(
                "the tuned member has a chat template, but prompts are sent as plain text: "
                "add --apply_chat_template to use it"
            )

    def view_tokens(self, text: str, tokens: list[int], moved: str = "") -> tuple[list[int], ...]:
        """Return what each view reads where the tuned member's own sequence is ``tokens``.

        Args:
            text: What the tuned member reads.
            tokens: The same as tokens.
            moved: See `eft_eval.composite.prompting.view_tokens`.
        """
        if self._own_prompts and self.asked_for and text not in self._turns:
            raise ConfigError(
                "a member has a prompt of its own, but lm-eval's request cache keeps no chat "
                "turns: run without --cache_requests, or with --cache_requests refresh"
            )
        return view_tokens(self._composite, text, tokens, self._turns.get(text, []), moved)


def template_text(composite: CompositeModel, tokenizer: Any, asked: str | bool) -> str:
    """Return a chat template's text.

    Args:
        composite: The model.
        tokenizer: The tuned member's.
        asked: Its name; True for the default one.

    Raises:
        ConfigError: There is none, or none of that name.
    """
    member, known = composite.tuned.label, tokenizer.chat_template
    named = known if isinstance(known, dict) else {}
    if not known:
        raise ConfigError(
            f"{member} has no chat template: run without --apply_chat_template, or save one with "
            "its tokenizer"
        )
    if isinstance(asked, str) and asked not in named:
        has = f"has {', '.join(sorted(named))}" if named else "has one, without a name"
        raise ConfigError(
            f"--apply_chat_template {asked}: {member} {has}{nearest(asked, named)}; give no name "
            "to use its default"
        )
    name = asked if isinstance(asked, str) else "default"
    if named and name not in named:
        raise ConfigError(
            f"{member} has several chat templates and none that is called default: name one of "
            f"{', '.join(sorted(named))} (--apply_chat_template NAME)"
        )
    return str(named[name] if named else known)
