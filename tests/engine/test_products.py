"""Linear layers of few rows against float64, and what they leave alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from eft_eval.engine.products import quicken


@pytest.mark.parametrize(
    ("size", "columns"), [(24, 40), (24, 8192), (24, 9001), (700, 150), (2050, 128), (3100, 70)]
)
@pytest.mark.parametrize("bias", [True, False])
def test_products_are_those_of_the_layer(size: int, columns: int, bias: bool) -> None:
    model = nn.Sequential(nn.Linear(size, columns, bias=bias))
    plain = copy.deepcopy(model).double()
    quicken(model)
    for shape in ((1, 1), (1, 2), (3, 1), (2, 2), (5, 1), (8, 1), (3, 21), (1, 80), (0, 4)):
        hidden = torch.randn(*shape, size)
        with torch.inference_mode():
            found = model(hidden)
            assert found.is_contiguous()
            torch.testing.assert_close(found.double(), plain(hidden.double()), atol=1e-5, rtol=1e-5)


def test_training_and_other_types_have_the_layers_own_way() -> None:
    model = nn.Sequential(nn.Linear(8, 8192))
    quicken(model)
    model(torch.randn(2, 8)).sum().backward()
    assert model[0].weight.grad is not None
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(torch.randn(2, 8)).dtype == torch.bfloat16
    with torch.inference_mode():
        assert model.to(torch.bfloat16)(torch.randn(4, 8).bfloat16()).dtype == torch.bfloat16


def test_a_copy_has_weights_of_its_own() -> None:
    model = nn.Sequential(nn.Linear(8, 6))
    quicken(model)
    quicken(model)  # again changes nothing
    other = copy.deepcopy(model)
    with torch.inference_mode():
        other[0].weight.zero_()
        other[0].bias.zero_()
        assert not other(torch.randn(2, 8)).any()
        assert model(torch.randn(2, 8)).any()


def test_another_library_may_wrap_a_layer_later() -> None:
    """As compressed-tensors does: around the function of a method."""
    model = nn.Sequential(nn.Linear(8, 6))
    quicken(model)
    layer, inner = model[0], model[0].forward.__func__

    def twice(self: nn.Linear, hidden: torch.Tensor) -> torch.Tensor:
        return 2 * inner.__get__(self, type(self))(hidden)

    hidden = torch.randn(2, 8)
    with torch.inference_mode():
        expected = 2 * functional.linear(hidden, layer.weight, layer.bias)
        layer.forward = twice.__get__(layer, nn.Linear)
        torch.testing.assert_close(model(hidden), expected)


def test_weights_that_another_library_packs_are_left_alone() -> None:
    asked = []

    class Packed(torch.Tensor):
        @classmethod
        def __torch_function__(
            cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            asked.append(func)
            return super().__torch_function__(func, types, args, kwargs)

    model = nn.Sequential(nn.Linear(16, 8192))
    model[0].weight = nn.Parameter(model[0].weight.detach().as_subclass(Packed))
    quicken(model)
    with torch.inference_mode():
        for rows in (1, 2, 8):
            asked.clear()
            model(torch.randn(rows, 16))
            assert functional.linear in asked
            assert not {torch.mm, torch.bmm} & set(asked)


def test_layers_that_another_library_runs_are_left_alone() -> None:
    class Own(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(4, 4), Own(4, 4))
    hook = model[0].forward
    model[0].forward = hook
    quicken(model)
    assert model[0].forward is hook
    assert "forward" not in model[1].__dict__
