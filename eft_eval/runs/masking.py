"""What lm-eval writes and shows of a run, without what may be a secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eft_eval.secrets import without_credentials, without_secrets

__all__ = ["mask_line", "mask_results"]

_ARGUMENTS = ("model_args", "gen_kwargs", "metadata", "dataset_kwargs", "generation_kwargs")


def mask_results(results: dict[str, Any]) -> None:
    """Mask the arguments in results of lm-eval, in place; the caller's own arguments stay."""
    if isinstance(results.get("config"), dict):
        results["config"] = _masked(results["config"])
    for configs in (results.get("configs"), results.get("samples")):
        if isinstance(configs, dict):
            for name, one in configs.items():
                configs[name] = [_sample(s) for s in one] if isinstance(one, list) else _masked(one)


def mask_line(text: str) -> str:
    """Return a line that shows arguments, without what may be a secret."""
    return str(without_secrets(text))


def _masked(config: Any) -> Any:
    """Return a configuration of a run or task."""
    if not isinstance(config, Mapping):
        return config
    return {
        name: without_secrets(value) if name in _ARGUMENTS else without_credentials(value)
        for name, value in config.items()
    }


def _sample(sample: Any) -> Any:
    """Return a sample whose generation settings are masked; its texts stay as they are."""
    if not isinstance(sample, dict) or not isinstance(sample.get("arguments"), (list, tuple)):
        return sample
    arguments = [
        tuple(without_secrets(one) if isinstance(one, Mapping) else one for one in request)
        if isinstance(request, (list, tuple))
        else request
        for request in sample["arguments"]
    ]
    return {**sample, "arguments": arguments}
