"""Tokenizers of GGUF files: how a file says that texts are split, where transformers reads less."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from tokenizers import Regex, decoders, normalizers, pre_tokenizers

from eft_eval.engine.gguf import gguf_contents
from eft_eval.streams import logger

__all__ = ["split_as_said"]

log = logger("eft_eval")

_WHOLE_WORDS = frozenset(
    {"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
     "tekken"}
)  # fmt: skip
"""Kinds in which a word that is a token is that token, whatever its merges."""
_DIGITS = frozenset({"command-r", "smollm", "starcoder", "refact", "codeshell", "exaone"})
"""Kinds that split as GPT-2 does, and every digit from all else before that."""
_SPACE = "▁"
_AS_GPT_2 = frozenset({"gpt-2", "phi-2", "olmo", "jais", "trillion", "exaone4", "mellum"})


def split_as_said(tokenizer: Any, file: Path, label: str) -> None:
    """Let a file's tokenizer split texts as the file says; warn where it cannot be told how.

    Args:
        tokenizer: As transformers made it; of a ``tokenizer.json`` beside the file it is whole.
        file: The file.
        label: What warnings call the member.
    """
    if (file.parent / "tokenizer.json").exists():
        return
    said = gguf_contents(file).settings
    kind, backend = said.get("tokenizer.ggml.pre"), tokenizer.backend_tokenizer
    if said.get("tokenizer.ggml.model") == "llama":
        _keep_spaces(backend, bool(said.get("tokenizer.ggml.add_space_prefix", True)))
    if said.get("tokenizer.ggml.model") != "gpt2" or kind is None:
        return
    if kind in _WHOLE_WORDS:
        backend.model.ignore_merges = True
    if kind in _DIGITS:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), _words()]
        )
    elif kind == "falcon":
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Punctuation("contiguous"),
                _words(),
                pre_tokenizers.Digits(individual_digits=False),
                pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated"),
            ]
        )
    elif kind not in _AS_GPT_2 and kind not in _known():
        log.warning(
            "%s: %s splits texts in a way (%r) that transformers does not know, and is read as "
            "GPT-2's: put the tokenizer.json of the checkpoint that it was made of beside it",
            label, file.name, kind,
        )  # fmt: skip


def _keep_spaces(backend: Any, prefix: bool) -> None:
    """Read spaces as SentencePiece does: one more before every text, also before a space.

    transformers' Llama tokenizer adds none where a text begins with a space or follows a special
    token, and adds one also where the file says that there is none.

    Args:
        backend: Of a SentencePiece vocabulary.
        prefix: Whether the file says that a space goes before a text.
    """
    if not isinstance(backend.pre_tokenizer, pre_tokenizers.Metaspace):
        return  # of Gemma and Phi-3, whose spaces transformers knows
    spaces = normalizers.Replace(" ", _SPACE)
    first = [normalizers.Prepend(_SPACE)] if prefix else []
    backend.normalizer = normalizers.Sequence([*first, spaces])
    backend.pre_tokenizer = None
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )


def _words() -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False)


def _known() -> frozenset[str]:
    """Return the ways to split that this transformers knows."""
    mapping = import_module("transformers.integrations.gguf.gguf_tokenizer_mapping")
    return frozenset(getattr(mapping, "GGUF_PRE_TOKENIZER_SPLITS", ()))
