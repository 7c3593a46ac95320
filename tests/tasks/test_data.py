"""Prompts of the ELI5 and HH tasks: files, a stand-in hub on loopback, selection, messages."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from eft_eval.errors import ConfigError
from eft_eval.tasks import sources
from eft_eval.tasks.data import describe, load_eli5, load_hh

REAL = Path(__file__).parents[3] / "shared" / "data"
SHA = "a" * 40


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EFT_ELI5_DATA", raising=False)
    monkeypatch.delenv("EFT_HH_DATA", raising=False)


def write(path: Path, *rows: object) -> Path:
    """Write rows as the suffix says."""
    text = json.dumps(rows) if ".json" in path.suffixes else "\n".join(map(json.dumps, rows))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def questions(n: int) -> list[dict[str, str]]:
    return [{"question": f"Why is {i} odd?"} for i in range(n)]


def pair(prompt: str, other: str | None = None) -> dict[str, str]:
    return {
        "chosen": f"{prompt}\n\nAssistant: yes",
        "rejected": f"{prompt if other is None else other}\n\nAssistant: no",
    }


# --- selection -------------------------------------------------------------------------------


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


# --- where the files are ---------------------------------------------------------------------


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


# --- HH --------------------------------------------------------------------------------------


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


# --- the hub ---------------------------------------------------------------------------------

PROBE = """
import json, sys, time
from eft_eval.errors import ConfigError
from eft_eval.tasks.data import describe
for name, settings in json.loads(sys.argv[1]):
    start = time.perf_counter()
    try:
        out = describe(name, **settings).as_dict()
    except ConfigError as error:
        out = {"error": str(error)}
    print(json.dumps({**out, "seconds": time.perf_counter() - start}))
"""


def probe(home: Path, *calls: tuple[str, dict[str, object]], **env: str) -> list[dict[str, Any]]:
    """Describe data in a fresh process, as huggingface_hub reads its settings at import."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "EFT_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(calls)],
        env={**kept, "PYTHONPATH": os.pathsep.join(sys.path), "HF_HOME": str(home), **env},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_unreachable_hub_says_what_to_do_at_once(tmp_path: Path) -> None:
    offline, also = probe(tmp_path, ("eli5", {}), ("hh", {}), HF_HUB_OFFLINE="1")
    assert offline["error"] == (
        "cannot get facebook/kilt_tasks from the hub, and it is not in the cache (HF_HUB_OFFLINE "
        "is set): connect once, or set --metadata eli5_data=FILE or EFT_ELI5_DATA=FILE"
    )
    assert also["error"].startswith("cannot get Anthropic/hh-rlhf from the hub")
    closed = "http://127.0.0.1:9"  # nothing listens on the discard port
    for refused in probe(tmp_path, ("eli5", {}), ("hh", {}), HF_ENDPOINT=closed):
        assert "it is not in the cache (ConnectError: " in refused["error"]
        assert "\n" not in refused["error"]
        assert refused["seconds"] < 20


class _Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as a download of a small file asks for."""

    repos: ClassVar[dict[str, dict[str, bytes]]] = {}

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.answer(*self.reply(self.path.partition("?")[0]))

    def reply(self, path: str) -> tuple[bytes, int, str]:
        for repo, files in self.repos.items():
            api = f"/api/datasets/{repo}"
            if path.startswith(f"{api}/tree/{SHA}"):
                sizes = {name: len(content) for name, content in files.items()}
                tree = [{"type": "file", "path": n, "size": s, "oid": n} for n, s in sizes.items()]
                return json.dumps(tree).encode(), 200, ""
            if path in {f"{api}/revision/main", f"{api}/revision/{SHA}"}:
                return json.dumps({"id": repo, "sha": SHA}).encode(), 200, ""
            for name, content in files.items():
                if path == f"/datasets/{repo}/resolve/{SHA}/{name}":
                    return content, 200, ""
            if path.startswith(f"{api}/"):
                return b"{}", 404, "RevisionNotFound"
        return b"{}", 404, "RepoNotFound"

    def answer(self, body: bytes, status: int, error: str) -> None:
        self.send_response(status)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", SHA)
        self.send_header("Content-Length", str(len(body)))
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def hub() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def parquet_bytes(folder: Path, column: str, values: list[str]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"id": values, column: values}), folder / "made.parquet")
    return (folder / "made.parquet").read_bytes()


def test_hub_commit_is_named_and_the_cache_serves_offline(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kilt = parquet_bytes(tmp_path, "input", [f"Why {i}?" for i in range(9)])
    split = [json.dumps(pair(f"\n\nHuman: {i}?")).encode() for i in range(4)]
    files = {
        "harmless-base/test.jsonl.gz": gzip.compress(b"\n".join(split[:2]), mtime=0),
        "helpful-base/test.jsonl.gz": gzip.compress(b"\n".join(split[2:]), mtime=0),
        "helpful-base/train.jsonl.gz": b"never asked for",
    }
    monkeypatch.setattr(
        _Hub,
        "repos",
        {
            "facebook/kilt_tasks": {"eli5/test-00000-of-00001.parquet": kilt, "README.md": b"x"},
            "Anthropic/hh-rlhf": files,
        },
    )
    home = tmp_path / "home"
    calls: list[tuple[str, dict[str, object]]] = [
        ("eli5", {"n_prompts": 5}),
        ("hh", {"n_prompts": 4, "hh_revision": SHA}),
    ]
    eli5, hh, many, gone = probe(
        home, *calls, ("eli5", {}), ("eli5", {"eli5_revision": "nope"}), HF_ENDPOINT=hub
    )
    assert (eli5["kind"], eli5["origin"]) == ("hub", "facebook/kilt_tasks")
    assert (eli5["revision"], eli5["used"], eli5["usable"]) == (SHA, 5, 9)
    assert eli5["files"] == {"eli5/test-00000-of-00001.parquet": hashlib.sha256(kilt).hexdigest()}
    assert (hh["revision"], hh["used"]) == (SHA, 4)
    assert list(hh["files"]) == ["harmless-base/test.jsonl.gz", "helpful-base/test.jsonl.gz"]
    assert many["error"] == (
        "facebook/kilt_tasks: n = 9 usable prompts, fewer than n_prompts=256; "
        "lower it with --metadata n_prompts=9"
    )
    assert gone["error"] == "eli5_revision: facebook/kilt_tasks has no 'nope'"
    for env in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        for online, later in zip((eli5, hh), probe(home, *calls, **env), strict=True):
            assert later.pop("seconds") < 20
            assert later == {k: v for k, v in online.items() if k != "seconds"}


def test_missing_hub_data_set_falls_back(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = b"\n".join(json.dumps({"title": f"{i}?"}).encode() for i in range(3))
    monkeypatch.setattr(_Hub, "repos", {"Pavithree/eli5": {"eli5_test.json": lines}})
    made, pinned, hh = probe(
        tmp_path / "home",
        ("eli5", {"n_prompts": 2}),
        ("eli5", {"eli5_revision": SHA}),
        ("hh", {}),
        HF_ENDPOINT=hub,
    )
    assert (made["origin"], made["revision"], made["used"]) == ("Pavithree/eli5", SHA, 2)
    assert "facebook/kilt_tasks is missing on the hub" in pinned["error"]
    assert "Anthropic/hh-rlhf is missing on the hub" in hh["error"]


def test_a_data_set_of_the_hub_is_named_by_its_id(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its test files, as PKU-SafeRLHF and UltraFeedback name them; all where it has none."""
    lines = {
        name: json.dumps({"prompt": f"{name}?", "response_0": "a", "response_1": "b"}).encode()
        for name in ("one", "two", "train", "flask")
    }
    monkeypatch.setattr(
        _Hub,
        "repos",
        {
            "PKU/safe": {
                "data/Alpaca-7B/test.jsonl": lines["one"],
                "data/Alpaca2-7B/test.jsonl": lines["two"],
                "data/Alpaca-7B/train.jsonl": lines["train"],
                "README.md": b"x",
            },
            "open/feedback": {"flask.jsonl": lines["flask"], "README.md": b"x"},
        },
    )
    calls: list[tuple[str, dict[str, object]]] = [
        ("hh", {"hh_data": "PKU/safe", "n_prompts": 2}),
        ("eli5", {"eli5_data": "open/feedback", "n_prompts": 1}),
    ]
    safe, feedback, missing = probe(
        tmp_path / "home", *calls, ("hh", {"hh_data": "no/such"}), HF_ENDPOINT=hub
    )
    assert (safe["kind"], safe["origin"], safe["revision"]) == ("hub", "PKU/safe", SHA)
    assert [*safe["files"]] == ["data/Alpaca-7B/test.jsonl", "data/Alpaca2-7B/test.jsonl"]
    assert (safe["used"], feedback["used"]) == (2, 1)
    assert [*feedback["files"]] == ["flask.jsonl"]
    assert (
        "no/such is missing on the hub, and there is no file or folder no/such"
        in (missing["error"])
    )
    later = probe(tmp_path / "home", *calls, HF_HUB_OFFLINE="1")
    assert [one["files"] for one in later] == [safe["files"], feedback["files"]]
