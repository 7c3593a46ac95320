"""Run-time arguments of model_args: what is right is taken, what is wrong is one line."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from eft_eval.errors import ConfigError
from eft_eval.model_adapters.settings import batch_attributes, text_attributes


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, None), ("bf16", torch.bfloat16), ("torch.float64", torch.float64)],
)
def test_types(given: Any, expected: torch.dtype | None) -> None:
    found = batch_attributes({"softmax_dtype": given, "mixed_precision_dtype": given})
    assert (found["softmax_dtype"], found["mixed_precision_dtype"]) == (expected, expected)


@pytest.mark.parametrize(
    "given",
    ['{"enable_thinking": false, "style": "a,b"}', {"enable_thinking": False, "style": "a,b"}],
)
def test_template_arguments_as_text_or_mapping(given: Any) -> None:
    found = text_attributes({"chat_template_args": given})
    assert found["chat_template_args"] == {"enable_thinking": False, "style": "a,b"}


@pytest.mark.parametrize(
    ("read", "name", "given"),
    [
        (batch_attributes, "softmax_dtype", "foo"),
        (batch_attributes, "softmax_dtype", "auto"),
        (batch_attributes, "softmax_dtype", 3),
        (batch_attributes, "mixed_precision_dtype", "int"),
        (batch_attributes, "max_batch_size", "many"),
        (batch_attributes, "batch_size", "many"),
        (text_attributes, "chat_template_args", "{'a': 1}"),
        (text_attributes, "chat_template_args", "[1]"),
        (text_attributes, "chat_template_args", "yes"),
        (text_attributes, "max_length", "long"),
        (text_attributes, "prefix_token_id", "<s>"),
    ],
)
def test_what_is_wrong_is_one_line(read: Any, name: str, given: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: got .*expected") as caught:
        read({name: given})
    assert "\n" not in str(caught.value)
