"""A model's first layers in float32: what rounding hides in half precision or 8 bits shows there.

Which tokens a layer sees, and at which positions, does not depend on the precision of weights, so a
cache, a mask or a state that is off by little is looked for where nothing is rounded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from eft_eval.engine.copies import shared_copy
from eft_eval.engine.passes import Passes
from eft_eval.streams import logger

__all__ = ["excerpt"]

log = logger("eft_eval")

_WORDS = 2048  # logits
_SHARE = 2  # of a model's bytes, one in so many is what an excerpt may take
_SMALL = 1 << 26  # bytes that it may take anyway
_FEWEST = 2  # layers: what the first makes of a token is seen by the second
_OF_PLACE = re.compile(r"idx|index|layer|number|training")


class _WidePasses(Passes):
    """Passes of an excerpt: its embeddings are kept as they are, all else is float32."""

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return torch.float32

    @property
    def quantized(self) -> bool:
        """Whether its weights are, so that its logits are rounded whatever their type."""
        return False


def excerpt(model: Passes) -> Passes | None:
    """Return a model's first layers, one of every kind at least, in float32.

    Weights of plain numbers are its own; others, as of 8 bits, are drawn. Of the logits there are
    some.

    Args:
        model: Of which nothing is changed.

    Returns:
        None where that would be much of the model, or cannot be run.
    """
    if any(one.is_meta for one in model.model.parameters()):
        return None
    if (found := _decoder(model)) is None:
        return None
    path, layers = found
    for count in sorted({_of_every_kind(model.text, layers), len(layers)}):
        try:
            made = _made(model, path, layers[count:])
            if made is not None and bool(made.logits([[3, 2, 1]], [3])[0].isfinite().all()):
                return made
        except Exception as error:  # noqa: BLE001  # of any model's code
            log.debug("%s: %d layers in float32: %s", model.label, count, error)
    return None


def _made(model: Passes, path: str, without: Sequence[nn.Module]) -> Passes | None:
    """Return the excerpt without some layers; None where it takes much memory."""
    made = shared_copy(model.model, without)
    holder, _, name = path.rpartition(".")
    whole: Any = made.get_submodule(path)
    layers = nn.ModuleList(list(whole)[: len(whole) - len(without)])
    setattr(made.get_submodule(holder), name, layers)
    _shorten(made.config.get_text_config(decoder=True), len(layers))
    head = made.get_output_embeddings()
    tables = [one for one in made.modules() if isinstance(one, nn.Embedding) and one is not head]
    modules = {
        path: one
        for path, one in made.named_modules()
        if one is not head and not isinstance(one, nn.Embedding)
    }
    if 4 * sum(map(_numbers, modules.values())) > max(_bytes(model.model) // _SHARE, _SMALL):
        return None
    for table in tables:
        table.register_forward_hook(_widened)
    draw = torch.Generator().manual_seed(5)
    for path, module in modules.items():
        _widen(made, path, module, model.quantized, draw)
    _set_head(made, head, draw)
    return _WidePasses(made, model.device, model.label)


def _decoder(model: Passes) -> tuple[str, Sequence[nn.Module]] | None:
    """Return where the decoder's layers are, and these; None where there are several such lists."""
    count = int(model.text.num_hidden_layers)
    found = {
        path: list(module)
        for path, module in model.model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    }
    outer = [path for path in found if not any(path.startswith(f"{other}.") for other in found)]
    return (outer[0], found[outer[0]]) if len(outer) == 1 else None


def _of_every_kind(text: Any, layers: Sequence[nn.Module]) -> int:
    """Return how many of the first layers hold one of every kind."""
    named = list(getattr(text, "layer_types", None) or ())[: len(layers)]
    named += [None] * (len(layers) - len(named))
    kinds = [(name, _kind(layer)) for name, layer in zip(named, layers, strict=True)]
    return max(max(map(kinds.index, kinds)) + 1, min(_FEWEST, len(layers)))


def _kind(layer: nn.Module) -> frozenset[tuple[str, str, str]]:
    """Return all that tells a layer's code from another's, but for its place."""
    return frozenset(
        (path, name, str(value))
        for path, module in layer.named_modules()
        for name, value in [("", type(module)), *vars(module).items()]
        if value is None or isinstance(value, (bool, int, str, type))
        if not _OF_PLACE.search(name)
    )


def _shorten(text: Any, count: int) -> None:
    text.num_hidden_layers = count
    kinds = getattr(text, "layer_types", None)
    if kinds is not None and len(kinds) > count:  # else it follows
        text.layer_types = list(kinds)[:count]


def _numbers(module: nn.Module) -> int:
    """Return how many weights of its own a module has in float32."""
    shape = _shape(module)
    if shape is not None:
        return shape[0] * shape[1]
    return sum(one.numel() for one in module.parameters(recurse=False))


def _shape(module: nn.Module) -> tuple[int, int] | None:
    """Return a linear layer's outputs and inputs; None for other modules."""
    outputs, inputs = (getattr(module, name, None) for name in ("out_features", "in_features"))
    return (outputs, inputs) if isinstance(outputs, int) and isinstance(inputs, int) else None


def _bytes(model: nn.Module) -> int:
    return sum(one.numel() * one.element_size() for one in model.parameters())


def _plain(value: object) -> TypeGuard[Tensor]:
    return (
        isinstance(value, Tensor)
        and type(value) in (Tensor, nn.Parameter)
        and value.is_floating_point()
    )


def _widened(_: object, inputs: object, output: Tensor) -> Tensor:
    return output.float()


def _widen(
    model: nn.Module, path: str, module: nn.Module, quantized: bool, draw: torch.Generator
) -> None:
    """Let a module hold float32; a quantised model's linear layers are made anew."""
    shape = _shape(module)
    if quantized and shape is not None:
        if _within_linear(model, path):
            return
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, _linear(module, shape, draw))
        return
    holders: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
    for values in holders:
        for name, value in values.items():
            if value is None or value.dtype in (torch.float32, torch.float64):
                continue
            if value.is_floating_point():
                if not _plain(value):
                    raise TypeError(f"{path}.{name} is a {type(value).__name__}")
                wide = value.detach().float()
                weight = values is module._parameters
                values[name] = nn.Parameter(wide, requires_grad=False) if weight else wide
            elif values is module._parameters:
                raise TypeError(f"{path}.{name} holds {value.dtype}")


def _within_linear(model: nn.Module, path: str) -> bool:
    """Whether a module is part of a linear layer that has been made anew."""
    parents = [path.rsplit(".", n)[0] for n in range(1, path.count(".") + 1)]
    for parent in parents:
        try:
            if type(model.get_submodule(parent)) is nn.Linear:
                return True
        except AttributeError:
            return True
    return False


def _linear(module: Any, shape: tuple[int, int], draw: torch.Generator, step: int = 1) -> nn.Linear:
    """Return a plain linear layer, every ``step``-th output of a module's; drawn if not plain."""
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    if _plain(weight) and tuple(weight.shape) == shape:
        weight = weight.detach()[::step].float()
    else:
        device = next((one.device for one in (*module.parameters(), *module.buffers())), "cpu")
        rows = len(range(0, shape[0], step))
        weight = torch.randn(rows, shape[1], generator=draw).to(device) * shape[1] ** -0.5
    made = nn.Linear(shape[1], len(weight), bias=_plain(bias), device="meta")
    made.weight = nn.Parameter(weight, requires_grad=False)
    if _plain(bias):
        made.bias = nn.Parameter(bias.detach()[::step].float(), requires_grad=False)
    return made


def _set_head(model: Any, head: Any, draw: torch.Generator) -> None:
    """Give a model an output layer of some of its logits."""
    if (shape := _shape(head)) is None:
        raise TypeError(f"its output layer is a {type(head).__name__}")
    model.set_output_embeddings(_linear(head, shape, draw, max(1, shape[0] // _WORDS)))
