"""Members that are adapters: a view of a whole model that shares its weights.

An adapter (PEFT's LoRA and its kind) is applied to a copy of the model's modules whose parameters
are those of the model itself: one copy of the weights in memory, and no switching between the two.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Container, Iterable, Iterator, Set
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from eft_eval.engine.copies import shared_copy
from eft_eval.engine.loading import LoadOptions, Member
from eft_eval.engine.weights import check_weights
from eft_eval.errors import ConfigError
from eft_eval.files import read_text, user_path
from eft_eval.recipe import MemberSpec
from eft_eval.recipe.adapters import ADAPTER_CONFIG, AdapterFolder, is_base_of, local_adapter
from eft_eval.recipe.locations import check_revision, may_be_id
from eft_eval.streams import logger

__all__ = ["AdaptedMember", "read_adapter"]

log = logger("eft_eval")

_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_FULL_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_TABLE = re.compile(
    r"\.(embed_tokens|lm_head|wte|embed_in|embed_out|word_embeddings)"
    r"(\.(base_layer|original_module|modules_to_save|token_adapter|default))*\.weight$"
)
"""The whole table of a model's tokens, not what an adapter adds to it."""
_OUTPUTS = ("lm_head", "embed_out")
_OTHER_KINDS = ("XLORA", "POLY", "ADAPTION_PROMPT", "SHADOW")  # need more than a pass of a model
_SAVED_TWICE = ".modules_to_save"  # of tables that stand in the file by their own name, too
_KEEP_THE_BASE = ("gaussian", "eva", "orthogonal")
_BEGUN_BY_CHANCE = "pissa_niter"  # by a decomposition with random starts
_NOT_QUITE = (
    ", and what is taken off them is drawn anew at each load: not quite what was trained; save it "
    "as a LoRA (path_initial_model_for_weight_conversion of peft's save_pretrained), or merged"
)


class AdaptedMember(Member):
    """An adapter on another member, whose weights it shares.

    Args:
        spec: With its ``adapter``.
        options: Of the process.
        label: What errors and logs call it.
        base: The whole model; loaded when this one is.
    """

    def __init__(self, spec: MemberSpec, options: LoadOptions, label: str, base: Member) -> None:
        assert spec.adapter is not None
        self.base = base
        self._adapter = spec.adapter
        super().__init__(spec, options, label)

    @cached_property
    def tokenizer(self) -> Any:
        """The adapter's own tokenizer, where one was saved with it, else the whole model's."""
        if self._file("tokenizer_config.json") is None:
            return self.base.tokenizer
        return self._tokenizer_of(self._adapter, self._adapter_source)

    @cached_property
    def model(self) -> Any:
        """The model with the adapter in its layers."""
        model = self.base.model
        log.info("applying the adapter of %s", self.label)
        with self._reading("its adapter"), torch.inference_mode(False), torch.no_grad():
            return self._applied(model)

    @property
    def vocabulary_size(self) -> int:
        """Number of logits that are known; an adapter may come with longer tables of embeddings.

        Where it holds one of two tables, nobody knows what the other's new rows were.
        """
        below, table = self.base.vocabulary_size, self._table or self.base.vocabulary_size
        if table > below and len(self._tables) < 2 and not self._tied:
            return below
        return table

    @property
    def own_parameters(self) -> int:
        """Number of parameters that no other member holds."""
        shared = {id(one) for one in self.base.model.parameters()}
        return sum(one.numel() for one in self.model.parameters() if id(one) not in shared)

    @property
    def comparable_parameters(self) -> int:
        """What its size counts as beside other members: an adapter is no larger model."""
        return self.base.comparable_parameters

    @property
    def own_bytes(self) -> int | None:
        """Bytes of the adapter's weights."""
        return max((Path(file).stat().st_size for file in self._weight_files), default=0)

    def _check_machine(self) -> None:
        """The whole model has checked them."""

    def _check_folder(self) -> None:
        if find_spec("peft") is None:
            raise ConfigError(f'{self.label}: an adapter needs peft: pip install "eft-eval[peft]"')
        check_revision(self._adapter, self.spec.adapter_revision, self.label)
        found = read_adapter(self._adapter, self.spec.adapter_revision)
        if found is None:
            with self._reading("its adapter"):  # a hub that cannot be reached
                adapter_file(self._adapter, ADAPTER_CONFIG, self.spec.adapter_revision, sure=True)
            raise ConfigError(
                f"{self.label}: {self._adapter!r} is no adapter: it has no {ADAPTER_CONFIG}; "
                "expected a folder that peft's save_pretrained wrote"
            )
        config = self._peft_config()
        task = getattr(config, "task_type", None)
        if config.is_prompt_learning or found.kind in _OTHER_KINDS or _is_alora(config):
            raise ConfigError(
                f"{self.label}: an adapter of kind {found.kind} changes the prompt or needs passes "
                "of its own, not only weights; supported are LoRA and what else sits in the layers"
            )
        if task not in (None, "CAUSAL_LM"):
            raise ConfigError(f"{self.label}: its adapter is for {task}; expected CAUSAL_LM")
        if not self._weight_files:
            raise ConfigError(f"{self.label}: the adapter has no {' or '.join(_WEIGHTS)}")
        below = self.base.spec
        if found.base is not None and not is_base_of(found, below):
            made_on, under = (
                _named(found.base, found.base_revision),
                _named(below.model, below.revision),
            )
            log.warning(
                "%s: its adapter was made on %s, by its %s, and is applied to %s",
                self.label, made_on, ADAPTER_CONFIG, under,
            )  # fmt: skip

    def _load_config(self) -> Any:
        return self.base.config

    @property
    def _adapter_source(self) -> dict[str, Any]:
        return {
            "revision": self.spec.adapter_revision or "main",
            "trust_remote_code": self._options.trust_remote_code,
        }

    def _file(self, name: str) -> str | None:
        return adapter_file(self._adapter, name, self.spec.adapter_revision)

    @cached_property
    def _weight_files(self) -> list[str]:
        files = (self._file(name) for name in _WEIGHTS)
        return [file for file in files if file is not None][:1]

    @property
    def _table(self) -> int | None:
        """Rows of the embeddings that come with the adapter, None where it has none."""
        return next(iter(self._tables.values()), None)

    @cached_property
    def _tables(self) -> dict[bool, int]:
        """Rows of the tables that come with the adapter, by whether they are of the output."""
        found: dict[bool, int] = {}
        with self._reading("its adapter"):
            for name, shape in _shapes(self._weight_files[0]):
                if len(shape) == 2 and (table := _TABLE.search(name)):
                    found[table[1] in _OUTPUTS] = shape[0]
        return found

    @property
    def _tied(self) -> bool:
        return bool(getattr(self.text_config, "tie_word_embeddings", True))

    def _peft_config(self) -> Any:
        from peft import PeftConfig

        with self._reading("its adapter"):
            return PeftConfig.from_pretrained(str(Path(self._file(ADAPTER_CONFIG) or "").parent))

    def _applied(self, model: Any) -> Any:
        from peft import PeftModel

        config = self._peft_config()
        config.inference_mode = True
        rewrites = getattr(config, "init_lora_weights", True)
        if isinstance(rewrites, str) and rewrites not in _KEEP_THE_BASE:
            twin = copy.deepcopy(model)
            drawn = rewrites.startswith(_BEGUN_BY_CHANCE)
            log.warning(
                "%s: the adapter was begun with %s, which changes the model's own weights: they "
                "are held twice%s", self.label, rewrites, _NOT_QUITE if drawn else "",
            )  # fmt: skip
        else:
            twin = shared_copy(model)
        if self._table is not None and self._table != self.base.vocabulary_size:
            _resize(twin, self._table)
            if self.vocabulary_size < self._table:
                log.warning(
                    "%s: its tables of embeddings had %d rows, of which the adapter's file holds "
                    "one table only: its %d added tokens are left out", self.label, self._table,
                    self._table - self.vocabulary_size,
                )  # fmt: skip
        before = _state(model)
        names = {name for name, _ in _shapes(self._weight_files[0])}
        with torch.random.fork_rng(), warnings.catch_warnings():  # layers are drawn, then read
            torch.manual_seed(0)
            warnings.simplefilter("ignore", FutureWarning)  # between peft and transformers
            adapted = PeftModel(twin, config, "default")
            _own(adapted, names, before)
            found = adapted.load_adapter(
                str(Path(self._weight_files[0]).parent), "default", torch_device=str(self.device)
            )
        if _state(model) != before:
            raise ConfigError(
                f"{self.label}: this kind of adapter changes the weights below it: merge it into "
                "its model (peft: merge_and_unload) and name that folder"
            )
        unknown = [
            key
            for key in _not_shared(adapted, found.unexpected_keys, ".default")
            if _SAVED_TWICE not in key or key.replace(_SAVED_TWICE, "") not in names
        ]
        missing = _not_shared(adapted, found.missing_keys)
        check_weights({"missing_keys": missing, "unexpected_keys": unknown}, self.label)
        whole = adapted.get_base_model()
        if self.dtype == torch.float64:
            for one in whole.parameters():
                if id(one) not in before:
                    one.data = one.data.double()
        return whole.eval()


def _state(model: nn.Module) -> dict[int, tuple[int, int]]:
    """Return what tells whether somebody wrote into a model's parameters, by their identity."""
    return {id(one): (one.data_ptr(), one._version) for one in model.parameters()}


def _not_shared(adapted: nn.Module, names: Iterable[str], end: str = "") -> list[str]:
    """Return those names whose parameters are not read under another one."""
    every = {name: id(one) for name, one in adapted.named_parameters(remove_duplicate=False)}
    lacked = {f"{name}{end}" for name in names}
    read = {one for name, one in every.items() if name not in lacked}
    return [name for name in names if every.get(f"{name}{end}") not in read]


def _own(adapted: nn.Module, names: Set[str], shared: Container[int]) -> None:
    """Give a model parameters of its own where its adapter's file holds whole ones.

    An adapter may come with tables of embeddings or biases, which are written in place.
    """
    own: dict[int, nn.Parameter] = {}
    for path, module in adapted.named_modules():
        for key, one in module.named_parameters(recurse=False):
            name = f"{path}.{key}"
            if id(one) in shared and {name, name.replace(".base_layer", "")} & names:
                copied = nn.Parameter(one.detach().clone(), requires_grad=False)
                setattr(module, key, own.setdefault(id(one), copied))


def read_adapter(model: str, revision: str | None = None) -> AdapterFolder | None:
    """Return what a local folder or a model on the hub says as an adapter; None if it is none."""
    if (found := local_adapter(model, revision)) is not None:
        return found
    file = adapter_file(model, ADAPTER_CONFIG, revision)
    if file is None:
        return None
    beside = any(_on_hub(model, name, revision) for name in _FULL_WEIGHTS)
    return AdapterFolder.of(read_text(Path(file), f"adapter {model}"), f"adapter {model}", beside)


def adapter_file(model: str, name: str, revision: str | None, *, sure: bool = False) -> str | None:
    """Return the path of a file of an adapter, downloaded if need be; None if it has none.

    Args:
        model: The adapter.
        name: Of the file.
        revision: Of an adapter on the hub.
        sure: Raise OSError where a hub that cannot be reached might have it.
    """
    folder = user_path(model)
    if folder.is_dir():
        return str(folder / name) if (folder / name).is_file() else None
    if not may_be_id(model):
        return None
    from transformers.utils import cached_file

    return cast(
        "str | None",
        cached_file(
            model,
            name,
            revision=revision or "main",
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=sure,
            _raise_exceptions_for_connection_errors=sure,
        ),
    )


def _resize(model: Any, rows: int) -> None:
    """Give a model tables of embeddings of its own, with another number of rows."""
    tables = [model.get_input_embeddings(), model.get_output_embeddings()]
    own: dict[int, nn.Parameter] = {}
    for table in tables:
        if table is not None:
            kept = own.setdefault(id(table.weight), nn.Parameter(table.weight.detach().clone()))
            table.weight = kept
    model.resize_token_embeddings(rows, mean_resizing=False)


def _shapes(file: str) -> Iterator[tuple[str, list[int]]]:
    if file.endswith(".safetensors"):
        from safetensors import safe_open

        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  # no mapping
                yield name, list(tensors.get_slice(name).get_shape())
    else:
        for name, tensor in torch.load(file, map_location="meta", weights_only=True).items():
            yield name, list(tensor.shape)


def _named(model: str, revision: str | None) -> str:
    return repr(model) + (f" (revision {revision})" if revision else "")


def _is_alora(config: Any) -> bool:
    return getattr(config, "alora_invocation_tokens", None) is not None


def _on_hub(model: str, name: str, revision: str | None) -> bool:
    from huggingface_hub import constants, file_exists, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(model, name, revision=revision), str):
        return True
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        return bool(file_exists(model, name, revision=revision))
    except Exception:  # noqa: BLE001  # the hub, or its client's HTTP library: loading will tell
        return False
