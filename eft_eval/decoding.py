"""The generation loop: a batch of prompts in, tokens out, one key-value cache per view.

Knows tokens and a stop test, not text and not tasks. Plain decoding: one pass of every view per
token. A sample depends on its own prompt, seed and timestep only, never on its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from eft_eval.composite import Composite, View
from eft_eval.composition import choose_tokens, gumbel_noise
from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.scoring import takes

Finish = Literal["stop", "length"]


class SamplingRule(NamedTuple):
    """How a token is chosen; see `eft_eval.composition.choose_tokens`."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None


class Request(NamedTuple):
    """One response to generate.

    Attributes:
        prompts: What each view of the composite reads, in the order of its views.
        seed: Seed of its noise; see `eft_eval.composition.request_seed`.
    """

    prompts: tuple[Sequence[int], ...]
    seed: int = 0


class Generation(NamedTuple):
    """A response: its tokens (the stop token, if one ended it, included), and why it ended."""

    tokens: list[int]
    finish: Finish


@torch.inference_mode()
def generate(
    composite: Composite,
    requests: Sequence[Request],
    rule: SamplingRule,
    max_new_tokens: int,
    stopped: Callable[[list[int]], bool] = lambda tokens: False,
) -> list[Generation]:
    """Generate one response per request, all in one batch.

    Args:
        composite: The model.
        requests: One batch; prompts may differ in length.
        rule: How tokens are chosen.
        max_new_tokens: Longest response, at least 1.
        stopped: Whether the tokens so far end with a stop string. Stop tokens of the composite
            end a response in any case.

    Returns:
        The responses, in the order of ``requests``.
    """
    tokens: list[list[int]] = [[] for _ in requests]
    finish: list[Finish] = ["length"] * len(requests)
    active = list(range(len(requests)))
    states = [
        _ViewState(view, [request.prompts[number] for request in requests])
        for number, view in enumerate(composite.views)
    ]
    seeds = torch.tensor([request.seed for request in requests], device=composite.device)
    chosen: Tensor | None = None
    for timestep in range(max_new_tokens):
        scores = composite.empty_scores(len(active))  # [active, V]
        for state in states:
            composite.accumulate(scores, state.view, state.next_logits(chosen))
        chosen = _choose(scores, rule, seeds, timestep)
        staying = []
        for row, (index, token) in enumerate(zip(active, chosen.tolist(), strict=True)):
            tokens[index].append(token)
            if token in composite.stop_tokens or stopped(tokens[index]):
                finish[index] = "stop"
            else:
                staying.append(row)
        if not staying:
            break
        if len(staying) < len(active):  # finished rows leave the batch
            rows = torch.tensor(staying, device=composite.device)
            active = [active[row] for row in staying]
            seeds, chosen = seeds[rows], chosen[rows]
            for state in states:
                state.keep(rows)
    return [Generation(*pair) for pair in zip(tokens, finish, strict=True)]


def _choose(scores: Tensor, rule: SamplingRule, seeds: Tensor, timestep: int) -> Tensor:
    if not torch.isfinite(scores.amax(dim=-1)).all():
        raise EftEvalError(
            "the composite has no next token: a member gives NaN, or the members exclude every "
            "token between them; try dtype=float32"
        )
    noise = None
    if rule.temperature > 0:
        timesteps = torch.full_like(seeds, timestep)
        noise = gumbel_noise(seeds, timesteps, scores.shape[-1])
    return choose_tokens(scores, noise, **rule._asdict())


class _ViewState:
    """One view's cache over a batch of left-padded prompts."""

    def __init__(self, view: View, prompts: Sequence[Sequence[int]]) -> None:
        self.view = view
        longest = max(map(len, prompts))
        self._prompt = torch.zeros(len(prompts), longest, dtype=torch.long)
        self._mask = torch.zeros(len(prompts), longest, dtype=torch.long)
        for row, tokens in enumerate(prompts):
            self._prompt[row, longest - len(tokens) :] = torch.tensor(tokens)
            self._mask[row, longest - len(tokens) :] = 1
        device = view.member.device
        self._prompt, self._mask = self._prompt.to(device), self._mask.to(device)
        self._cache: Any = None

    def next_logits(self, chosen: Tensor | None) -> Tensor:
        """Return the logits after the prompt, or after ``chosen``, shape [rows, V']."""
        model = self.view.member.model
        if chosen is None:
            inputs = self._prompt
            positions = (self._mask.cumsum(dim=-1) - 1).clamp(min=0)
        else:
            inputs = chosen.to(self._mask.device)[:, None]
            self._mask = torch.cat([self._mask, torch.ones_like(inputs)], dim=-1)
            positions = self._mask.sum(dim=-1, keepdim=True) - 1
        options: dict[str, Any] = {"attention_mask": self._mask, "use_cache": True}
        if takes(model, "position_ids"):
            options["position_ids"] = positions
        if takes(model, "logits_to_keep"):
            options["logits_to_keep"] = 1
        if self._cache is not None:
            options["past_key_values"] = self._cache
        output = model(inputs, **options)
        self._cache = getattr(output, "past_key_values", None)
        if self._cache is None:
            raise ConfigError(
                f"{self.view.member.label}: {type(model).__name__} gives no key-value cache, "
                "which generation needs; use another member"
            )
        logits: Tensor = output.logits[:, -1]
        return logits

    def keep(self, rows: Tensor) -> None:
        """Keep these rows of the batch and drop the rest."""
        rows = rows.to(self._mask.device)
        self._mask = self._mask[rows]
        self._cache.batch_select_indices(rows)
