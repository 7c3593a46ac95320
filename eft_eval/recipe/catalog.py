"""The named recipes that ship with the package, and what they need."""

from __future__ import annotations

from typing import NamedTuple

from eft_eval.recipe.model import MemberSpec, Recipe
from eft_eval.yaml_text import NamedYaml

RECIPES = NamedYaml(
    "recipe",
    "eft_eval.model_adapters",
    "recipes",
    "`eft-eval recipes` lists them, a path must end in .yaml, and single models are named with "
    "base=, tuned=, reference=",
)
"""The shipped recipes."""
_BYTES_PER_WEIGHT = {"float64": 8.0, "float32": 4.0, "bfloat16": 2.0, "float16": 2.0}
# bitsandbytes keeps embeddings, norms and scales at higher precision: measured overhead is
# small against the weights, so these are lower bounds, as the table says.
_BYTES_QUANTIZED = {"8bit": 1.0, "4bit": 0.5}


class Needs(NamedTuple):
    """What a composite's weights need.

    Attributes:
        parameters: Parameters over all distinct members; None where a member's is unknown.
        weight_bytes: Memory of the weights alone, in bytes (caches and activations come on
            top); None where a member's parameters or type are unknown.
    """

    parameters: int | None
    weight_bytes: int | None


def named_recipe_names() -> tuple[str, ...]:
    """Return the names of the shipped recipes, sorted."""
    return RECIPES.names()


def named_recipe_text(name: str) -> str:
    """Return the YAML text of the shipped recipe ``name``."""
    return RECIPES.text(name)


def bytes_per_weight(spec: MemberSpec, dtype: object) -> float:
    """Return the bytes of one weight; ``dtype`` (torch's) counts where nothing is quantised."""
    if spec.quantization is not None:
        return _BYTES_QUANTIZED[spec.quantization]
    return _BYTES_PER_WEIGHT.get(str(dtype).removeprefix("torch."), 4.0)


def weight_bytes(spec: MemberSpec) -> int | None:
    """Return the bytes that a member's weights take, or None where that is unknown."""
    if spec.parameters is None:
        return None
    if spec.quantization is not None:
        return int(spec.parameters * _BYTES_QUANTIZED[spec.quantization])
    width = _BYTES_PER_WEIGHT.get(spec.dtype)
    return None if width is None else int(spec.parameters * width)


def needs(recipe: Recipe) -> Needs:
    """Return parameters and weight memory of ``recipe``, each distinct member counted once."""
    distinct = {
        (m.model, m.gguf_file, m.revision, m.dtype, m.quantization, m.placement): m
        for _, m in recipe.members
    }.values()
    parameters = [member.parameters for member in distinct]
    sizes = [weight_bytes(member) for member in distinct]
    return Needs(
        parameters=None if None in parameters else sum(p for p in parameters if p is not None),
        weight_bytes=None if None in sizes else sum(s for s in sizes if s is not None),
    )
