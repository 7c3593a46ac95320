"""GGUF files, llama.cpp's own, as members: model, tokenizer and chat template in one file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch

from eft_eval.engine.layer_settings import common
from eft_eval.errors import ConfigError
from eft_eval.files import user_path
from eft_eval.streams import logger

__all__ = [
    "check_gguf",
    "finish",
    "gguf_contents",
    "gguf_hint",
    "local_gguf",
    "readable_length",
    "reads_gguf",
    "unpacked",
]

log = logger("eft_eval")

_DIVISORS = "rope_freqs.weight"
_SCALES: dict[str, tuple[float, ...]] = {
    "attn_logit_softcapping": (0,),
    "final_logit_softcapping": (0,),
    "logit_scale": (0, 1),
    "embedding_scale": (0, 1),
    "residual_scale": (0, 1),
    "attention.scale": (0,),
    "attention.clamp_kqv": (0,),
}
"""Settings that change logits, with the values that do not."""
_READ_WHOLE = ("qwen35", "qwen35moe", "lfm2", "gemma4")
"""Architectures whose rotary frequencies transformers takes from the file, or has its own of."""


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
    if not reads_gguf():
        raise ConfigError(
            f"{label}: a GGUF file needs transformers 5.23 or later: {version('transformers')}, "
            "which is here, leaves out the beginning of sequence and how texts are split"
        )
    if (folder / file).is_file():
        with (folder / file).open("rb") as stream:
            if stream.read(4) != b"GGUF":
                raise ConfigError(
                    f"{label}: {file} is no GGUF file: it does not begin with GGUF (a pointer of "
                    "Git LFS, or cut short?)"
                )


def reads_gguf() -> bool:
    """Return whether this transformers reads the tokenizers of GGUF files as they are."""
    return tuple(map(int, version("transformers").split(".")[:2])) >= (5, 23)


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


class GgufContents(NamedTuple):
    """What a file says beside the values of its weights.

    Attributes:
        architecture: As llama.cpp calls it.
        settings: Of its architecture and of its tokenizer, without lists.
        sizes: Elements of every tensor.
        kind: The type of most of its weights.
        divisors: Of the rotary frequencies, as files of Llama 3.1 and later have them.
    """

    architecture: str
    settings: dict[str, Any]
    sizes: dict[str, int]
    kind: str
    divisors: tuple[float, ...]

    @property
    def end_tokens(self) -> frozenset[int]:
        """The ids that end an answer: of the sequence, the turn, the message."""
        names = (f"tokenizer.ggml.{one}_token_id" for one in ("eos", "eot", "eom"))
        return frozenset(int(self.settings[name]) for name in names if name in self.settings)

    def is_beside(self, tensor: str) -> bool:
        """Whether a tensor is none of the model's: divisors, layers that only draft (MTP)."""
        drafting = int(self.says("nextn_predict_layers") or 0)
        layers = int(self.says("block_count") or 0) - drafting
        block, number, *_ = *tensor.split("."), "", ""
        beyond = block == "blk" and number.isdecimal() and int(number) >= layers
        return tensor == _DIVISORS or (drafting > 0 and beyond)

    def says(self, name: str) -> Any:
        """Return a setting of the architecture, None where it is not said."""
        return self.settings.get(f"{self.architecture}.{name}")


def gguf_contents(file: Path) -> GgufContents:
    """Return what a file says, read once and again when another has taken its place."""
    now = file.stat()
    return _contents(file, (now.st_dev, now.st_ino, now.st_mtime_ns, now.st_size))


@lru_cache(maxsize=16)
def _contents(file: Path, _state: tuple[int, ...]) -> GgufContents:
    from gguf import GGUFReader, GGUFValueType

    reader = GGUFReader(file)
    settings = {
        name: field.contents()
        for name, field in reader.fields.items()
        if field.types[:1] != [GGUFValueType.ARRAY] and len(field.data) == 1
    }
    kinds: Counter[str] = Counter()
    divisors: tuple[float, ...] = ()
    for tensor in reader.tensors:
        kinds[tensor.tensor_type.name] += int(tensor.n_elements)
        if tensor.name == _DIVISORS:
            divisors = tuple(map(float, tensor.data.reshape(-1)))
    (most, _), *_ = kinds.most_common(1) or [("of no tensors", 0)]
    sizes = {str(one.name): int(one.n_elements) for one in reader.tensors}
    architecture = str(settings.get("general.architecture", ""))
    return GgufContents(architecture, settings, sizes, f"gguf {most}", divisors)


def local_gguf(location: str, file: str, revision: str) -> Path:
    """Return the path of a member's file, which lies here once its model is loaded."""
    folder = user_path(location)
    if folder.is_dir():
        return folder / file
    from transformers.utils import cached_file

    return Path(str(cached_file(location, file, revision=revision)))


def finish(model: Any, file: Path, label: str) -> None:
    """Give a model what its file says and transformers leaves out, or refuse it.

    Args:
        model: As transformers made it of the file.
        file: The file.
        label: What errors call the member.

    Raises:
        ConfigError: It would not be the model of the file.
    """
    found, text = gguf_contents(file), model.config.get_text_config(decoder=True)
    wrong = [*_tensors_left_out(model, text, found), *_settings_left_out(model, text, found)]
    factor = _linear(found)
    lengths = {one.numel() for one in _frequencies(model)}
    if found.divisors and lengths != {len(found.divisors)}:
        wrong.append(_DIVISORS)
    if wrong:
        raise ConfigError(
            f"{label}: transformers leaves out of {file.name} what changes its answers: "
            f"{', '.join(wrong[:4])}; give the checkpoint that the file was made of"
        )
    for one in _frequencies(model):
        one.div_(torch.tensor(found.divisors, device=one.device) if found.divisors else factor)


def _tensors_left_out(model: Any, text: Any, found: GgufContents) -> list[str]:
    """Return the tensors that are not in the model: transformers checks the other direction."""
    sizes = {name: size for name, size in found.sizes.items() if not found.is_beside(name)}
    if getattr(text, "tie_word_embeddings", False):
        sizes.pop("output.weight", None)  # files of Falcon and Bloom have their one table twice
    state = model.state_dict()
    held = {one.data_ptr() or id(one): one.numel() for one in state.values()}  # meta: 0
    if sum(sizes.values()) <= sum(held.values()):
        return []
    left = Counter(held.values())
    unknown = []
    for name, size in sizes.items():
        left[size] -= 1
        if left[size] < 0:
            unknown.append(name)
    return unknown or ["some of its tensors"]


def _settings_left_out(model: Any, text: Any, found: GgufContents) -> Iterator[str]:
    """Yield the settings that are not in the model's configuration."""
    for name, neutral in _SCALES.items():
        value = found.says(name)
        own = common(text, name.rpartition(".")[2])
        if value is not None and not any(_close(value, one) for one in (*neutral, own)):
            yield f"{name} {value:g}"
    width = found.says("attention.key_length")  # by which llama.cpp scales, but for Gemma's 27B
    scalar = getattr(text, "query_pre_attn_scalar", None)
    if None not in (width, scalar) and not _close(scalar, width):
        yield "query_pre_attn_scalar"
    if found.architecture in _READ_WHOLE or not (frequencies := _frequencies(model)):
        return
    base, width = found.says("rope.freq_base"), found.says("rope.dimension_count")
    if base is not None and not any(_close(base, one) for one in _bases(text)):
        yield f"rope.freq_base {base:g}"
    if width is not None and all(2 * one.numel() != width for one in frequencies):
        yield f"rope.dimension_count {width}"
    kind, rope = found.says("rope.scaling.type"), getattr(text, "rope_parameters", None) or {}
    if kind not in (None, "none", "linear", rope.get("rope_type")):
        yield f"rope.scaling.type {kind}"


def _linear(found: GgufContents) -> float:
    """Return what linear scaling divides all rotary frequencies by, but those of windows."""
    linear = found.says("rope.scaling.type") in (None, "linear")
    factor = found.says("rope.scaling.factor") or found.says("rope.scale_linear")
    return float(factor or 1) if linear else 1.0


def _frequencies(model: Any) -> list[torch.Tensor]:
    """Return the rotary frequencies of layers that see all tokens."""
    return [
        one
        for name, one in model.named_buffers()
        if name.endswith("inv_freq") and "sliding_attention" not in name
    ]


def _bases(text: Any) -> Iterator[float]:
    """Yield the bases of a configuration's rotary frequencies, of one kind or of each of layers."""
    rope = getattr(text, "rope_parameters", None) or {}
    for one in (rope, *(value for value in rope.values() if isinstance(value, dict))):
        if (base := one.get("rope_theta")) is not None:
            yield float(base)


def _close(one: Any, other: Any) -> bool:
    return other is not None and math.isclose(float(one), float(other), rel_tol=1e-5)


def readable_length(file: Path, text: Any, label: str) -> int | None:
    """Return the tokens that a model reads as its file says, None where that is all.

    Windows that transformers leaves out (Phi-3's) are none as long as nothing lies beyond them.
    """
    window = gguf_contents(file).says("attention.sliding_window")
    if not window or common(text, "sliding_window") == window:
        return None
    log.warning(
        "%s: some of its layers see %d tokens back, which transformers leaves out of a GGUF file: "
        "it reads no longer texts", label, window,
    )  # fmt: skip
    return int(window)
