"""Prompts of the HH tasks: what is kept, skipped or rejected of preference data."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from prompt_files import pair, write

from eft_eval.errors import ConfigError
from eft_eval.tasks import sources
from eft_eval.tasks.data import describe, load_eli5, load_hh

REAL = Path(__file__).parents[3] / "shared" / "data"


def test_hh_rows_are_kept_skipped_or_rejected_by_reason(tmp_path: Path) -> None:
    one = "\n\nHuman: Hi\nthere? "
    rows = [
        pair(one),
        pair(f"{one}\n\nAssistant: Hm\n\nHuman: More"),
        pair(f"{one}\n\nAssistant: twice"),
        pair(one, f"{one}\n\nAssistant: twice"),
        pair("\n\nHuman:  "),
        {"chosen": "plain", "rejected": "plain"},
        {"chosen": ["a"], "rejected": ["b"]},
        {"prompt": " Bare? "},
        {"question": "Also bare?"},
        {"prompt": "\n\nHuman: Marked?\n\nAssistant: Yes."},
        {"chosen": "only"},
    ]
    file = write(tmp_path / "hh.jsonl", *rows)
    used = load_hh(hh_data=file, n_prompts=3)["test"]
    assert set(used["question"]) == {"Hi\nthere?", "Bare?", "Also bare?"}
    made = describe("hh", hh_data=file, n_prompts=3)
    assert made.skipped == {"multi-turn": 2}
    assert made.rejected == {
        "dialogue markers in a bare question": 1,
        "empty prompt": 1,
        "no dialogue markers": 1,
        "no question column": 1,
        "not text": 1,
        "prompts of chosen and rejected differ": 1,
    }


def says(role: str, text: object) -> dict[str, object]:
    return {"role": role, "content": text}


def test_shapes_of_preference_data_are_read(tmp_path: Path) -> None:
    """TRL and DPO, with texts or messages, UltraFeedback and PKU-SafeRLHF."""
    asked, answers = [says("user", "Four?")], [says("assistant", "a"), says("assistant", "b")]
    five = says("user", "Five?")
    several = [*asked, answers[0], says("user", "More?")]
    rows = [
        {"prompt": "One?", "chosen": "a", "rejected": "b"},
        {"prompt": "\n\nHuman: Two?\n\nAssistant:", "chosen": "a", "rejected": "b"},
        {"instruction": "Three?", "completions": [{"response": "a"}]},
        {"prompt": asked, "chosen": answers[:1], "rejected": answers[1:]},
        {
            "chosen": [five, answers[0]],
            "rejected": [five, answers[1]],
        },
        {"prompt": "Six?", "response_0": "a", "response_1": "b", "better_response_id": 0},
        {
            "prompt": "Seven?",
            "chosen": [five, answers[0]],
            "rejected": [answers[1]],
        },
        {"prompt": several, "chosen": answers[:1], "rejected": answers[1:]},
        {"prompt": [says("system", "Be brief."), *asked], "chosen": "a", "rejected": "b"},
        {"chosen": [*asked, answers[0]], "rejected": [says("user", "Other?"), answers[1]]},
    ]
    expected = {"One?", "Two?", "Three?", "Four?", "Five?", "Six?", "Seven?"}
    lines = write(tmp_path / "lines.jsonl", *rows)
    array = tmp_path / "array.jsonl"
    array.write_text(json.dumps(rows, indent=1))
    for file in (lines, array):
        used = load_hh(hh_data=file, n_prompts=len(expected))["test"]
        assert set(used["question"]) == expected
        made = describe("hh", hh_data=file, n_prompts=len(expected))
        assert made.skipped == {"multi-turn": 1, "system message": 1}
        assert made.rejected == {"prompts of chosen and rejected differ": 1}
    eli5 = write(tmp_path / "eli5.jsonl", rows[0], rows[2], rows[3])
    assert set(load_eli5(eli5_data=eli5, n_prompts=3)["test"]["question"]) == {
        "One?",
        "Three?",
        "Four?",
    }


def test_prompts_are_whole_or_left_out(tmp_path: Path) -> None:
    """UltraFeedback's binarized rows, TRL's of one column, Alpaca's with and without input."""
    user, answer = says("user", "One?"), says("assistant", "a")
    more = [user, answer, says("user", "More?"), answer]
    rows = [
        {"prompt": "One?", "prompt_id": "1", "chosen": [user, answer], "rejected": [user, answer],
         "messages": [user, answer], "score_chosen": 8.0, "score_rejected": 7.0},
        {"prompt": "One?", "chosen": more, "rejected": more, "messages": more},
        {"prompt": "Two?", "chosen": [says("system", "Be."), answer], "rejected": [answer]},
        {"messages": [says("user", "Three?"), answer]},
        {"messages": [says("user", "Four?")]},
        {"messages": more},
        {"instruction": "Five?", "input": "", "output": "a"},
        {"instruction": "Translate.", "input": "six", "output": "a"},
        {"prompt": [says("user", "Seven?")], "completion": [answer], "label": True},
    ]  # fmt: skip
    file = tmp_path / "rows.parquet"
    from pyarrow import Table, parquet

    lines = write(tmp_path / "rows.jsonl", *rows)
    parquet.write_table(Table.from_pylist(rows[:1] * 2), file)
    expected = {"One?", "Three?", "Four?", "Five?", "Seven?"}
    found = load_hh(hh_data=lines, n_prompts=5)["test"]
    assert set(found["question"]) == expected
    made = describe("hh", hh_data=lines, n_prompts=5)
    assert made.skipped == {"instruction with an input": 1, "multi-turn": 2, "system message": 1}
    assert made.rejected == {}
    assert load_hh(hh_data=file, n_prompts=1)["test"]["question"] == ["One?"]
    simple = write(tmp_path / "eli5.jsonl", *rows[3:8])
    assert set(load_eli5(eli5_data=simple, n_prompts=3)["test"]["question"]) == {
        "Three?", "Four?", "Five?",
    }  # fmt: skip


def test_chats_of_other_tools_and_prompts_that_were_rendered_for_a_model(tmp_path: Path) -> None:
    """ShareGPT's turns and parts of OpenAI's are read; a chat template's marks are no question."""
    turns = [{"from": "human", "value": "One?"}, {"from": "gpt", "value": "a"}]
    part = {"type": "text", "text": "Two?"}
    picture = {"type": "image_url", "image_url": {"url": "x"}}
    rows = [
        {"conversations": turns},
        {"messages": [says("user", [part])]},
        {"messages": [says("user", [part, picture])]},
        {"conversations": turns * 2},
        {"prompt": "<|im_start|>user\nThree?<|im_end|>\n<|im_start|>assistant\n"},
        {"prompt": "<s>[INST] Four? [/INST]"},
        {"prompt": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nFive?<|eot_id|>"},
        {"prompt": "What does [INST] mean?"},
    ]
    for name, load in (("eli5", load_eli5), ("hh", load_hh)):
        lines = write(tmp_path / f"{name}.jsonl", *rows)
        settings = {f"{name}_data": lines, "n_prompts": 3}
        found = load(**settings)["test"]["question"]  # type: ignore[operator]
        assert set(found) == {"One?", "Two?", "What does [INST] mean?"}
        made = describe(name, **settings)
        assert made.rejected == {"a chat template's marks in the prompt": 3, "not text": 1}
        assert made.skipped == {"multi-turn": 1}


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl.gz"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(ConfigError, match=r"^q\.jsonl\.gz is a Git LFS pointer"):
        load_eli5(eli5_data=file)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize(
    ("split", "rows", "single", "differ", "differ_single"),
    [("harmless", 2312, 662, 5, 1), ("helpful", 2354, 700, 9, 4)],
)
def test_real_hh_counts(
    split: str, rows: int, single: int, differ: int, differ_single: int
) -> None:
    file = REAL / "hh_rlhf" / f"{split}-base_test.jsonl.gz"
    read = list(sources.read_rows(file, file.name))
    prompts = [
        tuple(sources.prompt_of(str(row[side])) or "" for side in ("chosen", "rejected"))
        for row in read
    ]
    assert len(read) == rows
    assert sum(sources.is_single_turn(chosen) for chosen, _ in prompts) == single
    assert sum(chosen != rejected for chosen, rejected in prompts) == differ
    made = describe("hh", hh_data=file)
    assert made.skipped["multi-turn"] == rows - single
    assert made.rejected == {"prompts of chosen and rejected differ": differ_single}
    assert made.usable == single - differ_single - made.skipped.get("duplicate", 0)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data")
def test_real_hh_folder_and_eli5_questions(tmp_path: Path) -> None:
    start = time.perf_counter()
    chosen = load_hh(hh_data=REAL / "hh_rlhf")["test"]
    assert len(chosen) == len(set(chosen["question"])) == 256
    assert set(chosen["source"]) == {
        "harmless-base_test.jsonl.gz",
        "helpful-base_test.jsonl.gz",
    }
    assert not any("\n\nAssistant:" in q or "\n\nHuman:" in q for q in chosen["question"])
    assert describe("hh", hh_data=REAL / "hh_rlhf").usable == 1355
    assert time.perf_counter() - start < 30
    alce = json.loads((REAL / "alce" / "human_eval_utility_completed.json").read_text())["eli5"]
    by_id = next(iter(alce.values()))
    rows = [{"question": v["question"]} for k, v in by_id.items() if k.startswith("eli5_")]
    file = write(tmp_path / "alce.jsonl", *rows)
    made = describe("eli5", eli5_data=file, n_prompts=50)
    assert (made.rows, made.used) == (100, 50)
    assert all(
        len(q.split()) <= 30 for q in load_eli5(eli5_data=file, n_prompts=50)["test"]["question"]
    )
