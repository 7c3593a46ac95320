"""An independent reference: float64, no cache, no batch; the most probable token after each other.

Written from the equations alone; it shares no code with eft_eval but the noise, which is an input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


class Reference:
    """log p = log p_base + sum of w (log p_tuned - log p_reference), renormalised, in float64."""

    def __init__(
        self,
        base: str,
        deltas: Sequence[tuple[str, str, float]],
        weight_top_p: float | None = None,
    ) -> None:
        def load(path: str) -> torch.nn.Module:
            return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64).eval()

        self.base = load(base)
        self.deltas = [(load(tuned), load(reference), w) for tuned, reference, w in deltas]
        self.weight_top_p = weight_top_p
        self.tokenizer = AutoTokenizer.from_pretrained(deltas[0][0])
        models = [self.base, *(model for pair in self.deltas for model in pair[:2])]
        end = max(self.tokenizer.get_vocab().values()) + 1
        self.size = min(end, *(model.config.vocab_size for model in models))

    def log_probs_of(self, model: torch.nn.Module, tokens: Sequence[int]) -> np.ndarray:
        """One model's log-probabilities after each of ``tokens``, shape [tokens, size]."""
        with torch.no_grad():
            logits = model(torch.tensor([list(tokens)]), use_cache=False).logits
        scores = logits[0, :, : self.size].numpy()
        shifted = scores - scores.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))

    def log_probs(self, tokens: Sequence[int], start: int = 0) -> np.ndarray:
        """The composite's log-probabilities after each token from ``start`` on."""

        def of(model: torch.nn.Module) -> np.ndarray:
            return self.log_probs_of(model, tokens)[start:]

        base = of(self.base)
        if self.weight_top_p is None:
            total = base.copy()
            for tuned, reference, weight in self.deltas:
                total += weight * (of(tuned) - of(reference))
        else:
            ((tuned_model, reference_model, _),) = self.deltas
            tuned, ratio = of(tuned_model), base - of(reference_model)
            total = tuned + np.where([self._nucleus(row) for row in tuned], ratio, 0.0)
        total -= total.max(axis=1, keepdims=True)
        return total - np.log(np.exp(total).sum(axis=1, keepdims=True))

    def _nucleus(self, tuned: np.ndarray) -> list[bool]:
        """Mark the most probable tokens that reach ``weight_top_p`` together."""
        mass, inside = 0.0, set()
        for token in np.argsort(-tuned, kind="stable"):
            inside.add(int(token))
            mass += float(np.exp(tuned[token]))
            if mass >= self.weight_top_p:
                break
        return [token in inside for token in range(self.size)]

    def score(self, context: Sequence[int], continuation: Sequence[int]) -> tuple[float, bool]:
        """Log-likelihood of the continuation, and whether it is the greedy one."""
        rows = self.log_probs([*context, *continuation[:-1]], len(context) - 1)
        value = float(rows[np.arange(len(continuation)), list(continuation)].sum())
        return value, rows.argmax(axis=1).tolist() == list(continuation)

    def generate(
        self,
        prompt: Sequence[int],
        length: int,
        stop_tokens: frozenset[int] = frozenset(),
        temperature: float = 0.0,
        noise: Callable[[int], np.ndarray] | None = None,
        guess: Sequence[int] = (),
    ) -> list[int]:
        """Greedy, or by the Gumbel-max rule with ``noise(timestep)``.

        A ``guess`` of the answer saves passes and changes nothing: what comes after its first wrong
        token is not looked at.
        """
        made: list[int] = []
        rows = self.log_probs([*prompt, *guess], len(prompt) - 1)
        while len(made) < length:
            if len(made) == len(rows) or made != list(guess[: len(made)]):
                scores = self.log_probs([*prompt, *made], len(prompt) + len(made) - 1)[0]
            else:
                scores = rows[len(made)]
            if temperature > 0:
                assert noise is not None
                scores = scores / temperature + noise(len(made))
            made.append(int(np.argmax(scores)))
            if made[-1] in stop_tokens:
                break
        return made
