"""Questions of the ELI5 tasks: files, where they lie, and which are taken."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from prompt_files import write

from eft_eval.errors import ConfigError
from eft_eval.tasks.data import describe, load_eli5, load_hh


def questions(n: int) -> list[dict[str, str]]:
    return [{"question": f"Why is {i} odd?"} for i in range(n)]


def test_selection_is_in_hash_order_and_a_smaller_n_is_a_prefix(tmp_path: Path) -> None:
    file = write(tmp_path / "q.jsonl", *questions(50))
    ten = load_eli5(eli5_data=str(file), n_prompts=10, version=1.0, model="x")["test"]
    assert ten.column_names == ["question", "prompt_id", "source"]
    digests = [hashlib.sha256(q.encode()).hexdigest() for q in ten["question"]]
    assert digests == sorted(digests)
    assert list(ten["prompt_id"]) == [d[:16] for d in digests]
    assert set(ten["source"]) == {"q.jsonl"}
    five = load_eli5(eli5_data=file, n_prompts="5")["test"]
    assert list(five["question"]) == list(ten["question"])[:5]
    shuffled = write(tmp_path / "r.jsonl", *reversed(questions(50)))
    again = load_eli5(eli5_data=shuffled, n_prompts=10)["test"]
    assert list(again["question"]) == list(ten["question"])
    same = [describe("eli5", eli5_data=f, n_prompts=10).prompts_sha256 for f in (file, shuffled)]
    assert same[0] == same[1]


def test_counts_add_up_and_nothing_names_this_machine(tmp_path: Path) -> None:
    rows: list[object] = [
        {"input": "  Why?  "},
        {"title": "Why?"},
        {"question": "word " * 31},
        {"question": "word " * 30},
        {"question": None, "input": "How?"},
        {"question": 5},
        {"question": " "},
        {"other": 1},
        {"question": "\ud800"},
    ]
    file = write(tmp_path / "q.json", *rows)
    made = describe("eli5", eli5_data=file, n_prompts=3)
    assert made.rejected == {"empty prompt": 1, "no question column": 1, "not text": 2}
    assert made.skipped == {"duplicate": 1, "more than 30 words": 1}
    assert (made.rows, made.usable, made.used) == (9, 3, 3)
    assert made.files == {"q.json": hashlib.sha256(file.read_bytes()).hexdigest()}
    assert (made.kind, made.origin, made.revision) == ("file", "q.json", None)
    assert str(tmp_path) not in json.dumps(made.as_dict())
    assert describe("eli5", eli5_data=file, n_prompts=1, max_words=None).usable == 4
    assert describe("eli5", eli5_data=file, n_prompts=1, max_words="none").usable == 4


def test_short_file_runs_whole_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(tmp_path / "q.jsonl", *questions(3))
    with caplog.at_level(logging.INFO, logger="eft_eval.tasks"):
        assert len(load_eli5(eli5_data=file)["test"]) == 3
        assert len(load_eli5(eli5_data=file)["test"]) == 3  # cached: says nothing twice
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warnings == [
        "q.jsonl: n = 3 usable prompts, fewer than n_prompts=256: all of them are used"
    ]
    assert len(caplog.records) == 2


def test_cache_follows_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "q.jsonl", *questions(3))
    first = load_eli5(eli5_data=file, n_prompts=2)["test"]
    write(file, {"question": "New?"}, {"question": "Newer?"})
    second = load_eli5(eli5_data=file, n_prompts=2)["test"]
    assert set(second["question"]) == {"New?", "Newer?"} != set(first["question"])


def test_folders_lists_gzip_parquet_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow
    from pyarrow import parquet

    write(tmp_path / "b" / "same.jsonl.gz", {"question": "B?"})
    write(tmp_path / "a" / "same.json.gz", {"question": "A?"})
    write(tmp_path / "a" / "._hidden.jsonl", {"question": "hidden?"})
    parquet.write_table(pyarrow.table({"input": ["P?"]}), tmp_path / "a" / "z.parquet")
    lines = write(tmp_path / "c" / "same.jsonl", {"question": "L?"}, {"question": "M?"})
    both = [tmp_path / "a", str(tmp_path / "b"), lines]
    made = describe("eli5", eli5_data=both, n_prompts=5)
    assert list(made.files) == ["same.json.gz", "z.parquet", "same.jsonl.gz", "same.jsonl"]
    assert made.used == 5
    twins = [write(tmp_path / d / "t.jsonl", *questions(2)) for d in ("harm", "help")]
    assert list(describe("eli5", eli5_data=twins, n_prompts=1).files) == [
        "harm/t.jsonl",
        "help/t.jsonl",
    ]
    monkeypatch.setenv("EFT_ELI5_DATA", str(lines))
    assert describe("eli5", n_prompts=2).origin == "same.jsonl"
    assert describe("eli5", eli5_data=tmp_path / "b", n_prompts=1).origin == "same.jsonl.gz"
    monkeypatch.setenv("EFT_ELI5_DATA", str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match=r"^EFT_ELI5_DATA: there is no file or folder .*gone$"):
        load_eli5()


def test_json_file_with_one_object_per_line_is_read(tmp_path: Path) -> None:
    file = tmp_path / "q.json"
    file.write_text('\ufeff{"title": "A\u2028B?"}\n\n{"title": "C?"}\n', encoding="utf-8")
    assert describe("eli5", eli5_data=file, n_prompts=2).used == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.jsonl", b'{"question": "a"}\n{"question"', r"q\.jsonl, line 2: not JSON"),
        ("q.json", b'[{"question": "a"},\n}', r"q\.json, line 2: not JSON"),
        ("q.json", b"[" * 99_999, r"q\.json: no JSON to be read \(maximum recursion"),
        ("q.jsonl", b'{"a": ' * 99_999, r"q\.jsonl, line 1: no JSON to be read"),
        ("q.json", b'[{"question": %s}]' % (b"9" * 5000), r"q\.json: no JSON .*4300 digits"),
        ("q.json", b'{"question": "a"}', "a list of JSON objects is needed, not dict"),
        ("q.jsonl", b"5", "line 1: a JSON object is needed, not int"),
        ("q.json", b"[5]", "item 1: a JSON object is needed, not int"),
        ("q.jsonl", b"\xff", "q.jsonl cannot be read"),
        ("q.jsonl.gz", b"no gzip", "q.jsonl.gz cannot be read"),
        ("q.jsonl.gz", gzip.compress(b"a" * 99, mtime=0)[:-9], "q.jsonl.gz cannot be read"),
        ("q.parquet", b"no parquet", "q.parquet cannot be read as parquet"),
        ("q.jsonl", b"", "no usable prompt in 0 rows"),
        ("q.jsonl", b'{"question": ""}', r"no usable prompt in 1 rows \(1 empty prompt\)"),
        ("q.txt", b"Why?", r"eli5_data: .*q\.txt is none of \.jsonl"),
        (
            "q.jsonl",
            b'{"text": "a", "id": 1}\n{"id": 2}',
            r"^q\.jsonl: no column question, input, .* or conversations; its columns are: id, tex",
        ),
    ],
)
def test_bad_files_give_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_eli5(eli5_data=tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_prompts": 0}, "n_prompts: 0 is not a whole number of at least 1"),
        ({"n_prompts": "many"}, "n_prompts: 'many'"),
        ({"n_prompts": True}, "n_prompts: True"),
        ({"n_prompts": 2.5}, "n_prompts: 2.5"),
        ({"n_prompts": None}, "n_prompts: None"),
        ({"max_words": "-3"}, "max_words: '-3'"),
        ({"eli5_revision": ""}, "eli5_revision: '' is not a branch, tag or commit"),
        ({"eli5_data": 7}, "eli5_data: 7 is not a path"),
        ({"eli5_data": ["/nowhere/x.jsonl"]}, "eli5_data: there is no file or folder"),
    ],
)
def test_bad_settings_give_one_line(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    file = write(tmp_path / "q.jsonl", *questions(3))
    with pytest.raises(ConfigError, match=message):
        load_eli5(**{"eli5_data": file, **settings})


def test_empty_folder_and_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"folder .* holds no \.jsonl"):
        load_hh(hh_data=tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'eli5'"):
        describe("eli", eli5_data=tmp_path)
