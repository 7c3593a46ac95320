"""Log-likelihoods of whole texts for lm-eval, in windows of what the members read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from eft_eval.composite.encoding import TextEncoding

__all__ = ["whole_texts"]

_Window = tuple[None, list[int], list[int]]


def whole_texts(
    requests: Sequence[Any],
    encoding: TextEncoding,
    length: int,
    score: Callable[[list[_Window]], list[tuple[float, bool]]],
    cache_hook: Any,
) -> list[float]:
    """Return the log-likelihood of each request's text, in lm-eval's windows.

    What stands before a text is the prefix token alone: the beginning of sequence that a tokenizer
    puts before texts is neither read twice nor scored as one of the text's tokens.

    Args:
        requests: Of lm-eval, with a text each.
        encoding: Of the composite.
        length: Tokens of a window.
        score: Returns what `_loglikelihood_tokens` does.
        cache_hook: Lm-eval's.
    """
    windows: list[_Window] = []
    owners: list[int] = []
    for number, request in enumerate(requests):
        found = get_rolling_token_windows(
            token_list=encoding.alone(request.args[0]),
            prefix_token=encoding.prefix_token,
            max_seq_len=length,
            context_len=1,
        )
        windows += [(None, *make_disjoint_window(window)) for window in found]
        owners += [number] * (len(windows) - len(owners))
    totals: defaultdict[int, float] = defaultdict(float)
    for number, (value, _) in zip(owners, score(windows), strict=True):
        totals[number] += value
    for number, request in enumerate(requests):
        cache_hook.add_partial("loglikelihood_rolling", request.args, totals[number])
    return [totals[number] for number in range(len(requests))]
