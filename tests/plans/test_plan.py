"""Plans against arithmetic by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from eft_eval.cli.app import app
from eft_eval.errors import ConfigError
from eft_eval.plans.hardware import Device, Hardware, parse_hardware
from eft_eval.plans.layout import Spread, laid_out, rank_memory
from eft_eval.plans.members import planned_composite
from eft_eval.plans.plan import Plan, PlanSettings, make_plan
from eft_eval.plans.speed import Workload, efficiency_of, speed_of
from eft_eval.recipe import parse_model_args, parse_recipe

GIB = 2**30
WORK = Workload(1000, 256, 256, 0, 0, 512)


def made(name: str, hardware: str, work: Workload = WORK, **settings: Any) -> Plan:
    return make_plan(parse_recipe(name), parse_hardware(hardware), work, PlanSettings(**settings))


def test_memory_of_a_rank_is_the_sum_by_hand() -> None:
    layout = laid_out(planned_composite(parse_recipe("llama2-up")), "eft-vllm")
    device = parse_hardware("8xA100-80GB").device
    memory = rank_memory(layout, Spread(4, 10, 512), device)
    large, small = 68976648192 * 2, 6738415616 * 2
    assert sum(memory.weights.values()) == pytest.approx((large + 2 * small) / 4, abs=4)
    cache_large, cache_small = 80 * 2 * 8 * 128 * 2, 32 * 2 * 32 * 128 * 2
    assert sum(memory.caches.values()) == 10 * 512 * (cache_large + 2 * cache_small) // 4
    assert memory.draft == (small + 10 * 512 * cache_small) // 4
    assert memory.scores == 10 * 5 * 32000 * 4 * 3  # rows, drafts and one, V, float32, parts
    assert memory.available == int(device.memory * 0.92)


def test_a_cpu_keeps_libraries_and_with_vllm_two_orders_of_tables() -> None:
    device = parse_hardware("CPU:640GB@40GBps").device
    composite = planned_composite(parse_recipe("llama2-up"))
    large, small = 68976648192 * 2, 6738415616 * 2
    vllm = rank_memory(laid_out(composite, "eft-vllm"), Spread(1, 10, 512), device)
    # embeddings and output layer, each
    tables_large, tables_small = 2 * 32000 * 8192 * 2, 2 * 32000 * 4096 * 2
    tables = tables_large + 2 * tables_small
    assert sum(vllm.weights.values()) == large + 2 * small + tables
    assert vllm.draft == small + tables_small + 10 * 512 * 32 * 2 * 32 * 128 * 2
    ours = rank_memory(laid_out(composite, "eft"), Spread(1, 10, 512), device)
    assert sum(ours.weights.values()) == large + 2 * small
    assert 0.5 * GIB < ours.runtime < vllm.runtime < GIB


@pytest.mark.parametrize(
    ("rows", "length", "read"), [(32, 512, 2048), (2, 512, 1024), (3, 4000, 4000)]
)
def test_prompts_are_read_a_few_rows_at_a_time(rows: int, length: int, read: int) -> None:
    layout = laid_out(planned_composite(parse_recipe("llama2-up")), "eft")
    memory = rank_memory(layout, Spread(1, rows, length), parse_hardware("H200").device)
    assert memory.activations == read * (2 * 28672 + 4 * 8192) * 2


def test_the_draft_reads_its_last_token_as_soon_as_one_row_needs_it() -> None:
    device = Device("x", 10**12, 1e12, 1e18)
    layout = laid_out(planned_composite(parse_model_args("model=llama2-up,block=4").recipe), "eft")

    def seconds(acceptance: float) -> float:
        hardware = Hardware(device, 1)
        return speed_of(layout, Spread(1, 8, 512), hardware, WORK, acceptance).round_seconds

    extra = seconds(1.0) - seconds(0.0)  # one pass of the small model over 8 rows
    chance = 1 - (1 - 0.5**4) ** 8
    assert seconds(0.5) - seconds(0.0) == pytest.approx(chance * extra)


def test_shared_keys_are_kept_by_every_rank() -> None:
    layout = laid_out(planned_composite(parse_recipe("qwen2.5-7b-up")), "eft-vllm")
    assert layout.works[0].heads[:2] == (28, 4)
    assert layout.unfit(2) is None
    assert "14 attention heads" in (layout.unfit(4) or "")  # of the small members


def test_what_does_not_fit_and_what_would() -> None:
    found = made("llama2-up", "1xA100-80GB", engine="eft-vllm")
    assert not found.memory.fits
    assert any(line.startswith("4 devices a copy") for line in found.remedies)
    assert any(line.startswith("checkpoints of 4bit") for line in found.remedies)
    assert any("2xH200" in line for line in found.remedies)
    again = made("llama2-up", "4xA100-80GB", engine="eft-vllm")
    assert again.memory.fits
    assert again.spread.ranks == 4
    less = made("llama2-up", "1xA100-80GB", batch=4096)
    assert any(line.startswith("quantization=4bit") for line in made("llama2-up", "A100").remedies)
    assert not less.memory.fits


def test_heads_that_cannot_be_cut_leave_one_device_a_copy() -> None:
    found = made("falcon-up", "8xA100-80GB", engine="eft-vllm")
    assert found.spread.ranks == 1
    assert not found.memory.fits
    assert any("71 attention heads" in note for note in found.notes)
    assert any(line.startswith("--engine eft on 5 devices") for line in found.remedies)
    with pytest.raises(ConfigError, match="cannot be cut into 2 equal ranks"):
        made("falcon-up", "8xA100-80GB", engine="eft-vllm", ranks=2)


PLACED = "model=qwen2.5-7b-up,tuned.placement=cuda,reference.placement=cuda:0,base.placement="


def test_a_member_lies_on_the_device_that_it_is_placed_on() -> None:
    def plan(placement: str, hardware: str, **settings: Any) -> Plan:
        recipe = parse_model_args(PLACED + placement).recipe
        return make_plan(recipe, parse_hardware(hardware), WORK, PlanSettings(**settings))

    large, small = 7615616512 * 2, 494032768 * 2
    second = plan("cuda:1", "2xA100-80GB")
    assert second.spread.ranks == 2
    assert sorted(second.memory.weights.values()) == [0, 0, large]
    first = plan("cuda", "2xA100-80GB", ranks=2)
    assert sorted(first.memory.weights.values()) == [small, small, large]
    with pytest.raises(ConfigError, match=r"--ranks 1: base member .* is placed on device 1"):
        plan("cuda:1", "2xA100-80GB", ranks=1)
    with pytest.raises(ConfigError, match=r"is placed on device 1; --hardware has 1"):
        plan("cuda:1", "1xA100-80GB")
    tight = plan("cuda:1", "2x4GB@1000GBps")
    assert "2xA100-80GB" in tight.remedies[-1]  # not fewer than the device it is placed on
    host = plan("cpu", "1xA100-80GB")
    assert sorted(host.memory.weights.values()) == [0, small, small]
    assert any("placement=cpu" in note for note in host.notes)
    alone = plan("cpu", "CPU:64GB@40GBps")
    assert sorted(alone.memory.weights.values()) == [small, small, large]
    assert not alone.notes


def test_rows_are_as_many_where_everything_is_scored() -> None:
    scored = WORK._replace(responses=0, prompt_tokens=0, scored=1000, scored_tokens=512)
    assert made("qwen2.5-7b-up", "H100", scored).spread.rows == 32


def test_the_fewest_devices_are_those_of_the_engine() -> None:
    assert "3xA100-80GB" in made("llama2-up", "1xA100-80GB").remedies[-1]
    assert "4xA100-80GB" in made("llama2-up", "1xA100-80GB", engine="eft-vllm").remedies[-1]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ("sampling=coupled", "vLLM draws its own noise"),
        ("base.prompt=a.jinja", "prompt of its own"),
    ],
)
def test_what_vllm_refuses_has_no_plan(tmp_path: Path, changes: str, word: str) -> None:
    (tmp_path / "a.jinja").write_text("{{ prompt }}")
    changes = changes.replace("a.jinja", str(tmp_path / "a.jinja"))
    recipe = parse_model_args(f"model=qwen2.5-7b-up,{changes}").recipe
    with pytest.raises(ConfigError, match=word):
        make_plan(recipe, parse_hardware("H100"), WORK, PlanSettings("eft-vllm"))


def test_a_round_by_hand() -> None:
    """One row, bandwidth alone: weights and caches over bytes a second, and each layer's own."""
    device = Device("x", 10**12, 1e12, 1e18)
    layout = laid_out(planned_composite(parse_recipe("llama2-up")), "eft")
    speed = speed_of(layout, Spread(1, 1, 512), Hardware(device, 1), WORK, 0.5)
    reached = efficiency_of("eft", device)
    bytes_ = {}
    for name, layers, parameters, table, per_token in (
        ("base", 80, 68976648192, 32000 * 8192, 80 * 2 * 8 * 128 * 2),
        ("small", 32, 6738415616, 32000 * 4096, 32 * 2 * 32 * 128 * 2),
    ):
        read = 2 * (parameters - table) + (256 + 128) * per_token
        bytes_[name] = read / (1e12 * reached.bandwidth) + layers * reached.layer
    best = 0.0
    for block in range(25):
        tokens = sum(0.5**i for i in range(block + 1))
        passes = block + 0.5**block if block else 1
        seconds = bytes_["base"] + bytes_["small"] + passes * bytes_["small"]
        seconds += 3 * (block + 1) * 32000 * 4 * 5 / (1e12 * reached.bandwidth)
        best = max(best, tokens / seconds)
    assert speed.decoding == pytest.approx(best, rel=1e-9)
    assert speed.tokens_per_round == pytest.approx(sum(0.5**i for i in range(speed.block + 1)))


@settings(max_examples=25)
@given(acceptance=st.floats(0, 1), rows=st.integers(1, 64), number=st.sampled_from([1, 2, 8, 64]))
def test_more_is_never_worse(acceptance: float, rows: int, number: int) -> None:
    layout = _LAYOUT
    device = parse_hardware("H100").device

    def seconds(chance: float, devices: int) -> float:
        hardware = Hardware(device, devices)
        return speed_of(layout, Spread(1, rows, 512), hardware, WORK, chance).generation_seconds

    assert seconds(min(1.0, acceptance + 0.1), number) <= seconds(acceptance, number) * (1 + 1e-9)
    assert seconds(acceptance, 2 * number) == pytest.approx(seconds(acceptance, number) / 2)
    layout_memory = [
        rank_memory(layout, Spread(1, more, 512), device).total for more in (rows, rows + 1)
    ]
    assert layout_memory[0] < layout_memory[1]


_LAYOUT = laid_out(planned_composite(parse_recipe("qwen2.5-7b-up")), "eft")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"engine": "vllm"}, "eft-vllm"),
        ({"ranks": 16}, "one machine"),
        ({"ranks": 0}, "from 1 to 1,000,000"),
        ({"batch": 0}, "from 1 to 1,000,000"),
        ({"batch": 10**400}, "from 1 to 1,000,000"),
        ({"acceptance": 1.5}, "between 0 and 1"),
        ({"work": WORK._replace(longest=10_000)}, "the shortest member reads 4,096"),
    ],
)
def test_settings_out_of_range_are_one_line(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        made("llama2-up", "8xA100", **changes)
    assert "\n" not in str(caught.value)


def test_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EFT_VERDICT_STORE", str(tmp_path / "new" / "store"))
    words = ["plan", "llama2-up", "--hardware", "8xA100-80GB", "--engine", "eft-vllm"]
    words += ["--prompts", "1000000", "--judge", "gpt-4.1-2025-04-14"]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    memory = found["memory"]
    parts = sum(memory["weights"].values()) + sum(memory["caches"].values())
    parts += sum(memory[name] for name in ("draft", "scores", "activations", "runtime"))
    assert memory["total"] == parts <= memory["available"]
    judging = found["judging"]
    assert judging["new"] == 1_000_000
    cost = (2.0 * judging["prompt_tokens"] + 8.0 * judging["reply_tokens"]) / 1e6
    assert judging["cost_usd"] == pytest.approx(cost)
    shown = CliRunner().invoke(app, words, env={"COLUMNS": "120"}).stdout
    assert f"${judging['cost_usd']:,.2f}" in shown
    assert not [*tmp_path.iterdir()]  # a plan makes no store
    small = CliRunner().invoke(app, ["plan", "llama2-up", "--hardware", "4090"])
    assert small.exit_code == 1
    assert "It does not fit" in small.stdout


@pytest.mark.slow
def test_tasks_say_what_they_ask() -> None:
    words = ["plan", "demo", "--hardware", "CPU:8GB@10GBps", "--limit", "3", "--json"]
    done = CliRunner().invoke(app, [*words, "--tasks", "demo_fact"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["rows"] == 3
    assert found["judging"] is None  # the demo's judge is exact and costs nothing
    assert found["speed"]["generation_seconds"] > 0
    wrong = CliRunner().invoke(app, [*words, "--tasks", "demo_fcat"])
    assert isinstance(wrong.exception, ConfigError)
    assert "demo_fcat" in str(wrong.exception)


@pytest.mark.slow
def test_a_plan_asks_no_judge_of_a_task_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data.jsonl").write_text('{"question": "Q", "answer": "A"}\n' * 2)
    (tmp_path / "own.yaml").write_text(
        f"""
task: own
dataset_path: json
dataset_kwargs: {{data_files: {{test: {tmp_path / "data.jsonl"}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{max_gen_toks: 8, until: []}}
filter_list: [{{name: judge, filter: [{{function: eft_judge}}]}}]
metric_list: [{{metric: exact_match}}]
"""
    )
    monkeypatch.setenv("EFT_VERDICT_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("EFT_JUDGE_MODEL", "gpt-4.1-2025-04-14")
    monkeypatch.setattr("eft_eval.tasks.judge_filter.judge_responses", _asked)
    words = ["plan", "demo", "--hardware", "CPU:8GB@10GBps", "--json", "--tasks"]
    done = CliRunner().invoke(app, [*words, str(tmp_path / "own.yaml")])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["judging"]["new"] == 2
    assert not (tmp_path / "store").exists()


def _asked(*_: object) -> None:
    raise AssertionError("somebody was asked")
