"""GGUF files, llama.cpp's own, as members: model, tokenizer and chat template in one file."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from eft_eval.errors import ConfigError

__all__ = ["check_gguf", "gguf_hint", "gguf_type", "unpacked"]


def check_gguf(folder: Path, file: str, label: str) -> None:
    """Raise ConfigError unless a GGUF file can be read.

    Args:
        folder: Where it is, or an id on the hub.
        file: Its name in there.
        label: What errors call the member.
    """
    if folder.is_dir() and not (folder / file).is_file():
        found = ", ".join(sorted(one.name for one in folder.glob("*.gguf"))[:5]) or "none"
        raise ConfigError(f"{label}: {folder} has no file {file}; GGUF files in there: {found}")
    if find_spec("gguf") is None:
        raise ConfigError(f'{label}: a GGUF file needs gguf: pip install "eft-eval[gguf]"')
    if (folder / file).is_file():
        with (folder / file).open("rb") as stream:
            if stream.read(4) != b"GGUF":
                raise ConfigError(
                    f"{label}: {file} is no GGUF file: it does not begin with GGUF (a pointer of "
                    "Git LFS, or cut short?)"
                )


def gguf_hint(folder: Path) -> str:
    """Return what to say of a folder without a configuration that has GGUF files; else nothing."""
    first = next((one.name for one in sorted(folder.glob("*.gguf"))), None)
    return f", or one of its GGUF files: …/{first}" if first else ""


def unpacked() -> dict[str, Any]:
    """Return the options of `from_pretrained` that turn a file's blocks into dense weights.

    Unpacking is exact in float32; what was lost was lost when the file was made.
    """
    import transformers

    config = getattr(transformers, "GgufConfig", None)  # older ones always unpack
    return {} if config is None else {"quantization_config": config(dequantize=True)}


@lru_cache(maxsize=16)
def gguf_type(file: Path) -> str:
    """Return the type of most of a file's weights, such as ``gguf Q4_1``."""
    from gguf import GGUFReader

    sizes: Counter[str] = Counter()
    for tensor in GGUFReader(file).tensors:
        sizes[tensor.tensor_type.name] += int(tensor.n_elements)
    (most, _), *_ = sizes.most_common(1) or [("of no tensors", 0)]
    return f"gguf {most}"
