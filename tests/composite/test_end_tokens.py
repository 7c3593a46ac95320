"""Which tokens a composite ends with, and those with which it never could."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from tiny_models import byte_tokenizer, make_model

from eft_eval import Composite
from eft_eval.composite.model import CompositeModel
from eft_eval.errors import ConfigError

ROWS = 300  # of 259 tokens; the others are padding


def members(
    folder: Path, ends: int | list[int], extra: Sequence[str] = (), eos: bool = True
) -> dict[str, str]:
    """Return three members with padded tables; the tuned one's tokenizer may know more tokens."""
    own = byte_tokenizer(extra=tuple(extra))
    if not eos:
        own.eos_token = None
    made = {
        role: make_model(folder / role, layers=1, vocabulary=ROWS) for role in ("base", "reference")
    }
    tuned = make_model(folder / "tuned", layers=1, vocabulary=ROWS, eos=ends, tokenizer=own)
    return {**made, "tuned": tuned}


def test_what_is_no_token_ends_nothing(tmp_path: Path) -> None:
    """As generation settings of larger vocabularies leave it behind."""
    composite = CompositeModel.load(members(tmp_path, [1, 280]), device="cpu")
    assert composite.vocabulary == 259
    assert 1 in composite.stop_tokens
    assert len(Composite.load(members(tmp_path, [1, 280])).generate(["a"], max_new_tokens=2)) == 1


@pytest.mark.parametrize(
    ("ends", "extra", "text"),
    [
        (280, (), r"ends its answers with token 280, which its tokenizer does not have, so that "),
        ([1, 259], ("<|end|>",), r"token 259 \('<\|end\|>'\), which the other members do not have"),
    ],
)
def test_a_composite_that_could_not_end_is_one_line(
    tmp_path: Path, ends: int | list[int], extra: Sequence[str], text: str
) -> None:
    recipe = members(tmp_path, ends, extra, eos=False)
    with pytest.raises(ConfigError, match=text):
        CompositeModel.load(recipe, device="cpu")


def test_a_model_alone_may_end_with_any_of_its_logits(tmp_path: Path) -> None:
    alone = members(tmp_path, 280, eos=False)["tuned"]
    assert CompositeModel.load({"base": alone}, device="cpu").stop_tokens == {280}
