"""Loading models: configurations and tokenizers first, weights at first use."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from eft_eval.engine.devices import usable_device
from eft_eval.engine.end_tokens import configured_ends, end_tokens
from eft_eval.engine.engine import Engine
from eft_eval.engine.gguf import (
    check_gguf,
    finish,
    gguf_contents,
    gguf_hint,
    local_gguf,
    readable_length,
    unpacked,
)
from eft_eval.engine.gguf_tokenizers import split_as_said
from eft_eval.engine.layer_settings import largest
from eft_eval.engine.quantization import (
    asked_quantization,
    check_quantization,
    declared_quantization,
)
from eft_eval.engine.reading import without_chance
from eft_eval.engine.transformers import TransformersEngine
from eft_eval.engine.weights import check_files, check_weights, folders_hint
from eft_eval.engine.wrappers import drop_other_senses, loader_of
from eft_eval.errors import ConfigError, EftEvalError, nearest
from eft_eval.files import user_path
from eft_eval.recipe import MemberSpec
from eft_eval.recipe.locations import check_revision, may_be_id
from eft_eval.streams import logger

__all__ = ["ENGINES", "LoadOptions", "Member", "config_of"]

log = logger("eft_eval")


@dataclass(frozen=True)
class LoadOptions:
    """How every member of this process is loaded.

    Attributes:
        device: Where members without a placement of their own go.
        trust_remote_code: Let checkpoints run their own Python code.
        use_fast_tokenizer: Prefer the Rust tokenizers.
        add_bos_token: Override the tokenizer's own policy on the beginning-of-sequence token.
        engine: What runs the members, a key of `ENGINES`; or ``vllm``, whose processes load them.
        prefix_token_id: The token that stands for an empty context, in place of the tokenizer's
            beginning (else end) of sequence.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    trust_remote_code: bool = False
    use_fast_tokenizer: bool = True
    add_bos_token: bool | None = None
    engine: str = "transformers"
    prefix_token_id: int | None = None


def config_of(values: Mapping[str, Any]) -> Any:
    """Return the configuration of a ``config.json`` that is here as data."""
    from transformers import AutoConfig

    rest = {key: value for key, value in values.items() if key != "model_type"}
    return AutoConfig.for_model(values["model_type"], **rest)


class Member:
    """One model, of a composite or alone; its weights are loaded when `engine` is first read.

    Args:
        spec: Which model, and how to load it.
        options: Of the process.
        label: What errors and logs call it; by default its name.
    """

    def __init__(self, spec: MemberSpec, options: LoadOptions, label: str | None = None) -> None:
        self.spec = spec
        self.label = label or f"model {spec.model!r}"
        self._options = options
        known = (*ENGINES, "vllm")
        if options.engine not in known:
            raise ConfigError(
                f"engine: got {options.engine!r}{nearest(options.engine, known)}; "
                f"known: {', '.join(known)}"
            )
        self._check_folder()
        self.config = self._load_config()
        self._check_numbers()
        if self._options.engine != "vllm":
            self._check_machine()

    def __repr__(self) -> str:
        return f"Member({self.label!r})"

    @cached_property
    def engine(self) -> Engine:
        """The loaded model."""
        return ENGINES[self._options.engine](self)

    @property
    def loaded(self) -> bool:
        """Whether the weights are there."""
        return "engine" in vars(self) or "model" in vars(self)

    @cached_property
    def tokenizer(self) -> Any:
        """The member's own tokenizer."""
        tokenizer = self._tokenizer_of(self.spec.location, self._source)
        if (file := self.spec.gguf_file) is not None:
            split_as_said(tokenizer, self._gguf(file), self.label)
        return tokenizer

    def _tokenizer_of(self, location: str, source: Mapping[str, Any]) -> Any:
        from transformers import AutoTokenizer

        options: dict[str, Any] = {"use_fast": self._options.use_fast_tokenizer}
        if self._options.add_bos_token is not None:
            options["add_bos_token"] = self._options.add_bos_token
        if needs_sentencepiece(location):
            raise ConfigError(
                f"{self.label}: its tokenizer is a SentencePiece model (tokenizer.model, without "
                'tokenizer.json), which needs sentencepiece: pip install "eft-eval[sentencepiece]"'
            )
        with self._reading("its tokenizer"):
            found = AutoTokenizer.from_pretrained(location, **source, **options)
            return without_chance(found, self.label)

    @cached_property
    def generation_config(self) -> Any | None:
        """The checkpoint's generation settings, None where it has none."""
        from transformers import GenerationConfig

        with self._reading("its generation settings"):
            try:
                return GenerationConfig.from_pretrained(self.spec.location, revision=self._revision)
            except OSError:  # the file is optional
                if (user_path(self.spec.location) / "generation_config.json").exists():
                    raise
                return None

    @cached_property
    def model(self) -> Any:
        """The `transformers` model in evaluation mode, on its device."""
        log.info("loading %s", self.label)
        options: dict[str, Any] = {"dtype": "auto" if self.spec.dtype == "auto" else self.dtype}
        if self.spec.quantization is not None:
            compute = torch.bfloat16 if self.spec.dtype == "auto" else self.dtype
            options["quantization_config"] = asked_quantization(self.spec.quantization, compute)
        elif self.spec.gguf_file is not None:
            options |= unpacked()
        if self.spec.placement == "auto":
            options["device_map"] = "auto"
        elif self.spec.quantization is not None:
            options["device_map"] = {"": str(self.device)}
        # else what is loaded in the midst of a pass could never be changed, as an adapter needs
        with self._reading("its weights"), torch.inference_mode(False), torch.no_grad():
            check_files(user_path(self.spec.location), self.label)
            model, loaded = loader_of(self.config, self.label).from_pretrained(
                self.spec.location,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # told below, with the others
                **self._source,
                **options,
            )
        check_weights(loaded, self.label, {name for name, _ in model.named_buffers()})
        if self.spec.gguf_file is not None:
            finish(model, self._gguf(self.spec.gguf_file), self.label)
        if "device_map" not in options:
            model.to(self.device)
        drop_other_senses(model)
        return model.eval()

    @cached_property
    def quantization(self) -> str | None:
        """How its weights are stored: as asked for or declared, or the type of a GGUF file's."""
        if self.spec.gguf_file is None:
            return self.spec.quantization or declared_quantization(self.config)
        file = user_path(self.spec.location) / self.spec.gguf_file
        return gguf_contents(file).kind if file.is_file() else "gguf"

    @property
    def device(self) -> torch.device:
        """Where inputs of this member go and its logits come from."""
        if self.spec.placement in (None, "auto"):
            return self._options.device
        return torch.device(str(self.spec.placement))

    @property
    def text_config(self) -> Any:
        """The language model's part of the configuration."""
        return self.config.get_text_config(decoder=True)

    @property
    def vocabulary_size(self) -> int:
        """Number of logits that the model gives, padding included."""
        return int(self.text_config.vocab_size)

    @property
    def own_parameters(self) -> int:
        """Number of parameters that no other member holds; reading it loads the weights."""
        return int(self.model.num_parameters())

    @property
    def comparable_parameters(self) -> int:
        """What tells which of two members is cheaper to run; reading it loads the weights."""
        return int(self.model.num_parameters())

    @property
    def own_bytes(self) -> int | None:
        """Bytes of the weights that no other member holds, None where shapes tell them."""
        return None

    @property
    def max_length(self) -> int | None:
        """Tokens that the model can read; None where it does not say."""
        for name in ("n_positions", "max_position_embeddings", "n_ctx"):
            if (limit := getattr(self.text_config, name, None)) is not None:
                return min(int(limit), self._window or int(limit))
        limit = getattr(self.tokenizer, "model_max_length", None)
        return int(limit) if limit is not None and limit < 10**9 else None

    @property
    def stop_tokens(self) -> frozenset[int]:
        """Every end-of-sequence id: of tokenizer, generation settings, configuration, GGUF file."""
        stated: list[Any] = [self.tokenizer.eos_token_id]
        stated.append(getattr(self.generation_config, "eos_token_id", None))
        if (file := self.spec.gguf_file) is not None:
            stated.append([*gguf_contents(self._gguf(file)).end_tokens])
        else:
            stated += configured_ends(self._written_config, self.config, self.text_config)
        return end_tokens(stated, self.vocabulary_size, self.label)

    def decode_greedily(self) -> None:
        """Leave the model's own ``generate`` nothing to follow but its end tokens.

        Whatever else a checkpoint asks for (repetition_penalty, num_beams, ...) changes replies.
        """
        from transformers import GenerationConfig

        ends = sorted(self.stop_tokens) or None
        self.model.generation_config = GenerationConfig(eos_token_id=ends)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights, as asked for or declared by the checkpoint."""
        if self.spec.dtype != "auto":
            chosen: torch.dtype = getattr(torch, self.spec.dtype)
            return chosen
        declared = getattr(self.config, "dtype", None)
        return declared if isinstance(declared, torch.dtype) else torch.float32

    @cached_property
    def _window(self) -> int | None:
        """Tokens that a model reads as its GGUF file says; None: all."""
        if (file := self.spec.gguf_file) is None:
            return None
        return readable_length(self._gguf(file), self.text_config, self.label)

    @cached_property
    def _written_config(self) -> Mapping[str, Any]:
        """The configuration file's content, without what transformers adds."""
        from transformers import PretrainedConfig

        with self._reading("its configuration"):
            written: Mapping[str, Any]
            written, _ = PretrainedConfig.get_config_dict(
                self.spec.location, revision=self._revision
            )
        return written

    def _gguf(self, file: str) -> Path:
        return local_gguf(self.spec.location, file, self._revision)

    @property
    def _revision(self) -> str:
        return self.spec.revision or "main"

    @property
    def _source(self) -> dict[str, Any]:
        return {
            "revision": self._revision,
            "trust_remote_code": self._options.trust_remote_code,
            **({"gguf_file": self.spec.gguf_file} if self.spec.gguf_file else {}),
        }

    def _check_folder(self) -> None:
        name = self.spec.location
        folder = user_path(name)
        check_revision(name, self.spec.revision, self.label)
        if self.spec.gguf_file is not None:
            check_gguf(folder, self.spec.gguf_file, self.label)
        elif folder.is_dir() and not (folder / "config.json").is_file():
            raise ConfigError(
                f"{self.label}: the folder has no config.json; "
                f"expected a folder that transformers' save_pretrained wrote{gguf_hint(folder)}"
                f"{folders_hint(folder)}"
            )
        if not folder.is_dir() and not may_be_id(name):
            if folder.is_file():
                raise ConfigError(f"{self.label}: it is a file; give the folder that it lies in")
            raise ConfigError(
                f"{self.label}: this folder does not exist; "
                "give an existing model folder or a Hugging Face id (owner/name)"
            )

    def _check_numbers(self) -> None:
        found = ((name, largest(self.text_config, name)) for name in _NUMBERS)
        for name, value in found:
            if not isinstance(value, (int, list, tuple, type(None))):
                raise ConfigError(
                    f"{self.label}: its configuration has {name}: {repr(value)[:80]}; expected a "
                    "whole number"
                )

    def _check_machine(self) -> None:
        if self.spec.placement not in (None, "auto"):
            usable_device(self.spec.placement, f"{self.label}: placement")
        check_quantization(self.config, self.spec.quantization, self.label)

    def _load_config(self) -> Any:
        from transformers import AutoConfig

        with self._reading("its configuration"):
            config = AutoConfig.from_pretrained(self.spec.location, **self._source)
        if getattr(config, "is_encoder_decoder", False):
            raise ConfigError(
                f"{self.label}: a sequence-to-sequence model ({config.model_type}); "
                "emulated fine-tuning needs causal language models"
            )
        return config

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """Turn the many ways a checkpoint cannot be read into one line about this member."""
        # retries and reports of many lines; the error below says it all
        noisy = [logging.getLogger(name) for name in _NOISY]
        levels = [one.level for one in noisy]
        for one in noisy:
            one.setLevel(logging.ERROR)
        try:
            yield
        except EftEvalError:
            raise
        except Exception as error:  # whatever a library raises of somebody's files
            raise ConfigError(f"{self.label}: cannot read {what}: {_advice(error)}") from error
        finally:
            for one, level in zip(noisy, levels, strict=True):
                one.setLevel(level)


ENGINES: dict[str, Callable[[Member], Engine]] = {
    "transformers": lambda member: TransformersEngine(
        member.model,
        member.device,
        member.label,
        member.comparable_parameters,
        member.spec.head_dtype,
    ),
}
"""What can run a member, by name."""


_NUMBERS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "sliding_window",
)
"""What is counted in a configuration; not all kinds of models declare the types of theirs."""

_NOISY = (
    "huggingface_hub",
    "transformers.modeling_utils",
    "transformers.distributed.tensor_parallel",  # speaks where the one before is quiet
)


def needs_sentencepiece(location: str) -> bool:
    """Whether a folder's tokenizer cannot be read without sentencepiece, and it is missing."""
    if find_spec("sentencepiece") is not None:
        return False
    folder = user_path(location)
    return (folder / "tokenizer.model").is_file() and not (folder / "tokenizer.json").is_file()


def _advice(error: BaseException) -> str:
    """Say what an exception of transformers or the hub means, and what to do."""
    text = " ".join(str(error).split())
    if "gated" in text.lower() or "401" in text:
        return "the hub refuses it: accept its licence on the hub and run `hf auth login`"
    if "sentencepiece" in text.lower() and find_spec("sentencepiece") is None:
        return 'it needs sentencepiece: pip install "eft-eval[sentencepiece]"'
    if any(word in text for word in ("connect", "offline", "Network", "resolve", "Max retries")):
        return (
            "it is not on this machine and the Hugging Face hub cannot be reached; connect once "
            "so that it is cached, or name local folders with base=, tuned=, reference="
        )
    return f"no entry {text[:300]}" if isinstance(error, KeyError) else text[:300]
