"""What a results file says of a task besides its scores: data, settings, versions, identity."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

from eft_eval.errors import ClaimError
from eft_eval.exporting.claims import Claim, CompositeClaim, DataClaim, TaskClaim
from eft_eval.exporting.models import COMMIT
from eft_eval.records import finite_number
from eft_eval.runs.metadata import PromptData, members_in, prompt_data_in
from eft_eval.runs.records import Group, ResultsFile, TaskRun
from eft_eval.secrets import without_secrets

__all__ = ["check_same_model", "claim_of_group", "claim_of_task"]

_LOADERS = {"json", "csv", "parquet", "text", "arrow", "xml", "webdataset", "imagefolder"}
_SELECTING = ("n_prompts", "max_words")
_SEEDS = ("random_seed", "numpy_seed", "torch_seed", "fewshot_seed")
_HUB_DATA = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


class _Evaluated(NamedTuple):
    """Few-shot examples, and how many documents of how many."""

    shots: int | None
    documents: int | None
    available: int | None


def claim_of_task(
    task: TaskRun, source: ResultsFile, composite: CompositeClaim | None, claims: tuple[Claim, ...]
) -> TaskClaim:
    """Return a task's record.

    Args:
        task: The task.
        source: Its results file.
        composite: What composes the model; None for a single model.
        claims: Its metrics.
    """
    counts = (source.content.get("n-samples") or {}).get(task.name) or {}
    available = counts.get("original")
    data = _data(task)
    return TaskClaim(
        name=task.name,
        members=(),
        version=task.version,
        shots=task.shots,
        repeats=task.repeats,
        documents=task.documents,
        available=available,
        limited=_limited(task.documents, available, source),
        output_type=task.config.get("output_type"),
        generation=_generation(task.generation),
        command=_command(
            [task.name],
            source,
            composite,
            _Evaluated(task.shots, task.documents, available),
            data.settings,
        ),
        data=data,
        checked=bool(task.pipelines),
        samples_file=task.samples_file,
        filters=tuple(task.pipelines),
        digest=_digest(task.name, source, "results"),
        claims=claims,
        **_shared(source),
    )


def claim_of_group(
    group: Group,
    tasks: tuple[TaskClaim, ...],
    source: ResultsFile,
    composite: CompositeClaim | None,
    claims: tuple[Claim, ...],
) -> TaskClaim:
    """Return a group's record; see `claim_of_task`.

    Args:
        group: The group.
        tasks: Its tasks' records.
        source: The results file.
        composite: What composes the model; None for a single model.
        claims: Its metrics.
    """
    shots = {task.shots for task in tasks}
    documents, available = _sum(t.documents for t in tasks), _sum(t.available for t in tasks)
    settings = {name: value for task in tasks for name, value in task.data.settings.items()}
    versions = source.content.get("versions") or {}
    return TaskClaim(
        name=group.name,
        members=group.tasks,
        version=str(versions.get(group.name)),
        shots=shots.pop() if len(shots) == 1 else None,
        repeats=max((task.repeats for task in tasks), default=1),
        documents=documents,
        available=available,
        limited=any(task.limited for task in tasks),
        output_type=None,
        generation="null",
        command=_command(
            [group.name], source, composite, _Evaluated(None, documents, available), settings
        ),
        data=DataClaim(
            name=group.name,
            repository=None,
            config=None,
            split=None,
            revision=None,
            details=json.dumps({"tasks": group.tasks}),
            own_files=tuple(dict.fromkeys(file for task in tasks for file in task.data.own_files)),
            settings=settings,
        ),
        checked=all(task.checked for task in tasks),
        samples_file=None,
        filters=(),
        digest=_digest(group.name, source, "groups"),
        claims=claims,
        **_shared(source),
    )


def _shared(source: ResultsFile) -> dict[str, Any]:
    content, config = source.content, source.config
    started = finite_number(content.get("date"))
    return {
        "started": started if started is not None and started > 0 else None,
        "lm_eval_version": str(content.get("lm_eval_version") or ""),
        "eft_eval_version": config.get("eft_version"),
        "transformers_version": content.get("transformers_version"),
        "chat_template": content.get("chat_template_sha") or None,
        "seeds": json.dumps({name: config.get(name) for name in _SEEDS if name in config}),
    }


def _limited(documents: int | None, available: int | None, source: ResultsFile) -> bool:
    """Whether documents were left out; where nobody counted them (0.4.2), as --limit says."""
    if documents is None or available is None:
        return source.limit is not None
    return documents < available


def _sum(counts: Any) -> int | None:
    found = list(counts)
    return None if None in found else sum(found)


def _digest(name: str, source: ResultsFile, table: str) -> str:
    """Return a hash of a task's figures and of what they are of."""
    content = source.content
    facts = {
        "model": content.get("model_name"),
        "date": content.get("date"),
        "task": name,
        "figures": (content.get(table) or {}).get(name),
        "version": (content.get("versions") or {}).get(name),
        "hash": (content.get("task_hashes") or {}).get(name),
        "judged_from": content.get("eft_judged_from"),
    }
    text = json.dumps(facts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _data(task: TaskRun) -> DataClaim:
    config = task.config
    own = prompt_data_in(config, str(task.results_file))
    if own is not None:
        hub = own.kind == "hub"
        origin = own.origin or own.name
        return DataClaim(
            name=origin if hub else own.name,
            repository=origin if hub and _HUB_DATA.fullmatch(origin) else None,
            config=None,
            split=config.get("test_split"),
            revision=own.revision if COMMIT.fullmatch(own.revision or "") else None,
            details=json.dumps(config["metadata"]["eft_data"], sort_keys=True),
            own_files=tuple(own.files.items()) if own.kind == "file" else (),
            settings=_settings(own, config["metadata"]),
        )
    path, options = config.get("dataset_path"), config.get("dataset_kwargs") or {}
    local = not path or path in _LOADERS or "data_files" in options or "data_dir" in options
    if local or not _HUB_DATA.fullmatch(str(path)):
        name = task.name if path is None or path in _LOADERS else PurePath(str(path)).name
        return DataClaim(name, None, None, config.get("test_split"), None, None)
    revision = str(options.get("revision") or "")
    return DataClaim(
        name=str(path),
        repository=str(path),
        config=config.get("dataset_name"),
        split=config.get("test_split") or config.get("validation_split"),
        revision=revision if COMMIT.fullmatch(revision) else None,
        details=None,
    )


def _settings(own: PromptData, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``--metadata`` must say; files by their names, as no path is of interest."""
    found: dict[str, Any] = {}
    if own.kind == "file":
        names = list(own.files)
        found[f"{own.name}_data"] = names[0] if len(names) == 1 else names
    elif own.kind == "hub" and metadata.get(f"{own.name}_revision"):
        found[f"{own.name}_revision"] = metadata[f"{own.name}_revision"]
    selected = {name: metadata[name] for name in _SELECTING if metadata.get(name) is not None}
    prompts = metadata.get("judge_prompt")
    if isinstance(prompts, str):
        selected["judge_prompt"] = PurePath(prompts).name
    elif isinstance(prompts, list):
        selected["judge_prompt"] = [PurePath(str(one)).name for one in prompts]
    return found | selected


def _generation(text: str) -> str:
    try:
        shown = without_secrets(json.loads(text))
    except ValueError:
        return str(without_secrets(text))
    return text if shown == json.loads(text) else json.dumps(shown, sort_keys=True)


def _command(
    names: list[str],
    source: ResultsFile,
    composite: CompositeClaim | None,
    evaluated: _Evaluated,
    settings: Mapping[str, Any],
) -> str:
    """Return the command that evaluates it again; a composite's recipe stands in recipe.yaml."""
    content, config = source.content, source.config
    words = ["lm_eval"]
    if composite is not None:
        words += ["--model eft", "--model_args model=recipe.yaml"]
    words += [f"--tasks {','.join(names)}"]
    if settings:
        words.append(f"--metadata {shlex.quote(json.dumps(dict(settings)))}")
    if evaluated.shots:
        words.append(f"--num_fewshot {evaluated.shots}")
    if source.limit is not None and _limited(evaluated.documents, evaluated.available, source):
        words.append(f"--limit {source.limit:g}")
    if content.get("chat_template_sha"):
        words.append("--apply_chat_template")
    if isinstance(options := config.get("gen_kwargs"), Mapping) and options:
        shown = without_secrets(options)
        words.append("--gen_kwargs " + ",".join(f"{k}={v}" for k, v in shown.items()))
    return " ".join([*words, "--output_path out --log_samples"])


def check_same_model(first: ResultsFile, second: ResultsFile) -> None:
    """Raise unless two results files are of the same model, members and commits included.

    Raises:
        ClaimError: They are not.
    """
    facts = [
        {
            **{key: file.config.get(key) for key in ("model", "eft_name", "model_sha")},
            "eft_members": [m.unloaded() for m in members_in(file.config, str(file.path))],
        }
        for file in (first, second)
    ]
    for key in facts[0]:
        if facts[0][key] != facts[1][key]:
            raise ClaimError(
                f"{first.path.name} and {second.path.name} were made by different models "
                f"({key} differs); export one results file at a time"
            )
