"""Members that are adapters: which model they are applied to.

Reads no weights. An adapter (PEFT's LoRA and its kind) is a folder with ``adapter_config.json``; as
the tuned member it is applied to the model that this file names, which mostly is the reference.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

from eft_eval.errors import ConfigError
from eft_eval.files import read_text, user_path
from eft_eval.recipe.locations import location_of, may_be_id
from eft_eval.recipe.model import MemberSpec, Recipe
from eft_eval.recipe.naming import folder_digest

__all__ = [
    "ADAPTER_CONFIG",
    "AdapterFolder",
    "AdapterReader",
    "is_base_of",
    "local_adapter",
    "with_bases",
]

ADAPTER_CONFIG = "adapter_config.json"
_FULL_WEIGHTS = ("model*.safetensors*", "pytorch_model*.bin*")
_LOADING = ("dtype", "head_dtype", "quantization", "placement")  # how weights are loaded


class AdapterFolder(NamedTuple):
    """What an adapter says of itself.

    Attributes:
        base: The model that it was trained on, as its author called it; None where it does not say.
        base_revision: That model's revision, where it says one.
        kind: PEFT's name of its kind, such as LORA.
        beside_weights: Whether the weights of a whole model lie in the same place.
    """

    base: str | None
    base_revision: str | None
    kind: str
    beside_weights: bool

    @classmethod
    def of(cls, text: str, where: str, beside_weights: bool) -> AdapterFolder:
        """Return it from the text of ``adapter_config.json``."""
        try:
            config = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{where}: {ADAPTER_CONFIG} is no JSON: {error}") from error
        if not isinstance(config, dict):
            raise ConfigError(f"{where}: {ADAPTER_CONFIG} holds no mapping")
        base, revision = config.get("base_model_name_or_path"), config.get("revision")
        return cls(
            str(base) if base else None,
            str(revision) if revision else None,
            str(config.get("peft_type") or "unknown"),
            beside_weights,
        )


AdapterReader = Callable[[str, str | None], AdapterFolder | None]


def local_adapter(model: str, revision: str | None = None) -> AdapterFolder | None:
    """Return what the local folder ``model`` says as an adapter; None if it is none."""
    folder = user_path(location_of(model))
    file = folder / ADAPTER_CONFIG
    if not file.is_file():
        return None
    beside = any(any(folder.glob(pattern)) for pattern in _FULL_WEIGHTS)
    return AdapterFolder.of(read_text(file, f"adapter {model}"), f"adapter {model}", beside)


def with_bases(recipe: Recipe, read: AdapterReader = local_adapter) -> Recipe:
    """Return the recipe with every adapter beside the model that it is applied to.

    ``tuned: ADAPTER`` becomes ``tuned: {model: BASE, adapter: ADAPTER}``. BASE is the model that
    the adapter names: another member's, loaded as that member is, where it is the same; what is
    not here any more, or not said, is the reference.

    Args:
        recipe: As it was written.
        read: Looks at a name and its revision.

    Raises:
        ConfigError: A whole model's weights lie beside the adapter, or it does not tell its base.
    """
    found = {role: _adapter(role, spec, read) for role, spec in recipe.members}
    if not any(found.values()):
        return recipe
    whole = {role: spec for role, spec in recipe.members if found[role] is None}

    def based(role: str, spec: MemberSpec, first: str | None) -> MemberSpec:
        adapter = found[role]
        if adapter is None:
            return spec
        order = [whole[first]] if first in whole else []
        return _based(role, spec, adapter, [*order, *whole.values()], first in whole)

    deltas = []
    for number, delta in enumerate(recipe.deltas, start=1):
        suffix = str(number) if len(recipe.deltas) > 1 else ""
        tuned = based("tuned" + suffix, delta.tuned, "reference" + suffix)
        reference = based("reference" + suffix, delta.reference, None)
        deltas.append(delta.model_copy(update={"tuned": tuned, "reference": reference}))
    base = based("base", recipe.base, None)
    return recipe.model_copy(update={"base": base, "deltas": tuple(deltas)})


def is_base_of(adapter: AdapterFolder, spec: MemberSpec) -> bool:
    """Whether a member is the model that an adapter names, by name or by a folder's content."""
    if adapter.base is None:
        return False
    local = user_path(spec.location).is_dir()
    if adapter.base in (spec.model, spec.location):
        if adapter.base_revision is None or local:
            return True
        return adapter.base_revision == (spec.revision or "main")
    named, folder = user_path(adapter.base), user_path(spec.location)
    if not (named.is_dir() and local):
        return False
    first, second = str(named.resolve()), str(folder.resolve())
    return first == second or folder_digest(first) == folder_digest(second)


def _adapter(role: str, spec: MemberSpec, read: AdapterReader) -> AdapterFolder | None:
    """Return the adapter that a member's ``model`` is, None for a whole model."""
    found = None if spec.gguf_file else read(spec.model, spec.revision)
    if found is None:
        return None
    if found.beside_weights:
        raise ConfigError(
            f"{role} member {spec.model!r} holds an adapter ({ADAPTER_CONFIG}) beside the weights "
            "of a whole model: keep one of them there, and move the other to a folder of its own"
        )
    if spec.adapter is not None:
        raise ConfigError(
            f"{role}: {spec.model!r} is an adapter itself; {role}.adapter={spec.adapter} needs a "
            "whole model below it"
        )
    return found


def _based(
    role: str,
    spec: MemberSpec,
    adapter: AdapterFolder,
    members: Sequence[MemberSpec],
    has_reference: bool,
) -> MemberSpec:
    same = next((one for one in members if is_base_of(adapter, one)), None)
    if same is None:
        same = next((one for one in members if _is_copy_of(adapter.base, one)), None)
    if same is None:
        if _is_there(adapter.base):
            local = user_path(location_of(str(adapter.base))).is_dir()
            revision = None if local else adapter.base_revision
            same = MemberSpec(model=str(adapter.base), revision=revision)
        elif has_reference:
            same = members[0]
        else:
            says = f"names {adapter.base!r}, which is not here" if adapter.base else "names no base"
            raise ConfigError(
                f"{role} member {spec.model!r} is an adapter whose {ADAPTER_CONFIG} {says}: write "
                f"{role}=BASE,{role}.adapter={spec.model}"
            )
    own = {name: getattr(spec, name) for name in _LOADING if name in spec.model_fields_set}
    return same.model_copy(
        update={
            "adapter": spec.model,
            "adapter_revision": spec.revision,
            "prompt": spec.prompt,
            "parameters": spec.parameters or same.parameters,
            **own,
        }
    )


def _is_copy_of(base: str | None, spec: MemberSpec) -> bool:
    """Whether a local folder has the name of a model that lies elsewhere."""
    if base is None or user_path(location_of(base)).is_dir():
        return False
    folder = user_path(spec.location)
    return folder.is_dir() and folder.resolve().name == base.rstrip("/").rsplit("/", 1)[-1]


def _is_there(base: str | None) -> bool:
    """Whether a name can be loaded: a folder that is there, or what may be an id on the hub."""
    if base is None:
        return False
    return user_path(location_of(base)).is_dir() or may_be_id(base)
