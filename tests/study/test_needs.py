"""What is known of a study before its first run."""

from __future__ import annotations

from pathlib import Path

import pytest
from written_studies import planned

from eft_eval.errors import ConfigError
from eft_eval.judging.cost.estimate import Ahead
from eft_eval.plans.speed import Workload
from eft_eval.reports.document import Texts
from eft_eval.reports.views.study_plan import study_plan
from eft_eval.study.needs import ArmNeeds, StudyNeeds, check_tasks, judged_in_all, passes_of
from eft_eval.study.plan import plan_study

SAMPLED = {"output_type": "generate_until", "generation_kwargs": {"do_sample": True}}
GREEDY = {"output_type": "generate_until", "generation_kwargs": {"do_sample": False}}
CHOICE = {"output_type": "multiple_choice", "generation_kwargs": {"do_sample": False}}


def test_passes_are_of_every_model_for_every_token(tmp_path: Path) -> None:
    arms = {arm.name: arm for arm in planned(tmp_path, "scaling").plan.arms}
    work = Workload(10, 20.0, 5.0, 3, 30.0, 40)
    assert passes_of(arms["small-tuned"], work) == 10 * 5 + 3
    assert passes_of(arms["up-scaled"], work) == 3 * (10 * 5 + 3)


def test_the_judge_is_asked_of_runs_that_are_left_and_of_greedy_responses_once(
    tmp_path: Path,
) -> None:
    folder = planned(tmp_path / "s", "scaling", seeds=[1, 2, 3])
    asked = [Ahead("factuality", "x", 2, "drawn"), Ahead("factuality", "x", 1, "greedy")]
    configs = {"drawn": SAMPLED, "greedy": GREEDY}
    with folder.held(lambda: None):
        pass
    assert [one.times for one in judged_in_all(folder, asked, configs)] == [24, 4]
    for run in folder.plan.runs[:6]:  # the first seed's four arms, two of the second's
        folder.place(run).mkdir(parents=True)
        folder.finish(run, 1.0)
    (drawn,) = judged_in_all(folder, asked, configs)
    assert (drawn.task, drawn.times) == ("drawn", 12), "every greedy response has its verdict"
    for run in folder.plan.runs[6:]:
        folder.place(run).mkdir(parents=True)
        folder.finish(run, 1.0)
    assert judged_in_all(folder, asked, configs) == []


def test_the_judge_is_asked_once_of_responses_that_blocks_share(tmp_path: Path) -> None:
    asked = [Ahead("factuality", "x", 1, "drawn"), Ahead("factuality", "x", 1, "greedy")]
    configs = {"drawn": SAMPLED, "greedy": GREEDY}
    folder = planned(tmp_path / "s", "speed", seeds=[1, 2])
    assert len(folder.plan.runs) == 16
    assert [one.times for one in judged_in_all(folder, asked, configs)] == [6, 3]
    folder.place(folder.plan.runs[0]).mkdir(parents=True)
    folder.finish(folder.plan.runs[0], 1.0)  # block 0, the first seed
    assert [one.times for one in judged_in_all(folder, asked, configs)] == [5, 2]
    vllm = planned(tmp_path / "v", "speed", seeds=[1, 2], engine="eft-vllm")
    assert [one.times for one in judged_in_all(vllm, asked, configs)] == [16, 8]


def test_what_would_fail_after_the_runs_is_refused_before(tmp_path: Path) -> None:
    sequence = planned(tmp_path / "s", "sequence").plan
    tokens = planned(tmp_path / "s", "tokens").plan
    check_tasks(sequence, {"a": SAMPLED, "b": CHOICE})
    check_tasks(tokens, {"a": GREEDY})
    check_tasks(planned(tmp_path / "s", "scaling").plan, {"a": CHOICE})
    with pytest.raises(ConfigError, match="task a: responses are greedy"):
        check_tasks(sequence, {"a": GREEDY, "b": SAMPLED})
    cold = {**SAMPLED, "generation_kwargs": {"do_sample": True, "temperature": 0.7}}
    with pytest.raises(ConfigError, match=r"temperature 0\.7"):
        check_tasks(sequence, {"a": cold})
    for plan in (sequence, tokens):
        with pytest.raises(ConfigError, match="generates text"):
            check_tasks(plan, {"a": CHOICE})
    alone = {"large-tuned": {"base": "large-tuned"}}
    with pytest.raises(ConfigError, match="no arm has a tuned model"):
        plan_study(planned(tmp_path / "s", "tokens", arms=alone).plan.design)


@pytest.mark.parametrize(
    ("problem", "said"),
    [("", "time: unknown; --hardware NAME"), ("no", "time: unknown: not every arm that is left")],
)
def test_why_the_time_is_unknown(tmp_path: Path, problem: str, said: str) -> None:
    folder = planned(tmp_path / "s", "scaling")
    arms = tuple(ArmNeeds(arm, problem=problem) for arm in folder.plan.arms)
    _, lines, *_ = study_plan(folder, StudyNeeds(None, "", arms))
    assert isinstance(lines, Texts)
    assert [line for line in lines.lines if line.startswith(said)]
