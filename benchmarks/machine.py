"""A bare machine: what it is, how fast its memory is, and wheels that are carried to it."""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

import torch

__all__ = ["Machine", "bandwidth_of", "product_seconds", "use_wheels", "versions"]


class Machine(NamedTuple):
    """Where everything runs, in what type, and how many bytes per second it reads and writes."""

    device: torch.device
    dtype: torch.dtype
    bandwidth: float


def bandwidth_of(device: torch.device, size: int) -> float:
    """Return the bytes per second that a device reads and writes when it copies ``size`` bytes."""
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    least = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        target.copy_(source)
        if device.type == "cuda":
            torch.cuda.synchronize()
        least = min(least, time.perf_counter() - start)
    return 2 * source.nbytes / least


def product_seconds(device: torch.device, rows: int) -> float:
    """Return the seconds per byte that float32 weights beyond all caches take to multiply rows.

    The median of several products, as what else a machine does slows models, too.
    """
    weights = torch.ones(8192, 8192, device=device)
    hidden = torch.ones(rows, 8192, device=device)
    took = []
    for _ in range(9):
        start = time.perf_counter()
        torch.nn.functional.linear(hidden, weights)
        if device.type == "cuda":
            torch.cuda.synchronize()
        took.append(time.perf_counter() - start)
    return statistics.median(took) / weights.nbytes


def versions() -> dict[str, str]:
    """Return the versions that figures depend on."""
    import transformers

    from eft_eval.version import __version__

    return {
        "eft-eval": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": sys.version.split()[0],
    }


def use_wheels(folder: Path, into: Path) -> list[str]:
    """Unpack those wheels of a folder that fit this Python and are missing; return their names.

    Args:
        folder: Of wheels, perhaps for several Pythons.
        into: Where they are unpacked; imports look there, too.
    """
    from packaging.tags import sys_tags
    from packaging.utils import parse_wheel_filename

    fitting, used = set(sys_tags()), []
    for wheel in sorted(folder.glob("*.whl")):
        name, _, _, tags = parse_wheel_filename(wheel.name)
        if tags & fitting and importlib.util.find_spec(name.replace("-", "_")) is None:
            with zipfile.ZipFile(wheel) as packed:
                packed.extractall(into)
            used.append(str(name))
    sys.path.append(str(into))
    importlib.invalidate_caches()
    return used
