"""A composite by three servers: a client sums each one's best log-probabilities, token by token."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Mixed", "Servers", "mixed_responses", "processor_seconds"]

SHOWN = 20  # the most that a server shows unless told otherwise
SIGNS = (1, 1, -1)


class Mixed(NamedTuple):
    """What a client made.

    Attributes:
        tokens: The responses.
        unseen: Share of steps in which a list lacked a token of another one that the choice was
            made from.
    """

    tokens: list[list[int]]
    unseen: float


class Servers:
    """A vLLM server for every member, until the context ends; gives their addresses by role."""

    def __init__(self, members: Mapping[str, str], environment: Mapping[str, str]) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._addresses: list[str] = []
        for role in ("base", "tuned", "reference"):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            words = ["-m", "vllm.entrypoints.openai.api_server", "--model", members[role]]
            words += ["--port", str(port)]
            words += ["--host", "127.0.0.1", "--served-model-name", "member", "--enforce-eager"]
            words += ["--max-model-len", "256", "--max-num-seqs", "64", "--dtype", "float32"]
            words += ["--kv-cache-memory-bytes", str(1 << 29)]
            self._processes.append(
                subprocess.Popen([sys.executable, *words], env=dict(environment))
            )
            self._addresses.append(f"http://127.0.0.1:{port}")

    def __enter__(self) -> list[str]:
        try:
            for process, address in zip(self._processes, self._addresses, strict=True):
                _await(process, address)
        except BaseException:
            self.__exit__()
            raise
        return self._addresses

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(timeout=60)


def processor_seconds() -> float:
    """Return the processor time of this process and of all that came from it and still run."""
    spent: dict[int, float] = {}
    parents: dict[int, int] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # ended meanwhile
            words = file.read_text().rpartition(")")[2].split()
            number = int(file.parent.name)
            parents[number] = int(words[1])
            spent[number] = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    own = {os.getpid()}
    while more := {one for one, parent in parents.items() if parent in own} - own:
        own |= more
    return sum(spent[one] for one in own if one in spent)


def _await(process: subprocess.Popen[bytes], address: str) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"a server ended before it answered ({process.returncode})")
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
            return
        time.sleep(0.5)
    raise RuntimeError(f"{address} does not answer")


def mixed_responses(
    addresses: Sequence[str], prompts: Sequence[list[int]], limit: int, stop: int
) -> Mixed:
    """Return greedy responses of base + tuned - reference, all prompts at once."""
    return asyncio.run(_all(addresses, prompts, limit, stop))


async def _all(
    addresses: Sequence[str], prompts: Sequence[list[int]], limit: int, stop: int
) -> Mixed:
    import aiohttp

    steps = unseen = 0

    async def one(session: Any, prompt: list[int]) -> list[int]:
        nonlocal steps, unseen
        made: list[int] = []
        while len(made) < limit:
            lists = await asyncio.gather(*(_best(session, a, prompt + made) for a in addresses))
            token, whole = _choice(lists)
            steps += 1
            unseen += not whole
            made.append(token)
            if token == stop:
                break
        return made

    timeout = aiohttp.ClientTimeout(total=600)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        tokens = await asyncio.gather(*(one(session, prompt) for prompt in prompts))
    return Mixed(list(tokens), unseen / max(steps, 1))


async def _best(session: Any, address: str, tokens: list[int]) -> dict[int, float]:
    """Return a server's best next tokens with their log-probabilities."""
    asked = {
        "model": "member", "prompt": tokens, "max_tokens": 1, "temperature": 0.0,
        "logprobs": SHOWN, "return_tokens_as_token_ids": True, "add_special_tokens": False,
    }  # fmt: skip
    async with session.post(f"{address}/v1/completions", json=asked) as answer:
        answer.raise_for_status()
        found = (await answer.json())["choices"][0]["logprobs"]["top_logprobs"][0]
    return {int(name.partition(":")[2]): float(value) for name, value in found.items()}


def _choice(lists: Sequence[Mapping[int, float]]) -> tuple[int, bool]:
    """Return the best token of those that base or tuned show, and whether every list had it all."""
    floors = [min(one.values()) for one in lists]
    shown = [*lists[0].keys() | lists[1].keys()]
    sums = {
        token: sum(
            sign * one.get(token, floor)
            for sign, one, floor in zip(SIGNS, lists, floors, strict=True)
        )
        for token in shown
    }
    best = max(sums, key=lambda token: (sums[token], -token))
    return best, all(token in one for one in lists for token in shown)
