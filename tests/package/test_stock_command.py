"""The commands as users run them: the built wheel, an empty folder, real prompts, an HTTP judge."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import math
import re
import resource
import shutil
import socket
import statistics
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import fresh_environments
import pytest
from forked_commands import Commands, Forked
from fresh_environments import ROOT, Environment, call, clean_environ
from tiny_models import byte_tokenizer, make_model

pytestmark = pytest.mark.slow

DATA = ROOT.parent / "shared" / "data"
TASKS = ("eli5_fact", "hh_fact")
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

# What the judge answers, in turn; so each task of 16 prompts gets every kind of answer twice.
ANSWERS: list[dict[str, Any]] = [
    {"text": "Reason: nothing is wrong with it.\n\nScore: 0"},
    {"text": "Reason: three claims are false.\n\nScore: 3"},
    {"text": 'Reason: this is unethical.\n\nScore: "None"'},
    {"text": "I counted 2 inaccuracies, and there may be 5 more."},
    {"text": "Reason: so many claims that\n\nScore: 1", "finish_reason": "length"},
    {"text": None, "refusal": "I will not read this."},
    {"text": "I'm sorry, but I can't help with that."},
    {"text": "**Reason:** one date is off.\n\n**Score:** 1"},
]


class Classified(NamedTuple):
    status: str
    errors: int | None = None


def classify(reply: Any) -> Classified:
    """Read a reply of this file's judge, by other means than the product's parser."""
    if reply.finish_reason == "length":
        return Classified("truncated")
    if reply.refusal or reply.text.startswith("I'm sorry"):
        return Classified("refused")
    if "Score:" not in reply.text:
        return Classified("malformed")
    score = reply.text.split("Score:")[1].strip(' *"')
    return Classified("abstained") if score == "None" else Classified("scored", int(score))


@dataclass
class Judge:
    """The answers of the HTTP judge, by the response that its prompt shows."""

    reply: Any
    server: Any = None
    given: dict[str, Any] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, prompt: str, _: dict[str, Any]) -> Any:
        shown = re.search(r"\n\nRESPONSE:(.*)\n\nUSE THE ANSWER FORMAT:", prompt, re.DOTALL)
        assert shown is not None
        with self.lock:
            kind = ANSWERS[len(self.given) % len(ANSWERS)]
            return self.given.setdefault(shown[1].strip(), self.reply(**kind))


class Done(NamedTuple):
    code: int
    out: str
    err: str
    seconds: float  # of the processor: other programs' time does not count


class Run(NamedTuple):
    """What a run wrote."""

    folder: Path
    results: dict[str, Any]
    samples: dict[str, list[dict[str, Any]]]


def read_run(output: Path) -> Run:
    """Read the only run below ``output``."""
    (file,) = output.glob("*/results_*.json")
    samples = {}
    for task in TASKS:
        for written in file.parent.glob(f"samples_{task}_*.jsonl"):
            assert task not in samples
            samples[task] = [json.loads(line) for line in written.read_text("utf-8").splitlines()]
    return Run(file.parent, json.loads(file.read_text("utf-8")), samples)


def responses(run: Run) -> dict[str, list[Any]]:
    """Return the raw generations per task, in the order of the documents."""
    return {
        task: [sample["resps"] for sample in sorted(samples, key=lambda s: s["doc_id"])]
        for task, samples in run.samples.items()
    }


@dataclass
class Workbench:
    """The installed commands, three tiny models and prompts."""

    environment: Environment
    folder: Path
    models: dict[str, str]
    settings: dict[str, str]
    eli5: Path
    forks: Commands

    @property
    def model_args(self) -> str:
        return ",".join(f"{role}={folder}" for role, folder in self.models.items())

    def run(self, *arguments: str | Path, **settings: str) -> Done:
        """Run an installed program or, beginning with -m, a module; in an empty folder."""
        first, *rest = (str(part) for part in arguments)
        program = [self.environment.python, first]
        if first != "-m":
            program = [str(self.environment.folder / "bin" / first)]
        with self.empty_folder() as empty:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run(
                [*program, *rest],
                cwd=empty,
                env=clean_environ(**self.settings, **settings),
                capture_output=True,
                text=True,
                timeout=300,
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Done(done.returncode, done.stdout, done.stderr, took)

    def fork(self, *arguments: str | Path, **settings: str) -> Forked:
        """Do the same as `run` in a fork, which imports nothing that takes long."""
        first, *rest = (str(part) for part in arguments)
        program = first if first == "-m" else str(self.environment.folder / "bin" / first)
        with self.empty_folder() as empty:
            environ = clean_environ(**self.settings, **settings)
            return self.forks.run([program, *rest], empty, environ)

    @contextlib.contextmanager
    def empty_folder(self) -> Iterator[Path]:
        """Lend a folder that must be empty at the end, too."""
        empty = self.folder / "empty"
        shutil.rmtree(empty, ignore_errors=True)
        empty.mkdir()
        yield empty
        assert list(empty.iterdir()) == []


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    environment = fresh_environments.with_wheel(tmp_path_factory, "stock")
    # As pip writes it for lm-eval's entry point; its own is in the outer environment.
    script = environment.folder / "bin" / "lm_eval"
    script.write_text(
        f"#!{environment.python}\nimport sys\nfrom lm_eval.__main__ import cli_evaluate\n"
        "sys.exit(cli_evaluate())\n"
    )
    script.chmod(0o755)
    folder = tmp_path_factory.mktemp("bench")
    roles = ("base", "tuned", "reference")
    models = {
        role: make_model(folder / "models" / role, seed=seed, positions=1024)
        for seed, role in enumerate(roles)
    }
    settings = {
        "HF_HUB_OFFLINE": "1",
        "EFT_VERDICT_STORE": str(folder / "verdicts.sqlite3"),
        "OMP_NUM_THREADS": "1",  # threads that wait for each other cost tiny models minutes
    }
    eli5 = folder / "questions.jsonl"
    eli5.write_text("".join(json.dumps({"question": q}) + "\n" for q in eli5_questions()))
    forks = Commands(environment.python, folder, clean_environ(**settings))
    yield Workbench(environment, folder, models, settings, eli5, forks)
    forks.close()


def eli5_questions() -> list[str]:
    """Return the real ELI5 questions, or stand-ins where the data are not at hand."""
    file = DATA / "alce" / "human_eval_utility_completed.json"
    if not file.is_file():
        return [f"Why does the sky have {number} colours in the evening?" for number in range(40)]
    system = next(iter(json.loads(file.read_text("utf-8"))["eli5"].values()))
    return [entry["question"] for key, entry in system.items() if key.startswith("eli5_")]


@pytest.fixture(scope="module")
def judge(openai_server_module: ModuleType) -> Iterator[Judge]:
    judge = Judge(openai_server_module.Reply)
    with openai_server_module.OpenAIServer(judge.answer, key="sesame") as judge.server:
        yield judge


def judged(judge: Judge) -> dict[str, str]:
    """Return the settings that name the judge."""
    return {"EFT_JUDGE_BASE_URL": judge.server.url, "OPENAI_API_KEY": "sesame"}


# --- the main job --------------------------------------------------------------------------------


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


# --- other forms of the command -------------------------------------------------------------------


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


# --- bad input ------------------------------------------------------------------------------------


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
