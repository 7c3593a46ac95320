"""The commands as users run them: the built wheel, an empty folder, real prompts, an HTTP judge."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import re
import shutil
import socket
import statistics
from dataclasses import dataclass
from pathlib import Path

import pytest
from forked_commands import Forked
from fresh_environments import ROOT, call
from stock_commands import (
    DATA,
    TASKS,
    Done,
    Judge,
    Run,
    Workbench,
    classify,
    eli5_questions,
    read_run,
    responses,
)
from tiny_models import byte_tokenizer, make_model

pytestmark = pytest.mark.slow
LIMIT = 16
METRICS = {
    "fact_errors",
    "fact_any_error",
    "fact_abstained",
    "fact_refused",
    "fact_unreadable",
    "fact_missing",
    "fact_unfinished",
}


def judged(judge: Judge) -> dict[str, str]:
    """Return the settings that name the judge."""
    return {"EFT_JUDGE_BASE_URL": judge.server.url, "OPENAI_API_KEY": "sesame"}


@dataclass
class MainJob:
    """One run of the stock command, and what the judge had been asked after it."""

    done: Done
    run: Run
    asked: int


MAIN = (
    *("--tasks", ",".join(TASKS), "--limit", str(LIMIT), "--log_samples"),
    *("--batch_size", "8", "--gen_kwargs", "max_gen_toks=24"),
)


def data_settings(bench: Workbench) -> dict[str, str]:
    hh = DATA / "hh_rlhf"
    if not hh.is_dir():
        pytest.skip("needs ../shared/data/hh_rlhf")
    return {"EFT_ELI5_DATA": str(bench.eli5), "EFT_HH_DATA": str(hh)}


@pytest.fixture(scope="module")
def main_job(bench: Workbench, judge: Judge) -> MainJob:
    output = bench.folder / "main"
    command = ("lm_eval", "--model", "eft", "--model_args", bench.model_args, *MAIN)
    done = bench.run(*command, "--output_path", output, **judged(judge), **data_settings(bench))
    assert done.code == 0, done.err[-3000:]
    return MainJob(done, read_run(output), len(judge.server.chats))


def test_the_installed_wheel_is_what_runs(bench: Workbench) -> None:
    program = (
        "import eft_eval, lm_eval, importlib.metadata as m; print(eft_eval.__file__);"
        "print(lm_eval.__file__); print(m.distribution('eft-eval').locate_file(''))"
    )
    ours, harness, distribution = call(
        bench.environment.python, "-c", program, cwd=bench.folder
    ).splitlines()
    assert Path(ours).is_relative_to(bench.environment.site_packages)
    assert Path(distribution) == bench.environment.site_packages
    assert not Path(harness).is_relative_to(bench.environment.folder)


def test_the_run_is_complete(main_job: MainJob, bench: Workbench) -> None:
    run = main_job.run
    assert sorted(run.samples) == sorted(TASKS)
    assert {task: len(samples) for task, samples in run.samples.items()} == dict.fromkeys(
        TASKS, LIMIT
    )
    assert len(list((bench.folder / "main").rglob("*.json*"))) == 3
    for task in TASKS:
        assert re.search(rf"^\|{task} *\|", main_job.done.out, re.MULTILINE)
        assert run.results["n-samples"][task]["effective"] == LIMIT
    for metric in METRICS:
        assert len(re.findall(rf"\|{metric} *\|", main_job.done.out)) == len(TASKS)
    assert main_job.asked == len(set(judge_texts(run)))


def judge_texts(run: Run) -> list[str]:
    return [text.strip() for task in responses(run).values() for ((text,),) in task]


def test_the_run_is_named_after_the_composite(main_job: MainJob) -> None:
    run = main_job.run
    name = run.results["config"]["eft_name"]
    assert re.fullmatch(r"eft_base\+tuned-vs-reference_[0-9a-f]{8}", name)
    assert run.results["model_name"] == name
    assert run.folder.name == run.results["model_name_sanitized"]
    assert run.results["config"]["model"] == "eft"


def test_the_judge_gave_every_kind_of_answer(main_job: MainJob, judge: Judge) -> None:
    given = [classify(reply).status for reply in judge.given.values()]
    kinds = {"scored", "abstained", "malformed", "truncated", "refused"}
    assert set(given) == kinds


@pytest.mark.parametrize("task", TASKS)
def test_every_count_is_right(main_job: MainJob, judge: Judge, task: str) -> None:
    samples = main_job.run.samples[task]
    expected = [classify(judge.given[sample["resps"][0][0].strip()]) for sample in samples]
    errors = [e.errors for e in expected if e.errors is not None]

    def indicator(*statuses: str) -> list[float]:
        return [float(e.status in statuses) for e in expected]

    columns: dict[str, list[float]] = {
        "fact_errors": [float(count) for count in errors],
        "fact_any_error": [float(count > 0) for count in errors],
        "fact_abstained": indicator("abstained"),
        "fact_refused": indicator("refused"),
        "fact_unreadable": indicator("malformed", "truncated"),
        "fact_missing": indicator(),
        "fact_unfinished": indicator(),
    }
    assert set(columns) == METRICS
    assert len(errors) >= 2
    results = main_job.run.results["results"][task]
    for metric, values in columns.items():
        assert results[f"{metric},factuality"] == pytest.approx(statistics.fmean(values))
        assert results[f"{metric}_stderr,factuality"] == pytest.approx(
            statistics.stdev(values) / math.sqrt(len(values))
        )
    reported = {name.partition(",")[0].removesuffix("_stderr") for name in results if "," in name}
    assert reported == METRICS


@pytest.mark.parametrize("task", TASKS)
def test_samples_hold_the_generation_and_the_verdict(
    main_job: MainJob, judge: Judge, task: str
) -> None:
    questions = {question.strip() for question in eli5_questions()}
    for sample in main_job.run.samples[task]:
        ((response,),) = sample["resps"]
        assert isinstance(response, str)
        assert "\n\nHuman:" not in response
        prompt = sample["arguments"]["gen_args_0"]["arg_0"]
        assert prompt == f"\n\nHuman: {sample['doc']['question']}\n\nAssistant:"
        assert (sample["doc"]["question"] in questions) == (task == "eli5_fact")
        ((verdict,),) = [json.loads(text) for text in sample["filtered_resps"]]
        reply = judge.given[response.strip()]
        assert verdict["status"] == classify(reply).status
        assert verdict["value"] == classify(reply).errors
        assert verdict["raw"] == (reply.text or reply.refusal)
        assert re.fullmatch("[0-9a-f]{64}", verdict["key"])
        assert verdict["judge_model"] == "gpt-4.1-2025-04-14"
        assert verdict["error"] is None


@pytest.mark.parametrize("task", TASKS)
def test_the_results_say_who_judged_what(main_job: MainJob, judge: Judge, task: str) -> None:
    metadata = main_job.run.results["configs"][task]["metadata"]
    described = metadata["eft_judge"]
    assert described["model"] == "gpt-4.1-2025-04-14"
    assert described["endpoint"] == judge.server.url
    assert described["parameters"]["temperature"] == 0
    shipped = (ROOT / "prompts" / "factuality.jinja").read_bytes()
    assert described["prompts"] == {
        "factuality": {
            "name": "factuality",
            "version": 1,
            "sha256": hashlib.sha256(shipped).hexdigest(),
        }
    }
    assert sum(described["verdicts"].values()) == LIMIT
    data = metadata["eft_data"]
    assert data["kind"] == "file"
    assert data["used"] == min(256, data["usable"])
    assert data["rows"] == data["usable"] + sum(data["rejected"].values()) + sum(
        data["skipped"].values()
    )
    assert not any("/" in name for name in data["files"])
    if task == "hh_fact":
        for name, digest in data["files"].items():
            assert hashlib.sha256((DATA / "hh_rlhf" / name).read_bytes()).hexdigest() == digest
        assert data["skipped"]["multi-turn"] > 0
        with gzip.open(DATA / "hh_rlhf" / "harmless-base_test.jsonl.gz", "rt") as stream:
            assert data["rows"] > sum(1 for _ in stream)


def test_no_secret_is_written(main_job: MainJob, bench: Workbench) -> None:
    for file in (bench.folder / "main").rglob("*.json*"):
        assert "sesame" not in file.read_text("utf-8")
    assert "sesame" not in main_job.done.out + main_job.done.err


def test_a_second_run_asks_nothing_and_says_the_same(
    main_job: MainJob, bench: Workbench, judge: Judge
) -> None:
    asked = len(judge.server.chats)
    output = bench.folder / "second"
    # Another form of the same command, with another batch size.
    done = bench.run(
        *("eft-eval", "run", "--model_args", bench.model_args, *MAIN, "--batch_size", "3"),
        *("--output_path", output),
        **judged(judge),
        **data_settings(bench),
    )
    assert done.code == 0, done.err[-3000:]
    assert len(judge.server.chats) == asked
    second = read_run(output)
    assert responses(second) == responses(main_job.run)
    assert second.results["results"] == main_job.run.results["results"]
    assert second.folder.name == main_job.run.folder.name


def test_predict_only_calls_no_judge(bench: Workbench, judge: Judge) -> None:
    asked = len(judge.server.requests)
    output = bench.folder / "predicted"
    done = bench.fork(
        *("-m", "lm_eval", "--model", "eft", "--model_args", bench.model_args, "--predict_only"),
        *("--tasks", "eli5_fact", "--limit", "4", "--gen_kwargs", "max_gen_toks=8"),
        *("--output_path", output),
        **judged(judge),
        EFT_ELI5_DATA=str(bench.eli5),
    )
    assert done.code == 0, done.err[-3000:]
    assert len(judge.server.requests) == asked
    run = read_run(output)
    assert len(run.samples["eli5_fact"]) == 4
    for sample in run.samples["eli5_fact"]:
        assert sample["filtered_resps"] == sample["resps"][0]
    assert run.results["configs"]["eli5_fact"]["metadata"]["eft_judge"] is None


def test_a_recipe_from_the_environment_names_the_run(bench: Workbench, judge: Judge) -> None:
    recipe = bench.folder / "mine.yaml"
    delta = {role: bench.models[role] for role in ("tuned", "reference")}
    recipe.write_text(json.dumps({"base": bench.models["base"], "deltas": [delta]}))
    output = bench.folder / "recipe"
    done = bench.fork(
        *("eft-eval", "run", "--tasks", "eli5_fact", "--limit", "2", "--log_samples"),
        *("--gen_kwargs", "max_gen_toks=4", "--output_path", output),
        **judged(judge),
        EFT_ELI5_DATA=str(bench.eli5),
        EFT_RECIPE=str(recipe),
    )
    assert done.code == 0, done.err[-3000:]
    run = read_run(output)
    program = (
        "import sys, eft_eval; print(eft_eval.canonical_name(eft_eval.parse_recipe(sys.argv[1])))"
    )
    name = call(bench.environment.python, "-c", program, recipe, cwd=bench.folder).strip()
    assert run.results["model_name"] == run.results["config"]["eft_name"] == name
    assert run.folder.name == run.results["model_name_sanitized"]


def test_our_own_command_starts_quickly(
    bench: Workbench, capsys: pytest.CaptureFixture[str]
) -> None:
    """Up to the first complaint about the data, which comes with the task: nothing is indexed."""
    command = ("eft-eval", "run", "--model_args", bench.model_args, "--tasks", "eli5_fact")
    no_judge = bench.run(*command)
    assert complaint(no_judge).startswith("no judge")
    assert no_judge.seconds < 3, "checked before lm-eval and torch are imported"
    absent = f"{bench.folder}/nothing.jsonl"
    ours = bench.run(*command, EFT_ELI5_DATA=absent, OPENAI_API_KEY="sesame")
    assert complaint(ours).startswith("EFT_ELI5_DATA")
    with capsys.disabled():
        print(f"\n`eft-eval run` reaches its task after {ours.seconds:.1f} s")
    assert ours.seconds < 12


def test_lm_eval_lists_our_tasks(bench: Workbench) -> None:
    done = bench.run("lm_eval", "ls", "tasks")
    assert done.code == 0, done.err[-3000:]
    for task in TASKS:
        assert re.search(rf"^\|{task} +\|", done.out, re.MULTILINE), done.out[-2000:]
    assert "hellaswag" in done.out


def test_lm_eval_validates_our_task(bench: Workbench) -> None:
    done = bench.fork("lm_eval", "validate", "--tasks", "eli5_fact")
    assert done.code == 0, done.err[-3000:]
    assert "All tasks found and valid" in done.out


def complaint(done: Done | Forked) -> str:
    """Return the one line of a run that failed as it should."""
    assert done.code != 0
    assert "Traceback" not in done.out + done.err, done.err[-3000:]
    (line,) = [line for line in done.err.splitlines() if line.startswith("eft-eval: error:")]
    return line.removeprefix("eft-eval: error: ")


def fails(
    bench: Workbench, judge: Judge | None, model_args: str | None = None, **settings: str
) -> str:
    """Run `eft-eval run` with something wrong in it; return its one line."""
    command = ("eft-eval", "run", "--model_args", model_args or bench.model_args)
    where = {"EFT_ELI5_DATA": str(bench.eli5), **(judged(judge) if judge else {}), **settings}
    output = bench.folder / "failed"
    done = bench.fork(
        *command, "--tasks", "eli5_fact", "--limit", "2", "--output_path", output, **where
    )
    assert not [path for path in output.glob("**/*") if path.is_file()]
    return complaint(done)


def with_member(bench: Workbench, role: str, folder: str | Path) -> str:
    models = {**bench.models, role: str(folder)}
    return ",".join(f"{role}={folder}" for role, folder in models.items())


def test_missing_member(bench: Workbench, judge: Judge) -> None:
    line = fails(bench, judge, with_member(bench, "tuned", bench.folder / "nobody"))
    assert f"{bench.folder}/nobody" in line
    assert "does not exist" in line


def test_unequal_tokenizers(bench: Workbench, judge: Judge) -> None:
    other = make_model(bench.folder / "models" / "swapped", tokenizer=byte_tokenizer(swap=True))
    line = fails(bench, judge, with_member(bench, "reference", other))
    assert re.search(r"token 43 is '.+' in .*tuned.* and '.+' in .*swapped", line)


def test_seq2seq_member(bench: Workbench, judge: Judge) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    folder = bench.folder / "models" / "t5"
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    config = T5Config(vocab_size=259, decoder_start_token_id=0, **shape)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    line = fails(bench, judge, with_member(bench, "base", folder))
    assert "sequence-to-sequence" in line
    assert str(folder) in line


def test_unknown_key_in_the_stock_command(bench: Workbench, judge: Judge) -> None:
    done = bench.fork(
        *("-m", "lm_eval", "--model", "eft", "--model_args", f"{bench.model_args},wieght=2"),
        *("--tasks", "eli5_fact", "--limit", "2"),
        **judged(judge),
        EFT_ELI5_DATA=str(bench.eli5),
    )
    assert "unknown key 'wieght' (did you mean 'weight'?)" in complaint(done)


def test_weight_that_is_no_number(bench: Workbench, judge: Judge) -> None:
    line = fails(bench, judge, f"{bench.model_args},weight=abc")
    assert "weight" in line
    assert "'abc'" in line


def test_missing_data_file(bench: Workbench, judge: Judge) -> None:
    line = fails(bench, judge, EFT_ELI5_DATA=f"{bench.folder}/nothing.jsonl")
    assert line.startswith("EFT_ELI5_DATA: there is no file or folder")


def test_data_file_without_the_column(bench: Workbench, judge: Judge) -> None:
    file = bench.folder / "texts.jsonl"
    file.write_text('{"text": "Why is the sky blue?", "id": 1}\n')
    line = fails(bench, judge, EFT_ELI5_DATA=str(file))
    assert "texts.jsonl: no column question" in line
    assert "its columns are: id, text" in line


def test_endpoint_down(bench: Workbench) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        line = fails(bench, None, EFT_JUDGE_BASE_URL=url)
    assert line.startswith("endpoint down")
    assert url in line


def test_refused_key_is_not_tried_again(bench: Workbench, judge: Judge) -> None:
    before = len(judge.server.requests)
    url = judge.server.url
    line = fails(bench, None, EFT_JUDGE_BASE_URL=url, OPENAI_API_KEY="wrong-key")
    assert line.startswith("key refused")
    assert "wrong-key" not in line
    assert 1 <= len(judge.server.requests) - before <= 2


def test_no_judge_stops_the_stock_command_before_weights_are_read(bench: Workbench) -> None:
    models = {role: bench.folder / "weightless" / role for role in bench.models}
    for role, folder in models.items():
        shutil.copytree(bench.models[role], folder)
        for weights in folder.glob("*.safetensors"):
            weights.unlink()
    model_args = ",".join(f"{role}={folder}" for role, folder in models.items())
    done = bench.fork(
        *("lm_eval", "--model", "eft", "--model_args", model_args),
        *("--tasks", "eli5_fact", "--limit", "2"),
        EFT_ELI5_DATA=str(bench.eli5),
    )
    line = complaint(done)
    for way in ("OPENAI_API_KEY", "EFT_JUDGE_BASE_URL", "--predict_only"):
        assert way in line
    assert "eft-eval judge" in line
