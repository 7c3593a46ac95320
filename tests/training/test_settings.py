"""What a training is: its closed description, its folder, and what it takes."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from preference_files import pairs, write_rows
from scipy import stats
from typer.testing import CliRunner

from eft_eval.cli.app import app
from eft_eval.engine.loading import LoadOptions, Member
from eft_eval.errors import ConfigError
from eft_eval.study.family import parse_family
from eft_eval.training import tuning
from eft_eval.training.figures import Figures, accuracy, held_out
from eft_eval.training.folder import PairFolder, SideFolder
from eft_eval.training.needs import adapter_parameters, memory_of
from eft_eval.training.pair import family_text, plan_pair
from eft_eval.training.settings import Training, find_training, training_names

OWN = {"reference": "demo:small-base"}


@pytest.mark.parametrize("name", training_names())
def test_trainings_that_ship_are_whole_and_say_what_is_the_papers(name: str) -> None:
    found = find_training(name, {})
    assert found.beta == 0.1
    assert found.large_base is not None
    assert found.helpful is found.harmless is None  # the hub's HH
    changed = find_training(name, {"beta": 0.3, "steps": None, "helpful": "a.jsonl"})
    assert changed.beta == 0.3
    assert changed.helpful is not None
    assert changed.helpful.train == ("a.jsonl",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("betta: 0.2\nreference: a/b", "unknown key 'betta' (did you mean 'beta'?)"),
        ("beta: 0.1", "'reference' is missing"),
        ("reference: a/b\nbeta: 0", "beta: got 0: input should be greater than 0"),
        ("reference: a/b\nbeta: .nan", "beta: got nan"),
        ("reference: a/b\nbatch-size: 6", "batch-size 6 is no multiple of micro-batch-size 4"),
        ("reference: {model: a/b, quantization: 8bit}", "a whole model without adapter"),
        ("reference: a/b\nhelpful: {trian: x}", "unknown key 'helpful.trian'"),
        ("reference: a/b\nhelpful: {train: []}", "helpful.train"),
        ("reference: a/b\nschedule: step", "schedule: got 'step'"),
        ("- a", "expected a mapping"),
        ("a: [", "it is not YAML"),
    ],
)
def test_a_wrong_training_is_one_line(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        find_training(str(file), {})
    assert said in str(caught.value)
    assert str(caught.value).startswith(("training file", "cannot read training file"))
    assert "\n" not in str(caught.value)


def test_an_unknown_training_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no training is called 'lama2' \(did you mean 'llama2'"):
        find_training("lama2", {})


def invoked(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["train-pair", *arguments])
    said = str(done.exception) if isinstance(done.exception, ConfigError) else ""
    return done.exit_code, done.output + said


def demo(tmp_path: Path, *arguments: str) -> list[str]:
    files = [write_rows(tmp_path / f"{s}.jsonl", pairs(s, 60)) for s in ("helpful", "harmless")]
    data = ["--helpful", str(files[0]), "--harmless", str(files[1]), "--held-out", "20"]
    out = ["--out", str(tmp_path / "pair")]
    return ["--reference", "demo:small-base", *data, *out, *arguments]


def test_a_dry_run_counts_and_loads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Member, "model", property(lambda _: pytest.fail("weights are loaded")))
    monkeypatch.setenv("COLUMNS", "160")
    write = demo(tmp_path, "--batch-size", "8", "--epochs", "2", "--dry-run")
    code, said = invoked(*write)
    assert code == 0
    row = next(line for line in said.splitlines() if "helpful.jsonl" in line)
    assert [cell.strip() for cell in row.split("│")[1:7]] == [
        "helpful", "helpful.jsonl", "40", "20", "10", "0",
    ]  # fmt: skip
    assert not (tmp_path / "pair").exists()


def test_a_dry_run_counts_the_tokens_that_are_read(tmp_path: Path) -> None:
    """The last step of an epoch is of the pairs that are left, and no pair is read twice."""
    for epochs, steps in ((2, 6), (None, 7)):  # 40 pairs, 16 a step: 16, 16 and 8
        changes = {"batch-size": 16, "held-out": 20}
        changes |= {"epochs": epochs} if epochs else {"steps": steps}
        files = {
            side: str(write_rows(tmp_path / f"{side}.jsonl", pairs(side, 60)))
            for side in ("helpful", "harmless")
        }
        given = {"reference": "demo:small-base", **files, **changes}
        for side in plan_pair(find_training(None, given), torch.device("cpu")).sides:
            assert (len(side.train.pairs), side.steps) == (40, steps)
            passes = 2 if epochs else 2 + 16 / 40
            assert side.tokens == round(passes * side.train.tokens)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max-length", "4000"], "max-length is 4000, and the reference reads"),
        (["--max-length", "8"], "pairs to train on have more than 8 tokens"),
        (["--held-out", "1"], "held-out: got 1"),
        (["--helpful", "nowhere.jsonl"], "helpful: there is no file or folder nowhere.jsonl"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    code, output = invoked(*demo(tmp_path, *arguments, "--dry-run"))
    assert code != 0
    assert said in output


def test_the_missing_package_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "find_spec", lambda name: None)
    code, output = invoked(*demo(tmp_path))
    assert code != 0
    assert 'training needs trl and peft (trl is missing): pip install "eft-eval[train]"' in output
    assert not (tmp_path / "pair").exists()


def test_no_model_is_one_line() -> None:
    assert "which model? give --reference MODEL" in invoked()[1]


def test_what_memory_needs_makes_no_other_training(tmp_path: Path) -> None:
    """Who has no memory left lowers it, and goes on."""
    settings = {"seed": 0, "micro-batch-size": 8, "gradient-checkpointing": False}
    with PairFolder(tmp_path / "p", settings).held(lambda: None):
        pass
    smaller = {**settings, "micro-batch-size": 2, "gradient-checkpointing": True}
    PairFolder(tmp_path / "p", smaller).check()


def test_a_folder_goes_on_with_its_own_training_alone(tmp_path: Path) -> None:
    folder = PairFolder(tmp_path / "p", {"beta": 0.1, "seed": 0})
    with folder.held(lambda: None):
        pass
    folder.check()
    PairFolder(tmp_path / "p", {"beta": 0.1, "seed": 0}).check()
    with pytest.raises(ConfigError, match=r"holds another training \(its beta differ\)"):
        PairFolder(tmp_path / "p", {"beta": 0.2, "seed": 0}).check()
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / "x").touch()
    with pytest.raises(ConfigError, match="is not empty and holds no training"):
        PairFolder(tmp_path / "q", {}).check()
    (tmp_path / "p" / "training.json").write_text("{")
    with pytest.raises(ConfigError, match="is no JSON"):
        folder.check()


def test_only_a_checkpoint_that_was_written_to_its_end_counts(tmp_path: Path) -> None:
    side = SideFolder(tmp_path)
    for step in (5, 10, 100):
        (side.checkpoints / f"checkpoint-{step}").mkdir(parents=True)
        (side.checkpoints / f"checkpoint-{step}" / "weights").write_bytes(b"12345")
        if step < 100:
            side.mark(step)
    assert side.last_step() == 10
    cut = side.checkpoints / "checkpoint-10" / "weights"
    cut.write_bytes(b"1234")
    assert side.last_checkpoint() == side.checkpoints / "checkpoint-5"
    assert [one.name for one in side.checkpoints.iterdir()] == ["checkpoint-5"]


def test_the_family_is_one_that_the_frontier_reads(tmp_path: Path) -> None:
    training = Training.model_validate({**OWN, "large-base": "demo:large-base"})
    text = family_text(training, PairFolder(tmp_path / "p", {}))
    family = parse_family(yaml.safe_load(text), "a test")
    assert family.small_helpful is not None
    assert family.small_helpful.adapter == str(tmp_path / "p" / "helpful" / "adapter")
    assert family.small_base is not None
    assert family.small_helpful.model == family.small_base.model == "demo:small-base"
    assert family.large_base is not None


def test_the_accuracys_interval() -> None:
    names = [str(number) for number in range(30)]
    margins = [0.5] * 21 + [-0.5] * 9
    found = accuracy(margins, names)
    reference = stats.binomtest(21, 30).proportion_ci(method="wilson")
    assert found[:3] == pytest.approx((0.7, reference.low, reference.high))
    clustered = accuracy([m for m in margins for _ in range(2)], [n for n in names for _ in (0, 1)])
    half = stats.t.ppf(0.975, 29) * math.sqrt(0.7 * 0.3 / 29)  # pairs of one prompt are one draw
    assert clustered[:3] == pytest.approx((0.7, 0.7 - half, 0.7 + half))
    tied = accuracy([0.0] * 10 + [1.0] * 10, names[:20])
    assert tied.estimate == 0.75
    all_right = accuracy([1.0] * 40, [*names[:20], *names[:20]])
    reference = stats.binomtest(20, 20).proportion_ci(method="wilson")
    assert all_right[:3] == pytest.approx((1.0, reference.low, 1.0))
    whole = held_out(margins, names)
    assert (whole.pairs, whole.prompts) == (30, 30)
    mean = stats.ttest_1samp(margins, 0).confidence_interval()
    assert whole.margin[1:3] == pytest.approx((mean.low, mean.high))


@pytest.mark.parametrize("layers", [["all-linear"], ["q_proj", "down_proj"]])
def test_the_adapters_size_is_pefts(layers: list[str]) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    training = Training.model_validate({**OWN, "layers": layers, "rank": 3})
    member = Member(training.reference, LoadOptions(), "reference")
    whole = AutoModelForCausalLM.from_config(member.config)
    targets: Any = "all-linear" if layers == ["all-linear"] else layers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of peft, about transformers' names
        made = get_peft_model(whole, LoraConfig(task_type="CAUSAL_LM", r=3, target_modules=targets))
    assert adapter_parameters(member, training) == made.get_nb_trainable_parameters()[0]
    memory = memory_of(training, 100)
    assert memory.adapter == 16 * memory.parameters
    with pytest.raises(ConfigError, match="layers: the reference has no layer called nothing"):
        adapter_parameters(member, Training.model_validate({**OWN, "layers": ["nothing"]}))


def test_settings_hold_what_changes_the_models_and_not_how_often_they_are_saved() -> None:
    one = Training.model_validate({**OWN, "save-every": 5})
    other = Training.model_validate({**OWN, "save-every": 6})
    assert one.identity == other.identity
    assert one.identity != Training.model_validate({**OWN, "rank": 8}).identity
    json.dumps(one.identity)


def test_a_step_that_float16_skips_is_no_end(tmp_path: Path) -> None:
    side = SideFolder(tmp_path)
    log = tuning._Log(side, lambda *_: None)
    half, full = SimpleNamespace(fp16=True), SimpleNamespace(fp16=False)
    state = SimpleNamespace(global_step=1, max_steps=2)
    log.on_log(half, state, None, {"loss": 0.7, "grad_norm": math.inf})
    assert [one["step"] for one in side.logged()] == [1]
    with pytest.raises(ConfigError, match="the gradient's norm inf"):
        log.on_log(full, state, None, {"loss": 0.7, "grad_norm": math.inf})
    with pytest.raises(ConfigError, match="step 1: the loss is nan"):
        log.on_log(half, state, None, {"loss": math.nan, "grad_norm": 1.0})


def test_figures_that_are_damaged_are_one_line(tmp_path: Path) -> None:
    side = SideFolder(tmp_path)
    assert side.figures is None
    ends = (0.0, 1.0)
    figures = Figures(3, 2, ends, ends, ends, held_out([1.0, 2.0, -0.5], ["a", "b", "c"]))
    side.finish(figures, [{"margin": 1.0}])
    assert side.figures == figures
    (tmp_path / "done.json").write_text('{"pairs": 3}')
    with pytest.raises(ConfigError, match=r"done\.json"):
        _ = side.figures
    side.log.write_text('{"step": 1}\n')
    with pytest.raises(ConfigError, match=r"log\.jsonl is no log of a training"):
        side.logged()
    side.log.write_text('{"step": 1, "lo')
    with pytest.raises(ConfigError, match=r"log\.jsonl, line 1: not JSON"):
        side.logged()
