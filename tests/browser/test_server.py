"""The server over a real socket: answers, refusals, damage that is named, a clean end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from reported_runs import ARMS, HOSTILE, study, trace_record, write_arm
from typer.testing import CliRunner
from written_runs import write_run

from eft_eval.browser.answers import PAGE, Answers
from eft_eval.browser.folder import Folder
from eft_eval.browser.selection import Selection
from eft_eval.browser.server import BrowserServer
from eft_eval.characters import visible
from eft_eval.cli.app import app
from eft_eval.errors import ConfigError
from eft_eval.runs.lines import iter_places

SECRET = "hf_" + "a1B2" * 8


class Client:
    """Asks a server as a page does."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
        """Return status, headers and content."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def ask(self, question: str, **given: Any) -> Any:
        """Return the answer to a question."""
        status, _, content = self.get(f"/api/{question}?{urlencode(given)}")
        return {**json.loads(content), "status": status}

    def run(self, part: str) -> str:
        """Return the id of the run whose path has a part."""
        (found,) = (one["id"] for one in self.ask("runs")["runs"] if part in one["place"])
        return str(found)


def served(folder: Path) -> Iterator[Client]:
    with BrowserServer(Answers(Folder(folder)), 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield Client(server.server_address[1])
        server.shutdown()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("runs")
    study(folder / "plain", 70)
    study(folder / "hostile", 24, HOSTILE)
    config = {**ARMS["up"], "model_args": {"base": "large-base", "token": SECRET}}
    write_arm(folder / "secret", config, [0.0, 1.0])
    prompt, response = "Question 3: A response.", "up says: A response."
    trace = {**trace_record(["up", " says"], [0.6, 0.1]), "prompt": prompt, "response": response}
    (folder / "trace.json").write_text(json.dumps(trace))
    yield from served(folder)


def test_the_list_has_every_run_and_its_tasks(client: Client) -> None:
    found = client.ask("runs")
    assert len(found["runs"]) == 9
    assert {tuple(one["tasks"]) for one in found["runs"]} == {("facts",)}
    assert found["notes"] == []


def test_a_page_and_the_next(client: Client) -> None:
    run = client.run("plain/up")
    while not (first := client.ask("documents", run=run, task="facts"))["complete"]:
        assert len(first["documents"]) == PAGE
    assert (first["total"], len(first["documents"])) == (70, PAGE)
    assert first["metrics"] == [
        {"name": "fact_errors", "better": "lower"}, {"name": "any_right", "better": "higher"},
    ]  # fmt: skip
    assert first["statuses"] == {"scored": 70}
    second = client.ask("documents", run=run, task="facts", first=PAGE)
    numbers = [one["doc_id"] for one in first["documents"] + second["documents"]]
    assert numbers == [*range(70)]
    assert client.ask("documents", run=run, task="facts", first=10_000)["documents"] == []


def test_a_flip_shows_both_runs_numbers(client: Client) -> None:
    given = {"run": client.run("plain/up"), "other": client.run("plain/small"), "task": "facts"}
    found = client.ask("documents", **given, metric="fact_errors", change="lower")
    assert found["total"] > 10
    for one in found["documents"]:
        assert float(one["values"]["fact_errors"]) < float(one["other"]["values"]["fact_errors"])


def test_a_document_has_all_that_was_sent_said_and_judged(client: Client) -> None:
    run, other = client.run("plain/up"), client.run("plain/small")
    found = client.ask("document", run=run, other=other, task="facts", at=3)
    assert found["requests"] == [
        {"name": "gen_args_0", "prompt": "Question 3: A response.", "rest": ""}
    ]
    here, there = found["sides"]
    assert here["responses"] == ["up says: A response."]
    assert there["responses"] == ["small says: A response."]
    assert [one["reason"] for one in here["verdicts"] + there["verdicts"]] == [
        "up A response.", "small A response.",
    ]  # fmt: skip
    (trace,) = found["traces"]
    assert trace["of_response"]
    assert [one["text"] for one in trace["tokens"]] == ["up", " says"]
    assert trace["tokens"][0]["details"]["distance"] == "0.600"
    assert client.ask("document", run=run, task="facts", at=4)["traces"] == []


def test_hostile_texts_come_whole_and_spelt_out(client: Client) -> None:
    run = client.run("hostile/up")
    for number, text in enumerate(HOSTILE):
        found = client.ask("document", run=run, task="facts", at=number)
        assert found["sides"][0]["responses"] == [visible(f"up says: {text}")]


def test_secrets_are_masked(client: Client) -> None:
    run = client.run("secret")
    _, _, content = client.get(f"/api/run?run={run}")
    assert b"large-base" in content
    assert SECRET.encode() not in content


@pytest.mark.parametrize("path", ["/", "/view.js", "/view.css", "/report.css", "/api/runs", "/no"])
def test_every_answer_has_the_policy(client: Client, path: str) -> None:
    status, headers, _ = client.get(path)
    assert status == (404 if path == "/no" else 200)
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in headers


def test_the_page_puts_no_text_into_markup() -> None:
    page = Path(__file__).parents[2] / "eft_eval/browser/page"
    script = (page / "view.js").read_text("utf-8")
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "srcdoc",
    ):
        assert word not in script
    html = (page / "view.html").read_text("utf-8")
    assert "<style" not in html
    assert " on" not in html.replace(" one", "")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example:1", "",
     "127.0.0.1@evil.example", "[::1", "0.0.0.0"],
)  # fmt: skip
def test_another_name_for_this_machine_is_refused(client: Client, host: str) -> None:
    for path in ("/", "/api/runs"):
        assert client.get(path, Host=host)[0] == 403


def test_another_site_is_refused_and_this_machine_is_not(client: Client) -> None:
    assert client.get("/api/runs", **{"Sec-Fetch-Site": "cross-site"})[0] == 403
    for host in ("localhost", "127.0.0.1:9000", "LOCALHOST:1", "[::1]:5"):  # 9000: by ssh -L
        assert client.get("/api/runs", Host=host)[0] == 200


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_nothing_but_get(client: Client, method: str) -> None:
    status, headers, _ = client.get("/api/runs", method)
    assert (status, headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize(
    "path",
    ["/../pyproject.toml", "//etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/page/view.html",
     "/trace.json", "/api/", "/api/runs/", "/view.js/../../index.py"],
)  # fmt: skip
def test_no_file_is_served_by_its_name(client: Client, path: str) -> None:
    assert client.get(path)[0] == 404


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "lacks run"),
        ({"run": "../x", "task": "facts"}, "no such run"),
        ({"run": "UP"}, "lacks task"),
        ({"run": "UP", "task": "fact"}, "no task 'fact' (did you mean 'facts'?)"),
        ({"run": "UP", "task": "facts", "first": "-1"}, "expected a number of documents"),
        ({"run": "UP", "task": "facts", "least": "x"}, "expected a number"),
        ({"run": "UP", "task": "facts", "change": "alone"}, "needs another run"),
        ({"run": "UP", "task": "facts", "other": "x"}, "no such run"),
    ],
)
def test_a_wrong_question_is_one_line(client: Client, given: dict[str, str], text: str) -> None:
    run = client.run("plain/up")
    found = client.ask("documents", **{k: run if v == "UP" else v for k, v in given.items()})
    assert found["status"] == 400
    assert text in found["error"]
    assert client.ask("document", run=run, task="facts", at=70)["status"] == 400


def test_damage_is_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    good = write_run(tmp_path / "good", {"t": {"acc": [1.0, 0.0]}})
    write_run(tmp_path / "lost", {"t": {"acc": [1.0]}}, model="lost")
    (tmp_path / "lost/lost").joinpath("samples_t_2026-11-20T10-00-00.000000.jsonl").unlink()
    (tmp_path / "results_cut.json").write_text('{"results": {')
    (tmp_path / "results_odd.json").write_text('{"results": {"t": 1}, "configs": {"t": {}}}')
    (tmp_path / "other.json").write_text("[")
    (tmp_path / "trace.json").write_text('{"composite": 1, "draft": 2, "tokens": 3}')
    cut = next(good.glob("*.jsonl"))
    cut.write_text(cut.read_text()[:-30])
    for client in served(tmp_path):
        found = client.ask("runs")
        assert sorted(one["model"] for one in found["runs"]) == ["lost", "model"]
        notes = "\n".join(found["notes"])
        for name in ("results_cut.json", "results_odd.json", "trace.json"):
            assert name in notes
        assert "other.json" not in notes
        page = client.ask("documents", run=client.run("good"), task="t")
        assert page["total"] == 1
        assert "1 unreadable line(s)" in page["notes"][0]
        missing = client.ask("documents", run=client.run("lost"), task="t")
        assert "no samples of task 't'" in missing["error"]


def test_no_file_outside_the_folder_is_shown(tmp_path: Path) -> None:
    outside = write_run(tmp_path / "outside", {"t": {"acc": [1.0]}})
    inside = write_run(tmp_path / "in" / "kept", {"t": {"acc": [1.0]}}, model="kept")
    samples = next(inside.glob("*.jsonl"))
    samples.unlink()
    samples.symlink_to(next(outside.glob("*.jsonl")))
    (tmp_path / "in/results_link.json").symlink_to(next(outside.glob("*.json")))
    (tmp_path / "in/folder").symlink_to(outside)
    for client in served(tmp_path / "in"):
        found = client.ask("runs")
        assert [one["model"] for one in found["runs"]] == ["kept"]
        assert len(found["notes"]) == 2
        answer = client.ask("documents", run=found["runs"][0]["id"], task="t")
        assert "leads out of the folder" in answer["error"]


def test_names_with_hidden_characters_are_found_as_they_are_shown(tmp_path: Path) -> None:
    task, metric, name = "t\u200b1", "err\u202eors", "fil\u200bter"
    for run in ("one", "two"):
        write_run(tmp_path / run, {task: {metric: [1.0, 0.0]}}, filter_name=name, model=run)
    for client in served(tmp_path):
        first, second = client.ask("runs")["runs"]
        (shown,) = first["tasks"]
        assert shown == visible(task) != task
        given = {"run": first["id"], "task": shown, "other": second["id"]}
        found = client.ask("documents", **given)
        assert (found["status"], found["filter"], found["total"]) == (200, visible(name), 2)
        chosen = {"filter": found["filter"], "metric": found["metrics"][0]["name"], "least": 0.5}
        assert client.ask("documents", **given, **chosen)["total"] == 1
        assert len(client.ask("document", **given, at=0)["sides"]) == 2


def test_new_runs_and_rewritten_files_are_seen(tmp_path: Path) -> None:
    write_run(tmp_path, {"t": {"acc": [1.0]}})
    for client in served(tmp_path):
        (run,) = client.ask("runs")["runs"]
        assert client.ask("documents", run=run["id"], task="t")["total"] == 1
        write_run(tmp_path, {"t": {"acc": [1.0, 0.0, 1.0]}})
        write_run(tmp_path, {"t": {"acc": [1.0]}}, model="second")
        assert len(client.ask("runs")["runs"]) == 2
        assert client.ask("documents", run=run["id"], task="t")["total"] == 3


def test_samples_that_come_after_their_results_are_seen(tmp_path: Path) -> None:
    folder = write_run(tmp_path, {"t": {"acc": [1.0, 0.0]}})
    (samples,) = folder.glob("*.jsonl")
    late = samples.rename(tmp_path / "late")
    for client in served(tmp_path):
        (run,) = client.ask("runs")["runs"]
        assert client.ask("documents", run=run["id"], task="t")["status"] == 400
        late.rename(samples)
        assert client.ask("documents", run=run["id"], task="t")["total"] == 2


def test_pairs_are_of_the_files_as_they_are(tmp_path: Path) -> None:
    """Indexes of rewritten files may lie where others lay in memory."""
    mine = write_run(tmp_path / "mine", {"t": {"acc": [0.0] * 40}})
    write_run(tmp_path / "other", {"t": {"acc": [0.0] * 40}}, model="other")
    answers = Answers(Folder(tmp_path))
    runs = {one["model"]: one["id"] for one in answers.runs()["runs"]}
    (samples,) = mine.glob("*.jsonl")
    lines = samples.read_text("utf-8").splitlines()
    for kept in range(1, 41):
        samples.write_text("\n".join(lines[-kept:]) + "\n", "utf-8")
        wanted = Selection("", change="alone")
        while not (found := answers.documents(runs["other"], "t", wanted, runs["model"]))[
            "complete"
        ]:
            pass
        assert found["total"] == 40 - kept


def test_a_file_that_is_being_read_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path / "mine", {"t": {"acc": [1.0, 0.0]}})
    write_run(tmp_path / "other", {"t": {"acc": [1.0, 0.0]}}, model="other")
    answers = Answers(Folder(tmp_path))
    runs = {one["model"]: one["id"] for one in answers.runs()["runs"]}
    go_on = threading.Event()

    def slowly(path: Path, filters: Any) -> Iterator[Any]:
        places = iter_places(path, filters)
        yield next(places)
        go_on.wait(30)
        yield from places

    monkeypatch.setattr("eft_eval.browser.index.iter_places", slowly)
    monkeypatch.setattr("eft_eval.browser.answers._AT_ONCE", 0.2)
    with pytest.raises(ConfigError, match="still being read"):
        answers.document(runs["model"], "t", 1)
    sides = answers.document(runs["model"], "t", 0, runs["other"])["sides"]
    assert "still being read" in sides[1]["missing"]
    go_on.set()
    monkeypatch.setattr("eft_eval.browser.answers._AT_ONCE", 30)
    sides = answers.document(runs["model"], "t", 1, runs["other"])["sides"]
    assert "missing" not in sides[1]
    with pytest.raises(ConfigError, match="has no sample 2"):
        answers.document(runs["model"], "t", 2)


def test_predictions_show_what_is_unfinished_and_no_judge(tmp_path: Path) -> None:
    folder = write_run(tmp_path, {"t": {"m": [None, None]}}, responses=["", ""], filtered=["", ""])
    (file,) = folder.glob("samples_t_*.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line, note in zip(lines, ({"unfinished": [0]}, None), strict=True):
        line.update(metrics=["bypass"], bypass=note)
        line.pop("m")
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    answers = Answers(Folder(tmp_path))
    (run,) = (one["id"] for one in answers.runs()["runs"])
    sides = [answers.document(run, "t", at)["sides"][0] for at in range(2)]
    assert [side["unfinished"] for side in sides] == [[0], []]
    assert all(side["responses"] == [""] and not side["verdicts"] for side in sides)
    assert all(not side["values"] for side in sides)
    assert answers.documents(run, "t", Selection("none"))["metrics"] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_its_address_and_ends_cleanly(tmp_path: Path, number: int) -> None:
    write_run(tmp_path, {"t": {"acc": [1.0]}})
    program = (
        "import sys; from eft_eval.cli import main; sys.argv = ['eft-eval', 'view', "
        f"{str(tmp_path)!r}, '--no-browser']\n"
        "try: main()\nfinally: print({*('torch', 'lm_eval', 'jinja2')} & {*sys.modules})"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert started.stdout is not None
    address = started.stdout.readline().split()[0]
    port = int(address.rstrip("/").rpartition(":")[2])
    assert Client(port).ask("runs")["runs"][0]["model"] == "model"
    assert Client(port).get("/")[0] == 200
    started.send_signal(number)
    out, err = started.communicate(timeout=120)
    assert (started.returncode, out.strip(), err) == (0, "set()", "")


def test_a_wrong_folder_or_port_is_one_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["view", str(tmp_path / "none"), "--no-browser"])
    assert isinstance(done.exception, ConfigError)
    assert "there is no folder" in str(done.exception)
    with BrowserServer(Answers(Folder(tmp_path)), 0) as server:
        taken = str(server.server_address[1])
        done = CliRunner().invoke(app, ["view", str(tmp_path), "--no-browser", "--port", taken])
    assert isinstance(done.exception, ConfigError)
    assert f"--port {taken}" in str(done.exception)
