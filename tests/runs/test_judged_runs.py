"""Reading judged runs of the harness."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest
from read_runs import errors_of, samples_of
from tiny_models import make_model

from eft_eval import hook
from eft_eval.comparing import MetricKey, iter_samples, read_run

REPLIES = (
    "Reason: fine.\n\nScore: 0",
    "Reason: two.\n\nScore: 2",
    'Reason: unethical.\n\nScore: "None"',
    "I counted some, I think.",
)
TWO_JUDGES = """\
include: ELI5
task: two_judges
repeats: 2
filter_list:
  - {name: alone, filter: [{function: eft_judge, prompt: factuality}]}
  - {name: asked, filter: [{function: eft_judge, prompt: factuality_with_query}]}
"""


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, openai_server_module: ModuleType) -> Path:
    """A task with two judges, each asked twice for every prompt, by an HTTP judge."""
    import lm_eval
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    folder = tmp_path_factory.mktemp("judged")
    data = folder / "questions.jsonl"
    questions = [f"Why is number {n} odd?" for n in (1, 2, 3, 4, 5, 5)]
    data.write_text("".join(json.dumps({"question": text}) + "\n" for text in questions))
    own = folder / "two_judges.yaml"
    ours = hook.task_folder() / "eli5" / "eli5_fact.yaml"
    own.write_text(TWO_JUDGES.replace("ELI5", str(ours)))
    model = make_model(folder / "tiny", positions=512)

    def answer(prompt: str, _: object) -> str:
        return REPLIES[len(prompt) % len(REPLIES)]

    with (
        openai_server_module.OpenAIServer(answer) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("EFT_JUDGE_BASE_URL", server.url)
        patch.setenv("EFT_VERDICT_STORE", str(folder / "verdicts.sqlite3"))
        tracker = EvaluationTracker(output_path=str(folder / "out"))
        results = lm_eval.simple_evaluate(
            model="hf",
            model_args={"pretrained": model, "device": "cpu"},
            tasks=[str(own)],
            task_manager=TaskManager(
                include_defaults=False,
                include_path=str(hook.task_folder()),
                metadata={"eli5_data": str(data)},
            ),
            gen_kwargs={"max_gen_toks": 8},
            evaluation_tracker=tracker,
            log_samples=True,
        )
        samples = results.pop("samples")
        tracker.save_results_aggregated(results=results, samples=samples)
        for task, lines in samples.items():
            tracker.save_results_samples(task_name=task, samples=lines)
    (found,) = (folder / "out").iterdir()
    return found


def test_a_task_with_two_judges(judged: Path) -> None:
    run = read_run(judged)
    assert errors_of(run) == []
    (task,) = run.tasks.values()
    assert task.repeats == 2
    assert set(task.pipelines) == {"alone", "asked"}
    prompts = set()
    for name, pipeline in task.pipelines.items():
        assert pipeline.judge is not None
        assert pipeline.verdicts is not None
        prompts.add(pipeline.judge.prompt_sha256)
        assert pipeline.repeats == 2
        documents = len(pipeline.items)
        assert sum(pipeline.verdicts.values()) == 2 * documents
        lines = [
            line for line in iter_samples(samples_of(judged, task.name)) if line.filter == name
        ]
        statuses = [v["status"] for line in lines for v in json.loads(line.filtered[0])]
        assert pipeline.verdicts == {s: statuses.count(s) for s in sorted(set(statuses))}
        column = task.columns[MetricKey("fact_errors", name)]
        unscored = sum(
            all(v["status"] != "scored" for v in json.loads(line.filtered[0])) for line in lines
        )
        assert sum(value is None for value in column.values) == unscored
    assert len(prompts) == 2


def test_verdicts_of_two_judge_models_in_one_filter_are_an_error(
    judged: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(judged, tmp_path / "mixed"))
    (file,) = folder.glob("samples_*.jsonl")
    text = file.read_text()
    model = json.loads(json.loads(text.splitlines()[0])["filtered_resps"][0])[0]["judge_model"]
    file.write_text(
        text.replace(f'\\"judge_model\\": \\"{model}', '\\"judge_model\\": \\"other', 1)
    )
    (error,) = errors_of(read_run(folder))
    assert "filter 'alone' mixes verdicts of several judges" in error
    assert "other with factuality" in error
