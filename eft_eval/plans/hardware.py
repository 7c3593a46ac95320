"""Accelerators by name: memory, bandwidth and arithmetic; and how a machine is written down."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch

from eft_eval.composite.memory import available_bytes
from eft_eval.errors import ConfigError, nearest
from eft_eval.plans.processor import Processor, measured_processor

__all__ = ["DEVICES", "GIB", "Device", "Hardware", "parse_hardware"]

GIB = 2**30


class Device(NamedTuple):
    """One accelerator, or a CPU.

    Attributes:
        name: As makers call it.
        memory: Bytes that programs can have.
        bandwidth: Of its memory, bytes a second.
        compute: Dense 16-bit matrix products, floating-point operations a second.
        cpu: Whether it is a CPU, whose figures are what was measured and not a maker's peak.
        measured: What else was measured of this machine's CPU.
    """

    name: str
    memory: int
    bandwidth: float
    compute: float
    cpu: bool = False
    measured: Processor | None = None


class Hardware(NamedTuple):
    """Equal devices; up to ``per_node`` of them share a machine's fast links."""

    device: Device
    number: int
    per_node: int = 8

    def __str__(self) -> str:
        return f"{self.number}x{self.device.name}"


def _device(name: str, gib: float, gigabytes: float, teraflops: float) -> Device:
    return Device(name, int(gib * GIB), gigabytes * 1e9, teraflops * 1e12)


DEVICES: Mapping[str, Device] = {
    device.name: device
    for device in (
        # memory as drivers report it, bandwidth and dense 16-bit products of the makers' sheets
        _device("T4", 14.6, 320, 65),
        _device("V100-16GB", 15.8, 900, 125),
        _device("V100-32GB", 31.7, 900, 125),
        _device("A10", 22.5, 600, 125),
        _device("L4", 22.5, 300, 121),
        _device("4090", 23.6, 1008, 165),
        _device("5090", 31.4, 1792, 210),
        _device("A100-40GB", 39.4, 1555, 312),
        _device("A100-80GB", 79.2, 2039, 312),
        _device("A6000", 47.5, 768, 155),
        _device("L40S", 44.4, 864, 362),
        _device("H100", 79.2, 3350, 989),
        _device("H200", 139.8, 4800, 989),
        _device("B200", 178.0, 8000, 2250),
        _device("MI250X", 63.9, 1600, 191),  # one of its two halves, as programs see it
        _device("MI300X", 191.5, 5300, 1307),
    )
}
"""Known accelerators, by name."""

_ALIASES = {
    "A100": "A100-80GB",
    "A100-40": "A100-40GB",
    "A100-80": "A100-80GB",
    "H100-80GB": "H100",
    "H200-141GB": "H200",
    "L40S-48GB": "L40S",
    "V100": "V100-32GB",
    "RTX4090": "4090",
    "RTX-4090": "4090",
    "RTX5090": "5090",
    "RTXA6000": "A6000",
    "MI300X-192GB": "MI300X",
}
_LIKE = (
    "8xA100-80GB, 4090, CPU (this machine, measured), CPU:64GB@40GBps, or, for others, "
    "8x80GB@2000GBps@300TFLOPS"
)
_MACHINE = re.compile(r"(?:(?P<count>\d+)\s*[x×])?\s*(?P<name>\S+)", re.IGNORECASE)
_OWN = re.compile(
    r"(?P<memory>[\d.]+)(?P<unit>G|GB|GiB|T|TB)?"
    r"(?:@(?P<bandwidth>[\d.]+)(?P<speed>GB|TB)(?:ps|/s))?"
    r"(?:@(?P<compute>[\d.]+)TFLOPS)?",
    re.IGNORECASE,
)
_UNITS = {"G": 1e9, "GB": 1e9, "GIB": GIB, "T": 1e12, "TB": 1e12}
_OPERATIONS_PER_BYTE = 150.0  # of today's accelerators, about
_MOST = 100_000
_LEAST, _LARGEST = 0.001, 1_000_000_000


def parse_hardware(text: str) -> Hardware:
    """Return the machine that ``8xA100-80GB``, ``CPU`` or ``8x80GB@2000GBps`` names.

    Raises:
        ConfigError: It names none.
    """
    found = _MACHINE.fullmatch(text.strip())
    if found is None:
        raise _unknown(text)
    digits, name = (found["count"] or "1").lstrip("0"), found["name"]
    count = int(digits or 0) if len(digits) <= len(str(_MOST)) else _MOST + 1
    if not 1 <= count <= _MOST:
        raise ConfigError(f"--hardware is {text!r}: expected 1 to {_MOST:,} devices")
    if name.upper() == "CPU" or name.upper().startswith("CPU:"):
        return Hardware(_cpu(name[4:], text), count, 1)
    known = {one.upper().replace("_", "-"): one for one in (*DEVICES, *_ALIASES)}
    plain = name.upper().replace("_", "-").removeprefix("NVIDIA-").removeprefix("AMD-")
    if plain in known:
        return Hardware(DEVICES[_ALIASES.get(known[plain], known[plain])], count)
    own = _OWN.fullmatch(name)
    if own is None or own["unit"] is None or own["bandwidth"] is None:
        raise _unknown(text)
    return Hardware(_own_device(own, name, text), count)


def _unknown(text: str) -> ConfigError:
    name = text.strip().rpartition("x")[2]
    return ConfigError(
        f"--hardware is {text!r}{nearest(name.upper(), DEVICES)}; expected {_LIKE}; "
        f"known: {', '.join(DEVICES)}"
    )


def _own_device(own: re.Match[str], name: str, text: str) -> Device:
    """Return a device of the figures in ``80GB@2000GBps@300TFLOPS``."""
    bandwidth = _number(own["bandwidth"], text) * _UNITS[own["speed"].upper()]
    if own["compute"] is None:
        compute = bandwidth * _OPERATIONS_PER_BYTE
    else:
        compute = _number(own["compute"], text) * 1e12
    return Device(name, _bytes(own, text), bandwidth, compute)


def _bytes(own: re.Match[str], text: str) -> int:
    return int(_number(own["memory"], text) * _UNITS[own["unit"].upper()])


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not _LEAST <= value <= _LARGEST:
        raise ConfigError(
            f"--hardware is {where!r}: {text!r} is no number from {_LEAST} to {_LARGEST:,}"
        )
    return value


def _cpu(given: str, text: str) -> Device:
    """Return a CPU: what is not given is measured on this machine."""
    if not given:
        return _this_cpu()
    own = _OWN.fullmatch(given)
    if own is None or own["unit"] is None:
        raise _unknown(text)
    if own["bandwidth"] is None:
        if own["compute"] is not None:
            raise _unknown(text)
        return _this_cpu()._replace(name=f"CPU:{given}", memory=_bytes(own, text))
    device = _own_device(own, f"CPU:{given}", text)
    if own["compute"] is None:
        device = device._replace(compute=device.bandwidth * _CPU_OPERATIONS_PER_BYTE)
    return device._replace(cpu=True)


def _this_cpu() -> Device:
    memory = available_bytes(torch.device("cpu"))
    if memory is None:
        raise ConfigError(
            "--hardware is 'CPU': the memory of this machine is unknown; say both: CPU:16GB@40GBps"
        )
    found = measured_processor()
    return Device("CPU", memory, found.bandwidth, found.compute, True, found)


_CPU_OPERATIONS_PER_BYTE = 8.0
