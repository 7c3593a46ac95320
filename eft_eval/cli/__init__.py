"""The command `eft-eval`: thin commands over the library."""

from eft_eval.cli.app import main

__all__ = ["main"]
