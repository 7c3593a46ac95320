"""Under which name a score may be published, and as whose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import exported_runs as runs
import pytest
from claimed_runs import LAB, REPOSITORY, REVISION, one_metric
from huggingface_hub import ModelCard
from huggingface_hub.utils import validate_repo_id
from hypothesis import given
from hypothesis import strategies as st
from written_runs import write_run

from eft_eval.errors import ClaimError, ConfigError
from eft_eval.exporting import ClaimSettings, RunClaim, read_claims
from eft_eval.exporting.benchmarks import Benchmark, read_benchmarks
from eft_eval.exporting.publishing import (
    check_card,
    check_distinct,
    check_not_component,
    check_public,
    check_repository,
    check_url,
    merged,
    stated,
)
from eft_eval.reports.exports.every_eval_ever_samples import eee_files
from eft_eval.reports.exports.hub import hub_files
from eft_eval.reports.exports.model_card import model_card
from eft_eval.reports.exports.phrases import limits

NO_REPOSITORIES = (
    *("", "large", "a/b/c", "a /b", "a/b.git", "a/b--c", "/b", "a/", "-a/b", "a/..", "é/b"),
    "a/" + "b" * 100,
)


@pytest.mark.parametrize("name", [*runs.MEMBERS.values(), "Tiny-Lab/LARGE"])
def test_members_repositories_are_refused(run: RunClaim, name: str) -> None:
    for check in (
        lambda: check_card(run, name, "model-card"),
        lambda: check_card(run, name, "hf-eval-results"),
        lambda: check_not_component(run, name),
    ):
        with pytest.raises(ClaimError, match="the scores are not that model's"):
            check()
    assert check_card(run, REPOSITORY, "model-card") == REPOSITORY
    with pytest.raises(ConfigError, match="a composite has no repository of its own"):
        check_card(run, None, "model-card")


@pytest.mark.parametrize("name", NO_REPOSITORIES)
def test_what_is_no_repository_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is no repository of the hub; expected OWNER/NAME"):
        check_repository(name)


@given(st.from_regex(r"[\w.-]{1,20}/[\w.-]{1,20}", fullmatch=True))
def test_what_we_take_for_a_repository_the_hubs_client_does_too(name: str) -> None:
    try:
        check_repository(name)
    except ConfigError:
        return
    validate_repo_id(name)


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("demo", {"model": "demo:large-base", "commit": None}, "base is the demo's toy model"),
        ("folder", {"model": "large", "commit": None}, "base is the local folder large"),
        ("hub", {"commit": None}, "the commit of base tiny-lab/large is not in the run"),
    ],
)
def test_members_that_nobody_can_load_are_refused(
    run: RunClaim, kind: str, change: dict[str, Any], said: str
) -> None:
    assert run.composite is not None
    first, *others = run.composite.members
    members = (replace(first, kind=kind, **change), *others)
    other = replace(run, composite=replace(run.composite, members=members))
    for form in ("model-card", "hf-eval-results"):
        with pytest.raises(ClaimError, match=said):
            check_card(other, REPOSITORY, form)
    if kind == "demo":
        with pytest.raises(ClaimError, match="leave --repo out"):
            check_not_component(other, REPOSITORY)


def test_a_hub_models_scores_stay_its_own(run: RunClaim) -> None:
    single = replace(run, composite=None, model="a/b", repository="a/b", commit="0" * 40)
    assert check_card(single, None, "hf-eval-results") == "a/b"
    assert check_card(single, "A/B", "hf-eval-results") == "a/b"
    with pytest.raises(ClaimError, match="--repo c/d: the scores are those of a/b"):
        check_card(single, "c/d", "hf-eval-results")
    card = model_card(single, "a/b")
    assert "# b\n\nScores of a/b, evaluated with lm-evaluation-harness." in card
    assert "composite" not in card.partition("## Results")[0]
    assert ModelCard(card).data.base_model is None
    assert len(ModelCard(card).data.eval_results) == sum(len(task.claims) for task in run.tasks)
    unknown = replace(single, repository=None)
    with pytest.raises(ClaimError, match=r"is not known as one of the hub.*--repo OWNER/NAME"):
        check_card(unknown, "a/b", "hf-eval-results")
    files = eee_files([unknown], LAB, samples=False)
    assert all(name.startswith("data/eli5_fact/Some-Lab/a-b/") for name in files)


def test_a_model_of_a_folder_is_named_by_its_user(run: RunClaim) -> None:
    unknown = replace(run, composite=None, model="b", path="/x/b", below=("a/base",))
    named = stated(unknown, "c/d")
    assert check_card(named, "c/d", "hf-eval-results") == "c/d"
    with pytest.raises(ClaimError, match="--repo A/base is what b lies on"):
        stated(unknown, "A/base")
    with pytest.raises(ConfigError, match="is no repository of the hub"):
        stated(unknown, "no repository")
    assert stated(run, "c/d") is run, "a composite's card is another matter"
    said = "model c/d is known by whoever exported it (--repo)"
    assert any(said in text for text in limits(named, named.tasks[0]))
    twin = replace(unknown, path="/y/b", label="there")
    with pytest.raises(ClaimError, match="two models that are both called b; export them apart"):
        check_distinct([unknown, twin], "eee")
    check_distinct([unknown, unknown], "eee")


@pytest.mark.parametrize(
    ("config", "name", "known"),
    [
        ({"model_args": {"pretrained": "a/b"}, "model_sha": "0" * 40}, "a/b", True),
        ({"model_args": "dtype=auto,pretrained=a/b", "model_sha": "0" * 40}, "a/b", True),
        ({"model_args": {"pretrained": "a/b"}, "model_sha": ""}, "a/b", False),
        ({"model_args": {"pretrained": "/x/a/b"}, "model_sha": ""}, "/x/a/b", False),
        ({"model_args": {"pretrained": "a/b", "peft": "c/d"}, "model_sha": "0" * 40}, "c/d", False),
        ({"model_args": {"pretrained": "a/b", "peft": "a/b"}, "model_sha": "0" * 40}, "a/b", False),
        ({"model_args": "pretrained=a/b,dtype=half"}, "a/b", True),
        ({"model_args": "pretrained=a/b", "model_sha": None}, "a/b", True),
        ({"model_args": "pretrained=/x/a/b"}, "/x/a/b", False),
        ({"model_args": "pretrained=a/b,lora_local_path=/x/y"}, "a/b", False),
        ({"model_args": "pretrained=a/b,enable_lora=False"}, "a/b", True),
        ({"model_args": "model=a/b,base_url=http://x:1/v1/completions"}, "a/b", True),
        ({"model_args": "model=a/b,pretrained=c/d"}, "c/d", False),
        ({"model_args": "model=gpt-x"}, "gpt-x", False),
    ],
)
def test_which_single_models_are_the_hubs(
    tmp_path: Path, config: dict[str, Any], name: str, known: bool
) -> None:
    changes = {"config": {"model": "hf", **config}, "model_name": name, "date": runs.STARTED}
    write_run(tmp_path, {"t": {"acc": [1.0, 0.0]}}, changes=changes)
    (found,) = read_claims([tmp_path], ClaimSettings())
    assert (found.repository == name) is known
    assert not found.model.startswith("/")


def test_one_model_and_each_task_once(run: RunClaim) -> None:
    with pytest.raises(ClaimError, match="model-card holds one model, given are 2"):
        merged([run, replace(run, model="other", label="there")], "model-card")
    with pytest.raises(ClaimError, match="task 'eli5_fact' is in 2 of the runs"):
        merged([run, run], "model-card")
    (task,) = run.tasks
    second = replace(run, tasks=(replace(task, name="more"),))
    assert [one.name for one in merged([run, second], "model-card").tasks] == ["eli5_fact", "more"]
    assert second.composite is not None
    other = replace(second, composite=replace(second.composite, members=()))
    with pytest.raises(ClaimError, match="members differ in commit or type"):
        merged([run, other], "model-card")


def test_scripted_judges_and_baselines_are_not_published(run: RunClaim) -> None:
    (task,) = run.tasks
    judge = replace(task.claims[0].judge, kind="scripted", model="scripted:rules.yaml")
    scripted = replace(run, tasks=(replace(task, claims=(replace(task.claims[0], judge=judge),)),))
    with pytest.raises(ClaimError, match="comes from a scripted judge"):
        check_public(scripted, "eee")
    with pytest.raises(ClaimError, match="is a baseline: it has no model, settings and texts"):
        check_public(replace(run, from_baseline=True), "eee")
    check_public(run, "eee")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("eli5_fact", "expected TASK=OWNER/NAME"),
        ("t=a/b", "expected TASK=OWNER/NAME"),
        ("t=b:c", "data set 'b' is no OWNER/NAME"),
        ("t=a/b:c d", "task id 'c d' is no word"),
        ("t=a/b:c@main", "revision 'main' is no commit"),
        ("t=a/b:c@" + "A" * 40, "is no commit; expected 40 digits"),
    ],
)
def test_wrong_benchmarks(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_benchmarks([text])


def test_benchmarks(run: RunClaim) -> None:
    found = read_benchmarks([f"eli5_fact=a/b:c@{REVISION}", "t=a/b:c"])
    assert found == {
        "eli5_fact": Benchmark("a/b", "c", REVISION),
        "t": Benchmark("a/b", "c", None),
    }
    with pytest.raises(ConfigError, match="already"):
        read_benchmarks(["t=a/b:c", "t=a/b:d"])
    with pytest.raises(ConfigError, match=r"no benchmark is named for task 'eli5_fact'"):
        hub_files(one_metric(run), {}, None)
    with pytest.raises(ClaimError, match="holds one value per benchmark"):
        hub_files(run, found, None)


@pytest.mark.parametrize("url", ["x.org", "ftp://x.org", "https://", "https://x.org/a b"])
def test_wrong_addresses(url: str) -> None:
    with pytest.raises(ConfigError, match="is no address; expected https"):
        check_url(url)
