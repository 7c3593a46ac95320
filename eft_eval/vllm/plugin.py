"""vLLM's plug-in: names the composite's model class, and imports vLLM only when called."""

from __future__ import annotations

from eft_eval.vllm.arguments import ARCHITECTURE

__all__ = ["register"]


def register() -> None:
    """Make the composite known to vLLM, in every process that it starts.

    vLLM calls this through the entry point ``vllm.general_plugins``; the class itself is imported
    when a composite is loaded.
    """
    from vllm import ModelRegistry

    from eft_eval.vllm.prompts import check_prompts

    check_prompts()
    if ARCHITECTURE not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(ARCHITECTURE, f"eft_eval.vllm.model:{ARCHITECTURE}")
