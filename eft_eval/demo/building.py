"""Builds families from nothing: which model is trained when, by which process, and where it lies.

A folder per seed with the fp32 models. Finished models are kept and unfinished ones go on from
their checkpoint, so a cut-off build continues with the same command.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import queue
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing import connection
from pathlib import Path
from typing import Any, NamedTuple

from eft_eval.demo.corpus import Manners, document, fine_tuning_pair
from eft_eval.demo.training import (
    FineTuning,
    Lesson,
    PreTraining,
    Scale,
    fine_tune,
    make_tokenizer,
    pre_train,
)
from eft_eval.demo.world import WORLD_SEED, make_world
from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.files import check_new_folder, make_folder, new_folder, write_lines

__all__ = [
    "Plan", "Update", "build", "end_with_parent", "family_folder", "only_one", "quick_plan",
]  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """All that a family depends on, but for the training seed."""

    world_size: float = 1.0
    vocabulary: int = 1500
    scales: dict[str, Scale] = field(
        default_factory=lambda: {
            "small": Scale(width=64, layers=2, learning_rate=6e-3),
            "large": Scale(width=128, layers=3, learning_rate=4e-3),
        }
    )
    pre_training: PreTraining = field(default_factory=PreTraining)
    fine_tuning: FineTuning = field(default_factory=FineTuning)

    def stages(self) -> list[tuple[str, Manners | None]]:
        """Return scale and manners of every model; the bases, which others need, come first."""
        found: list[tuple[str, Manners | None]] = [(scale, None) for scale in reversed(self.scales)]
        found += [(scale, Manners.tuned) for scale in reversed(self.scales)]
        return [*found, ("small", Manners.helpful), ("small", Manners.harmless)]


def quick_plan() -> Plan:
    """Return a plan for a first try: a part of the world, and much less training."""
    return Plan(
        world_size=0.2,
        vocabulary=900,
        scales={
            "small": Scale(width=48, layers=2, learning_rate=6e-3),
            "large": Scale(width=96, layers=3, learning_rate=5e-3),
        },
        pre_training=PreTraining(steps=500),
        fine_tuning=FineTuning(steps=300, pairs=8, replay_rows=2),
    )


class Update(NamedTuple):
    """How far one model is."""

    seed: int
    model: str
    step: int
    steps: int
    loss: float


_TOKENIZER = "tokenizer"
_PLAN = "plan.json"
_LOCK = "lock"


class _Job(NamedTuple):
    folder: Path
    plan: Plan
    seed: int
    scale: str
    manners: Manners | None

    @property
    def model(self) -> str:
        return _name(self.scale, self.manners)

    @property
    def needs(self) -> Path | None:
        return None if self.manners is None else self.folder / _name(self.scale, None)

    @property
    def target(self) -> Path:
        return self.folder / self.model


def _name(scale: str, manners: Manners | None) -> str:
    return f"demo-{scale}-{manners.value if manners else 'base'}"


def family_folder(out: Path, seed: int) -> Path:
    """Return the folder of one seed's family below ``out``."""
    return out / f"seed-{seed}"


def build(
    out: Path,
    plan: Plan,
    seeds: Sequence[int],
    processes: int = 2,
    report: Callable[[Update], None] = lambda update: None,
) -> list[Path]:
    """Train the families of ``seeds`` below ``out`` and return their folders.

    Args:
        out: Where finished models and checkpoints lie.
        plan: What is trained; a folder remembers its plan and refuses another.
        seeds: Training seeds: initialisation, text and fine-tuning examples.
        processes: Models trained at a time, one thread each. Changes no result.
        report: Called with the progress of every model.

    Raises:
        ConfigError: ``out`` holds another plan's models.
        EftEvalError: A training process failed.
    """
    _remember(out, plan)
    if not (out / _TOKENIZER).is_dir():
        tokenizer = make_tokenizer(make_world(WORLD_SEED, plan.world_size), plan.vocabulary)
        with new_folder(out / _TOKENIZER) as part:
            tokenizer.save_pretrained(part)
    waiting = [
        _Job(family_folder(out, seed), plan, seed, scale, manners)
        for seed in seeds
        for scale, manners in plan.stages()
    ]
    waiting = [job for job in waiting if not job.target.is_dir()]
    waiting.sort(key=lambda job: job.manners is not None)  # bases of all seeds first
    context = multiprocessing.get_context("spawn")
    updates: Any = context.Queue()
    running: dict[Any, _Job] = {}
    try:
        while waiting or running:
            for job in [j for j in waiting if j.needs is None or j.needs.is_dir()]:
                if len(running) < processes:
                    waiting.remove(job)
                    process = context.Process(target=_train, args=(job, updates), daemon=True)
                    process.start()
                    running[process] = job
            _drain(updates, report)
            for process in [p for p in running if not p.is_alive()]:
                process.join()
                job = running.pop(process)
                if not job.target.is_dir():
                    raise EftEvalError(
                        f"training {job.model} of seed {job.seed} failed (exit code "
                        f"{process.exitcode}); its traceback is above, and the same command goes "
                        "on from the last checkpoint"
                    )
        _drain(updates, report)
    finally:
        for process in running:
            process.terminate()
    return [family_folder(out, seed) for seed in seeds]


def _drain(updates: Any, report: Callable[[Update], None]) -> None:
    """Hand on what has come, waiting a moment for the first."""
    wait = True
    while True:
        try:
            update = updates.get(timeout=0.2) if wait else updates.get_nowait()
        except queue.Empty:
            return
        report(update)
        wait = False


def _train(job: _Job, updates: Any) -> None:
    """Train one model, in a process of its own, and put it into its place when it is done."""
    end_with_parent()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(1)
    plan = job.plan
    world = make_world(WORLD_SEED, plan.world_size)
    make_folder(job.folder)
    checkpoint = job.folder / f"{job.model}.checkpoint"

    def progress(step: int, steps: int, loss: float) -> None:
        if step % 10 == 0 or step == steps:
            updates.put(Update(job.seed, job.model, step, steps, loss))

    tokenizer = AutoTokenizer.from_pretrained(job.folder.parent / _TOKENIZER)
    lesson = Lesson(world, tokenizer, job.seed, checkpoint, progress)
    if job.manners is None:
        model = pre_train(lesson, plan.scales[job.scale], plan.pre_training)
    else:
        base = AutoModelForCausalLM.from_pretrained(job.needs)
        window = plan.pre_training.window
        model = fine_tune(lesson, base, job.manners, plan.fine_tuning, window)

    with new_folder(job.target) as part:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
    checkpoint.unlink(missing_ok=True)


def end_with_parent() -> None:
    """End this process when its parent is gone, however that ended: nobody would wait for it."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def only_one(out: Path) -> Iterator[None]:
    """Hold a folder for this process alone: a new one, or one that `build` made.

    Raises:
        ConfigError: ``out`` is a file or holds something else, or another process works there.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: this is a file; give a folder")
    if not (out / _PLAN).is_file() and not (out / _LOCK).is_file():
        check_new_folder(out)
    make_folder(out)
    try:
        import fcntl
    except ImportError:  # no such lock on Windows
        yield
        return
    with (out / _LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"--out {out}: another process trains there; wait for it") from None
        yield


def _remember(out: Path, plan: Plan) -> None:
    import torch

    make_folder(out)
    file = out / _PLAN
    content = {**asdict(plan), "text_sha256": _text_digest(plan), "torch": torch.__version__}
    text = json.dumps(content, indent=2) + "\n"
    if not file.is_file():
        if foreign := sorted({path.name for path in out.iterdir()} - {_LOCK}):
            raise ConfigError(
                f"--out {out}: it holds {foreign[0]}, not made here; give a new folder"
            )
        write_lines(file, [text])
    elif file.read_text(encoding="utf-8") != text:
        raise ConfigError(
            f"--out {out}: models of another plan, version or world lie there (plan.json differs); "
            "choose another folder"
        )


def _text_digest(plan: Plan) -> str:
    """Return a hash of samples of all training text: it changes with world, words and shares."""
    world = make_world(WORLD_SEED, plan.world_size)
    source = random.Random(0)
    sample = [document(world, source) for _ in range(200)]
    sample += [str(fine_tuning_pair(world, kind, source)) for kind in Manners for _ in range(50)]
    return hashlib.sha256("\0".join([*sample, str(world.entities)]).encode()).hexdigest()
