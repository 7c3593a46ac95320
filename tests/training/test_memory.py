"""What is said where memory is used up: by the allocators themselves, where they are here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from eft_eval.errors import ConfigError
from eft_eval.training import tuning
from eft_eval.training.folder import SideFolder
from eft_eval.training.memory import enough_memory
from eft_eval.training.settings import find_training
from eft_eval.training.tuning import SideWork, tune


def on_the_cpu() -> None:
    torch.empty(2**60)


def of_python() -> None:
    bytearray(2**62)


def on_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


def in_a_library_of_a_gpu() -> None:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)")


@pytest.mark.parametrize("full", [on_the_cpu, of_python, on_a_gpu, in_a_library_of_a_gpu])
def test_memory_that_is_used_up_is_one_line(full: Callable[[], None]) -> None:
    with pytest.raises(ConfigError, match=r"^do this$"), enough_memory(lambda: "do this"):
        full()


def test_other_errors_are_left_as_they_are() -> None:
    found = pytest.raises(RuntimeError, match="shapes cannot be multiplied")
    with found, enough_memory(lambda: "do this"):
        torch.ones(2, 3) @ torch.ones(2, 3)


@pytest.mark.parametrize(
    ("step", "changes", "said"),
    [
        (0, {}, r"\(no step is saved yet\): lower micro-batch-size, and"),
        (3, {"gradient-checkpointing": False},
         r"\(step 3 of 9 is saved\): lower micro-batch-size or leave gradient-checkpointing on, "),
        (3, {"micro-batch-size": 1}, r"\(step 3 of 9 is saved\): free memory, and the same "),
    ],
)  # fmt: skip
def test_it_says_what_was_saved_and_what_helps(
    step: int, changes: dict[str, object], said: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    training = find_training(None, {"reference": "demo:small-base", **changes})
    folder = SideFolder(tmp_path)
    if step:
        checkpoint = folder.checkpoints / f"checkpoint-{step}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "optimizer.pt").write_bytes(b"state")
        folder.mark(step)
    monkeypatch.setattr(tuning, "_trainer", lambda *_: on_the_cpu())
    with pytest.raises(ConfigError, match=said):
        tune(SideWork(training, (), 9, folder, torch.device("cpu")), lambda *_: None)
