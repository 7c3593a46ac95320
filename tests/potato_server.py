"""A real Potato 2.x on loopback: found, started with an exported project, and answered over HTTP.

Potato is found by EFT_TEST_POTATO, the path of its command, of a python that has it or of the
folder of both, else in the environment of the tests. It is not one of their requirements, as it
brings a web server.
"""

from __future__ import annotations

import http.cookiejar
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import pytest

GIVEN = os.environ.get("EFT_TEST_POTATO")  # before the fixture that clears the environment
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


def potato_python() -> Path:
    """Return the python that has Potato."""
    if GIVEN:
        given = Path(GIVEN)
        if given.is_dir():
            return given / "python"
        return given if given.name.startswith("python") else given.with_name("python")
    try:
        version = metadata.version("potato-annotation")
    except metadata.PackageNotFoundError:
        pytest.skip("no Potato: set EFT_TEST_POTATO to its command, or install potato-annotation")
    if not version.startswith("2."):
        pytest.skip(f"potato-annotation {version} is not 2.x")
    return Path(sys.executable)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Session:
    """One annotator's browser."""

    def __init__(self, url: str) -> None:
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._open = urllib.request.build_opener(jar).open
        self._url = url

    def post(self, path: str, data: bytes, kind: str) -> str:
        request = urllib.request.Request(self._url + path, data, {"Content-Type": kind})
        with self._open(request, timeout=60) as reply:
            return str(reply.read().decode())

    def log_in(self, name: str) -> str:
        form = urllib.parse.urlencode({"email": name, "pass": ""}).encode()
        return self.post("/auth", form, "application/x-www-form-urlencoded")

    def answer(self, item_id: str, annotations: dict[str, str]) -> None:
        data = json.dumps({"instance_id": item_id, "annotations": annotations}).encode()
        assert json.loads(self.post("/updateinstance", data, "application/json"))["status"] == (
            "success"
        )


class Server:
    """A project, started by the command that its export returned."""

    def __init__(self, project: Path, port: int, command: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.project = project
        self.python = potato_python()
        self.log = project.with_suffix(".log")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", command],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self.python.parent}{os.pathsep}{os.environ['PATH']}"}

    def wait(self, seconds: float = 180) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._process.poll() is None:
            try:
                with urllib.request.urlopen(self.url, timeout=10):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        pytest.fail(f"Potato did not start:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait(timeout=60)

    def stored(self, names: Sequence[str], seconds: float = 60) -> None:
        """Wait until the answers of these annotators are in the live store."""
        folder = self.project / "annotation_output"
        expected = [folder / name / "user_state.json" for name in names]
        end = time.monotonic() + seconds
        while time.monotonic() < end and not all(path.exists() for path in expected):
            time.sleep(0.2)

    def export(self, kind: str, out: Path) -> Path:
        """Let Potato export by its own command; return the file."""
        command = [str(self.python), "-m", "potato.export", "-c", "config.yaml", "-f", kind]
        subprocess.run(
            [*command, "-o", str(out)],
            cwd=self.project,
            env=self.environment,
            check=True,
            capture_output=True,
            timeout=300,
        )
        return out / f"annotations.{kind}"


def in_browser(folder: Path, url: str) -> str:
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000"]
    done = subprocess.run(
        [str(BROWSER), *options, f"--user-data-dir={folder / 'profile'}", "--dump-dom", url],
        check=True,
        capture_output=True,
        timeout=180,
    )
    return done.stdout.decode()
