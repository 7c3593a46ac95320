"""Data sets of the hub, by a stand-in on loopback."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from prompt_files import pair

SHA = "a" * 40
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
