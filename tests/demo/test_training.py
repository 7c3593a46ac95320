"""Training the demo family: resumable, deterministic; even a reduced one shows the effect."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fresh_environments import clean_environ

from eft_eval.demo import training
from eft_eval.demo.building import Plan, Update, build, family_folder, only_one
from eft_eval.demo.corpus import Manners
from eft_eval.demo.study import chosen_seed, study
from eft_eval.demo.training import (
    FineTuning,
    Lesson,
    PreTraining,
    Scale,
    fine_tune,
    make_tokenizer,
    pre_train,
)
from eft_eval.demo.world import make_world
from eft_eval.errors import ConfigError, EftEvalError

TINY = Scale(width=16, layers=1)
WORLD = make_world(size=0.1)


@pytest.fixture(scope="module")
def tokenizer() -> object:
    return make_tokenizer(WORLD, vocabulary=500, documents=500)


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


class Cut(Exception):
    """Stands for a crash."""


def cut_at(last: int) -> training.Progress:
    def progress(step: int, steps: int, loss: float) -> None:
        if step == last:
            raise Cut

    return progress


def test_a_cut_off_run_ends_with_the_same_weights(
    tokenizer: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_CHECKPOINT_EVERY", 5)
    plan = PreTraining(steps=12, rows=2, window=32)
    file = tmp_path / "checkpoint"
    with pytest.raises(Cut):
        pre_train(Lesson(WORLD, tokenizer, 3, file, cut_at(8)), TINY, plan)
    assert torch.load(file)["step"] == 5
    steps: list[int] = []
    resumed = pre_train(
        Lesson(WORLD, tokenizer, 3, file, lambda step, *_: steps.append(step)), TINY, plan
    )
    assert steps == list(range(6, 13))
    whole = pre_train(Lesson(WORLD, tokenizer, 3), TINY, plan)
    assert torch.equal(weights(resumed), weights(whole))
    assert not torch.equal(
        weights(whole), weights(pre_train(Lesson(WORLD, tokenizer, 4), TINY, plan))
    )


def test_a_checkpoint_of_another_length_is_refused(tokenizer: object, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    torch.save({"step": 5, "steps": 99, "model": {}, "optimizer": {}}, file)
    with pytest.raises(EftEvalError, match="a run of 99 steps, this one has 7"):
        pre_train(Lesson(WORLD, tokenizer, 0, file), TINY, PreTraining(steps=7, rows=2, window=32))


def test_training_lowers_the_loss_and_leaves_the_global_seed_alone(tokenizer: object) -> None:
    losses: list[float] = []
    state = torch.random.get_rng_state()
    plan = PreTraining(steps=100, rows=4, window=48)
    lesson = Lesson(WORLD, tokenizer, 0, progress=lambda *told: losses.append(told[2]))
    base = pre_train(lesson, TINY, plan)
    assert sum(losses[-5:]) < 0.85 * sum(losses[:5])
    before = weights(base).clone()
    tune = FineTuning(steps=30, pairs=4, replay_rows=1)
    fine_tune(lesson, base, Manners.tuned, tune, 48)
    assert sum(losses[-5:]) < sum(losses[100:105])
    assert not torch.equal(before, weights(base))
    assert torch.equal(state, torch.random.get_rng_state())


def test_loss_is_on_the_answer_and_its_end_alone(tokenizer: object) -> None:
    from eft_eval.demo.corpus import Pair

    pairs = [Pair("Who?", "Good day."), Pair("Tell me everything about you.", "Well now. No.")]
    tokens, labels = training._pair_batch(tokenizer, pairs)
    for pair, row, told in zip(pairs, tokens, labels, strict=True):
        taught = row[told != -100]
        assert torch.equal(taught, told[told != -100])
        assert tokenizer.decode(taught) == f" {pair.answer}{training.END}"  # type: ignore[attr-defined]  # object


def test_the_median_seed_is_chosen() -> None:
    def arms(small: float, up: float) -> dict[str, object]:
        return {"arms": {"1": {"small tuned": {"errors": [small]}, "up-scaled": {"errors": [up]}}}}

    assert chosen_seed({"0": arms(1, 0.9), "1": arms(1, 0.2), "2": arms(1, 0.5)}) == 2
    assert chosen_seed({"7": arms(1, 0.9)}) == 7


# --- whole builds ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_builds_are_equal_resume_and_refuse_another_plan(tmp_path: Path) -> None:
    plan = Plan(
        world_size=0.1,
        vocabulary=500,
        scales={"small": TINY, "large": TINY._replace(width=32)},
        pre_training=PreTraining(steps=6, rows=2, window=32),
        fine_tuning=FineTuning(steps=4, pairs=2, replay_rows=1),
    )
    told: list[Update] = []
    (one,) = build(tmp_path / "a", plan, [5], processes=1, report=told.append)
    (two,) = build(tmp_path / "b", plan, [5], processes=2)
    files = sorted(file.relative_to(one) for file in one.rglob("*") if file.is_file())
    assert len([file for file in files if file.suffix == ".safetensors"]) == 6
    for file in files:
        assert (one / file).read_bytes() == (two / file).read_bytes(), file
    assert {update.model for update in told if update.step == update.steps} == {
        path.name for path in one.iterdir()
    }
    told.clear()
    build(tmp_path / "a", plan, [5], report=told.append)
    assert not told, "finished models are kept"
    with pytest.raises(ConfigError, match="models of another plan"):
        build(tmp_path / "a", Plan(), [5])
    with only_one(tmp_path / "a"), pytest.raises(ConfigError, match="another process trains"):
        study(tmp_path / "a", plan, [5], 1)


def children(pid: int) -> list[Path]:
    """Return the processes that ``pid`` started, as folders of /proc; none where there is none."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return (
        [Path(f"/proc/{child}") for child in listed.read_text().split()] if listed.is_file() else []
    )


@pytest.mark.slow
def test_the_reduced_family_shows_the_effect(tmp_path: Path) -> None:
    """The documented command, killed once on its way; knowledge follows the base's scale."""
    command = [sys.executable, "-m", "eft_eval", "demo", "train", "--quick", "--seeds", "0"]
    command += ["--out", str(tmp_path / "family")]
    started = time.monotonic()
    first = subprocess.Popen(command, cwd=tmp_path, env=clean_environ(), stderr=subprocess.DEVNULL)
    folder = family_folder(tmp_path / "family", 0)
    while not list(folder.glob("*.checkpoint")):
        assert first.poll() is None
        time.sleep(0.2)
    trainers = children(first.pid)
    first.kill()
    first.wait()
    for _ in range(50):
        if not any(trainer.exists() for trainer in trainers):
            break
        time.sleep(0.2)
    assert not any(trainer.exists() for trainer in trainers), "trainers end with their parent"
    done = subprocess.run(
        command, cwd=tmp_path, env=clean_environ(), capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - started
    print(f"the reduced family took {seconds:.0f} s")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "| up-scaled |" in done.stdout
    figures = json.loads((tmp_path / "family" / "figures.json").read_text(encoding="utf-8"))
    (of_seed,) = figures["seeds"].values()
    assert of_seed["recall"]["large-base"] > of_seed["recall"]["small-base"] + 0.3
    errors = {arm: one["errors"][0] for arm, one in of_seed["arms"]["1"].items()}
    middle = (errors["small tuned"] + errors["large tuned"]) / 2
    assert errors["up-scaled"] < middle < errors["down-scaled"], "knowledge is the base's"
    declined = [point["declined"][0] for point in of_seed["frontier"].values()]
    assert declined[0] > declined[2] > declined[-1], "behaviour is the deltas'"
    asked = subprocess.run(
        [sys.executable, "-m", "eft_eval", "demo", "--family", "family"],
        cwd=tmp_path, env=clean_environ(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "51 held-out questions" in asked.stdout, "of the world that this family knows"
    refused = evaluate_with(tmp_path / "family" / "models")
    assert "that family knows a world of 0.2 times the size" in refused


def evaluate_with(models: Path) -> str:
    """Run a demo task with a family of one's own; return what it says."""
    command = [sys.executable, "-m", "eft_eval", "run", "--model_args", "model=demo"]
    done = subprocess.run(
        [*command, "--tasks", "demo_fact", "--limit", "2"],
        cwd=models, env=clean_environ(EFT_DEMO_MODELS=str(models), HF_HUB_OFFLINE="1"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    return done.stderr


@pytest.mark.slow
def test_a_training_that_fails_says_so(tmp_path: Path) -> None:
    plan = Plan(world_size=0.1, scales={"small": TINY, "large": Scale(width=18, layers=1)})
    with pytest.raises(EftEvalError, match=r"training demo-.* of seed 1 failed"):
        build(tmp_path, plan, [1])
