"""Two processes give the results of one, whatever lm-eval asks to fill up a rank."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fresh_environments import clean_environ

pytestmark = pytest.mark.slow


def run(out: Path, launcher: tuple[str, ...]) -> tuple[dict[str, Any], dict[int, Any]]:
    """Run five questions of the demo, twice each, and return results and responses."""
    command = [
        *(sys.executable, "-m", *launcher, "eft_eval", "run", "--model_args", "model=demo"),
        *("--tasks", "demo_fact", "--limit", "5", "--batch_size", "4", "--log_samples"),
        *("--gen_kwargs", "max_gen_toks=16,do_sample=True,temperature=1.0"),
        *("--device", "cpu", "--output_path", str(out)),
    ]
    settings = {"ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=out.parent, env=clean_environ(**settings), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = out.glob("*/results_*.json")
    (samples,) = out.glob("*/samples_demo_fact_*.jsonl")
    lines = map(json.loads, samples.read_text("utf-8").splitlines())
    return json.loads(results.read_text("utf-8")), {one["doc_id"]: one["resps"] for one in lines}


TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc_per_node", "{ranks}")
ACCELERATE = ("accelerate.commands.launch", "--cpu", "--num_processes", "{ranks}")


def launched(launcher: tuple[str, ...], ranks: int) -> tuple[str, ...]:
    return tuple(one.format(ranks=ranks) for one in launcher)


def test_two_ranks_give_what_one_gives(tmp_path: Path) -> None:
    """Under torchrun and accelerate launch."""
    one, alone = run(tmp_path / "one", ())
    for name, launcher in (("torchrun", TORCHRUN), ("accelerate", ACCELERATE)):
        two, together = run(tmp_path / name, (*launched(launcher, 2), "-m"))
        assert together == alone
        assert one["results"] == two["results"]
        requests = [results["config"]["eft_decoding"]["requests"] for results in (one, two)]
        assert requests == [5, 5]


LAST_LOOK = """
import atexit, json, os, pathlib, runpy, sys

def threads():
    tasks = pathlib.Path("/proc/self/task").iterdir()
    return [one.joinpath("comm").read_text().strip() for one in tasks]

def look():  # the first registered runs last
    pathlib.Path(sys.argv[-1] + os.environ["RANK"]).write_text(json.dumps(threads()))

atexit.register(look)
runpy.run_module("eft_eval", run_name="__main__")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the names of threads from /proc")
def test_no_thread_of_the_ranks_is_left_at_the_exit(tmp_path: Path) -> None:
    """One that wakes up while the interpreter ends aborts its rank, and the launcher the others."""
    tmp_path.joinpath("look.py").write_text(LAST_LOOK, "utf-8")
    command = [
        *(sys.executable, "-m", *launched(TORCHRUN, 2), "look.py", "run", "--model_args"),
        *("model=demo", "--tasks", "demo_fact", "--limit", "2", "--device", "cpu"),
        *("--gen_kwargs", "max_gen_toks=4", "--output_path", "out"),
    ]
    settings = {"ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=tmp_path, env=clean_environ(**settings), check=True)
    for rank in range(2):
        left = json.loads(tmp_path.joinpath(f"out{rank}").read_text("utf-8"))
        assert left
        assert "gloo" not in " ".join(left)


PROGRAM = """
import json, sys
import lm_eval
from lm_eval.tasks import TaskManager
results = lm_eval.simple_evaluate(
    model="eft", model_args="model=demo", tasks=["equal", "greedy"], batch_size=2, device="cpu",
    task_manager=TaskManager(include_path=sys.argv[1], include_defaults=False), bootstrap_iters=0,
    use_cache=sys.argv[3] if len(sys.argv) > 3 else None,
)
if results is not None:
    found = {
        name: sorted([one["doc_id"], one["resps"]] for one in lines)
        for name, lines in results["samples"].items()
    }
    open(sys.argv[2], "w").write(json.dumps(found))
"""
TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{q}}}}"
doc_to_target: x
repeats: 2
generation_kwargs: {{temperature: {heat}, until: [], max_gen_toks: 8}}
metric_list: [{{metric: exact_match}}]
filter_list: [{{name: all, filter: [{{function: take_first}}]}}]
"""


def test_equal_prompts_on_other_ranks_get_samples_of_their_own(tmp_path: Path) -> None:
    """With one, two and three ranks, and again over what lm-eval cached."""
    data = tmp_path / "data.json"
    rows = [{"q": text} for text in ("Who?", "Who?", "Why?", "Who?", "Who?", "Why?", "Who?")]
    data.write_text(json.dumps(rows))
    for name, heat in (("equal", 1.0), ("greedy", 0.0)):
        (tmp_path / f"{name}.yaml").write_text(TASK.format(name=name, data=data, heat=heat))
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    settings = {"ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    found = []
    cache = str(tmp_path / "cache")
    for ranks, more in ((1, ()), (2, ()), (3, ()), (2, (cache,)), (2, (cache,))):
        launcher = ("-m", *launched(TORCHRUN, ranks)) if ranks > 1 else ()
        out = tmp_path / f"{len(found)}.json"
        command = [sys.executable, *launcher, str(program), str(tmp_path), str(out), *more]
        done = subprocess.run(
            command, cwd=tmp_path, env=clean_environ(**settings), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(json.loads(out.read_text()))
    assert found[1:] == found[:1] * 4
    samples = [text for _, (texts,) in found[0]["equal"] for text in texts]
    assert len(set(samples)) == 14


def test_ranks_whose_prompts_differ_in_kind_go_in_step(tmp_path: Path) -> None:
    """One rank has prompts of two kinds, the other of one: each searches for its batch sizes."""
    data = tmp_path / "data.json"
    data.write_text(json.dumps([{"q": text} for text in ("Who?", "Who?", "Why?zz", "What?")]))
    for name in ("equal", "greedy"):
        (tmp_path / f"{name}.yaml").write_text(TASK.format(name=name, data=data, heat=0.0))
    program = tmp_path / "program.py"
    program.write_text(
        PROGRAM.replace("batch_size=2", 'batch_size="auto", max_batch_size=4').replace(
            "model=demo", "model=demo,think_end_token=zz"
        )
    )
    settings = {"ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    found = []
    for ranks in (1, 2):
        launcher = ("-m", *launched(TORCHRUN, ranks)) if ranks > 1 else ()
        out = tmp_path / f"{ranks}.json"
        done = subprocess.run(
            [sys.executable, *launcher, str(program), str(tmp_path), str(out)],
            cwd=tmp_path, env=clean_environ(**settings), capture_output=True, text=True,
            timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(json.loads(out.read_text()))
    assert found[0] == found[1]
    texts = [text for _, (texts,) in found[0]["greedy"] for text in texts]
    assert [bool(text) for text in texts] == [False, False, False, False, True, True, False, False]


@pytest.mark.parametrize(
    ("launcher", "seen"),
    [
        ({}, "accelerate sees one process here"),
        ({"LOCAL_RANK": "0"}, "accelerate joins no process"),
    ],
)
def test_processes_that_are_not_joined_are_one_line(
    launcher: dict[str, str], seen: str, tmp_path: Path
) -> None:
    command = [
        *(sys.executable, "-m", "eft_eval", "run", "--model_args", "model=demo"),
        *("--tasks", "demo_fact", "--limit", "1", "--device", "cpu"),
    ]
    alone = {"WORLD_SIZE": "2", "RANK": "0", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    alone |= launcher
    done = subprocess.run(
        command, cwd=tmp_path, env=clean_environ(**alone), capture_output=True, text=True
    )
    assert done.returncode != 0
    assert f"WORLD_SIZE is 2, but {seen}" in done.stderr
    assert "Traceback" not in done.stderr


JOINS = """
import sys
import torch.distributed
from eft_eval.model_adapters.settings import rank_attributes
rank = rank_attributes("cpu")["_rank"]
torch.distributed.all_gather_object([None, None], rank)
open(f"{sys.argv[1]}-{rank}", "w").close()
"""


def test_processes_that_joined_end_well(tmp_path: Path) -> None:
    """Gloo's threads, left alone, aborted one of two processes in most of the launches."""
    program = tmp_path / "program.py"
    program.write_text(JOINS)
    settings = {"ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    for turn in range(5):
        done = subprocess.run(
            [sys.executable, "-m", *launched(TORCHRUN, 2), str(program), f"rank-{turn}"],
            cwd=tmp_path, env=clean_environ(**settings), capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
    assert len([*tmp_path.glob("rank-*")]) == 10
