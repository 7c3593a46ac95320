"""One model tuned from the reference: TRL's DPOTrainer with a LoRA adapter of PEFT's."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback

from eft_eval.engine.loading import LoadOptions, Member
from eft_eval.errors import ConfigError
from eft_eval.files import user_path
from eft_eval.training.folder import SideFolder
from eft_eval.training.memory import enough_memory
from eft_eval.training.settings import Training
from eft_eval.training.texts import PairText, Texts, check_same_tokens

__all__ = ["Progress", "SideWork", "check_packages", "tune"]

_LOGGED = {
    "loss": "loss",
    "rewards/margins": "margin",
    "rewards/accuracies": "accuracy",
    "rewards/chosen": "chosen_reward",
    "rewards/rejected": "rejected_reward",
    "logps/chosen": "chosen_log_prob",
    "logps/rejected": "rejected_log_prob",
    "grad_norm": "gradient_norm",
    "learning_rate": "learning_rate",
}
_SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
_OF_A_FILE = ("PytorchStreamWriter", "inline_container", "iostream")  # torch's RuntimeErrors
_KEPT = 2  # checkpoints: one is whole while the next is written

Progress = Callable[[int, int, dict[str, Any]], None]
"""Called after every step, with its number, how many there are, and its line of the log."""


@dataclass(frozen=True)
class SideWork:
    """What one training needs.

    Attributes:
        training: The settings.
        pairs: Texts to train on.
        steps: How many there will be.
        folder: Where it goes.
        device: Where the model goes.
    """

    training: Training
    pairs: Sequence[PairText]
    steps: int
    folder: SideFolder
    device: torch.device


def check_packages() -> None:
    """Raise ConfigError unless trl and peft are installed."""
    for package in ("trl", "peft"):
        if find_spec(package) is None:
            raise ConfigError(
                f'training needs trl and peft ({package} is missing): pip install "eft-eval[train]"'
            )


def tune(work: SideWork, progress: Progress) -> None:
    """Train an adapter, from the last checkpoint if there is one, and save it.

    Args:
        work: What is trained.
        progress: Told of every step.

    Raises:
        ConfigError: The reference cannot be loaded, memory is used up, or the loss is no number
            any more.
    """
    with enough_memory(lambda: _lacking(work)):
        _tune(work, progress)


def _tune(work: SideWork, progress: Progress) -> None:
    training = work.training
    member = Member(training.reference, LoadOptions(device=work.device), "reference")
    trainer = _trainer(work, member, _Log(work.folder, progress))
    texts = Texts(member.tokenizer, training.chat_template)
    check_same_tokens(texts, work.pairs, trainer.train_dataset)
    checkpoint = work.folder.last_checkpoint()
    with _whole_files(work.folder):
        if checkpoint is not None and work.folder.last_step() == work.steps:
            _restore(trainer.model, checkpoint, work.folder)
        else:
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        _save(trainer.accelerator.unwrap_model(trainer.model), work)


def _restore(model: Any, checkpoint: Path, folder: SideFolder) -> None:
    """Take up the last step's checkpoint, from which a trainer would make one step more."""
    model.load_adapter(str(checkpoint), "default", is_trainable=True)
    state = json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
    folder.begin_log(_steps(state["log_history"]))


def _lacking(work: SideWork) -> str:
    """Return what to do where memory is used up: neither change makes it another training."""
    training, saved = work.training, work.folder.last_step()
    ways = ["lower micro-batch-size"] if training.micro_batch_size > 1 else []
    ways += [] if training.gradient_checkpointing else ["leave gradient-checkpointing on"]
    done = f"step {saved} of {work.steps} is saved" if saved else "no step is saved yet"
    return (
        f"no memory is left for micro-batch-size {training.micro_batch_size}, pairs of up to "
        f"{training.max_length} tokens ({done}): {' or '.join(ways) or 'free memory'}, and the "
        "same command goes on"
    )


@contextmanager
def _whole_files(folder: SideFolder) -> Iterator[None]:
    """Say in one line what torch and safetensors make of a disk that is full."""
    try:
        yield
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        if type(error).__name__ != "SafetensorError" and not any(w in said for w in _OF_A_FILE):
            raise
        raise ConfigError(
            f"cannot write {folder.path}: {said}; the same command goes on"
        ) from error


def _trainer(work: SideWork, member: Member, log: _Log) -> Any:
    from datasets import Dataset
    from peft import LoraConfig
    from trl import DPOTrainer

    training = work.training
    layers: Any = list(training.layers)
    adapter = LoraConfig(
        task_type="CAUSAL_LM",
        r=training.rank,
        lora_alpha=training.adapter_alpha or 2 * training.rank,
        target_modules=layers[0] if layers == ["all-linear"] else layers,
    )
    rows = [
        {"prompt": one.prompt, "chosen": one.chosen, "rejected": one.rejected} for one in work.pairs
    ]
    model = member.model
    try:
        trainer = DPOTrainer(
            model=model,
            args=_settings(work, member),
            train_dataset=Dataset.from_list(rows),
            processing_class=member.tokenizer,
            callbacks=[log],
            peft_config=adapter,
        )
    except ValueError as error:
        if "target" not in str(error).lower():
            raise
        why = " ".join(str(error).split())[:200]
        raise ConfigError(f"layers: {', '.join(training.layers)}: {why}") from error
    trainer.remove_callback(PrinterCallback)
    return trainer


def _settings(work: SideWork, member: Member) -> Any:
    from trl import DPOConfig

    training = work.training
    on_gpu = work.device.type == "cuda"
    return DPOConfig(
        output_dir=str(work.folder.checkpoints),
        beta=training.beta,
        max_length=None,  # longer pairs are left out, none is cut
        per_device_train_batch_size=training.micro_batch_size,
        gradient_accumulation_steps=training.batch_size // training.micro_batch_size,
        max_steps=work.steps,
        learning_rate=training.learning_rate,
        lr_scheduler_type=_SCHEDULES[training.schedule],
        warmup_steps=int(training.warmup * work.steps),
        gradient_checkpointing=training.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        bf16=member.dtype == torch.bfloat16,
        fp16=member.dtype == torch.float16,
        use_cpu=work.device.type == "cpu",
        dataloader_pin_memory=on_gpu,
        seed=training.seed,
        data_seed=training.seed,
        save_strategy="steps",
        save_steps=training.save_every,
        save_total_limit=_KEPT,
        logging_steps=1,
        logging_nan_inf_filter=False,
        log_level="error",
        report_to=[],
        disable_tqdm=True,
    )


class _Log(TrainerCallback):  # type: ignore[misc]  # of a library without types
    """Writes the steps, marks whole checkpoints, and stops at a loss that is no number."""

    def __init__(self, folder: SideFolder, progress: Progress) -> None:
        self._folder = folder
        self._progress = progress

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write what the checkpoint has behind it."""
        self._folder.begin_log(_steps(state.log_history))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Add a step."""
        if "loss" not in logs:
            return
        step = _step({**logs, "step": state.global_step})
        # in float16 the norm is infinite where the loss was scaled too far, and the step is skipped
        norm = 0.0 if args.fp16 else step["gradient_norm"] or 0.0
        if not math.isfinite(step["loss"]) or not math.isfinite(norm):
            raise ConfigError(
                f"step {state.global_step}: the loss is {step['loss']:g}, the gradient's norm "
                f"{step['gradient_norm']}; lower learning-rate, or train in another dtype"
            )
        self._folder.add_to_log(step)
        self._progress(state.global_step, state.max_steps, step)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note that a checkpoint is whole."""
        self._folder.mark(state.global_step)


def _steps(history: Any) -> Iterator[dict[str, Any]]:
    return (_step(one) for one in history if "loss" in one)


def _step(logged: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"step": int(logged["step"])}
    for theirs, ours in _LOGGED.items():
        found[ours] = float(logged[theirs]) if theirs in logged else None
    return found


def _save(model: Any, work: SideWork) -> None:
    """Save the adapter, which names the reference as the user did; a folder by its whole path."""
    name = work.training.reference.model
    folder = user_path(name)
    config = model.peft_config["default"]
    config.base_model_name_or_path = str(folder.absolute()) if folder.is_dir() else name
    config.revision = work.training.reference.revision
    with work.folder.new_adapter() as part:
        model.save_pretrained(part, save_embedding_layers=False)
        (Path(part) / "README.md").unlink(missing_ok=True)
