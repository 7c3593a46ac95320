"""`eft-eval view`: every response of the runs below a folder, in the browser."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def view(
    folder: Annotated[Path, typer.Argument(help="The folder with runs at any depth below it.")],
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of this machine; 0 is any free one.")
    ] = 0,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address alone, and open no browser.")
    ] = False,
) -> None:
    """Read the runs' documents on a local page: prompts, responses, verdicts with reasons, scores.

    Filter them by task, verdict and score, or by how two runs differ. Read-only, and for this
    machine alone; Ctrl-C ends it.
    """
    import webbrowser

    from eft_eval.browser.answers import Answers
    from eft_eval.browser.folder import Folder
    from eft_eval.browser.server import BrowserServer
    from eft_eval.streams import say

    with BrowserServer(Answers(Folder(folder)), port) as server:
        signal.signal(signal.SIGTERM, _end)
        try:
            say(f"{server.address} shows the runs below {folder}; Ctrl-C ends it")
            sys.stdout.flush()
            if not no_browser:
                webbrowser.open(server.address)
            server.serve_forever()
        except KeyboardInterrupt:
            return


def _end(*_: Any) -> None:
    raise KeyboardInterrupt
