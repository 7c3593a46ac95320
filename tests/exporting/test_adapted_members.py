"""What is claimed of a member that is an adapter on a model."""

from __future__ import annotations

import pytest

from eft_eval.exporting.models import composite_of
from eft_eval.recipe import canonical_name, parse_recipe

MEMBER = {
    "model": "org/small",
    "source": "org/small",
    "coefficient": 1.0,
    "loaded_dtype": "float32",
}


@pytest.mark.parametrize(
    ("adapter", "source", "name", "pin"),
    [
        ("sha256:abc", "/home/me/lora", "lora", "sha256:abc"),
        ("me/lora", "me/lora", "me/lora", "me/lora"),
    ],
)
def test_an_adapter_is_named_without_its_place(
    adapter: str, source: str, name: str, pin: str
) -> None:
    recipe = parse_recipe(
        {
            "base": "org/large",
            "tuned": "org/small",
            "reference": "org/small",
            "tuned.adapter": source,
        }
    )
    config = {
        "model": "eft",
        "eft_name": canonical_name(recipe),
        "eft_recipe": recipe.model_dump(mode="json", exclude_none=True),
        "eft_members": {
            "base": {**MEMBER, "model": "org/large", "source": "org/large"},
            "tuned": {**MEMBER, "adapter": adapter, "adapter_source": source},
            "reference": {**MEMBER, "coefficient": -1.0},
        },
    }
    found = composite_of(config, "results.json")
    assert found is not None
    tuned = next(one for one in found.members if one.role == "tuned")
    assert (tuned.model, tuned.adapter, tuned.label) == ("org/small", name, f"org/small + {pin}")
    assert f"adapter: {name}\n" in found.recipe
    assert "/home/me" not in found.recipe
