"""The hub's forms, read back by its client."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import exported_runs as runs
import yaml
from claimed_runs import BENCHMARKS, REPOSITORY, REVISION, one_metric
from huggingface_hub import ModelCard, parse_eval_result_entries
from huggingface_hub.utils import validate_repo_id

from eft_eval.exporting import RunClaim
from eft_eval.reports.exports.hub import hub_files
from eft_eval.reports.exports.model_card import model_card


def test_eval_results_are_parsed_back_by_the_hubs_client(run: RunClaim) -> None:
    ((name, text),) = hub_files(one_metric(run), BENCHMARKS, "https://x.org/y").items()
    assert name == ".eval_results/eli5_fact.yaml"
    (entry,) = parse_eval_result_entries(yaml.safe_load(text))
    claim = run.tasks[0].claims[0]
    assert (entry.dataset_id, entry.task_id) == ("some-lab/eli5-facts", "fact_errors")
    assert entry.value == claim.figure.value
    assert entry.dataset_revision == REVISION
    assert entry.date == "2025-11-20T10:00:00Z"
    assert entry.source_url == "https://x.org/y"
    assert entry.notes is not None
    for words in ("n = 11", "lower is better", runs.NAME, "of no member alone", runs.JUDGE):
        assert words in entry.notes, words
    validate_repo_id(entry.dataset_id)


def test_a_card_is_read_back_by_the_hubs_client(run: RunClaim, tmp_path: Path) -> None:
    text = model_card(run, REPOSITORY)
    file = tmp_path / "README.md"
    file.write_text(text, encoding="utf-8")
    card = ModelCard.load(file)
    assert card.data.base_model == list(runs.MEMBERS.values())
    assert card.data.model_name == "large-small-chat"
    found = {
        (one.dataset_name, one.metric_type, one.metric_args["filter"]): one
        for one in card.data.eval_results
    }
    (task,) = run.tasks
    assert len(found) == len(task.claims)
    for claim in task.claims:
        result = found[task.name, claim.key.metric, claim.key.filter]
        assert result.metric_value == claim.figure.value
        interval = claim.figure.interval
        ends = None if interval is None else [interval.lower, interval.upper]
        assert result.metric_args.get("interval") == ends
        assert result.metric_args["n"] == claim.figure.n
    composite = run.composite
    assert composite is not None
    (recipe,) = re.findall(r"```yaml\n(.*?)```", card.text, re.DOTALL)
    assert recipe == composite.recipe
    assert all(runs.commit_of(name) in card.text for name in runs.MEMBERS.values())
    assert "holds no weights" in card.text


def test_tasks_of_one_data_set_stay_apart_in_a_card(run: RunClaim) -> None:
    (task,) = run.tasks
    data = replace(task.data, repository="some/data", name="some/data")
    both = (replace(task, data=data), replace(task, name="eli5_other", data=data))
    text = model_card(replace(run, tasks=both), REPOSITORY)
    results = ModelCard(text).data.eval_results
    assert {result.dataset_name for result in results} == {"eli5_fact", "eli5_other"}
    assert len(results) == 2 * len(task.claims)
    text = model_card(replace(run, tasks=both[:1]), REPOSITORY)
    assert {result.dataset_type for result in ModelCard(text).data.eval_results} == {"some/data"}


def test_names_are_nobodys_markup_in_a_card(run: RunClaim) -> None:
    evil = "a|b<script>alert(1)</script>\n## c [d](e) ``` `f`"
    (task,) = run.tasks
    hostile = replace(task, name=evil, command=f"lm_eval {evil}")
    text = model_card(replace(run, tasks=(hostile,)), REPOSITORY)
    body = ModelCard(text).text
    before, _, code = body.partition("## Evaluate it again")
    assert "<script" not in before
    assert "[d](e)" not in before
    rows = [line for line in before.splitlines() if "alert" in line and line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {9}
    assert re.search(r"^````bash\n.*?^````$", code, re.DOTALL | re.MULTILINE)
