"""A family of members that think: the tuned one says a given text, reasoning included."""

from __future__ import annotations

import copy
from pathlib import Path

from tiny_models import scripted_model
from tokenizer_kinds import tokenizer_of
from transformers import AddedToken

PROMPT = "<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n"
HYBRID = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
)
Paths = dict[str, str]


def family(folder: Path, says: str, special: bool, prompt: str) -> Paths:
    """Three members with Qwen's tokens; the tuned one says this after the prompt."""
    tokenizer = copy.deepcopy(tokenizer_of("qwen"))
    marks = [AddedToken(one, special=special, normalized=False) for one in ("<think>", "</think>")]
    tokenizer.add_tokens(marks, special_tokens=special)
    tokenizer.chat_template = HYBRID
    before = len(tokenizer(prompt).input_ids) - 1
    tokens = [5] * before + tokenizer(says + "<|im_end|>").input_ids
    tokens += [5] * (160 - len(tokens))
    plain = [5] * 160
    return {
        "base": scripted_model(folder / "base", tokenizer, plain, seed=1),
        "tuned": scripted_model(folder / "tuned", tokenizer, tokens, seed=2),
        "reference": scripted_model(folder / "reference", tokenizer, plain, seed=3),
    }
