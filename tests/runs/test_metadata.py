"""What eft-eval writes into results files: written and read by one record each."""

from __future__ import annotations

import json
from typing import Any

import pytest

from eft_eval.errors import ConfigError
from eft_eval.records import plain
from eft_eval.runs.judged import Bounds, Judging, KeptJudging, PromptUsed, Usage, judging_in
from eft_eval.runs.metadata import (
    Decoding,
    Member,
    PromptData,
    decoding_in,
    members_in,
    model_arguments,
    prompt_data_in,
)

PROMPT = PromptUsed("factuality", 2, "abc")
JUDGING = Judging(
    "gpt-4",
    endpoint="https://example.org/v1",
    parameters={"temperature": 0, "max_tokens": 8},
    parser_version=3,
    prompts={"factuality": PROMPT},
    measures={"factuality": "factuality"},
    verdicts={"scored": 3},
    bounds={"fact_errors,factuality": Bounds(0.5, None, 2)},
    models_returned=("gpt-4-0613",),
    usage=Usage(10, 2, None, ("2026-01-01",)),
    drift={"factuality": None},
    kept={"help": KeptJudging("old", None, {}, PROMPT, "helpfulness", "results_1.json")},
)


def stored(record: Any) -> Any:
    """A record as it comes back from a results file."""
    return json.loads(json.dumps(record))


def test_each_record_is_read_as_it_was_written() -> None:
    base = Member(
        "base", "sha256:1", "/models/a", 1.0, dtype="auto", loaded_dtype="torch.float32",
        num_parameters=7,
    )  # fmt: skip
    tuned = Member("tuned", "me/tuned", "me/tuned", -0.5, revision="main", commit="c" * 40)
    config = stored({"eft_members": {one.role: one.as_dict() for one in (base, tuned)}})
    assert members_in(config, "r.json") == (base, tuned)
    assert (base.digest, base.version, base.weights) == ("sha256:1", None, "float32")
    assert (tuned.digest, tuned.version, tuned.weights) == (None, "c" * 40, None)

    decoding = Decoding(3, 30, 12.5, passes={"base": 9}, time_share={"base": None}, seconds=2.0)
    assert decoding_in(stored({"eft_decoding": decoding.as_dict()}), "r.json") == decoding
    assert decoding_in({"eft_decoding": None}, "r.json") is None

    task = stored({"metadata": {"eft_judge": JUDGING.as_dict()}})
    assert judging_in(task, "r.json") == JUDGING
    assert "self_agreement" not in task["metadata"]["eft_judge"]
    assert judging_in({"metadata": {"eft_judge": None}}, "r.json") is None
    assert judging_in({}, "r.json") is None

    for data in (
        PromptData("eli5", 2, "d", "hub", "o/r", "c" * 40, {"a": "b"}, 3, {"empty": 1}, {}, 2),
        PromptData("demo", 2, "d", world_seed=5),
    ):
        task = stored({"metadata": {"eft_data": data.as_dict()}})
        assert prompt_data_in(task, "r.json") == data
    assert [*task["metadata"]["eft_data"]] == ["name", "used", "prompts_sha256", "world_seed"]
    assert prompt_data_in({"metadata": {"eft_data": "eli5"}}, "r.json") is None


def test_what_another_version_did_not_write_is_none_and_what_is_damaged_is_named() -> None:
    (member,) = members_in({"eft_members": {"base": {"model": "gpt2", "new": 1}}}, "r.json")
    assert (member.source, member.coefficient) == ("gpt2", None)
    with pytest.raises(ConfigError, match=r"r\.json: eft_members\.base lacks model"):
        members_in({"eft_members": {"base": {}}}, "r.json")
    with pytest.raises(ConfigError, match=r"r\.json: eft_decoding\.tokens is 'many'"):
        decoding_in({"eft_decoding": {"tokens": "many"}}, "r.json")


def test_judges_whose_verdicts_stay_are_kept_by_pipeline() -> None:
    kept = JUDGING.kept_for({"help"}, "results_2.json")
    assert kept == {
        "factuality": KeptJudging(
            "gpt-4", JUDGING.endpoint, JUDGING.parameters, PROMPT, "factuality", "results_2.json"
        )
    }
    assert JUDGING.kept_for({"help", "factuality"}, "results_2.json") is None
    assert (JUDGING.judged("help"), JUDGING.judged("factuality")) == (True, True)
    assert JUDGING.judged("acc") is False
    assert Judging("program").judged("any"), "a program names no prompts"
    assert plain(kept)["factuality"]["prompt"]["version"] == 2


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("pretrained=a/b,dtype=float16", {"pretrained": "a/b", "dtype": "float16"}),
        ({"pretrained": "a/b", "peft": None}, {"pretrained": "a/b", "peft": None}),
        ("base=x,stop=[1,2],tuned=y", {"base": "x", "stop": "[1,2]", "tuned": "y"}),
        ("a=b=c", {"a": "b=c"}),
        ("", {}),
        (None, {}),
        ("alone", {}),
    ],
)
def test_model_arguments_are_read_in_one_way(given: Any, expected: dict[str, Any]) -> None:
    assert model_arguments({"model_args": given}) == expected
