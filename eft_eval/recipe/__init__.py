"""Recipes: what a composite is, parsed from a command line, a YAML file or a dict."""

from eft_eval.recipe.catalog import (
    Needs,
    bytes_per_weight,
    named_recipe_names,
    needs,
    weight_bytes,
)
from eft_eval.recipe.model import PLAIN_PROMPT, DecodingRule, Delta, MemberSpec, Recipe
from eft_eval.recipe.naming import canonical_name, identity
from eft_eval.recipe.parse import (
    DEFAULT_RECIPE,
    ModelArgs,
    parse_command_recipe,
    parse_member,
    parse_model_args,
    parse_recipe,
    split_recipe,
    with_flags,
)

__all__ = [
    "DEFAULT_RECIPE",
    "PLAIN_PROMPT",
    "DecodingRule",
    "Delta",
    "MemberSpec",
    "ModelArgs",
    "Needs",
    "Recipe",
    "bytes_per_weight",
    "canonical_name",
    "identity",
    "named_recipe_names",
    "needs",
    "parse_command_recipe",
    "parse_member",
    "parse_model_args",
    "parse_recipe",
    "split_recipe",
    "weight_bytes",
    "with_flags",
]
