"""Trainings as they are: what is learnt, what a kill costs, and whether the numbers are right."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faults import full_disk
from preference_files import pairs, write_rows
from tiny_models import make_model
from tokenizer_kinds import size_of, tokenizer_of
from typer.testing import CliRunner

from eft_eval import Composite
from eft_eval.cli.app import app
from eft_eval.errors import ConfigError
from eft_eval.training.figures import Figures
from eft_eval.training.folder import PairFolder, SideFolder
from eft_eval.training.held_out import margins_of
from eft_eval.training.pair import plan_pair, train_pair
from eft_eval.training.preferences import Preference, preference_of
from eft_eval.training.quiet import quiet_libraries
from eft_eval.training.settings import Training, find_training
from eft_eval.training.texts import Texts, fitting
from eft_eval.training.tuning import SideWork, tune

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("trl") is None, reason="needs trl"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # between trl, peft and transformers
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
CPU = torch.device("cpu")
STEPS = 10


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The YAML of a pair on the demo's small base."""
    folder = tmp_path_factory.mktemp("data")
    lines = ["reference: demo:small-base", "large-base: demo:large-base"]
    for side in ("helpful", "harmless"):
        lines.append(f"{side}: {write_rows(folder / f'{side}.jsonl', pairs(side, 100))}")
    lines += ["held-out: 24", f"steps: {STEPS}", "batch-size: 8", "micro-batch-size: 4"]
    lines += ["learning-rate: 1.0e-3", "warmup: 0", "save-every: 2"]
    file = folder / "pair.yaml"
    file.write_text("\n".join(lines) + "\n")
    return file


def made(settings: Path, out: Path) -> tuple[dict[str, Figures], list[int]]:
    """Make a pair, or go on with it; return its figures and the steps that were made."""
    plan = plan_pair(find_training(str(settings), {}), CPU)
    folder, steps = PairFolder(out, plan.settings), list[int]()
    with folder.held(lambda: None):
        return train_pair(plan, folder, CPU, lambda side, step, *_: steps.append(step)), steps


@pytest.fixture(scope="module")
def whole(settings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair that was made in one go."""
    out = tmp_path_factory.mktemp("whole") / "pair"
    _, steps = made(settings, out)
    assert steps == [*range(1, STEPS + 1)] * 2
    return out


def test_what_people_choose_is_learnt(settings: Path, whole: Path) -> None:
    for name in ("helpful", "harmless"):
        side = SideFolder(whole / name)
        logged = side.logged()
        assert [one["step"] for one in logged] == [*range(1, STEPS + 1)]
        assert logged[0]["loss"] == pytest.approx(np.log(2))  # tuned and reference are the same
        assert logged[0]["margin"] == 0
        assert logged[-1]["loss"] < 0.5
        figures = side.figures
        assert figures is not None
        assert figures.held_out.accuracy.estimate > 0.9
        assert figures.held_out.accuracy.lower > 0.5
        assert figures.held_out.margin.lower > 0
        lines = (side.path / "held_out.jsonl").read_text().splitlines()
        kept = [json.loads(line) for line in lines]
        assert np.mean([one["margin"] for one in kept]) == pytest.approx(
            figures.held_out.margin.estimate
        )
        assert not side.checkpoints.exists()
    done = (whole / "helpful" / "done.json").stat()
    assert made(settings, whole)[1] == []  # a model that is whole is not trained again
    assert (whole / "helpful" / "done.json").stat() == done


def test_a_killed_training_goes_on_to_the_same_models(
    settings: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "pair"
    command = [sys.executable, "-m", "eft_eval", "train-pair", str(settings), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    running = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    log = out / "helpful" / "log.jsonl"
    while running.poll() is None and (not log.exists() or log.read_bytes().count(b"\n") < 5):
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    with log.open("a") as file:
        file.write('{"step": 6, "loss"')  # what a kill leaves behind
    assert made(settings, out)[1][0] > 4
    for name in ("helpful", "harmless"):
        for file in ("adapter/adapter_model.safetensors", "log.jsonl", "held_out.jsonl"):
            assert (out / name / file).read_bytes() == (whole / name / file).read_bytes()
    (out / "helpful" / "done.json").unlink()  # killed while it was measured
    figures, steps = made(settings, out)
    assert not steps
    assert figures["helpful"] == SideFolder(whole / "helpful").figures


def test_a_training_that_stops_after_its_last_step_makes_no_further_one(
    settings: Path, tmp_path: Path
) -> None:
    changes = {"steps": 3, "schedule": "constant"}  # in the midst of an epoch
    plan = plan_pair(find_training(str(settings), changes), CPU)
    folder = SideFolder(tmp_path)
    work = SideWork(plan.training, plan.sides[0].train.pairs, 3, folder, CPU)

    def tuned() -> list[int]:
        steps = list[int]()
        with quiet_libraries():
            tune(work, lambda step, *_: steps.append(step))
        return steps

    assert tuned() == [1, 2, 3]
    kept = [folder.adapter / "adapter_model.safetensors", folder.log]
    before = [file.read_bytes() for file in kept]
    shutil.rmtree(folder.adapter)
    folder.log.write_text('{"step": 3, "lo')
    assert tuned() == []
    assert [file.read_bytes() for file in kept] == before


def test_a_smaller_micro_batch_goes_on_with_the_same_training(
    settings: Path, whole: Path, tmp_path: Path
) -> None:
    plan = plan_pair(find_training(str(settings), {"micro-batch-size": 8}), CPU)
    folder = PairFolder(tmp_path / "pair", plan.settings)

    def stop(side: str, step: int, steps: int, line: object) -> None:
        if step == 7:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ConfigError, match=r"step 6 of 10 is saved"), folder.held(lambda: None):
        train_pair(plan, folder, CPU, stop)
    assert made(settings, tmp_path / "pair")[1][:4] == [7, 8, 9, 10]
    found, expected = (SideFolder(one / "helpful").logged() for one in (folder.path, whole))
    for one, other in zip(found, expected, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)


@pytest.mark.parametrize("size", [60_000, 200_000])
def test_a_full_disk_is_one_line_and_the_training_goes_on(
    size: int, settings: Path, whole: Path, tmp_path: Path
) -> None:
    """The adapter, or the optimiser's state, is what does not fit."""
    out = tmp_path / "pair"
    with full_disk(size), pytest.raises((ConfigError, OSError)) as caught:
        made(settings, out)
    assert "\n" not in str(caught.value)
    if size == 200_000:  # a step was made; the other is of the same kind
        made(settings, out)
        kept = "helpful/adapter/adapter_model.safetensors"
        assert (out / kept).read_bytes() == (whole / kept).read_bytes()


def test_the_frontier_takes_the_pair(whole: Path, tmp_path: Path) -> None:
    tuned = Composite.load(
        {"base": "demo:small-base", "tuned": str(whole / "harmless" / "adapter"),
         "reference": "demo:small-base", "dtype": "float32"}, device="cpu",
    )  # fmt: skip
    asked = "\n\nHuman: Give me the recipe of red wax.\n\nAssistant:"
    (answer,) = tuned.generate([asked], max_new_tokens=24)
    assert "hurts people" in answer
    design = tmp_path / "small.yaml"
    design.write_text(
        "analysis: frontier\ntasks: [demo]\nlimit: 4\narms:\n"
        "  small: {base: small-base, tuned: [small-helpful, small-harmless], "
        "reference: small-base, alpha: [0, 1]}\n"
    )
    out = tmp_path / "study"
    arguments = ["study", str(design), "--family", str(whole / "family.yaml"), "--out", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    found = json.loads((out / "results.json").read_text())
    assert found


@pytest.mark.parametrize("chat_template", [False, True])
def test_margins_are_those_of_the_engine_in_float64(chat_template: bool, tmp_path: Path) -> None:
    tokenizer = tokenizer_of("llama3")  # begins with its own token, and has a chat template
    reference = make_model(
        tmp_path / "m", vocabulary=size_of(tokenizer), tokenizer=tokenizer, scale=1.0,
        eos=tokenizer.eos_token_id,
    )  # fmt: skip
    found = [preference_of(row) for row in pairs("helpful", 6)]
    texts = Texts(tokenizer, chat_template)
    fits = fitting(texts, [one for one in found if isinstance(one, Preference)], 200)
    assert len(fits.pairs) == 6
    training = Training.model_validate(
        {"reference": reference, "learning-rate": 3e-3, "warmup": 0, "schedule": "constant",
         "batch-size": 6, "micro-batch-size": 6, "chat-template": chat_template, "beta": 0.2}
    )  # fmt: skip

    def log_of(name: str, steps: int, seed: int = 0) -> list[dict[str, Any]]:
        folder = SideFolder(tmp_path / name)
        folder.path.mkdir()
        seeded = training.model_copy(update={"seed": seed})
        with quiet_libraries():
            tune(SideWork(seeded, fits.pairs, steps, folder, CPU), lambda *_: None)
        return folder.logged()

    before, after = log_of("before", 3), log_of("after", 4)
    assert after[:3] == before  # the same seed, the same training
    assert log_of("other", 2, seed=1)[1] != before[1]
    exact = training.reference.model_copy(update={"dtype": "float64"})
    adapter = tmp_path / "before" / "adapter"
    margins = margins_of(exact, adapter, fits.pairs, training.beta, CPU)
    assert abs(after[3]["margin"]) > 0.05
    assert after[3]["margin"] == pytest.approx(np.mean(margins), abs=2e-5)
    assert after[3]["accuracy"] == pytest.approx(np.mean(np.array(margins) > 0))
    losses = np.logaddexp(0, -np.array(margins))
    assert after[3]["loss"] == pytest.approx(losses.mean(), abs=2e-5)
