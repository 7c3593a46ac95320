"""Where a run comes from, and how its responses were made: facts of its results file, typed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from eft_eval.runs.records import JudgeSeen, Run

__all__ = ["Decoding", "Fact", "Member", "decoding_of", "facts_of", "judges_of", "members_of"]

_SECRET = re.compile(r"key|token|secret|password|auth|header", re.IGNORECASE)
_SEEDS = ("random_seed", "numpy_seed", "torch_seed", "fewshot_seed")


class Decoding(NamedTuple):
    """What the generation loop of a composite did (``eft_decoding`` of the results).

    Attributes:
        requests: Responses finished.
        tokens: Their tokens.
        tokens_per_second: Over the whole time; None without a time.
        tokens_per_round: Tokens a row gains with each pass of the loop.
        acceptance: Share of tested draft tokens that were accepted; None where nothing is drafted.
        accepted_share: Share of all draft tokens that were accepted.
        seconds: Of all rounds.
        passes: Model passes by member.
        time_share: Share of the time by member.
        own_time_share: Share of the time outside the members' passes.
        plain_reason: Why nothing is drafted; empty where drafting is possible.
    """

    requests: int
    tokens: int
    tokens_per_second: float | None
    tokens_per_round: float | None
    acceptance: float | None
    accepted_share: float | None
    seconds: float | None
    passes: Mapping[str, int]
    time_share: Mapping[str, float]
    own_time_share: float | None
    plain_reason: str


class Member(NamedTuple):
    """A model of a composite.

    Attributes:
        role: Its part, such as base or tuned.
        source: The name or folder it was loaded from.
        revision: The commit, or the revision asked for; empty where neither is known.
        digest: Hash of a local folder's content; empty for others.
        dtype: Type of its weights; empty where it was not loaded.
        coefficient: Factor of its logits; None where the file does not say.
        parameters: Their number; None where the file does not say.
    """

    role: str
    source: str
    revision: str
    digest: str
    dtype: str
    coefficient: float | None
    parameters: int | None


class Fact(NamedTuple):
    """One line on where a run comes from."""

    name: str
    value: str


def decoding_of(run: Run) -> Decoding | None:
    """Return what the generation loop did; None for a model that is no composite."""
    found = _config(run).get("eft_decoding")
    if not isinstance(found, Mapping):
        return None
    return Decoding(
        requests=int(found.get("requests") or 0),
        tokens=int(found.get("tokens") or 0),
        tokens_per_second=_number(found.get("tokens_per_second")),
        tokens_per_round=_number(found.get("tokens_per_round")),
        acceptance=_number(found.get("acceptance")),
        accepted_share=_number(found.get("accepted_share")),
        seconds=_number(found.get("seconds")),
        passes={str(who): int(n) for who, n in (found.get("passes") or {}).items()},
        time_share={
            str(who): share
            for who, one in (found.get("time_share") or {}).items()
            if (share := _number(one)) is not None
        },
        own_time_share=_number(found.get("own_time_share")),
        plain_reason=str(found.get("plain_reason") or ""),
    )


def members_of(run: Run) -> tuple[Member, ...]:
    """Return the models of a composite; none for other models."""
    listed = _config(run).get("eft_members")
    if not isinstance(listed, Mapping):
        return ()
    found = []
    for role, one in listed.items():
        model, parameters = str(one.get("model") or ""), one.get("num_parameters")
        found.append(
            Member(
                role=str(role),
                source=str(one.get("source") or model),
                revision=str(one.get("commit") or one.get("revision") or ""),
                digest=model if model.startswith("sha256:") else "",
                dtype=str(one.get("loaded_dtype") or one.get("dtype") or "").removeprefix("torch."),
                coefficient=_number(one.get("coefficient")),
                parameters=parameters if isinstance(parameters, int) else None,
            )
        )
    return tuple(found)


def facts_of(run: Run) -> tuple[Fact, ...]:
    """Return name, date, versions, arguments and seeds; what the files do not say is left out."""
    return tuple(Fact(name, value) for name, value in _facts(run) if value)


def judges_of(run: Run) -> tuple[tuple[str, JudgeSeen], ...]:
    """Return the judges of a run, each with the task and filter that it judged."""
    return tuple(
        (f"{task.name}, {pipeline.name}", pipeline.judge)
        for task in run.tasks.values()
        for pipeline in task.pipelines.values()
        if pipeline.judge is not None
    )


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    config, details = _config(run), run.details
    yield "model", run.model
    yield "files", run.label
    yield "date", run.date
    yield "kind", "baseline file (no texts)" if run.kind == "baseline" else ""
    yield "adapter", str(config.get("model") or "")
    yield "model arguments", _arguments(config.get("model_args"))
    recipe = config.get("eft_recipe")
    if isinstance(recipe, Mapping):
        yield "recipe", json.dumps(recipe, sort_keys=True, ensure_ascii=False)
    for name, key in (("generation arguments", "gen_kwargs"), ("documents, at most", "limit")):
        yield name, _plain(config.get(key))
    yield "batch size", _plain(config.get("batch_size"))
    seeds = [f"{key.removesuffix('_seed')} {config[key]}" for key in _SEEDS if key in config]
    yield "seeds", ", ".join(seeds)
    for task in run.tasks.values():
        shots = f", {task.shots}-shot" if task.shots is not None else ""
        count = f", {task.documents} documents" if task.documents is not None else ""
        yield f"task {task.name}", f"version {task.version}{shots}{count}"
    yield "lm-eval", run.lm_eval_version
    yield "transformers", _plain(details.get("transformers_version"))
    yield "revision of the folder", _plain(details.get("git_hash"))
    yield "chat template", _plain(details.get("chat_template_sha"))


def _config(run: Run) -> Mapping[str, Any]:
    found = run.details.get("config")
    return found if isinstance(found, Mapping) else {}


def _arguments(value: Any) -> str:
    """Return model arguments as ``key=value,…``; what may be a secret is not shown."""
    if isinstance(value, str):
        pairs = [part.partition("=")[::2] for part in value.split(",") if part]
    elif isinstance(value, Mapping):
        pairs = [(str(key), _plain(one)) for key, one in value.items()]
    else:
        return ""
    return ",".join(f"{key}={'(not shown)' if _SECRET.search(key) else one}" for key, one in pairs)


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _number(value: Any) -> float | None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if good else None
