"""What eft-eval itself writes into lm-eval's results files: one typed record per thing.

Who writes such a thing makes the record and calls `as_dict`; who reads it calls the function here.
Fields that older versions did not write are None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from eft_eval.records import restored

__all__ = [
    "Decoding",
    "Member",
    "PromptData",
    "Unfinished",
    "decoding_in",
    "members_in",
    "model_arguments",
    "prompt_data_in",
]


@dataclass(frozen=True)
class Member:
    """A model of a composite (``eft_members``, by role).

    Attributes:
        role: Its part, such as base or tuned.
        model: Its id on the hub, or the digest of a local folder's content.
        source: The name or folder it was loaded from.
        coefficient: Factor of its logits; 0 for a member that cancels.
        revision: Branch, tag or commit asked for.
        commit: A hub model's commit, where it is known.
        dtype: Type of the weights as asked for.
        loaded_dtype: Their type; None where they were not loaded.
        head_dtype: Type of the logits where the output layer is computed in a wider one than the
            weights' own; None where not.
        quantization: Weights of 8 or 4 bits, or the type of a GGUF file's.
        prompt: Template of its own prompt.
        num_parameters: Their number; None where it is not known.
        gguf_file: The file that holds the model; None for a folder.
        adapter: The id of an adapter on the model, or the digest of its folder; None without one.
        adapter_source: The name or folder that the adapter was loaded from.
        depends_on_batch: True where its logits were found to depend on the rest of a batch.
    """

    role: str
    model: str
    source: str = ""
    coefficient: float | None = None
    revision: str | None = None
    commit: str | None = None
    dtype: str | None = None
    loaded_dtype: str | None = None
    quantization: str | None = None
    prompt: str | None = None
    num_parameters: int | None = None
    gguf_file: str | None = None
    adapter: str | None = None
    adapter_source: str | None = None
    depends_on_batch: bool | None = None
    head_dtype: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the record as it stands under its role."""
        return {
            name: value
            for name, value in asdict(self).items()
            if name != "role" and (value is not None or name not in _RARE)
        }

    @property
    def name(self) -> str:
        """What it was loaded from, an adapter behind its model."""
        model = f"{self.source}/{self.gguf_file}" if self.gguf_file else self.source
        return f"{model} + {self.adapter_source}" if self.adapter_source else model

    @property
    def digest(self) -> str | None:
        """Hash of a local folder's content; None for others."""
        return self.model if self.model.startswith("sha256:") else None

    @property
    def version(self) -> str | None:
        """The commit, or the revision asked for; None where neither is known."""
        return self.commit or self.revision

    @property
    def weights(self) -> str | None:
        """Type of the weights as loaded, else as asked for."""
        found = self.loaded_dtype or self.dtype
        return found.removeprefix("torch.") if found else None

    def unloaded(self) -> Member:
        """Return the record without what is known only where its weights were loaded."""
        return replace(
            self, num_parameters=None, loaded_dtype=None, depends_on_batch=None, head_dtype=None
        )


_RARE = (
    "adapter",
    "adapter_source",
    "head_dtype",
)  # fields of a member that are written where they say something


@dataclass(frozen=True)
class Unfinished:
    """The responses to a task whose reasoning did not end.

    Attributes:
        unfinished: Their number.
        responses: How many began with reasoning.
        share: The one over the other.
    """

    unfinished: int
    responses: int
    share: float


@dataclass(frozen=True)
class Decoding:
    """What the generation loop of a composite did (``eft_decoding``).

    Attributes:
        requests: Responses finished.
        tokens: Their tokens.
        tokens_per_second: Over the whole time; None without a time.
        rounds: Passes of the loop.
        tokens_per_round: Tokens a row gains with each pass of the loop.
        drafted: Drafted tokens.
        accepted: Drafted tokens that were accepted.
        acceptance: Share of tested draft tokens that were accepted; None where nothing is drafted.
        accepted_share: Share of all draft tokens that were accepted.
        rounds_by_block: Rounds by block length.
        passes: Model passes by member.
        time_share: Share of the time by member.
        own_time_share: Share of the time outside the members' passes.
        seconds: Of all rounds.
        plain_reason: Why nothing is drafted; None where drafting is possible.
        resumed: Responses that an earlier start of the run had finished; not in the counts above.
        unfinished: Responses whose reasoning did not end, of those finished and resumed.
        unfinished_share: Their share.
        unfinished_by_task: The same by task, of the responses that began with reasoning;
            None where none did.
    """

    requests: int = 0
    tokens: int = 0
    tokens_per_second: float | None = None
    rounds: int | None = None
    tokens_per_round: float | None = None
    drafted: int | None = None
    accepted: int | None = None
    acceptance: float | None = None
    accepted_share: float | None = None
    rounds_by_block: Mapping[str, int] | None = None
    passes: Mapping[str, int] | None = None
    time_share: Mapping[str, float | None] | None = None
    own_time_share: float | None = None
    seconds: float | None = None
    plain_reason: str | None = None
    resumed: int | None = None
    unfinished: int | None = None
    unfinished_share: float | None = None
    unfinished_by_task: Mapping[str, Unfinished] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the record as it stands in the results."""
        return asdict(self)


@dataclass(frozen=True)
class PromptData:
    """Where a task's prompts came from (``metadata.eft_data``); holds no path of this machine.

    ``rows`` equals ``usable`` plus all counts in ``rejected`` (defects) and ``skipped`` (sound rows
    that were not asked for). ``prompts_sha256`` identifies the selection: two runs with the same
    value answered the same prompts in the same order.

    Attributes:
        name: Of the data: eli5, hh, demo.
        used: How many prompts.
        prompts_sha256: Of their texts.
        kind: "file" or "hub"; None for prompts that a program made.
        origin: Repository on the hub, or the names of the files.
        revision: Commit on the hub.
        files: SHA-256 by name of the file as stored.
        rows: In the files.
        rejected: Rows with a defect, by reason.
        skipped: Sound rows that were not asked for, by reason.
        usable: Rows left.
        max_words: Longest prompt asked for.
        world_seed: Of the demo's world.
    """

    name: str
    used: int
    prompts_sha256: str
    kind: str | None = None
    origin: str | None = None
    revision: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    rows: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    usable: int = 0
    max_words: int | None = None
    world_seed: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the record as it stands in the results."""
        made = self.world_seed is not None
        return {
            name: value
            for name, value in asdict(self).items()
            if (name in _OF_A_WORLD if made else name != "world_seed")
        }


_OF_A_WORLD = {"name", "world_seed", "used", "prompts_sha256"}


def members_in(config: Mapping[str, Any], where: str) -> tuple[Member, ...]:
    """Return the models of a composite; none for other models.

    Args:
        config: ``config`` of the results file.
        where: The file, for errors.

    Raises:
        ConfigError: They are not as eft-eval writes them.
    """
    listed = config.get("eft_members")
    if not isinstance(listed, Mapping):
        return ()
    found = []
    for role, one in listed.items():
        given = {**one, "role": str(role)} if isinstance(one, Mapping) else one
        member = restored(Member, given, f"{where}: eft_members.{role}")
        found.append(member if member.source else replace(member, source=member.model))
    return tuple(found)


def decoding_in(config: Mapping[str, Any], where: str) -> Decoding | None:
    """Return what the generation loop did; None for a model that is no composite.

    Raises:
        ConfigError: It is not as eft-eval writes it.
    """
    found = config.get("eft_decoding")
    if not isinstance(found, Mapping):
        return None
    return restored(Decoding, found, f"{where}: eft_decoding")


def prompt_data_in(task_config: Mapping[str, Any], where: str) -> PromptData | None:
    """Return where a task's prompts came from; None for a task that is not eft-eval's own.

    Raises:
        ConfigError: It is not as eft-eval writes it.
    """
    found = (task_config.get("metadata") or {}).get("eft_data")
    return restored(PromptData, found, f"{where}: eft_data") if isinstance(found, Mapping) else None


def model_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return lm-eval's ``model_args``, which are an object or ``key=value,…``.

    Args:
        config: ``config`` of the results file.
    """
    given = config.get("model_args")
    if isinstance(given, Mapping):
        return {str(key): value for key, value in given.items()}
    found: dict[str, Any] = {}
    key = ""
    for part in given.split(",") if isinstance(given, str) else ():
        name, equals, value = part.partition("=")
        if equals:
            key, found[name] = name, value
        elif key:  # a comma within a value
            found[key] += f",{part}"
    return found
