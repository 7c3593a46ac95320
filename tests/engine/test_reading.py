"""How tokenizers read texts: what they put first is there once, a text is always read alike."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from tiny_models import make_model
from tokenizer_kinds import BEGINS_WITH_BOS, KINDS, size_of, tokenizer_of, with_eos_appended
from tokenizers import Tokenizer, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from eft_eval import Composite
from eft_eval.composite.encoding import TextEncoding
from eft_eval.engine.reading import frame_of
from eft_eval.errors import ConfigError

ROLES = ("base", "tuned", "reference")


def changed(kind: str, **parts: object) -> PreTrainedTokenizerFast:
    """Return a kind's tokenizer with other parts of its file."""
    source = tokenizer_of(kind)
    content = json.loads(source.backend_tokenizer.to_str())
    model = {**content["model"], **parts.pop("model", {})}  # type: ignore[dict-item]
    inner = Tokenizer.from_str(json.dumps({**content, "model": model}))
    for name, part in parts.items():
        setattr(inner, name, part)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=source.bos_token, eos_token=source.eos_token
    )


def folders(folder: Path, **tokenizers: PreTrainedTokenizerFast) -> dict[str, str]:
    """Return a family in which each member has a tokenizer of its own."""
    size = max(map(size_of, tokenizers.values()))
    return {
        role: make_model(
            folder / role, layers=1, vocabulary=size, tokenizer=one, eos=one.eos_token_id
        )
        for role, one in tokenizers.items()
    }


def with_marks(marks: Sequence[str], *, bos: str | None = None) -> PreTrainedTokenizerFast:
    """Return Qwen's kind with marks put before texts, as GLM's has them, which has no BOS."""
    inner = Tokenizer.from_str(tokenizer_of("qwen").backend_tokenizer.to_str())
    inner.add_special_tokens([*marks])
    inner.post_processor = processors.TemplateProcessing(
        single=" ".join([*marks, "$A"]),
        pair=" ".join([*marks, "$A", "$B"]),
        special_tokens=[(mark, inner.token_to_id(mark)) for mark in marks],
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=bos, eos_token="<|im_end|>")


@pytest.mark.parametrize("bos", [None, "<sop>", "<|im_start|>"])
def test_marks_that_a_template_writes_are_not_put_before_it_again(bos: str | None) -> None:
    tokenizer = with_marks(["[gMASK]", "<sop>"], bos=bos)
    encoding = TextEncoding(tokenizer)
    turn = "<|user|>\nWhy?"
    plain = tokenizer(turn, add_special_tokens=False).input_ids
    marks = tokenizer.convert_tokens_to_ids(["[gMASK]", "<sop>"])
    assert encoding.tokens("[gMASK]<sop>" + turn) == [*marks, *plain]
    assert encoding.tokens(turn) == [*marks, *plain]
    assert encoding.pair("[gMASK]<sop>" + turn, " So").context == [*marks, *plain]


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_around_texts(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    before = (tokenizer.bos_token_id,) if kind in BEGINS_WITH_BOS else ()
    assert frame_of(tokenizer) == (before, ())
    assert frame_of(with_eos_appended(kind)) == (before, (tokenizer.eos_token_id,))


def test_a_beginning_is_found_where_the_samples_have_no_token() -> None:
    vocabulary = {"<s>": 0, "</s>": 1, "C": 2, "D": 3}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=None))
    begins = [("<s>", 0), ("</s>", 1)]
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=begins)
    notes = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")
    assert TextEncoding(notes).tokens("DCD") == [0, 3, 2, 3]
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=begins
    )
    notes = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")
    assert TextEncoding(notes).tokens("DCD") == [0, 3, 2, 3]


def test_merges_left_out_by_chance_are_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "Why is the sky blue? Toni works as a carpenter in the town."
    folder = folders(tmp_path, base=changed("qwen", model={"dropout": 0.5}))["base"]
    with caplog.at_level(logging.WARNING, logger="eft_eval"):
        encoding = Composite.load({"base": folder}).encoding
    assert "leaves out merges by chance (dropout 0.5)" in caplog.text
    expected = tokenizer_of("qwen")(text).input_ids
    assert all(encoding.tokens(text) == expected for _ in range(5))


def test_other_forms_of_characters_are_another_reading(tmp_path: Path) -> None:
    other = changed("qwen", normalizer=normalizers.NFKC())
    own = tokenizer_of("qwen")
    made = folders(tmp_path, base=other, tuned=own, reference=own)
    with pytest.raises(ConfigError, match="split texts otherwise: in 'ﬁne"):
        Composite.load(made)


def test_tokens_of_one_member_alone_are_no_other_reading(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = tokenizer_of("holed")
    hole = min(set(range(size_of(own))) - set(own.get_vocab().values()))
    vocabulary = json.loads(own.backend_tokenizer.to_str())["model"]["vocab"]
    other = changed("holed", model={"vocab": {**vocabulary, "<think>": hole}})
    other.add_tokens(["<think>"])
    assert other("<think>").input_ids == [hole]
    with caplog.at_level(logging.WARNING, logger="eft_eval"):
        Composite.load(folders(tmp_path, base=own, tuned=other, reference=own))
    assert not caplog.records


def test_words_that_are_merged_otherwise_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = tokenizer_of("llama3")
    merges = json.loads(own.backend_tokenizer.to_str())["model"]["merges"]
    other = changed("llama3", model={"merges": merges[:-1]})
    whole = "".join(merges[-1]).replace("Ġ", " ")
    assert other.tokenize(whole) != own.tokenize(whole)
    with caplog.at_level(logging.WARNING, logger="eft_eval"):
        Composite.load(folders(tmp_path, base=other, tuned=own, reference=own))
    (told,) = [record.getMessage() for record in caplog.records]
    assert "1 of " in told
    assert f"tokens' own texts are read otherwise, such as {whole!r}" in told
    assert "in tuned member" in told
    assert "in base member" in told
