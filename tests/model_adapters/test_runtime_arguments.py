"""Run-time arguments of model_args: what is right is taken, what is wrong is one line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from tiny_models import make_model

from eft_eval.errors import ConfigError
from eft_eval.model_adapters.eft import EFTLM
from eft_eval.model_adapters.settings import batch_attributes, pick_device, text_attributes
from eft_eval.recipe import parse_model_args, parse_recipe


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
        (text_attributes, "prefix_token_id", -1),
        (text_attributes, "max_length", 0),
        (text_attributes, "max_length", 8.5),
        (text_attributes, "max_length", True),
        *((batch_attributes, "batch_size", size) for size in (0, "-2", 2.5, "auto:0", "auto:-1")),
        *((batch_attributes, "max_batch_size", size) for size in (0, -1, math.inf)),
        *(
            (lambda given: pick_device(given["device"]), "device", name)
            for name in ("tpu", "", "CPU", "meta", 0, "cpu:x")
        ),
    ],
)
def test_what_is_wrong_is_one_line(read: Any, name: str, given: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: got .*expected") as caught:
        read({name: given})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("no", False), (0, False), ("Off", False), (True, True), ("yes", True), (1, True)],
)
@pytest.mark.parametrize("flag", ["trust_remote_code", "truncation", "add_bos_token"])
def test_flags_are_what_they_say(flag: str, given: Any, expected: bool) -> None:
    assert parse_model_args({"base": "x", flag: given}).runtime[flag] is expected
    assert parse_model_args(f"base=x,{flag}={given}").runtime[flag] is expected
    for wrong in ("maybe", 2, ["true"]):
        with pytest.raises(ConfigError, match=f"{flag}: got .*, expected true or false"):
            parse_model_args({"base": "x", flag: wrong})


def test_a_whole_number_may_be_text() -> None:
    assert text_attributes({"max_length": "64", "prefix_token_id": 0}) == text_attributes(
        {"max_length": 64.0, "prefix_token_id": "0"}
    )
    assert batch_attributes({"batch_size": "auto:2.5"})["batch_schedule"] == 2.5
    assert batch_attributes({})["batch_size_per_gpu"] == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without CUDA")
def test_a_device_that_is_not_here_is_one_line(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    with pytest.raises(ConfigError, match=r"base member .*: placement: got 'cuda:0', but this"):
        EFTLM(base=folder, placement="cuda:0")
    assert parse_recipe({"base": folder, "placement": "cuda:0"}).base.placement == "cuda:0"


def test_a_search_at_more_places_than_requests(tmp_path: Path) -> None:
    model = EFTLM(base=make_model(tmp_path / "model"), batch_size="auto:8", max_batch_size=4)
    requests = [Instance("loglikelihood", {}, ("One", word), 0) for word in (" two", " three")]
    found = model.loglikelihood(requests, disable_tqdm=True)
    plain = EFTLM(base=model.composite.recipe.base.model, batch_size=1)
    expected = plain.loglikelihood(requests, disable_tqdm=True)
    assert [one[0] for one in found] == pytest.approx([one[0] for one in expected])


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"tokenize": True}, "chat_template_args: 'tokenize' is set by lm-eval"),
        ({"add_generation_prompt": False}, "'add_generation_prompt' is set by lm-eval"),
        ({"chat_template": "X"}, "name one .* with --apply_chat_template NAME"),
    ],
)
def test_what_is_no_variable_of_a_template_is_refused(given: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        text_attributes({"chat_template_args": given})


def test_an_id_is_in_digits_and_all_else_a_text() -> None:
    assert text_attributes({"think_end_token": "128"})["think_end_token"] == 128
    assert text_attributes({"think_end_token": "²"})["think_end_token"] == "²"
