"""An independent reference: float64, no cache, no batch, one token at a time.

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
        self.size = min(len(self.tokenizer), *(model.config.vocab_size for model in models))

    def _log_probs(self, model: torch.nn.Module, tokens: Sequence[int]) -> np.ndarray:
        with torch.no_grad():
            logits = model(torch.tensor([list(tokens)])).logits[0, -1, : self.size].numpy()
        shifted = logits - logits.max()
        return shifted - np.log(np.exp(shifted).sum())

    def next_log_probs(self, tokens: Sequence[int]) -> np.ndarray:
        """The composite's log-probabilities after ``tokens``, shape [size]."""
        base = self._log_probs(self.base, tokens)
        if self.weight_top_p is None:
            total = base.copy()
            for tuned, reference, weight in self.deltas:
                total += weight * (
                    self._log_probs(tuned, tokens) - self._log_probs(reference, tokens)
                )
        else:
            ((tuned_model, reference_model, _),) = self.deltas
            tuned = self._log_probs(tuned_model, tokens)
            ratio = base - self._log_probs(reference_model, tokens)
            mass, inside = 0.0, set()
            for token in np.argsort(-tuned, kind="stable"):
                inside.add(int(token))
                mass += float(np.exp(tuned[token]))
                if mass >= self.weight_top_p:
                    break
            total = np.array(
                [tuned[t] + (ratio[t] if t in inside else 0.0) for t in range(self.size)]
            )
        total -= total.max()
        return total - np.log(np.exp(total).sum())

    def log_likelihood(self, context: Sequence[int], continuation: Sequence[int]) -> float:
        total, tokens = 0.0, list(context)
        for token in continuation:
            total += float(self.next_log_probs(tokens)[token])
            tokens.append(token)
        return total

    def generate(
        self,
        prompt: Sequence[int],
        length: int,
        stop_tokens: frozenset[int] = frozenset(),
        temperature: float = 0.0,
        noise: Callable[[int], np.ndarray] | None = None,
    ) -> list[int]:
        """Greedy, or by the Gumbel-max rule with ``noise(timestep)``."""
        made: list[int] = []
        while len(made) < length:
            scores = self.next_log_probs([*prompt, *made])
            if temperature > 0:
                assert noise is not None
                scores = scores / temperature + noise(len(made))
            made.append(int(np.argmax(scores)))
            if made[-1] in stop_tokens:
                break
        return made
