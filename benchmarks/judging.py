"""How fast verdicts are obtained and found again.

    python -m benchmarks.judging --json judging.json

Verdicts: 256 from a server process on loopback that answers each after 200 ms and has room for 32
at a time (more are refused with 429); it is also taken for a proxy. Panel: three judges at once, at
a server that has such room for each, against each of them alone, over a saved run of 256 responses.
Store: 1,000,000 verdicts, opened and looked up in, in a process of its own, whose memory is
measured. Reading: 50,000 stored replies read again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from eft_eval.judging.judge import JudgeItem, judge_responses
from eft_eval.judging.outcome import reparse
from eft_eval.judging.panel_run import judge_run_by_panel
from eft_eval.judging.prompts.prompt import load_prompt
from eft_eval.judging.rejudge import judge_run
from eft_eval.judging.settings import JudgeSettings
from eft_eval.verdicts.store import STORE_VARIABLE, VerdictStore
from eft_eval.verdicts.verdict import Status, Verdict, content_key

ITEMS = 256
ROOM = 32
LATENCY_S = 0.2
IDEAL_S = ITEMS / ROOM * LATENCY_S
PANEL = ("judge-1", "judge-2", "judge-3")
STORED = 1_000_000
REPARSED = 50_000


def serve() -> None:
    """Body of the server process: prints its port, then serves until killed."""
    at_once: Counter[str] = Counter()  # by model

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await read_head(reader):
            if head[0].startswith(b"get"):
                respond(writer, b"404 Not Found", {"error": {"message": "no look-ups"}})
                continue
            size = next(int(x.split(b":")[1]) for x in head if x.startswith(b"content-length"))
            body = json.loads(await reader.readexactly(size))
            model = str(body["model"])
            if at_once[model] >= ROOM:
                respond(writer, b"429 Too Many Requests", {"error": {"message": "busy"}})
                continue
            at_once[model] += 1
            await asyncio.sleep(LATENCY_S)
            at_once[model] -= 1
            message = {"role": "assistant", "content": "Reason: none.\n\nScore: 0"}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            usage = {"prompt_tokens": 200, "completion_tokens": 9, "total_tokens": 209}
            respond(
                writer, b"200 OK", {"model": body["model"], "choices": [choice], "usage": usage}
            )
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=256)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(main())


async def read_head(reader: asyncio.StreamReader) -> list[bytes]:
    """Return a request's lines up to the empty one, in lower case; [] at the end."""
    lines = []
    while line := (await reader.readline()).strip().lower():
        lines.append(line)
    return lines


def respond(writer: asyncio.StreamWriter, status: bytes, payload: dict[str, Any]) -> None:
    """Write a JSON response."""
    content = json.dumps(payload).encode()
    head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    writer.write(head % (status, len(content)) + content)


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Run the server; yields its base URL."""
    command = [sys.executable, "-m", "benchmarks.judging", "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        finally:
            server.kill()


def response(number: int) -> str:
    """Return a response to judge."""
    return f"Response {number}. " + "Some text. " * 50


def verdicts_s(concurrency: int, folder: Path, *, proxied: bool = False) -> tuple[float, float]:
    """Return the seconds, and the processor's, of ITEMS verdicts; without import and first one."""
    with served() as url, mock.patch.dict(os.environ):
        address = "http://judge.invalid/v1" if proxied else url
        if proxied:
            os.environ["http_proxy"] = url.removesuffix("/v1")
        settings = JudgeSettings("judge", address, "none", concurrency=concurrency)
        store = VerdictStore(folder / f"{random.random()}.sqlite3")
        prompt = load_prompt("factuality")
        judge_responses([JudgeItem("warm up")], prompt, settings, store)
        items = [JudgeItem(response(i)) for i in range(ITEMS)]
        start, processor = time.perf_counter(), time.process_time()
        found = judge_responses(items, prompt, settings, store)
        seconds, processor = time.perf_counter() - start, time.process_time() - processor
    assert all(verdict.status is Status.scored for verdict in found)
    return seconds, processor


def panel_wall_s(folder: Path) -> tuple[dict[str, float], float]:
    """Return the seconds that each of three judges takes alone, and all of them at once.

    Each time a saved run of ITEMS responses is judged from reading it to its new files.
    """
    folder.mkdir()
    with served() as url:

        def judged(*names: str) -> float:
            place = folder / "+".join(names)
            write_run(place)
            os.environ[STORE_VARIABLE] = str(place / "verdicts.sqlite3")
            judges = [JudgeSettings(name, url, "none", concurrency=ROOM) for name in names]
            start = time.perf_counter()
            if len(judges) == 1:
                found = judge_run(place, settings=judges[0])
            else:
                found = judge_run_by_panel(place, judges)
            seconds = time.perf_counter() - start
            assert not found.missing
            return seconds

        judged("warm", "up")
        alone = {name: judged(name) for name in PANEL}
        return alone, judged(*PANEL)


def write_run(folder: Path) -> None:
    """Write a run of one task, as lm-eval does."""
    folder.mkdir()
    date = "2026-11-22T10-00-00.000001"
    step = {"function": "eft_judge", "prompt": "factuality"}
    config = {"task": "t", "filter_list": [{"name": "factuality", "filter": [step]}]}
    content = {"results": {"t": {"alias": "t"}}, "configs": {"t": config}, "versions": {"t": 1}}
    (folder / f"results_{date}.json").write_text(json.dumps(content))
    with (folder / f"samples_t_{date}.jsonl").open("w") as file:
        for number in range(ITEMS):
            line = {
                "doc_id": number,
                "doc": {"question": f"Question {number}?"},
                "resps": [[response(number)]],
                "filtered_resps": [response(number)],
                "filter": "factuality",
                "metrics": ["bypass"],
                "bypass": 999,
                **{name: f"{name} {number}" for name in ("doc_hash", "prompt_hash", "target_hash")},
            }
            file.write(json.dumps(line) + "\n")


def make_verdict(number: int) -> Verdict:
    """Return a verdict as a judge gives it, of about 1.2 kB."""
    parameters = {"temperature": 0, "max_tokens": 2048}
    return Verdict(
        key=content_key(str(number), "judge", parameters),
        status=Status.scored,
        value=number % 7,
        reason="A sentence about an inaccuracy. " * 8,
        raw="Reason: " + "A sentence about an inaccuracy. " * 8 + f"\n\nScore: {number % 7}",
        finish_reason="stop",
        judge_model="judge",
        judge_model_returned="judge",
        prompt_name="factuality",
        prompt_version=1,
        prompt_sha256="0" * 64,
        parameters=parameters,
        parser_version=0,  # an older parser's
        prompt_tokens=200,
        completion_tokens=60,
        cost_usd=None,
        price_table=None,
        created="2026-01-01T00:00:00+00:00",
        error=None,
    )


def fill(path: Path, count: int) -> None:
    """Store ``count`` verdicts."""
    store = VerdictStore(path)
    for start in range(0, count, 20_000):
        store.put_many(make_verdict(n) for n in range(start, min(start + 20_000, count)))


def measure_store(path: Path, count: int) -> dict[str, float]:
    """Body of the store's process: time to open and look up, memory before and after."""
    before = memory_bytes()
    start = time.perf_counter()
    store = VerdictStore(path)
    opened = time.perf_counter() - start
    draw = random.Random(0)
    parameters = {"temperature": 0, "max_tokens": 2048}
    lookups = []
    for _ in range(300):
        key = content_key(str(draw.randrange(count)), "judge", parameters)
        start = time.perf_counter()
        found = store.get_many([key])
        lookups.append(time.perf_counter() - start)
        assert found[key].key == key
    after_lookups = memory_bytes()
    start = time.perf_counter()
    tallies, _ = store.tally()
    tallied = time.perf_counter() - start
    assert sum(tally.verdicts for tally in tallies) == count
    start = time.perf_counter()
    assert sum(1 for _ in store) == count
    return {
        "tally_s": tallied,
        "open_s": opened,
        "lookup_median_s": statistics.median(lookups),
        "lookup_95th_s": sorted(lookups)[int(0.95 * len(lookups))],
        "memory_lookups_bytes": after_lookups - before,
        "iterate_s": time.perf_counter() - start,
        "memory_iterated_bytes": memory_bytes() - before,
    }


def memory_bytes() -> int:
    """Return this process's peak resident memory, in bytes (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM")


def reparse_s(path: Path) -> float:
    """Return the seconds that reading REPARSED stored replies again takes, from the store."""
    start = time.perf_counter()
    for number, verdict in enumerate(VerdictStore(path), 1):
        assert reparse(verdict, "count").value == verdict.value
        if number == REPARSED:
            break
    return time.perf_counter() - start


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--stored", type=int, default=STORED, help="0: leave the store out")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--measure-store", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    if options.measure_store:
        print(json.dumps(measure_store(options.measure_store, options.stored)))
        return
    found: dict[str, Any] = {"ideal_s": IDEAL_S}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for bound in (ROOM, 2 * ROOM):
            times = [verdicts_s(bound, folder) for _ in range(options.repeats)]
            walls = [wall for wall, _ in times]
            found[f"wall_to_ideal_bound_{bound}"] = statistics.median(walls) / IDEAL_S
            found[f"wall_s_bound_{bound}"] = walls
        for name, proxied in (("", False), ("_through_a_proxy", True)):
            times = [verdicts_s(ROOM, folder, proxied=proxied) for _ in range(options.repeats)]
            processor = statistics.median(seconds for _, seconds in times)
            found[f"processor_s_of_a_reply{name}"] = processor / ITEMS
        panels = [panel_wall_s(folder / f"panel-{i}") for i in range(options.repeats)]
        found["panel_to_slowest"] = [whole / max(alone.values()) for alone, whole in panels]
        found["panel_wall_s"] = panels
        if not options.stored:
            print(json.dumps(found, indent=1))
            return
        path = folder / "verdicts.sqlite3"
        fill(path, options.stored)
        command = [sys.executable, "-m", "benchmarks.judging", "--measure-store", str(path)]
        command += ["--stored", str(options.stored)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found["store"] = json.loads(done.stdout)
        if options.stored >= REPARSED:
            found["reparse_50000_s"] = reparse_s(path)
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
