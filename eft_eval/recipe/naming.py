"""The canonical name of a composite: readable, stable across machines, safe as a folder name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from eft_eval.files import user_path
from eft_eval.recipe.model import Delta, MemberSpec, Recipe

_CONTENT_SUFFIXES = {".json", ".safetensors", ".bin", ".model", ".jinja", ".tiktoken"}
_WORDS = ("merges.txt", "vocab.txt")  # of tokenizers
_BESIDE_A_FILE = (
    "added_tokens.json", "chat_template.jinja", "chat_template.json", "generation_config.json",
    "merges.txt", "special_tokens_map.json", "tokenizer.json", "tokenizer.model",
    "tokenizer_config.json", "vocab.json",
)  # fmt: skip
_WHOLE_FILE_BYTES = 1 << 24
_SAMPLE_BYTES = 1 << 16
_SAMPLES = 64


def canonical_name(recipe: Recipe) -> str:
    """Return ``eft_BASE+TUNED-vs-REFERENCE_HASH``, the same for every way to write a recipe.

    A base alone is ``eft_BASE_HASH``.

    The hash covers what changes a result (members with revision, type, quantisation and
    prompt; weights; weight filter; sampling) and nothing else: not placement, not the block
    size, not where a folder lies.
    """
    parts = [_short(recipe.base)]
    if not recipe.is_base_alone:
        parts += [_delta_name(delta) for delta in recipe.deltas]
    if recipe.decoding.weight_top_p is not None:
        parts.append(f"wtp{recipe.decoding.weight_top_p:g}")
    return f"eft_{'+'.join(parts)[:160]}_{recipe_hash(recipe)}"


def recipe_hash(recipe: Recipe) -> str:
    """Return the first 8 hexadecimal digits of the SHA-256 of the recipe's identity."""
    text = json.dumps(identity(recipe), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def identity(recipe: Recipe) -> dict[str, Any]:
    """Return what makes two composites the same model, as plain JSON data."""
    return {
        "base": member_identity(recipe.base),
        "deltas": [
            [member_identity(d.tuned), member_identity(d.reference), float(d.weight)]
            for d in recipe.deltas
        ],
        "weight_top_p": recipe.decoding.weight_top_p,
        "sampling": recipe.decoding.sampling,
    }


def member_identity(spec: MemberSpec) -> dict[str, Any]:
    """Return a member's identity: a hub id, or for a local folder a digest of its content."""
    found = {
        "model": content_identity(spec.location, spec.model, spec.gguf_file),
        "revision": spec.revision,
        "dtype": spec.dtype,
        "quantization": spec.quantization,
        "prompt": spec.prompt,
    }
    if spec.head_dtype != "model":
        found["head_dtype"] = spec.head_dtype
    if spec.gguf_file is not None and found["model"] == spec.model:  # of a hub id's several files
        found["gguf_file"] = spec.gguf_file
    if spec.adapter is not None:
        found["adapter"] = content_identity(spec.adapter, spec.adapter)
        found["adapter_revision"] = spec.adapter_revision
    return found


def content_identity(location: str, name: str, file: str | None = None) -> str:
    """Return a digest of what a local folder holds; ``name`` of a model that is on the hub.

    Args:
        location: The folder.
        name: What it is called.
        file: The one file in it that counts; None: all of a model.
    """
    folder = user_path(location)
    if file is not None:
        return file_digest(str((folder / file).absolute())) if (folder / file).is_file() else name
    return folder_digest(str(folder.resolve())) if folder.is_dir() else name


def folder_digest(folder: str) -> str:
    """Return a digest of a model folder: names, sizes and content of its model files.

    Files over 16 MiB are sampled at 64 evenly spaced places, so that naming a 70B model takes
    no minutes; retrained weights change everywhere and so change the digest. It is made once, and
    again when a file was written anew.
    """
    return _digest(_content_files(Path(folder)))


def code_digest(folder: str) -> str | None:
    """Return a digest of the Python files of a model folder; None where it holds none."""
    digest = hashlib.sha256()
    files = sorted(file for file in user_path(folder).glob("*.py") if file.is_file())
    for file in files:
        _take_in(file, digest)
    return "sha256:" + digest.hexdigest() if files else None


def file_digest(file: str) -> str:
    """Return a digest of one file that holds a whole model, as `folder_digest` does.

    Tokenizer files and generation settings beside it come before its own, and so count.
    """
    beside = (Path(file).parent / name for name in _BESIDE_A_FILE)
    return _digest([Path(file), *(one for one in beside if one.is_file())])


def written_at(spec: MemberSpec) -> list[tuple[str, int]]:
    """Return when those local files of a member were written whose content is only sampled.

    An edit in place may lie between the samples: who keeps answers asks for this, too.
    """
    files = []
    for location, one in ((spec.location, spec.gguf_file), (spec.adapter, None)):
        folder = user_path(location or "")
        if location is not None and folder.is_dir():
            files += _content_files(folder) if one is None else [folder / one]
    states = [(file.name, file.stat()) for file in files if file.is_file()]
    return [(name, one.st_mtime_ns) for name, one in states if one.st_size > _WHOLE_FILE_BYTES]


def _content_files(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if (file.suffix in _CONTENT_SUFFIXES or file.name in _WORDS) and file.is_file()
    )


def _digest(files: Sequence[Path]) -> str:
    states = [file.stat() for file in files]
    now = tuple((one.st_dev, one.st_ino, one.st_mtime_ns, one.st_size) for one in states)
    return _digest_of(tuple(files), now)


@lru_cache(maxsize=64)
def _digest_of(files: tuple[Path, ...], _states: tuple[tuple[int, ...], ...]) -> str:
    digest = hashlib.sha256()
    for file in files:
        _take_in(file, digest)
    return "sha256:" + digest.hexdigest()


def _take_in(file: Path, digest: hashlib._Hash) -> None:
    size = file.stat().st_size
    digest.update(f"{file.name}:{size}:".encode())
    with file.open("rb") as stream:
        if size <= _WHOLE_FILE_BYTES:
            digest.update(stream.read())
            return
        for sample in range(_SAMPLES):
            stream.seek(sample * (size - _SAMPLE_BYTES) // (_SAMPLES - 1))
            digest.update(stream.read(_SAMPLE_BYTES))


def _short(spec: MemberSpec) -> str:
    if spec.gguf_file is not None and spec.adapter is None:
        name = spec.gguf_file.removesuffix(".gguf")
        folder = Path(name)
    else:
        name = spec.adapter or spec.model
        folder = user_path(spec.adapter or spec.location)
    name = folder.resolve().name if folder.is_dir() else name.rsplit("/", 1)[-1]
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in name)[:40]


def _delta_name(delta: Delta) -> str:
    weight = "" if delta.weight == 1.0 else f"{delta.weight:g}x"
    return f"{weight}{_short(delta.tuned)}-vs-{_short(delta.reference)}"
