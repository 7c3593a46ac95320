"""Small tokenizers built to the shape of the real ones, with the quirks that real ones have.

Each is trained on a few sentences with the tokenizers library: the normalizers, splits, decoders,
special tokens and templates are those of the family, the vocabulary is a few hundred tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "Question: Why is the sky blue? Answer: because blue light is scattered more than red light.",
    "Human: Who works as a carpenter?\n\nAssistant: Toni works as a carpenter in the town.",
    "The answer is 42. In 2023 there were 1024 answers; 365 days make a year, 12 months too.",
    "Let me think about it.  First, the grass is green.\tSecond, the sky is not.\n\n\n So: yes!",
    "user assistant system one two three four five six seven eight nine ten A B C D",
] * 20

TEXTS = (
    "Why is the sky blue?",
    " leading and  double spaces ",
    "naïve café, déjà vu: 3.14159 and 1,000,000",
    "日本語のテキスト and emoji 🙂👩‍🚀 together",
    "tabs\tand\nlines\n\nand \u00a0 a no-break space",
    "def f(x):\n    return x ** 2  # code",
)
"""Texts that tokenizers treat differently; all of them can be encoded by every kind."""

_WORDS = "|".join(
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",  # contractions
        r"[^\r\n\p{L}\p{N}]?\p{L}+",  # a word, with one sign or space before it
        r"\p{N}%s",  # digits: how many together differs
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",  # signs
        r"\s*[\r\n]+",  # ends of lines
        r"\s+(?!\S)|\s+",  # other spaces
    )
)
"""How the tokenizers of GPT-4's kind (Llama 3, Qwen, tekken) split a text."""

_TURNS = "{% for m in messages %}"
_CHATML = (
    _TURNS + "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_LLAMA3_CHAT = (
    "{{ bos_token }}" + _TURNS + "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n'"
    " + m['content'] + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
_GEMMA_CHAT = (
    "{{ bos_token }}" + _TURNS + "{{ '<start_of_turn>' + m['role'] + '\n' + m['content']"
    " + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
_INST_CHAT = (
    "{{ bos_token }}" + _TURNS + "{% if m['role'] == 'user' %}{{ '[INST]' + m['content']"
    " + '[/INST]' }}{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)


def _sentencepiece(
    specials: Sequence[str], *, prefix: bool, bos: str, chat: str | None = None, eos: str = "</s>"
) -> PreTrainedTokenizerFast:
    """BPE over text with ``▁`` for spaces and bytes for what it does not know."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    steps = [normalizers.Prepend("▁")] if prefix else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    # merges do not cross words: trained with a split that the finished tokenizer does not have
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    in_bytes = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=len(specials) + 256 + 220,
            special_tokens=[*specials, *in_bytes],
            show_progress=False,
        ),
    )
    content = json.loads(tokenizer.to_str())
    content["pre_tokenizer"] = None
    content["added_tokens"] = [t for t in content["added_tokens"] if t["content"] in specials]
    tokenizer = Tokenizer.from_str(json.dumps(content))
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return _finished(tokenizer, bos=bos, eos=eos, bos_first=True, chat=chat, unk_token="<unk>")


def _bytes(
    splits: Sequence[pre_tokenizers.PreTokenizer],
    *,
    first: Sequence[str] = (),
    last: Sequence[str] = (),
    normalizer: normalizers.Normalizer | None = None,
) -> Tokenizer:
    """BPE over bytes, with special tokens before or after the vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(list(splits))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=len(first) + 256 + 220,
            special_tokens=list(first),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in last])
    return tokenizer


def _finished(
    tokenizer: Tokenizer,
    *,
    eos: str,
    bos: str | None = None,
    bos_first: bool = False,
    chat: str | None = None,
    unk_token: str | None = None,
) -> PreTrainedTokenizerFast:
    if bos_first:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos} $B",
            special_tokens=[(bos, tokenizer.token_to_id(bos))],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        unk_token=unk_token,
        chat_template=chat,
        clean_up_tokenization_spaces=False,
    )


def _split_then_bytes(pattern: str) -> list[pre_tokenizers.PreTokenizer]:
    return [
        pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]


def _llama2() -> PreTrainedTokenizerFast:
    return _sentencepiece(["<unk>", "<s>", "</s>"], prefix=True, bos="<s>")


def _llama3() -> PreTrainedTokenizerFast:
    headers = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    tokenizer = _bytes(
        _split_then_bytes(_WORDS % "{1,3}"), last=["<|begin_of_text|>", "<|end_of_text|>", *headers]
    )
    return _finished(
        tokenizer, bos="<|begin_of_text|>", eos="<|eot_id|>", bos_first=True, chat=_LLAMA3_CHAT
    )


def _qwen() -> PreTrainedTokenizerFast:
    tokenizer = _bytes(
        _split_then_bytes(_WORDS % ""),
        last=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        normalizer=normalizers.NFC(),
    )
    return _finished(tokenizer, eos="<|im_end|>", chat=_CHATML)


def _gemma() -> PreTrainedTokenizerFast:
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    return _sentencepiece(specials, prefix=False, bos="<bos>", eos="<eos>", chat=_GEMMA_CHAT)


def _falcon() -> PreTrainedTokenizerFast:
    splits = [
        pre_tokenizers.Punctuation(behavior="contiguous"),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        pre_tokenizers.Digits(individual_digits=False),
        pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), behavior="isolated"),
    ]
    return _finished(_bytes(splits, first=[">>TITLE<<", "<|endoftext|>"]), eos="<|endoftext|>")


def _gpt2() -> PreTrainedTokenizerFast:
    tokenizer = _bytes([pre_tokenizers.ByteLevel(add_prefix_space=False)], last=["<|endoftext|>"])
    return _finished(tokenizer, bos="<|endoftext|>", eos="<|endoftext|>")


def _tekken() -> PreTrainedTokenizerFast:
    specials = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", *(f"<SPECIAL_{i}>" for i in range(9))]
    tokenizer = _bytes(_split_then_bytes(_WORDS % ""), first=specials)
    return _finished(tokenizer, bos="<s>", eos="</s>", bos_first=True, chat=_INST_CHAT)


def _holed() -> PreTrainedTokenizerFast:
    """As Phi-4-mini: the special tokens of the chat lie beyond a hole in the ids."""
    content = json.loads(_gpt2().backend_tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    beyond = max(vocabulary.values()) + 20
    for number, token in enumerate(("<|user|>", "<|assistant|>", "<|end|>")):
        vocabulary[token] = beyond + number
        content["added_tokens"].append(
            {
                "id": beyond + number,
                "content": token,
                "special": True,
                **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False),
            }
        )
    chat = _TURNS + "{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    chat += "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    return _finished(Tokenizer.from_str(json.dumps(content)), eos="<|end|>", chat=chat)


_BUILDERS: Mapping[str, Callable[[], PreTrainedTokenizerFast]] = {
    "llama2": _llama2,
    "llama3": _llama3,
    "qwen": _qwen,
    "gemma": _gemma,
    "falcon": _falcon,
    "gpt2": _gpt2,
    "tekken": _tekken,
    "holed": _holed,
}

KINDS = tuple(_BUILDERS)
BEGINS_WITH_BOS = frozenset({"llama2", "llama3", "gemma", "tekken"})
"""Kinds whose tokenizer puts a beginning-of-sequence token before a text."""


@cache
def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a kind; do not change it, it is shared."""
    return _BUILDERS[kind]()


def size_of(tokenizer: PreTrainedTokenizerFast) -> int:
    """Return the number of logits that a model of this tokenizer needs: holes count."""
    return max(tokenizer.get_vocab().values()) + 1


def with_eos_appended(kind: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer of a kind as some trainers save it: it ends every text with EOS."""
    tokenizer = _BUILDERS[kind]()
    bos = f"{tokenizer.bos_token} " if kind in BEGINS_WITH_BOS else ""
    ends = [(tokenizer.eos_token, tokenizer.eos_token_id)]
    begins = [(tokenizer.bos_token, tokenizer.bos_token_id)] if bos else []
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos}$A {tokenizer.eos_token}",
        pair=f"{bos}$A {tokenizer.eos_token} {bos}$B {tokenizer.eos_token}",
        special_tokens=[*begins, *ends],
    )
    return tokenizer
