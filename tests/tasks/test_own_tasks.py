"""Judge prompts and tasks of users' own."""

from __future__ import annotations

import math
import statistics
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from judged_tasks import QUESTIONS, every_judge
from judging_helpers import Start

from eft_eval import hook
from eft_eval.errors import ConfigError


def test_own_prompts_take_the_places_of_those_that_measure_the_same(
    run: Any, openai_server: Start, tmp_path: Path
) -> None:
    files = []
    for name in ("factuality", "helpfulness"):
        shipped = resources.files("eft_eval.prompts").joinpath(f"{name}.jinja").read_text("utf-8")
        files.append(tmp_path / f"own_{name}.jinja")
        files[-1].write_text(shipped.replace(f"name: {name}", f"name: own_{name}"), "utf-8")
    server = openai_server(every_judge)
    own = [str(file) for file in files]
    results = run(server.url, {"judge_prompt": own}, tasks=["eli5"])
    prompts = results["configs"]["eli5"]["metadata"]["eft_judge"]["prompts"]
    assert {name: used["name"] for name, used in prompts.items()} == {
        "factuality": "own_factuality",
        "helpfulness": "own_helpfulness",
    }


def test_own_prompts_that_do_not_fit(
    run: Any, openai_server: Start, caplog: pytest.LogCaptureFixture
) -> None:
    server = openai_server(every_judge)
    run(server.url, {"judge_prompt": ["factuality_with_query", "harmfulness"]}, tasks=["eli5_fact"])
    assert "'harmfulness' scores on the scale 'percent' and so measures harm" in caplog.text
    with pytest.raises(ConfigError, match="'factuality' and 'factuality_with_query' measure the"):
        run(server.url, {"judge_prompt": ["factuality", "factuality_with_query"]})


OWN_TASK = """\
task: own
class: !function eft_eval.tasks.judged.JudgedTask
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "Tell me: {{{{question}}}}"
doc_to_target: ""
generation_kwargs: {{until: ["\\n\\n"], max_gen_toks: 8}}
filter_list:
  - {{name: alone, filter: [{{function: eft_judge, prompt: factuality}}]}}
  - {{name: with_query, filter: [{{function: eft_judge, prompt: factuality_with_query}}]}}
  - {{name: help, filter: [{{function: eft_judge, prompt: helpfulness}}]}}
"""


def test_a_task_of_ones_own_needs_only_the_class(
    run: Any, openai_server: Start, tmp_path: Path
) -> None:
    """Documents that repeat are one prompt; judges of one measure stand side by side."""
    doubled = tmp_path / "twice.jsonl"
    doubled.write_text(2 * run.data.read_text())
    own = tmp_path / "own.yaml"
    own.write_text(OWN_TASK.format(data=doubled))
    server = openai_server(every_judge)
    results = run(server.url, tasks=[str(own)])
    entry, samples = results["results"]["own"], results["samples"]["own"]
    assert "eft_data" not in results["configs"]["own"]["metadata"]
    for name, metric in (
        ("alone", "fact_errors"),
        ("with_query", "fact_errors"),
        ("help", "helpfulness"),
    ):
        of_judge = [sample for sample in samples if sample["filter"] == name]
        values = [sample[metric] for sample in of_judge]
        mean = statistics.fmean(values)
        sums = [
            sum(s[metric] - mean for s in of_judge if s["doc"]["question"] == question)
            for question in QUESTIONS
        ]
        count = len(QUESTIONS)
        expected = math.sqrt(count / (count - 1) * sum(s * s for s in sums)) / len(values)
        assert len(values) == 2 * count
        assert entry[f"{metric},{name}"] == pytest.approx(mean)
        assert entry[f"{metric}_stderr,{name}"] == pytest.approx(expected)


def test_a_class_without_a_judge_is_refused(run: Any, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(OWN_TASK.format(data=run.data).split("filter_list:")[0])
    with pytest.raises(ConfigError, match="'own' has no filter eft_judge"):
        run(None, tasks=[str(own)])


def test_a_prompt_that_needs_what_the_documents_lack_is_refused_at_once(
    run: Any, openai_server: Start, tmp_path: Path
) -> None:
    server = openai_server(every_judge)
    own = tmp_path / "eli5_own.yaml"
    ours = hook.task_folder() / "eli5" / "eli5_help.yaml"
    own.write_text(
        f"include: {ours}\ntask: eli5_own\nfilter_list:\n  - name: helpfulness\n    filter:\n"
        "      - function: eft_judge\n        prompt: helpfulness\n        question: questions\n"
    )
    with pytest.raises(ConfigError, match=r"no 'questions' \(did you mean 'question'\?\)"):
        run(server.url, tasks=[str(own)])
    assert server.chats == []
