"""The block length: learnt from acceptance and costs; the loop's peak memory; runs of lm-eval."""

from __future__ import annotations

import json
import random
import re
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.tasks import TaskManager
from tiny_models import byte_tokenizer, make_model, perturb
from torch.utils._python_dispatch import TorchDispatchMode

from eft_eval import Composite, hook
from eft_eval.decoding import Decoder, Request, SamplingRule
from eft_eval.decoding.block import LONGEST_BLOCK, BlockChooser, Round, expected_tokens

# --- the choice -----------------------------------------------------------------------------------


class Machine:
    """Pretends to decode: drafts are accepted with a fixed chance, passes take fixed times."""

    def __init__(self, acceptance: float, draft: float, base: float, widening: float) -> None:
        self.acceptance, self.draft = acceptance, draft
        self.base, self.widening = base, widening
        self.random = random.Random(0)

    def verify(self, width: int) -> float:
        return self.base * (1 + self.widening * (width - 1))

    def round(self, block: int, rows: int) -> Round:
        runs = []
        for _ in range(rows):
            run = 0
            while run < max(block, 1) and self.random.random() < self.acceptance:
                run += 1
            runs.append(run)
        noise = self.random.uniform(0.97, 1.05)
        bonus = self.draft if max(runs) == block or block == 0 else None
        return Round(rows, block, tuple(runs), block * self.draft * noise,
                     self.verify(block + 1) * noise, bonus)  # fmt: skip

    def speed(self, chooser: BlockChooser, tokens: int, rows: int = 1) -> float:
        """Tokens per second and row of a response of that many tokens."""
        made, took = 0.0, 0.0
        while made < tokens:
            block = chooser.choose(rows, 10**6)
            seen = self.round(block, rows)
            chooser.observe(seen)
            made += 1 + (sum(seen.runs) / rows if block else 0)
            took += seen.draft_seconds + seen.verify_seconds + (seen.bonus_seconds or 0)
        return made / took


@pytest.mark.parametrize("rows", [1, 16])
@pytest.mark.parametrize("widening", [0.0, 0.1, 0.5])
def test_a_useless_draft_costs_at_most_five_percent(rows: int, widening: float) -> None:
    machine = Machine(0.02, 1.0, 10.0, widening)
    plain = machine.speed(BlockChooser(0), 400, rows)
    assert machine.speed(BlockChooser("auto"), 400, rows) > 0.95 * plain


@pytest.mark.parametrize("rows", [1, 8])
@pytest.mark.parametrize("widening", [0.4, 0.6, 1.0])
def test_a_cheap_pair_that_gains_nothing_is_decoded_plainly(rows: int, widening: float) -> None:
    """A base of twice the draft's cost, a reference of the draft's, every second draft stands."""
    machine = Machine(0.5, 1.0, 3.0, widening)
    fixed = [machine.speed(BlockChooser(block), 1500, rows) for block in range(5)]
    assert max(fixed[2:]) < fixed[0]
    assert machine.speed(BlockChooser("auto"), 1500, rows) > 0.97 * max(fixed)


@pytest.mark.parametrize("acceptance", [0.6, 0.8, 0.9, 0.97])
@pytest.mark.parametrize(("base", "widening"), [(10.0, 0.02), (10.0, 0.2), (4.0, 0.02)])
def test_auto_comes_close_to_the_best_fixed_block(
    acceptance: float, base: float, widening: float
) -> None:
    machine = Machine(acceptance, 1.0, base, widening)
    fixed = [machine.speed(BlockChooser(block), 1500) for block in range(LONGEST_BLOCK + 1)]
    assert machine.speed(BlockChooser("auto"), 1500) > 0.9 * max(fixed)


def test_it_turns_on_again_when_the_draft_gets_better() -> None:
    chooser, machine = BlockChooser("auto"), Machine(0.02, 1.0, 12.0, 0.02)
    machine.speed(chooser, 200)
    assert chooser.choose(1, 100) <= 1
    machine.acceptance = 0.95
    machine.speed(chooser, 200)
    assert max(chooser.choose(1, 100) for _ in range(3)) >= 6


def test_another_draft_is_worth_less_the_less_is_sure() -> None:
    chooser, machine = BlockChooser("auto"), Machine(0.9, 1.0, 10.0, 0.02)
    machine.speed(chooser, 300)
    assert chooser.goes_on(1, [0.95])
    assert not chooser.goes_on(1, [0.05])
    assert chooser.sureness([0.0]) < chooser.sureness([1.2]) < chooser.sureness([20.0])


@given(st.lists(st.floats(0, 1), max_size=8))
def test_expected_tokens_is_the_mean_of_a_simulation(acceptance: list[float]) -> None:
    draw = random.Random(1)
    total = 0
    for _ in range(400):
        run = 1
        for chance in acceptance:
            if draw.random() >= chance:
                break
            run += 1
        total += run
    # five standard errors of a count of at most 9
    assert expected_tokens(acceptance) == pytest.approx(total / 400, abs=5 * 4.5 / 20)


def test_a_fixed_block_is_kept_but_for_the_end() -> None:
    assert BlockChooser(5).choose(3, 100) == 5
    assert BlockChooser(5).choose(3, 2) == 2
    assert BlockChooser("auto").choose(1, 0) == 0


# --- memory ---------------------------------------------------------------------------------------


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are alive; the peak is what a run needed at a time.

    Views of weights are no tensors of the run.
    """

    def __init__(self, weights: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self.live, self.peak, self._seen = 0, 0, dict[int, int]()
        for weight in weights:
            self._seen[weight.untyped_storage().data_ptr()] = 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (list, tuple)) else [out]:
            if isinstance(tensor, torch.Tensor):
                self._count(tensor)
        return out

    def _count(self, tensor: torch.Tensor) -> None:
        place, size = tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()
        if place == 0:
            return
        if place not in self._seen:
            self.live += size
            self.peak = max(self.peak, self.live)
        self._seen[place] = self._seen.get(place, 0) + 1
        weakref.finalize(tensor, self._drop, place, size)

    def _drop(self, place: int, size: int) -> None:
        self._seen[place] -= 1
        if self._seen[place] == 0:
            del self._seen[place]
            self.live -= size


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_peak_memory_is_one_block_per_member_in_flight(tmp_path: Path, temperature: float) -> None:
    """Beyond weights and caches; a vocabulary that dwarfs all else."""
    size, rows, block = 20_000, 4, 4
    extra = tuple(f"<{i}>" for i in range(size - 259))
    tokenizer = byte_tokenizer(extra=extra)
    small = make_model(tmp_path / "small", vocabulary=size, hidden=8, layers=1, tokenizer=tokenizer)
    paths = {"base": perturb(small, tmp_path / "base", seed=1, amount=0.1), "reference": small,
             "tuned": perturb(small, tmp_path / "tuned", seed=2, amount=0.1)}  # fmt: skip
    composite = Composite.load(paths, device="cpu")
    requests = [Request(([40, 50, 60 + i],) * 3, i) for i in range(rows)]
    rule = SamplingRule(temperature)
    Decoder(composite, block).generate(requests, rule, 2)  # weights, tables of the noise
    decoder = Decoder(composite, block)
    weights = [p for one in composite.members.values() for p in one.model.parameters()]
    with LiveBytes(weights) as seen:
        decoder.generate(requests, rule, 12)
    caches = 3 * 2 * rows * 2 * 2 * 128 * 4  # views, keys and values, heads, size, positions
    in_flight = 3 + 1  # the members', and the noise of the round
    one_block = rows * (block + 1) * size * 4
    assert seen.peak - caches <= in_flight * one_block
    assert seen.peak > one_block  # the instrument does see the blocks


# --- inside lm-eval -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs() -> dict[str, dict[str, Any]]:
    manager = TaskManager(include_path=str(hook.task_folder()), include_defaults=False)
    return {
        block: lm_eval.simple_evaluate(
            model="eft", model_args=f"model=demo,block={block}", tasks=["demo_fact", "demo_harm"],
            task_manager=manager, batch_size=8, limit=24, log_samples=True,
        )
        for block in ("0", "auto", "3")
    }  # fmt: skip


def test_samples_of_a_run_do_not_depend_on_the_block(runs: dict[str, dict[str, Any]]) -> None:
    plain, drafted, fixed = (
        re.sub(r"created[^,]*", "", json.dumps(runs[block]["samples"], sort_keys=True, default=str))
        for block in ("0", "auto", "3")
    )
    assert drafted == plain
    assert fixed == plain
    names = {run["config"]["eft_name"] for run in runs.values()}
    assert len(names) == 1


def test_results_say_how_fast_and_how_well_drafted(runs: dict[str, dict[str, Any]]) -> None:
    plain, drafted = (runs[block]["config"]["eft_decoding"] for block in ("0", "auto"))
    assert plain["requests"] == drafted["requests"] == 48
    assert plain["tokens"] == drafted["tokens"]
    assert plain["rounds_by_block"].keys() == {"0"}
    assert plain["acceptance"] is None
    assert drafted["acceptance"] > 0.7
    assert drafted["rounds"] < plain["rounds"]
    assert set(drafted["passes"]) == {"base", "tuned", "reference"}
    assert 0 < drafted["own_time_share"] < 1
