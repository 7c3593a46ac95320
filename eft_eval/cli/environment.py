"""The environment variables that we read, by command, as its help shows them."""

from __future__ import annotations

__all__ = ["VARIABLES", "help_of"]

_JUDGE = {
    "OPENAI_API_KEY": "the endpoint's key",
    "EFT_JUDGE_KEYS": "keys by host, as JSON, for judges NAME@URL",
    "EFT_JUDGE_MODEL": "the judge",
    "EFT_JUDGE_BASE_URL": "its endpoint; else OPENAI_BASE_URL, else OpenAI",
    "EFT_JUDGE_CONCURRENCY": "requests in flight at once (32)",
    "EFT_JUDGE_TIMEOUT": "seconds of one try (120)",
    "EFT_JUDGE_MAX_WAIT": "seconds of an endpoint's silence that end the judging (600)",
    "EFT_JUDGE_MAX_TOKENS": "of one reply (2048)",
    "EFT_JUDGE_STRUCTURED": "whether to ask for JSON: auto, on, off",
    "EFT_JUDGE_PARAMS": "fields of a request, as JSON",
    "EFT_JUDGE_PLACEMENT": "device of an hf: judge",
    "EFT_JUDGE_PRICES": "file with prices of models",
}
_STORE = {"EFT_VERDICT_STORE": "file of the verdicts"}
_RECIPE = {"EFT_RECIPE": "recipe where none is named"}
_DEMO = {"EFT_DEMO_MODELS": "folder of a demo family of your own"}
_DATA = {
    "EFT_ELI5_DATA": "file, folder or hub id of ELI5 questions",
    "EFT_HH_DATA": "file, folder or hub id of HH dialogues",
}
_EVERYWHERE = {
    "EFT_EVAL_NO_AUTOLOAD": "1: lm_eval starts without eft-eval's hook",
    "EFT_EVAL_TRACEBACK": "1: errors with their traceback",
}
_RUN = {**_RECIPE, **_DATA, **_DEMO, **_JUDGE, **_STORE}
VARIABLES = {
    "": _EVERYWHERE,
    "run": _RUN,
    "study": _RUN,
    "plan": {name: _JUDGE[name] for name in ("EFT_JUDGE_MODEL", "EFT_JUDGE_PRICES")},
    "judge": {**_JUDGE, **_STORE},
    "verdicts": _STORE,
    "trace": {**_RECIPE, **_DEMO},
    "serve": _DEMO,
    "demo": _DEMO,
}
"""Name and meaning of each variable, by the command that reads it; "" stands for every command."""


def help_of(command: str) -> str:
    """Return the variables of a command as a paragraph of its help; empty where it has none."""
    found = VARIABLES.get(command, {})
    shown = ", ".join(f"{name} ({meaning})" for name, meaning in found.items())
    return f"Environment: {shown}." if shown else ""
