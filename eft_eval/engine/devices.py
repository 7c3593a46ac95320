"""Whether a device that somebody names is one, and is here."""

from __future__ import annotations

import torch

from eft_eval.errors import ConfigError

__all__ = ["usable_device"]

_KINDS = ("cpu", "cuda", "mps", "xpu", "npu")


def usable_device(asked: object, what: str) -> torch.device:
    """Return the device of that name.

    Args:
        asked: ``cpu``, ``cuda``, ``cuda:N``, ``mps`` and the like.
        what: What asks for it, for the error.

    Raises:
        ConfigError: There is no such kind of device, or none on this machine.
    """
    try:
        device = torch.device(str(asked))
    except RuntimeError:
        device = None
    if device is None or device.type not in _KINDS:
        raise ConfigError(f"{what}: got {asked!r}, expected cpu, cuda, cuda:N, mps, xpu or npu")
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise ConfigError(f"{what}: got {asked!r}, but this machine has {count} CUDA devices")
    elif device.type != "cpu":
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            why = str(error).partition("\n")[0][:120]
            raise ConfigError(
                f"{what}: got {asked!r}, which torch cannot use here: {why}"
            ) from None
    return device
