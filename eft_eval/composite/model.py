"""A composite as one object: which model views it sums, with which factors, over which tokens.

Knows models and their sum; what it says to texts lies in `eft_eval.api`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from eft_eval.composite.encoding import TextEncoding
from eft_eval.composite.mathematics import add_filtered_tuned, add_term
from eft_eval.engine.devices import usable_device
from eft_eval.engine.loading import LoadOptions, Member
from eft_eval.engine.members import load_members
from eft_eval.engine.sampling_defaults import logit_settings
from eft_eval.engine.vocabulary import common_vocabulary
from eft_eval.errors import ConfigError
from eft_eval.recipe import Recipe, canonical_name, parse_recipe, with_flags
from eft_eval.streams import logger

__all__ = ["CompositeModel", "View", "views_of"]

log = logger("eft_eval")


@dataclass(frozen=True, eq=False)
class View:
    """A member as it sees one prompt form, and its factor in the sum of Eq. 5.

    A member that appears twice with the same prompt (a reference of two deltas, a base that is
    also a reference) is one view whose factors are added; ``role`` is the first of its roles.
    """

    member: Member
    prompt: str | None
    coefficient: float
    role: str


class CompositeModel:
    """A composite model (Mitchell et al. 2023, Eq. 4 and 5), its weights loaded at first use.

    Attributes:
        recipe: What it is made of.
        members: The member of every role.
        views: What is summed; views whose factors cancel are left out and never loaded.
        encoding: From text to tokens and back, for every member.
    """

    def __init__(self, recipe: Recipe, options: LoadOptions) -> None:
        self.recipe = recipe
        self.members = load_members(recipe, options)
        self.views = views_of(recipe, self.members)
        self.device = options.device
        self.encoding = TextEncoding(self.tokenizer, options.add_bos_token, options.prefix_token_id)
        self._shared = common_vocabulary(self.members, recipe.tokenizer_map)
        self._check_stop_tokens()
        self._told = False

    @classmethod
    def load(
        cls,
        recipe: str | Path | Mapping[str, Any] | Recipe,
        *,
        device: str | torch.device | None = None,
        trust_remote_code: bool = False,
        use_fast_tokenizer: bool = True,
        add_bos_token: bool | None = None,
        engine: str = "transformers",
    ) -> Self:
        """Return the composite of a named recipe, a YAML file, a dict or a recipe.

        Args:
            recipe: As `eft_eval.recipe.parse_recipe` takes it.
            device: Where members without a placement of their own go; None: CUDA where it is.
            trust_remote_code: Let checkpoints run their own Python code.
            use_fast_tokenizer: Prefer the Rust tokenizers.
            add_bos_token: Override the tokenizer's own policy on the beginning-of-sequence token.
            engine: What runs the members, a key of `eft_eval.engine.loading.ENGINES`.
        """
        chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
        flags = with_flags(
            {
                "trust_remote_code": trust_remote_code,
                "use_fast_tokenizer": use_fast_tokenizer,
                "add_bos_token": add_bos_token,
            }
        )
        options = LoadOptions(usable_device(chosen, "device"), engine=engine, **flags)
        return cls(parse_recipe(recipe), options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @cached_property
    def name(self) -> str:
        """The canonical name, of what its folders held when it was asked first."""
        return canonical_name(self.recipe)

    @property
    def tuned(self) -> Member:
        """The member whose tokenizer, special tokens and stop tokens rule (the first delta's)."""
        return self.members.get("tuned") or self.members["tuned1"]

    @property
    def tokenizer(self) -> Any:
        return self.tuned.tokenizer

    @cached_property
    def stop_tokens(self) -> frozenset[int]:
        """Every end-of-sequence id of the tuned member: tokenizer and generation settings."""
        return self.tuned.stop_tokens

    @cached_property
    def vocabulary(self) -> int:
        """Size of the composite's distribution.

        The tokens that all members share; a composite whose deltas vanish *is* one model and
        keeps that model's own size.
        """
        if len(self.views) == 1 and self.recipe.decoding.weight_top_p is None:
            return self.views[0].member.vocabulary_size
        return self._shared.size

    @cached_property
    def _alone(self) -> frozenset[int]:
        """Tokens below `vocabulary` that some member does not have."""
        return self._shared.alone if self.vocabulary == self._shared.size else frozenset()

    @property
    def excluded_tokens(self) -> frozenset[int]:
        """Tokens below `vocabulary` that are never chosen, since some member does not have them."""
        return self._alone if len(self.views) > 1 else frozenset()

    @cached_property
    def _excluded(self) -> Tensor | None:
        """The same as a tensor, None where there are none."""
        if not self.excluded_tokens:
            return None
        return torch.tensor(sorted(self.excluded_tokens), device=self.device)

    @property
    def max_length(self) -> int | None:
        """Tokens that the shortest member can read, None where no member says."""
        limits = [view.member.max_length for view in self.views]
        return min((limit for limit in limits if limit is not None), default=None)

    def empty_scores(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return zeros of shape [*shape, V] on the run's device, for `accumulate`.

        Args:
            shape: Leading dimensions.
            dtype: At least float32; widened where a member computes in float64.
        """
        dtype = torch.promote_types(dtype, self._widest)
        return torch.zeros(*shape, self.vocabulary, dtype=dtype, device=self.device)

    @cached_property
    def _widest(self) -> torch.dtype:
        """float64 where a member computes in it, else float32; reading it loads the weights."""
        dtypes = {view.member.engine.dtype for view in self.views}
        return torch.float64 if torch.float64 in dtypes else torch.float32

    def accumulate(
        self, total: Tensor, view: View, logits: Tensor, *, looks: bool | None = None
    ) -> None:
        """Add one view's part to ``total`` in place; call once per view, in the order of `views`.

        Args:
            total: From `empty_scores`, shape [..., V].
            view: Whose logits these are.
            logits: Shape [..., at least V].
            looks: See `eft_eval.composite.mathematics.add_term`.
        """
        logits = logits[..., : self.vocabulary].to(self.device)
        top_p = self.recipe.decoding.weight_top_p
        if top_p is None:
            add_term(total, logits, view.coefficient, looks=looks)
        else:
            log_probs = logits.log_softmax(dim=-1, dtype=total.dtype)
            if view is self.views[-1]:
                add_filtered_tuned(total, log_probs, top_p)
            else:
                add_term(total, log_probs, view.coefficient, looks=looks)
        if self._excluded is not None:
            total.index_fill_(-1, self._excluded, -math.inf)

    def check_tokens(self, tokens: Iterable[int]) -> None:
        """Raise ConfigError if a prompt holds a token that some member cannot read."""
        seen = set(tokens)
        worst = max(seen, default=0)
        if self._excluded is not None and (alone := seen & self._alone):
            worst = max(alone)
        elif worst < self.vocabulary:
            return
        token = self.tokenizer.convert_ids_to_tokens(worst)
        raise ConfigError(
            f"the prompt holds token {worst} ({token!r}), which not every member has (they "
            f"share {self.vocabulary - len(self._alone)} tokens): write the prompt without it, or "
            "give that member a prompt template of its own in the recipe"
        )

    def gives(self, token: int) -> bool:
        """Whether a response may hold a token: one that every member has."""
        return 0 <= token < self.vocabulary and token not in self.excluded_tokens

    def tell_settings(self) -> None:
        """Warn once of the tuned checkpoint's generation settings that answers do not follow."""
        asked = {} if self._told else logit_settings(self.tuned.generation_config)
        self._told = True
        if asked:
            said = ", ".join(f"{name}={str(value)[:40]}" for name, value in asked.items())
            log.warning(
                "%s: its generation_config.json asks for %s, which is not followed: tokens are "
                "chosen by the composite's scores and the task's settings alone",
                self.tuned.label, said,
            )  # fmt: skip

    def _check_stop_tokens(self) -> None:
        """Raise ConfigError where the composite could not end; ids of no token end nothing."""
        ends = self.stop_tokens
        beyond = sorted(one for one in ends if one >= self.vocabulary or one in self._alone)
        named = sorted({*beyond} & {*self.tokenizer.get_vocab().values()})
        if named:
            shared = self.vocabulary - len(self._alone)
            token = self.tokenizer.convert_ids_to_tokens(named[0])
            raise ConfigError(
                f"{self.tuned.label} ends its answers with token {named[0]} ({token!r}), which "
                f"the other members do not have (they share {shared} tokens), so that the "
                "composite could not end: take a tuned member that ends with a token of its base, "
                "or save it with another eos_token_id and give `until`"
            )
        if beyond and len(beyond) == len(ends):
            raise ConfigError(
                f"{self.tuned.label} ends its answers with token {beyond[0]}, which its tokenizer "
                "does not have, so that they could not end: save it with another eos_token_id"
            )


def views_of(recipe: Recipe, members: Mapping[str, Member]) -> tuple[View, ...]:
    """Return what is summed: equal views once, their factors added; those that cancel left out."""
    roles = [("base", 1.0)]
    for number, delta in enumerate(recipe.deltas, start=1):
        suffix = str(number) if len(recipe.deltas) > 1 else ""
        roles += [("reference" + suffix, -delta.weight), ("tuned" + suffix, delta.weight)]
    prompts = {role: spec.prompt for role, spec in recipe.members}
    if recipe.decoding.weight_top_p is not None:
        # the filter needs the three models apart, the tuned one last
        return tuple(View(members[role], prompts[role], c, role) for role, c in roles)
    factors: dict[tuple[Member, str | None], float] = {}
    first: dict[tuple[Member, str | None], str] = {}
    for role, coefficient in roles:
        key = (members[role], prompts[role])
        factors[key] = factors.get(key, 0.0) + coefficient
        first.setdefault(key, role)
    return tuple(
        View(*key, factor, first[key])
        for key, factor in factors.items()
        if abs(factor) > 1e-12  # 1 - 0.3 - 0.7 is not 0 in floating point
    )
