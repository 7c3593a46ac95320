"""The one parser of recipes: model_args, YAML and dict end in the same closed model."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from eft_eval.errors import ConfigError, nearest
from eft_eval.files import user_path
from eft_eval.recipe.adapters import with_bases
from eft_eval.recipe.catalog import RECIPES
from eft_eval.recipe.model import DecodingRule, Delta, MemberSpec, Recipe
from eft_eval.recipe.prompt_files import with_prompt_files
from eft_eval.secrets import without_secrets

DEFAULT_RECIPE = "qwen2.5-1.5b-up"

_DECODING_KEYS = tuple(DecodingRule.model_fields)
_EVERY_MEMBER_KEYS = ("dtype", "head_dtype", "quantization", "placement")
_ROLES = ("base", "tuned", "reference")
_MEMBER_KEYS = tuple(MemberSpec.model_fields)
RECIPE_KEYS = (
    "model", *_ROLES, "weight", "deltas", "decoding", "tokenizer_map", "description",
    *_DECODING_KEYS, *_EVERY_MEMBER_KEYS,
)  # fmt: skip
RUNTIME_KEYS = (
    "device", "batch_size", "max_batch_size", "max_length", "truncation", "logits_cache",
    "softmax_dtype", "mixed_precision_dtype", "trust_remote_code", "use_fast_tokenizer",
    "add_bos_token", "prefix_token_id", "parallelize", "think_end_token", "enable_thinking",
    "chat_template_args", "resume",
)  # fmt: skip
_FLAGS = (
    "truncation", "logits_cache", "trust_remote_code", "use_fast_tokenizer", "add_bos_token",
    "parallelize", "enable_thinking",
)  # fmt: skip
_WORDS = {"true": True, "yes": True, "on": True, "1": True} | {
    "false": False, "no": False, "off": False, "0": False, "none": None,
}  # fmt: skip
_SHOWN = 120  # characters of a wrong value
_PROBLEMS = 5  # that are told
_NUMBERED_WEIGHT = re.compile(r"weight([1-9]\d?)")  # of one of several deltas
_BETWEEN = re.compile(r",(?![^{]*\})")  # commas, but for those within JSON
_REFUSED = {
    "pretrained": "write base=... (and tuned=, reference=)",
    "peft": "name the adapter itself as member (tuned=ADAPTER), or write tuned.adapter=ADAPTER",
    "delta": "apply the delta weights first and name the resulting folder",
    "autogptq": "name a quantised checkpoint as member, or set quantization=8bit or 4bit",
    "gptqmodel": "name a quantised checkpoint as member, or set quantization=8bit or 4bit",
    "gguf_file": "name the file as member (base=PATH/model.gguf), or write base.gguf_file=FILE",
    "tokenizer": "the tuned member's own tokenizer is used",
    "tp_plan": "use placement=auto",
    "backend": "every member is a causal language model",
    "device_map": "use placement=auto, or base.placement=cuda:0 and the like",
    "max_memory_per_gpu": "use base.placement=cuda:0 and the like",
    "load_in_8bit": "write quantization=8bit",
    "load_in_4bit": "write quantization=4bit",
    "revision": "write base.revision=, tuned.revision=, reference.revision=",
    "attn_implementation": "every member takes the attention that transformers chooses for it",
    "subfolder": "name the subfolder as member (base=FOLDER/SUBFOLDER); of a hub id, download it",
    "seed": "it is an option of the command: --seed N",
    "num_fewshot": "it is an option of the command: --num_fewshot N",
    "limit": "it is an option of the command: --limit N",
    "adapter": "say whose: tuned.adapter=ADAPTER",
    "prompt": "say whose: base.prompt=plain, reference.prompt=FILE.jinja",
    **dict.fromkeys(
        ("temperature", "top_p", "top_k", "min_p", "do_sample", "until", "max_gen_toks",
         "max_new_tokens", "max_tokens", "repetition_penalty"),
        "generation settings are the task's, or --gen_kwargs KEY=VALUE",
    ),
}  # fmt: skip


class ModelArgs(NamedTuple):
    """``model_args`` split in two: what the composite is, and how this process runs it."""

    recipe: Recipe
    runtime: dict[str, Any]


def parse_model_args(
    args: str | Mapping[str, Any] | None, env: Mapping[str, str] = os.environ
) -> ModelArgs:
    """Parse lm-eval's ``model_args`` (text or mapping).

    Without any recipe key the recipe is the one that ``EFT_RECIPE`` names, else Qwen2.5-0.5B
    fine-tuning up-scaled to the 1.5B base.

    Raises:
        ConfigError: A key is unknown, a value is wrong or a named recipe does not exist.
    """
    values = _split_text(args) if isinstance(args, str) else dict(args or {})
    runtime = {key: values.pop(key) for key in list(values) if key in RUNTIME_KEYS}
    runtime = with_flags(runtime)
    if runtime.pop("parallelize", False):
        values.setdefault("placement", "auto")
    return ModelArgs(parse_recipe(values, env), runtime)


def parse_command_recipe(text: str, takes: Sequence[str] = ()) -> ModelArgs:
    """Parse what a command is given as recipe: a name, a YAML file, or ``key=value`` pairs.

    Args:
        text: What was given.
        takes: Run-time arguments that the command heeds.

    Raises:
        ConfigError: As `parse_model_args`, or another run-time argument is among them.
    """
    parsed = parse_model_args(text if "=" in text else f"model={text}")
    if (wrong := next((key for key in parsed.runtime if key not in takes), None)) is not None:
        also = f"; beside the recipe it takes {', '.join(takes)}" if takes else ""
        raise ConfigError(
            f"recipe: {wrong!r} is for runs of lm_eval (--model_args) and does nothing here: leave "
            f"it out{also}"
        )
    return parsed


def with_flags(runtime: Mapping[str, Any]) -> dict[str, Any]:
    """Return run-time arguments whose flags are true, false or None.

    Raises:
        ConfigError: One is something else; what is not understood would count as true.
    """
    found = dict(runtime)
    for key in _FLAGS:
        given = found.get(key)
        if given is not None:
            word = str(given).strip().lower()
            if word not in _WORDS:
                raise ConfigError(f"model_args: {key}: got {given!r}, expected true or false")
            found[key] = _WORDS[word]
    return found


def split_recipe(args: str | Mapping[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return ``model_args`` in two parts: what speaks of the recipe, and all else, unchecked."""
    values = _split_text(args) if isinstance(args, str) else dict(args or {})
    recipe = {key: value for key, value in values.items() if _of_recipe(str(key))}
    return recipe, {key: value for key, value in values.items() if key not in recipe}


def _of_recipe(key: str) -> bool:
    head, _, tail = key.partition(".")
    return (
        key in RECIPE_KEYS
        or key in _REFUSED
        or bool(tail and head in _ROLES)
        or _NUMBERED_WEIGHT.fullmatch(key) is not None
    )


def parse_recipe(
    source: str | Path | Mapping[str, Any] | Recipe, env: Mapping[str, str] = os.environ
) -> Recipe:
    """Return the recipe that ``source`` describes.

    Args:
        source: A recipe's name, the path of a YAML file, a mapping of recipe keys (flat, as in
            ``model_args``, or nested, as in YAML), or a recipe. A member's ``prompt`` may name a
            template file, ``@FILE`` or ``FILE.jinja``: relative to the YAML file, else to the
            working directory.
        env: Where ``EFT_RECIPE`` is looked up.

    Raises:
        ConfigError: With one line that says what was given, what is expected and where.
    """
    if isinstance(source, Recipe):
        return source
    if isinstance(source, (str, Path)):
        source = {"model": str(source)}
    if not isinstance(source, Mapping):
        raise ConfigError(
            f"recipe: got {repr(source)[:_SHOWN]}, expected a recipe's name, the path of a YAML "
            "file, a mapping or a Recipe"
        )
    values = with_prompt_files(dict(source), Path(), "model_args")
    _check_keys(values)
    if not {"model", "base", "tuned", "reference", "deltas"} & values.keys():
        values["model"] = env.get("EFT_RECIPE") or DEFAULT_RECIPE
    name = values.pop("model", None)
    data, where = _named(str(name)) if name is not None else ({}, "model_args")
    return with_bases(_validate(_with_delta(_merge(data, values)), where))


def weighted(source: str | Path | Mapping[str, Any] | Recipe, weight: float) -> Recipe:
    """Return the recipe that ``source`` describes, with another weight of its one delta.

    Raises:
        ConfigError: It has several deltas, is no recipe, or the weight is no finite number.
    """
    if isinstance(source, Recipe):
        source = source.model_dump(mode="json", exclude_unset=True)
    values = {"model": str(source)} if isinstance(source, (str, Path)) else dict(source)
    return parse_recipe({**values, "weight": weight})


def parse_member(values: Mapping[str, Any], where: str) -> MemberSpec:
    """Return one model by itself.

    Args:
        values: Its keys, as `MemberSpec` has them.
        where: What they are, for the error.

    Raises:
        ConfigError: A value is wrong.
    """
    try:
        return MemberSpec.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(
            f"{where}: {'; '.join(_problem(dict(item)) for item in error.errors())}"
        ) from error


def _split_text(text: str) -> dict[str, Any]:
    """Split ``a=1,b=x`` as lm-eval does; values stay text, the closed model converts them."""
    pairs = [pair for pair in _BETWEEN.split(text.strip()) if pair.strip()]
    if wrong := [pair for pair in pairs if "=" not in pair]:
        raise ConfigError(f"model_args: {without_secrets(wrong[0])!r} is no key=value pair")
    values: dict[str, Any] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        value = value.strip()
        values[key.strip()] = {"true": True, "false": False, "none": None}.get(value.lower(), value)
    return values


def _check_keys(values: Mapping[str, Any]) -> None:
    for key in values:
        head, _, tail = str(key).partition(".")
        if key in _REFUSED:
            raise ConfigError(f"model_args: {key!r} cannot be used with eft: {_REFUSED[key]}")
        if tail and head in _ROLES:
            if tail not in _MEMBER_KEYS:
                raise ConfigError(
                    f"model_args: unknown key {key!r}{nearest(tail, _MEMBER_KEYS)}; "
                    f"a member has {', '.join(_MEMBER_KEYS)}"
                )
        elif key not in RECIPE_KEYS and not _NUMBERED_WEIGHT.fullmatch(str(key)):
            known = (*RECIPE_KEYS, *RUNTIME_KEYS)
            raise ConfigError(
                f"model_args: unknown key {key!r}{nearest(str(key), known)}; "
                f"known keys: {', '.join(known)}"
            )


def _named(name: str) -> tuple[dict[str, Any], str]:
    """Read the recipe called ``name``, or the YAML file of that path."""
    data, where, _ = RECIPES.read(name)
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: expected a mapping with base and deltas")
    return with_prompt_files(data, user_path(name).parent, where), where


def _merge(data: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the flat keys of ``values`` over the nested ``data``."""
    merged: dict[str, Any] = copy.deepcopy(dict(data))
    for key in ("deltas", "decoding", "tokenizer_map", "description"):
        if key in values:
            merged[key] = copy.deepcopy(values[key])
    if (decoding := {key: values[key] for key in _DECODING_KEYS if key in values}) and isinstance(
        merged.setdefault("decoding", {}), dict
    ):
        merged["decoding"] |= decoding
    single = _single_delta(merged, values)
    for role in _ROLES:
        holder = merged if role == "base" else single
        if role in values:
            holder[role] = _as_mapping(values[role])
        for key in _MEMBER_KEYS:
            if f"{role}.{key}" in values:
                holder[role] = _as_mapping(holder.get(role)) | {key: values[f"{role}.{key}"]}
    if "weight" in values:
        single["weight"] = values["weight"]
    _set_numbered_weights(merged, values)
    for key in _EVERY_MEMBER_KEYS:
        if key in values:
            _set_everywhere(merged, key, values[key])
    return merged


def _with_delta(data: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe's data; a base alone is that model, with a delta that adds nothing."""
    if data.get("base") is None or data.get("deltas") is not None:
        return data
    base = data["base"]
    return {**data, "deltas": [{"tuned": base, "reference": base, "weight": 0.0}]}


def _single_delta(merged: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the one delta that ``tuned=``, ``reference=`` and ``weight=`` speak of."""
    touched = [k for k in values if k == "weight" or k.split(".")[0] in ("tuned", "reference")]
    deltas = merged.get("deltas")
    if not touched:
        return {}
    if deltas is None:
        deltas = merged["deltas"] = [{}]
    if not isinstance(deltas, list) or len(deltas) != 1 or not isinstance(deltas[0], dict):
        raise ConfigError(
            f"model_args: {touched[0]!r} speaks of one delta, but this recipe has "
            f"{len(deltas) if isinstance(deltas, list) else 'no list of'} deltas: "
            "set weight1=, weight2=, ..., or write a YAML file and name it with model=FILE.yaml"
        )
    single: dict[str, Any] = deltas[0]
    return single


def _set_numbered_weights(merged: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Set ``weight1=``, ``weight2=``, … of a recipe with several deltas."""
    deltas = merged.get("deltas")
    for key in values:
        if match := _NUMBERED_WEIGHT.fullmatch(str(key)):
            number = int(match[1])
            if "weight" in values:
                raise ConfigError(f"model_args: give 'weight' or {key!r}, not both")
            if not isinstance(deltas, list) or not number <= len(deltas):
                raise ConfigError(
                    f"model_args: {key!r} is the weight of delta {number}, but this recipe has "
                    f"{len(deltas) if isinstance(deltas, list) else 'no list of'} deltas"
                )
            if isinstance(delta := deltas[number - 1], dict):  # else the closed model complains
                delta["weight"] = values[key]


def _as_mapping(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    return dict(value) if isinstance(value, Mapping) else {"model": value}


def _set_everywhere(merged: dict[str, Any], key: str, value: Any) -> None:
    holders = [(merged, "base")]
    for delta in merged.get("deltas") or []:
        if isinstance(delta, dict):
            holders += [(delta, "tuned"), (delta, "reference")]
    for holder, role in holders:
        if role in holder:
            holder[role] = _as_mapping(holder[role]) | {key: value}


def _validate(data: dict[str, Any], where: str) -> Recipe:
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        found = error.errors()
        above = {item["loc"][:depth] for item in found for depth in range(len(item["loc"]))}
        # not also that a list without its wrong member is too short
        found = [item for item in found if item["loc"] not in above]
        problems = [_problem(dict(item)) for item in found[:_PROBLEMS]]
        if len(found) > _PROBLEMS:
            problems.append(f"and {len(found) - _PROBLEMS:,} more of the kind")
        raise ConfigError(f"{where}: {'; '.join(problems)}") from error


_LEVELS = {
    "a recipe": tuple(Recipe.model_fields),
    "a delta (deltas: [{tuned: …, reference: …}])": tuple(Delta.model_fields),
    "decoding": _DECODING_KEYS,
    "a member": _MEMBER_KEYS,
}


def _where_else(location: Sequence[str | int]) -> str:
    """Return what was meant by an unknown key: one of its place, or where it belongs instead."""
    *above, key = location
    here = 0 if not above else 1 if isinstance(above[-1], int) else 2
    if above and above[-1] in _ROLES:
        here = 3
    places = [*_LEVELS]
    if homes := [place for place in places if key in _LEVELS[place]]:
        return f": it belongs to {' or '.join(homes)}, not to {places[here].partition(' (')[0]}"
    keys = _LEVELS[places[here]]
    return f"{nearest(str(key), keys)}; {places[here].partition(' (')[0]} has {', '.join(keys)}"


def _problem(item: dict[str, Any]) -> str:
    """Put one pydantic error into words: where, what was given, what is expected."""
    location = ".".join(str(part) for part in item["loc"]) or "recipe"
    for noise in (".int", ".literal['auto']", ".constrained-int"):
        location = location.removesuffix(noise)
    if item["type"] == "extra_forbidden":
        return f"unknown key {location!r}{_where_else(item['loc'])}"
    if item["type"] == "missing":
        return f"{location!r} is missing"
    message = str(item["msg"]).removeprefix("Value error, ")
    if not item["loc"]:
        return message
    given = repr(without_secrets(item["input"]))
    if len(given) > _SHOWN:
        given = given[:_SHOWN] + "…"
    return f"{location}: got {given}: {message[0].lower()}{message[1:]}"
