"""Judging runs that are not ours, and learning what a judge is worth: a real run of lm-eval."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks import TaskManager
from saved_runs import saved_run
from tiny_models import make_model
from typer.testing import CliRunner

from eft_eval.cli.app import app
from eft_eval.errors import ConfigError
from eft_eval.judging import JudgeSettings
from eft_eval.judging.rejudge import JudgedRun, judge_run
from eft_eval.judging.responses import Selection, assign, verdicts_of_another_judge
from eft_eval.judging.self_consistency import Aids
from eft_eval.runs.saved import open_run
from eft_eval.verdicts.text import read_verdicts

PROMPTS = [f"What is town {n} known for?" for n in range(5)] + ["What is town 0 known for?"]
TASK = """\
task: towns
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
output_type: generate_until
doc_to_text: "Q: {{{{prompt}}}} A:"
doc_to_target: "{{{{answer}}}}"
repeats: 2
generation_kwargs:
  until: ["\\n"]
  do_sample: true
  temperature: 1.0
  max_gen_toks: 8
filter_list:
  - name: first_words
    filter:
      - function: regex
        regex_pattern: "(..)"
  - name: whole
    filter:
      - function: take_first_k
        k: 2
metric_list:
  - metric: exact_match
"""
CHOICE = """\
task: choice
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{prompt}}}}"
doc_to_choice: ["yes", "no"]
doc_to_target: 0
"""
BY_PROMPT = Selection(prompts=("helpfulness",), query="doc.prompt")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two tasks of a user's own, as the command `lm_eval` writes it."""
    folder = tmp_path_factory.mktemp("foreign")
    data = folder / "towns.jsonl"
    lines = [json.dumps({"prompt": text, "answer": "salt"}) for text in PROMPTS]
    data.write_text("\n".join(lines))
    for name, text in (("towns", TASK), ("choice", CHOICE)):
        (folder / f"{name}.yaml").write_text(text.format(data=data))
    manager = TaskManager(include_defaults=False, include_path=str(folder))
    model = make_model(folder / "tiny", positions=512)
    return saved_run(folder / "out", model, manager, ["towns", "choice"])


@pytest.fixture
def run_dir(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "run"))


def percent(prompt: str, salt: str = "") -> str:
    number = hashlib.sha256((salt + prompt).encode()).digest()[0] % 101
    return f"Reason: x\n\nScore: {number} %"


@pytest.fixture
def server(openai_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    judge = openai_server(lambda prompt, body: percent(prompt))
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", judge.url)
    return judge


def lines_of(run: JudgedRun, task: str) -> list[dict[str, Any]]:
    """The judge's lines, or all of a task without one."""
    lines = all_lines_of(run, task)
    return [line for line in lines if line["filter"] not in ("first_words", "whole")]


def all_lines_of(run: JudgedRun, task: str) -> list[dict[str, Any]]:
    date = run.files[0].stem.removeprefix("results_")
    text = run.files[0].with_name(f"samples_{task}_{date}.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def test_a_task_of_somebody_else_is_judged(run_dir: Path, server: Any) -> None:
    before = {path.name: path.read_bytes() for path in run_dir.iterdir()}
    judged = judge_run(run_dir, BY_PROMPT)
    assert {name: (run_dir / name).read_bytes() for name in before} == before
    assert list(judged.results) == ["towns"]
    samples = lines_of(judged, "towns")
    assert len(samples) == len(PROMPTS)
    for sample in samples:
        assert len(sample["resps"][0]) == 2
        verdicts = read_verdicts(sample["filtered_resps"][0])
        values = [verdict.value for verdict in verdicts]
        assert sample["helpfulness"] == pytest.approx(sum(values) / 200)
        for response, value in zip(sample["resps"][0], values, strict=True):
            (asked,) = {
                prompt
                for prompt in server.prompts()
                if f"=\n{sample['doc']['prompt']}\n=" in prompt
                and f"=\n{response.strip()}\n=" in prompt
            }
            assert percent(asked) == f"Reason: x\n\nScore: {value:.0f} %"
        assert "exact_match" not in sample
    old_lines = min(run_dir.glob("samples_towns_*")).read_text("utf-8").splitlines()
    assert all_lines_of(judged, "towns")[: len(old_lines)] == [*map(json.loads, old_lines)]
    entry = judged.results["towns"]
    assert entry["helpfulness,helpfulness"] == pytest.approx(
        sum(sample["helpfulness"] for sample in samples) / len(samples)
    )
    old = json.loads(min(run_dir.glob("results_*")).read_text())
    merged = json.loads(judged.files[0].read_text())
    assert merged["results"]["towns"] == {**old["results"]["towns"], **entry}
    assert any("exact_match" in name for name in merged["results"]["towns"])
    names = [pipeline["name"] for pipeline in merged["configs"]["towns"]["filter_list"]]
    assert names == ["first_words", "whole", "helpfulness"]
    assert json.loads(judged.files[0].read_text())["results"]["choice"] == old["results"]["choice"]
    assert len(lines_of(judged, "choice")) == len(PROMPTS), "the file is complete for both tasks"


def test_equal_prompts_are_one_cluster(run_dir: Path, server: Any) -> None:
    judged = judge_run(run_dir, BY_PROMPT)
    samples = lines_of(judged, "towns")
    sums: dict[str, float] = {}
    mean = sum(s["helpfulness"] for s in samples) / len(samples)
    for sample in samples:
        prompt = sample["doc"]["prompt"]
        sums[prompt] = sums.get(prompt, 0) + sample["helpfulness"] - mean
    assert len(sums) == 5
    expected = (5 / 4 * sum(s * s for s in sums.values())) ** 0.5 / len(samples)
    found = judged.results["towns"]["helpfulness_stderr,helpfulness"]
    assert found == pytest.approx(expected)


def test_judging_the_new_files_again_asks_the_same(run_dir: Path, server: Any) -> None:
    first = judge_run(run_dir, BY_PROMPT)
    asked = len(server.chats)
    second = judge_run(run_dir)
    assert len(server.chats) == asked
    assert second.results == first.results
    assert second.files[0] != first.files[0]


def test_filtered_responses_are_judged_and_kept(run_dir: Path, server: Any) -> None:
    selection = BY_PROMPT._replace(response="filtered_resps", filter="first_words")
    judged = judge_run(run_dir, selection)
    old = run_dir / f"samples_towns_{sorted(run_dir.glob('results_*'))[0].stem[8:]}.jsonl"
    expected = {
        sample["doc_id"]: sample["filtered_resps"][0]
        for sample in map(json.loads, old.read_text("utf-8").splitlines())
        if sample["filter"] == "first_words"
    }
    for sample in lines_of(judged, "towns"):
        assert sample["judged_responses"] == expected[sample["doc_id"]]
        assert sample["judged_responses"] != sample["resps"][0]
    asked = len(server.chats)
    judge_run(run_dir)
    assert len(server.chats) == asked, "the same texts are judged from the new files"
    again = judge_run(run_dir, selection)
    assert len(server.chats) == asked, "and not the verdicts that the filter holds now"
    assert again.results == judged.results
    bridged = judge_run(
        run_dir,
        selection,
        settings=JudgeSettings.from_environment(judge="new"),
        aids=Aids(bridge=True),
    )
    offset = bridged.judges["towns"].bridge["helpfulness"]["offset"]["estimate"]
    assert offset == 0, "both judges saw the same texts"
    raw = judge_run(run_dir, selection._replace(response="resps", filter=None))
    assert len(server.chats) > 2 * asked
    assert all("judged_responses" not in line for line in lines_of(raw, "towns"))
    with pytest.raises(ConfigError, match="no file of this run holds another judge's verdicts"):
        judge_run(
            run_dir,
            selection._replace(filter="whole", prompts=("harmfulness",)),
            aids=Aids(bridge=True),
        )


def test_verdicts_are_no_texts(run_dir: Path, server: Any) -> None:
    """Judged files whose origin was taken away have only verdicts left."""
    judged = judge_run(run_dir, BY_PROMPT)
    for path in run_dir.iterdir():
        if judged.files[0].stem[8:] not in path.name:
            path.unlink()
    path = next(run_dir.glob("samples_towns_*"))
    lines = [line for line in path.read_text("utf-8").splitlines() if "helpfulness" in line]
    path.write_text("\n".join(lines), "utf-8")
    (results,) = run_dir.glob("results_*")
    content = json.loads(results.read_text("utf-8"))
    entry = content["results"]["towns"]
    content["results"]["towns"] = {k: v for k, v in entry.items() if "exact_match" not in k}
    results.write_text(json.dumps(content), "utf-8")
    assert judge_run(run_dir, BY_PROMPT).results == judged.results
    with pytest.raises(ConfigError, match="'towns': its filters hold verdicts, not texts"):
        judge_run(run_dir, BY_PROMPT._replace(response="filtered_resps"))


def test_a_bridge_does_not_compare_with_verdicts_that_never_came(
    run_dir: Path,
    server: Any,
    openai_server: Callable[..., Any],
    openai_server_module: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = judge_run(run_dir, BY_PROMPT)
    settings = JudgeSettings.from_environment(judge="new")
    judged = judge_run(run_dir, BY_PROMPT, settings=settings)
    path = judged.files[0].with_name(f"samples_towns_{judged.files[0].stem[8:]}.jsonl")
    text = path.read_text("utf-8").replace('\\"scored\\"', '\\"api_error\\"')
    assert text != path.read_text("utf-8")
    path.write_text(text, "utf-8")
    third = JudgeSettings.from_environment(judge="third")
    found = judge_run(run_dir, BY_PROMPT, settings=third, aids=Aids(bridge=True))
    bridge = found.judges["towns"].bridge["helpfulness"]
    assert bridge["old"]["models"] == [old.judges["towns"].model]


def test_several_prompts_are_several_judges(run_dir: Path, server: Any) -> None:
    selection = Selection(("helpfulness", "harmfulness"), ("towns",), "doc.prompt")
    judged = judge_run(run_dir, selection)
    entry = judged.results["towns"]
    assert {"helpfulness,helpfulness", "harm,harm"} <= entry.keys()
    config = json.loads(judged.files[0].read_text())["configs"]["towns"]
    assert [pipeline["name"] for pipeline in config["filter_list"]][2:] == ["helpfulness", "harm"]
    assert judged.judges["towns"].measures == {"helpfulness": "helpfulness", "harm": "harm"}


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(), r"no task with a judge.*--prompt NAME judges any task that generates text"),
        (Selection(("helpfulness",)), r"no 'doc.question'; at 'question' there is: prompt, answer"),
        (BY_PROMPT._replace(tasks=("town",)), r"no task 'town' \(did you mean 'towns'\?\)"),
        (BY_PROMPT._replace(tasks=("choice",)), r"'choice' generates no text to judge"),
        (
            BY_PROMPT._replace(response="filtered_resps"),
            r"several filters; choose with --filter: f",
        ),
        (BY_PROMPT._replace(filter="whol"), r"no filter 'whol' \(did you mean 'whole'\?\)"),
        (BY_PROMPT._replace(query="doc.prompt.0"), r"at '0' there is: 'What is town 0"),
        (BY_PROMPT._replace(prompts=("helpfulness",) * 2), r"'helpfulness' is given twice"),
    ],
)
def test_what_cannot_be_judged_is_said(run_dir: Path, selection: Selection, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        assign(open_run(run_dir), selection)
    assert "\n" not in str(caught.value)


def test_the_query_can_be_the_prompt_as_the_model_saw_it(run_dir: Path) -> None:
    selection = BY_PROMPT._replace(query="arguments.gen_args_0.arg_0")
    (pipeline,) = assign(open_run(run_dir), selection)
    queries = [group[0].query for group in pipeline.items]
    assert queries == [f"Q: {prompt} A:" for prompt in PROMPTS]


def test_a_bridge_compares_old_and_new_judge(
    run_dir: Path, server: Any, openai_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="judge them with the old judge first"):
        judge_run(run_dir, BY_PROMPT, aids=Aids(bridge=True))
    assert server.chats == []
    old = judge_run(run_dir, BY_PROMPT)
    other = openai_server(lambda prompt, body: percent(prompt, "other"))
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", other.url)
    settings = JudgeSettings.from_environment(judge="new-judge")
    new = judge_run(run_dir, settings=settings, aids=Aids(bridge=True))
    found = json.loads(new.files[0].read_text())["configs"]["towns"]["metadata"]["eft_judge"][
        "bridge"
    ]
    bridge = found["helpfulness"]
    pairs = [
        (left.value, right.value)
        for before, after in zip(lines_of(old, "towns"), lines_of(new, "towns"), strict=True)
        for left, right in zip(
            *(read_verdicts(line["filtered_resps"][0]) for line in (before, after)), strict=True
        )
    ]
    assert bridge["n"] == len(pairs) == 2 * len(PROMPTS)
    offset = sum(b - a for a, b in pairs) / len(pairs) / 100
    assert bridge["offset"]["estimate"] == pytest.approx(offset)
    assert bridge["offset"]["lower"] < offset < bridge["offset"]["upper"]
    assert bridge["offset"]["method"] == "clustered t", "two responses share a prompt"
    same = sum((a > 50) == (b > 50) for a, b in pairs) / len(pairs)
    assert bridge["agreement"]["estimate"] == pytest.approx(same)
    assert bridge["new"]["models"] == ["new-judge"]
    assert bridge["old"]["models"] == [JudgeSettings.from_environment().model]
    again = judge_run(run_dir, settings=settings, aids=Aids(bridge=True))
    assert again.judges["towns"].bridge == found, "not the new judge against itself"
    means = (old.results["towns"], new.results["towns"])
    assert [bridge["old_mean"], bridge["new_mean"]] == pytest.approx(
        [entry["helpfulness,helpfulness"] for entry in means]
    )


@pytest.mark.parametrize("what", ["doc", "prompt"])
def test_verdicts_on_other_documents_with_equal_responses_are_no_bridge(
    run_dir: Path, server: Any, what: str
) -> None:
    """A response text may answer several questions: a verdict is on both."""
    old = judge_run(run_dir, BY_PROMPT)
    run = open_run(run_dir)
    (assignment,) = assign(run)
    assert verdicts_of_another_judge(run, assignment, "new-judge")
    samples = max(old.files[0].parent.glob("samples_towns_*"))
    lines = [json.loads(line) for line in samples.read_text("utf-8").splitlines()]
    for line in lines:
        if what == "doc":
            line["doc"] = {**line["doc"], "note": "another document"}
        else:
            line["arguments"]["gen_args_0"]["arg_0"] = "another prompt"
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    with pytest.raises(ConfigError, match="judge them with the old judge first"):
        verdicts_of_another_judge(open_run(run_dir), assignment, "new-judge")


def test_a_judged_file_of_other_documents_is_refused(run_dir: Path, server: Any) -> None:
    old = judge_run(run_dir, BY_PROMPT)
    samples = max(old.files[0].parent.glob("samples_towns_*"))
    lines = [json.loads(line) for line in samples.read_text("utf-8").splitlines()]
    for line in lines:
        line["doc_hash"] = f"of another {line['doc_id']}"
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    with pytest.raises(
        ConfigError, match=rf"other documents than .*{2 * len(PROMPTS)} are in one of them"
    ):
        assign(open_run(run_dir))


def test_a_judge_that_wavers_does_not_agree_with_itself(
    run_dir: Path, openai_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, int] = {}

    def wavering(prompt: str, body: object) -> str:
        """Town 0 gets 20, 60, 20; the others 80 every time."""
        asked[prompt] = asked.get(prompt, 0) + 1
        first = "town 0" in prompt
        return f"Score: {(60 if asked[prompt] == 2 else 20) if first else 80}"

    judge = openai_server(wavering)
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", judge.url)
    judged = judge_run(run_dir, BY_PROMPT, aids=Aids(repeats=3))
    responses = 2 * len(PROMPTS)
    texts = len(asked)
    assert set(asked.values()) == {3}, "every text was asked three times"
    found = judged.judges["towns"].self_agreement["helpfulness"]
    assert (found["repeats"], found["n"], found["incomplete"]) == (3, responses, 0)
    usage = judged.judges["towns"].usage
    assert usage.prompt_tokens == 100 * len(judge.chats), "all askings were paid for"
    wavered = 4  # two documents ask about town 0, with two responses each
    assert found["exact"] == pytest.approx(1 - wavered / responses * 2 / 3)
    assert found["agreement"]["estimate"] == pytest.approx(found["exact"])
    variance = 2 * (0.4**2) / 3 / 2  # of 0.2, 0.6, 0.2, with n - 1
    assert found["sd"] == pytest.approx((wavered / responses * variance) ** 0.5)
    scores = judged.results["towns"]["helpfulness,helpfulness"]
    assert scores == pytest.approx((4 * 0.2 + 8 * 0.8) / 12), "the first asking gives the scores"
    judge_run(run_dir, BY_PROMPT, aids=Aids(repeats=3))
    assert len(judge.chats) == 3 * texts, "repeated askings are stored, too"


def test_a_judge_that_drifted_is_found(
    run_dir: Path, openai_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    drifted = False
    judge = openai_server(lambda prompt, body: f"Score: {70 if drifted else 30}")
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", judge.url)
    steady = judge_run(run_dir, BY_PROMPT)
    texts = len(judge.chats)
    drifted = True
    judged = judge_run(run_dir, BY_PROMPT, aids=Aids(drift=2))
    assert judged.results == steady.results, "the stored verdicts still give the scores"
    found = judged.judges["towns"].drift["helpfulness"]
    assert found["n"] == 4, "two prompts with two responses each"
    assert found["offset"]["estimate"] == pytest.approx(0.4)
    assert found["agreement"]["estimate"] == 0
    again = len(judge.chats)
    assert texts < again <= texts + 4
    judge_run(run_dir, BY_PROMPT, aids=Aids(drift=2))
    assert len(judge.chats) == again, "the same choice, asked once a day"


@pytest.mark.parametrize("aids", [Aids(repeats=0), Aids(drift=-1)])
def test_impossible_aids_are_refused(run_dir: Path, server: Any, aids: Aids) -> None:
    with pytest.raises(ConfigError, match=r"it must be"):
        judge_run(run_dir, BY_PROMPT, aids=aids)
    assert server.chats == []


def test_the_command(run_dir: Path, server: Any) -> None:
    arguments = ["judge", str(run_dir), "--prompt", "helpfulness", "--map", "query=doc.prompt"]
    first = CliRunner().invoke(app, [*arguments, "--judge", "old-judge", "--repeat", "2"])
    assert first.exit_code == 0, first.output
    assert "towns, judged by old-judge" in first.stdout
    assert "times asked" in first.stdout
    second = CliRunner().invoke(app, [*arguments, "--judge", "new-judge", "--bridge"])
    assert second.exit_code == 0, second.output
    assert "old judge against new" in second.stdout
    assert "offset: second minus first, paired" in second.stdout
    (row,) = [line for line in second.stdout.splitlines() if line.startswith("│ helpfulness ")]
    assert " to " in row, "bounds stand beside the score"


@pytest.mark.parametrize("text", ["doc.prompt", "query=", "quer=doc.prompt"])
def test_a_wrong_mapping_is_refused(run_dir: Path, server: Any, text: str) -> None:
    result = CliRunner().invoke(app, ["judge", str(run_dir), "--map", text])
    assert isinstance(result.exception, ConfigError)
    assert "it must be query=PATH" in str(result.exception)
