"""Rows of preference data: what is a pair, what is none and why, and how it is written."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from preference_files import pairs, write_rows
from tiny_models import byte_tokenizer
from tokenizer_kinds import KINDS, tokenizer_of

from eft_eval.errors import ConfigError
from eft_eval.tasks.data import HH_REVISION
from eft_eval.tasks.sources import LeftOut, hh_question
from eft_eval.training.preferences import Preference, preference_of
from eft_eval.training.rows import rows_of
from eft_eval.training.settings import Training
from eft_eval.training.texts import Texts, check_same_tokens, fitting

HH = Path("../shared/data/hh_rlhf")
Q = "\n\nHuman: Why?\n\nAssistant:"
ASKED = ("Why?",)


def turn(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("row", "turns"),
    [
        ({"chosen": f"{Q} Yes.", "rejected": f"{Q} No. "}, ASKED),
        ({"chosen": "Yes.", "rejected": "No.", "prompt": "Why?"}, ASKED),
        ({"chosen": "Yes.", "rejected": "No.", "prompt": Q}, ASKED),
        (
            {
                "chosen": [turn("user", "Why?"), turn("assistant", "Yes.")],
                "rejected": [turn("user", "Why?"), turn("assistant", "No.")],
            },
            ASKED,
        ),
        (
            {
                "prompt": [turn("user", "Why?")],
                "chosen": [turn("assistant", "Yes.")],
                "rejected": [turn("assistant", "No.")],
            },
            ASKED,
        ),
        (
            {
                "chosen": f"{Q} So.\n\nHuman: And?\n\nAssistant: Yes.",
                "rejected": f"{Q} So.\n\nHuman: And?\n\nAssistant: No.",
            },
            ("Why?", "So.", "And?"),
        ),
    ],
)
def test_every_form_of_a_pair(row: dict[str, Any], turns: tuple[str, ...]) -> None:
    assert preference_of(row) == Preference(turns, "Yes.", "No.")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"chosen": f"{Q} Yes."}, "no chosen and rejected"),
        ({"chosen": f"{Q} Yes.", "rejected": None}, "no chosen and rejected"),
        ({"chosen": f"{Q} Yes.", "rejected": 3}, "not text"),
        ({"chosen": "Yes.", "rejected": "No."}, "no dialogue markers"),
        ({"chosen": f"{Q} Yes.", "rejected": f"{Q}  "}, "empty answer"),
        ({"chosen": f"{Q} Yes.", "rejected": f"{Q} Yes. "}, "chosen and rejected are the same"),
        (
            {"chosen": f"{Q} Yes.", "rejected": Q.replace("y", "o") + " No."},
            "prompts of chosen and rejected differ",
        ),
        (
            {"chosen": f"{Q} Yes.\n\nHuman: Hm.", "rejected": f"{Q} No."},
            "ends without an answer",
        ),
        (
            {"chosen": f"\n\nHuman: A{Q} Yes.", "rejected": f"\n\nHuman: A{Q} No."},
            "turns do not alternate",
        ),
        ({"chosen": f"{Q} \ud800", "rejected": f"{Q} No."}, "not text"),
        ({"chosen": "\n\nHuman: \n\nAssistant: a", "rejected": "\n\nHuman: \n\nAssistant: b"},
         "empty prompt"),
        (
            {
                "chosen": [turn("system", "S"), turn("user", "Q"), turn("assistant", "a")],
                "rejected": [turn("user", "Q"), turn("assistant", "b")],
            },
            "system message",
        ),
        (
            {"chosen": [turn("user", "Q")], "rejected": [turn("user", "Q")]},
            "ends without an answer",
        ),
        (
            {
                "chosen": [turn("user", "Q"), turn("assistant", None)],
                "rejected": [turn("user", "Q"), turn("assistant", "b")],
            },
            "not text",
        ),
        ({"chosen": "a", "rejected": "b", "prompt": 3}, "not text"),
    ],
)  # fmt: skip
def test_what_is_no_pair_says_why(row: dict[str, Any], why: str) -> None:
    found = preference_of(row)
    assert isinstance(found, LeftOut)
    assert found.reason == why


def training(tmp_path: Path, helpful: Any, **changes: Any) -> Training:
    given = {"reference": "demo:small-base", "helpful": helpful, "held-out": 20, **changes}
    return Training.model_validate(given)


def test_held_out_prompts_are_not_trained_on_and_the_choice_is_fixed(tmp_path: Path) -> None:
    rows = pairs("helpful", 60)
    again = [{**row, "rejected": row["rejected"] + " Never."} for row in rows[:30]]
    file = write_rows(tmp_path / "a.jsonl", [*rows, *again, *rows[:5], {"chosen": "x"}])
    found = rows_of(training(tmp_path, str(file)), "helpful")
    train, held_out = ({one.turns for one in part} for part in (found.train, found.held_out))
    assert not train & held_out
    assert len(found.train) + len(found.held_out) == 90
    assert 20 <= len(found.held_out) <= 21
    assert found.left_out == {"duplicate": 5, "no chosen and rejected": 1}
    turned = write_rows(tmp_path / "b.jsonl", [*reversed(again), *rows])
    assert rows_of(training(tmp_path, str(turned)), "helpful").train == found.train


def test_at_most_half_of_few_pairs_is_held_out(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "a.jsonl", pairs("helpful", 9))
    found = rows_of(training(tmp_path, str(file), **{"held-out": 512}), "helpful")
    assert (len(found.train), len(found.held_out)) == (5, 4)


def test_held_out_files_of_ones_own(tmp_path: Path) -> None:
    rows = pairs("helpful", 30)
    (tmp_path / "b.jsonl.gz").write_bytes(
        gzip.compress("".join(json.dumps(row) + "\n" for row in rows[15:]).encode())
    )
    given = {
        "train": str(write_rows(tmp_path / "a.jsonl", rows[:20])),
        "held-out": str(tmp_path / "b.jsonl.gz"),
    }
    found = rows_of(training(tmp_path, given), "helpful")
    assert (len(found.train), len(found.held_out)) == (20, 10)
    assert found.left_out == {"held-out prompt that is trained on": 5}
    same = {"train": given["train"], "held-out": given["train"]}
    with pytest.raises(ConfigError, match=r"a\.jsonl is given to train on and as held-out"):
        rows_of(training(tmp_path, same), "helpful")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"question": "Q"}], "no columns chosen and rejected; its columns are: question"),
        ([{"chosen": "a", "rejected": "b"}], "has 0 pairs to train on"),
        ([], "has 0 pairs to train on"),
    ],
)
def test_files_without_pairs_are_one_line(
    tmp_path: Path, rows: list[dict[str, Any]], said: str
) -> None:
    file = write_rows(tmp_path / "a.jsonl", rows)
    with pytest.raises(ConfigError) as caught:
        rows_of(training(tmp_path, str(file)), "helpful")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not HH.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize(
    ("side", "kept", "single"), [("helpful", 2333, 694), ("harmless", 2299, 658)]
)
def test_real_pairs_are_counted_and_prompted_as_the_task_does(
    side: str, kept: int, single: int
) -> None:
    raw = gzip.decompress((HH / f"{side}-base_test.jsonl.gz").read_bytes()).decode()
    rows = [json.loads(line) for line in raw.splitlines()]
    found = [(row, one) for row in rows if isinstance(one := preference_of(row), Preference)]
    alone = [(row, one) for row, one in found if len(one.turns) == 1]
    assert (len(found), len(alone)) == (kept, single)
    for row, one in alone:
        question = hh_question(row)
        assert one.turns == (question,)
        assert one.dialogue == f"\n\nHuman: {question}\n\nAssistant:"


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_read_as_the_engine_reads_them(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    texts = Texts(tokenizer, chat_template=False)
    one = Preference(("Why does it   rain?", "Clouds.", "Ça va? 🙂"), "It does.", "No idea,\n\nme.")
    pair = texts.of(one)
    assert pair.prompt == one.dialogue
    end = tokenizer.eos_token
    assert (pair.chosen, pair.rejected) == (f" It does.{end}", f" No idea,\n\nme.{end}")
    read = texts.encoding.tokens(pair.prompt + pair.chosen)
    assert read[-1] == tokenizer.eos_token_id
    assert len(read) == pair.tokens[0]


def test_a_chat_template_ends_answers_once_and_begins_once() -> None:
    tokenizer = byte_tokenizer(bos=True, chat=True)
    tokenizer.chat_template = (
        "<s>{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>\n{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    pair = Texts(tokenizer, chat_template=True).of(Preference(ASKED, "Yes.", "No."))
    assert pair.prompt == "<user>Why?</s>\n<assistant>"
    assert (pair.chosen, pair.rejected) == ("Yes.</s>", "No.</s>")
    assert tokenizer(pair.prompt + pair.chosen).input_ids.count(0) == 1
    tokenizer.chat_template = (
        "{{ messages[-1]['content'] }}{% if add_generation_prompt %}?{% endif %}"
    )
    with pytest.raises(ConfigError, match="otherwise where an answer follows"):
        Texts(tokenizer, chat_template=True).of(Preference(ASKED, "Yes.", "No."))
    tokenizer.chat_template = None
    with pytest.raises(ConfigError, match="chat-template: the reference's tokenizer has none"):
        Texts(tokenizer, chat_template=True)


def test_long_pairs_are_left_out_and_counted() -> None:
    texts = Texts(byte_tokenizer(), chat_template=False)
    found = [Preference(("Q",), "a" * length, "b") for length in (1, 50, 2, 60, 3)]
    fits = fitting(texts, found, 40)
    assert [one.chosen for one in fits.pairs] == [f" {'a' * n}</s>" for n in (1, 2, 3)]
    assert fits.too_long == 2
    assert fits.tokens == sum(sum(one.tokens) for one in fits.pairs)
    assert fitting(texts, found, 40, most=2).pairs == fits.pairs[:2]


def test_a_trainer_that_reads_other_tokens_is_refused() -> None:
    texts = Texts(byte_tokenizer(), chat_template=False)
    (pair,) = fitting(texts, [Preference(("Q",), "a", "b")], 40).pairs
    before = texts.encoding.tokens(pair.prompt)
    row = {
        "prompt_ids": before,
        "chosen_ids": texts.encoding.tokens(pair.prompt + pair.chosen)[len(before) :],
        "rejected_ids": texts.encoding.tokens(pair.prompt + pair.rejected)[len(before) :],
    }
    check_same_tokens(texts, [pair], [row])
    with pytest.raises(ConfigError, match="TRL reads 1 of 2 texts with other tokens"):
        check_same_tokens(texts, [pair], [{**row, "chosen_ids": [*row["chosen_ids"], 1]}])


def test_the_hubs_two_files_of_each_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    commit = tmp_path / "datasets--Anthropic--hh-rlhf" / "snapshots" / HH_REVISION
    rows = {side: pairs(side, 30) for side in ("helpful", "harmless")}
    for side, found in rows.items():
        (commit / f"{side}-base").mkdir(parents=True)
        write_rows(commit / f"{side}-base" / "train.jsonl", found[:20])
        write_rows(commit / f"{side}-base" / "test.jsonl", found[20:])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for side, expected in rows.items():
        found = rows_of(training(tmp_path, None, **{"held-out": 8}), side)
        assert found.origin == f"Anthropic/hh-rlhf {side}-base"
        assert found.revision == HH_REVISION
        assert list(found.files) == [f"{side}-base/train.jsonl", f"{side}-base/test.jsonl"]
        assert {one.dialogue for one in found.train} == {
            row["chosen"].rpartition(" ")[0].partition("Assistant:")[0] + "Assistant:"
            for row in expected[:20]
        }
        assert len(found.held_out) == 8
    with pytest.raises(ConfigError, match=r"not in the cache \(HF_HUB_OFFLINE is set\)"):
        rows_of(training(tmp_path, None, **{"hh-revision": "other"}), "helpful")
