"""The scripted judge, and what judges of this process cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from judging_helpers import PROMPT, items, settings, statuses

from eft_eval.errors import ConfigError
from eft_eval.judging import JudgeSettings, Verdict, VerdictStore, judge_responses, preflight
from eft_eval.judging.describe import describe_judge
from eft_eval.judging.judges.answers import read_answer
from eft_eval.judging.judges.base import Failure, Reply
from eft_eval.judging.judges.scripted import load_script
from eft_eval.judging.outcome import verdict_of
from eft_eval.judging.prompts.measures import measure_of

RULES = r"""
- match: "(\\d+) mistakes"
  reply: "Reason: the text says so.\n\nScore: \\1"
- match: "sorry"
  refusal: "I will not judge this."
- match: "long"
  reply: "Reason: on and on"
  finish_reason: length
- match: "outage"
  status: 503
"""


def scripted(path: Path, text: str = RULES) -> JudgeSettings:
    path.write_text(text)
    return JudgeSettings.from_environment({}, judge=f"scripted:{path}")


def test_a_script_answers(tmp_path: Path, store: VerdictStore) -> None:
    judge = scripted(tmp_path / "rules.yaml")
    assert preflight(judge) is None
    given = items("3 mistakes", "sorry", "long", "outage", "something else")
    verdicts = judge_responses(given, PROMPT, judge, store)
    assert statuses(verdicts) == ["scored", "refused", "truncated", "api_error", "api_error"]
    assert verdicts[0].value == 3
    assert verdicts[0].cost_usd == 0.0  # though no tokens are counted
    assert "scripted HTTP status 503" in str(verdicts[3].error)
    assert "no rule of" in str(verdicts[4].error)
    assert len(store) == 3


def test_an_edited_script_is_another_judge(tmp_path: Path, store: VerdictStore) -> None:
    path = tmp_path / "rules.yaml"
    first = judge_responses(items("3 mistakes"), PROMPT, scripted(path), store)
    edited = scripted(path, "- {match: mistakes, reply: 'Score: 9'}")
    second = judge_responses(items("3 mistakes"), PROMPT, edited, store)
    assert [first[0].value, second[0].value] == [3, 9]


def test_a_script_may_be_json(tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps([{"match": "a.b", "reply": "Score: 1"}]))
    (rule,) = load_script(path)
    assert rule.match.search("x a\nb")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "cannot read"),
        ("match: x", "must be a list of rules"),
        ("[]", "must be a list of rules"),
        ("- x", "rule 1: is 'x'"),
        ("- {match: x, reply: y}\n- {mtch: x, reply: y}", "rule 2: .*did you mean 'match'"),
        ("- {match: '(', reply: y}", "rule 1: "),
        ("- {match: x, reply: '\\2'}", "rule 1: invalid group"),
        ("- {match: 'x{99999999999}', reply: y}", "rule 1: the repetition number is too large"),
        (f"- {{match: '{'(' * 5000}', reply: y}}", "rule 1: "),
        ("- {match: x, reply: 3}", "reply is 3; it must be text"),
        ("- {match: x}", "needs a match, and a reply"),
        ("- {match: x, status: 200}", "must be 400 to 599"),
    ],
)
def test_wrong_scripts_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        preflight(scripted(tmp_path / "rules.yaml", text))
    assert "rules.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_script(tmp_path: Path) -> None:
    judge = JudgeSettings.from_environment({}, judge=f"scripted:{tmp_path / 'none.yaml'}")
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        preflight(judge)


@pytest.mark.parametrize("name", ["hf:", "scripted:", ""])
def test_a_judge_needs_a_name(name: str) -> None:
    with pytest.raises(ConfigError, match="lacks a name"):
        JudgeSettings.from_environment({"OPENAI_API_KEY": "k"}, judge=name)


def test_judges_in_this_process_cost_nothing(tmp_path: Path, store: VerdictStore) -> None:
    judge = scripted(tmp_path / "rules.yaml")
    verdicts = judge_responses(items("2 mistakes", "sorry", "outage"), PROMPT, judge, store)
    assert [verdict.cost_usd for verdict in verdicts] == [0.0, 0.0, None]
    usage = usage_of(judge, verdicts)
    assert usage["cost_usd"] == 0.0


def usage_of(judge: JudgeSettings, verdicts: list[Verdict]) -> dict[str, Any]:
    groups = {"f": [[verdict] for verdict in verdicts]}
    described = describe_judge(judge, {"f": PROMPT}, {"f": measure_of(PROMPT)}, groups, [])
    assert described.usage is not None
    return described.usage._asdict()


def test_the_cost_of_an_endpoint_that_does_not_count_is_unknown(store: VerdictStore) -> None:
    judge = settings("http://127.0.0.1:1/v1", model="gpt-4.1-2025-04-14")
    uncounted = verdict_of("k", Reply("Score: 1", "stop"), PROMPT, judge)
    counted = verdict_of(
        "l", Reply("Score: 1", "stop", prompt_tokens=10, completion_tokens=1), PROMPT, judge
    )
    failed = verdict_of("m", Failure("no"), PROMPT, judge)
    assert usage_of(judge, [uncounted, counted])["cost_usd"] is None
    assert usage_of(judge, [counted, failed])["cost_usd"] == counted.cost_usd


@pytest.mark.parametrize("returned", [None, "gpt-4.1", "gpt-4.1-2025-04-14"])
def test_a_returned_name_without_a_price_falls_back(returned: str | None) -> None:
    judge = settings("http://127.0.0.1:1/v1", model="gpt-4.1-2025-04-14")
    reply = Reply("Score: 1", "stop", model=returned, prompt_tokens=10**6, completion_tokens=0)
    assert verdict_of("k", reply, PROMPT, judge).cost_usd == 2.0


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("Score: 1", "Score: 1"),
        (None, None),
        (
            [{"type": "text", "text": "Reason: x\n"}, {"type": "text", "text": "Score: 1"}],
            "Reason: x\nScore: 1",
        ),
        ([{"type": "image"}], '[{"type": "image"}]'),
        ({"odd": "é"}, '{"odd": "é"}'),
    ],
)
def test_contents_of_all_kinds_are_kept(content: object, text: str | None) -> None:
    found = read_answer({"choices": [{"message": {"content": content}}]})
    assert isinstance(found, Reply)
    assert found.text == text


def test_the_harness_may_be_judged_by_a_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eft_eval.tasks.judge_filter import JudgeFilter
    from eft_eval.verdicts.text import read_verdicts

    judge = scripted(tmp_path / "rules.yaml")
    monkeypatch.setenv("EFT_JUDGE_MODEL", judge.model)
    written = JudgeFilter("factuality").apply([["2 mistakes"], ["sorry"]], [{}, {}])
    verdicts = [read_verdicts(text)[0] for text in written]
    assert [(v.status.value, v.value) for v in verdicts] == [("scored", 2), ("refused", None)]
