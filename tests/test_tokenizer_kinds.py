"""The test bed itself: every kind has the quirks that its family has, also after saving."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizer_kinds import BEGINS_WITH_BOS, KINDS, TEXTS, size_of, tokenizer_of, with_eos_appended
from transformers import AutoTokenizer


@pytest.mark.parametrize("kind", KINDS)
def test_texts_come_back_from_a_saved_tokenizer(kind: str, tmp_path: Path) -> None:
    tokenizer_of(kind).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        tokens = tokenizer(text).input_ids
        assert tokens == tokenizer_of(kind)(text).input_ids
        assert (tokens[0] == tokenizer.bos_token_id) is (kind in BEGINS_WITH_BOS)
        assert tokenizer.decode(tokens, skip_special_tokens=True) == text


def test_each_kind_has_its_quirk() -> None:
    spaced = tokenizer_of("llama2").tokenize("works")
    assert spaced[0].startswith("▁"), "a space is put before the text"
    assert not tokenizer_of("gemma").tokenize("works")[0].startswith("▁")
    assert "<0xF0>" in tokenizer_of("llama2").tokenize("🙂"), "bytes for what is unknown"
    assert tokenizer_of("qwen").tokenize("1024") == ["1", "0", "2", "4"], "digits stand alone"
    assert len(tokenizer_of("falcon").tokenize("1024365")) < 7, "digits in threes"
    assert tokenizer_of("qwen").tokenize("e\u0301") == tokenizer_of("qwen").tokenize("é")
    holed = tokenizer_of("holed")
    assert size_of(holed) > len(holed), "ids have a hole"
    chat = tokenizer_of("llama3").apply_chat_template(
        [{"role": "user", "content": "x"}], tokenize=False
    )
    assert chat.startswith("<|begin_of_text|>"), "the template brings its own BOS"


def test_eos_appended() -> None:
    tokenizer = with_eos_appended("llama2")
    tokens = tokenizer("works").input_ids
    assert (tokens[0], tokens[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
