"""What may be claimed of a run: typed records that every export projects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from eft_eval.runs.records import MetricKey
from eft_eval.statistics.interval import Interval

__all__ = [
    "Claim",
    "CompositeClaim",
    "DataClaim",
    "Figure",
    "JudgeClaim",
    "LabelsClaim",
    "MemberClaim",
    "RunClaim",
    "TaskClaim",
]

MemberKind = Literal["hub", "folder", "demo"]


@dataclass(frozen=True)
class MemberClaim:
    """A model of a composite.

    Attributes:
        role: base, tuned, reference; numbered where there are several deltas.
        model: Its hub id; ``demo:NAME``; of a local folder the last part of its path.
        kind: Where it came from.
        commit: Of a hub model, 40 hexadecimal digits; None where the run does not say.
        digest: Of a folder's content, ``sha256:…``; None for a hub model.
        coefficient: Its factor in the sum of log-probabilities.
        dtype: Type of its weights as loaded.
        quantization: "8bit" or "4bit"; None: none.
        parameters: Their number; None where that is not known.
        adapter: Hub id, or last part of the path, of an adapter on the model; None without one.
        adapter_digest: Of an adapter folder's content.
    """

    role: str
    model: str
    kind: MemberKind
    commit: str | None
    digest: str | None
    coefficient: float
    dtype: str | None
    quantization: str | None
    parameters: int | None
    adapter: str | None = None
    adapter_digest: str | None = None

    @property
    def label(self) -> str:
        """The model with what pins it."""
        pin = self.commit or self.digest
        model = f"{self.model}@{pin}" if pin else self.model
        return f"{model} + {self.adapter_digest or self.adapter}" if self.adapter else model


@dataclass(frozen=True)
class CompositeClaim:
    """What composes the model.

    Attributes:
        name: The composite's canonical name.
        hash: The recipe's hash, the last part of the name.
        recipe: The recipe as YAML, each hub member at the commit that was loaded.
        pinned_name: The canonical name of that recipe: a pinned revision is part of a name.
        members: Its models.
        weights: Per delta its weight.
        weight_top_p: Filter of the weights; None: none.
        sampling: "coupled" or "rejection".
    """

    name: str
    hash: str
    recipe: str
    pinned_name: str
    members: tuple[MemberClaim, ...]
    weights: tuple[float, ...]
    weight_top_p: float | None
    sampling: str


@dataclass(frozen=True)
class JudgeClaim:
    """Who judged.

    Attributes:
        model: The model asked for; for "program" the rule's name. Without a folder's path.
        answered: Names of the models that the endpoint says answered.
        kind: OpenAI, another endpoint, a model in this process, written rules, a program, or a
            panel of such.
        prompt: Name of the judge prompt; None for a program.
        prompt_sha256: Hash of the prompt's file.
        prompt_text: The prompt's template; None where no file here has that hash.
        parameters: Sampling parameters as JSON.
        temperature: Of these; None where the judge was asked without.
        verdicts: Number of verdicts by status.
        repeats: Verdicts per document.
        unknown: Verdicts that are no answer: refused, truncated, malformed, ambiguous, out
            of range, missing.
        panel: The judges of a panel; empty for one judge.
    """

    model: str
    answered: tuple[str, ...]
    kind: str
    prompt: str | None
    prompt_sha256: str | None
    prompt_text: str | None
    parameters: str
    temperature: float | None
    verdicts: Mapping[str, int]
    repeats: int | None
    unknown: int
    panel: tuple[JudgeClaim, ...] = ()

    @property
    def each(self) -> tuple[JudgeClaim, ...]:
        """The judges: those of a panel, else this one."""
        return self.panel or (self,)

    @property
    def total(self) -> int:
        """Number of verdicts."""
        return sum(self.verdicts.values())

    @property
    def unknown_share(self) -> float:
        """Share of verdicts that are no answer, in [0, 1]."""
        return self.unknown / self.total if self.total else 0.0


@dataclass(frozen=True)
class LabelsClaim:
    """What corrected a score (`eft-eval correct`).

    Attributes:
        labels: Responses with a label and a verdict.
        verdicts: Responses with a verdict alone.
        annotators: Number of people.
        verdicts_only: The uncorrected mean.
        power: λ, the verdicts' weight.
    """

    labels: int
    verdicts: int
    annotators: int
    verdicts_only: float | None
    power: float


@dataclass(frozen=True)
class DataClaim:
    """What was asked.

    Attributes:
        name: What to call it: the hub repository, the data set's name, or the task's.
        repository: ``OWNER/NAME`` or ``NAME`` on the hub; None where it is none of the hub's.
        config: Its configuration.
        split: Its split.
        revision: Commit, 40 hexadecimal digits; None where the run does not say.
        details: What else the task says of it, as JSON; None: nothing.
        own_files: The user's own prompt files, which were asked in place of the task's data: name
            and SHA-256.
        settings: What ``--metadata`` must say to ask the same prompts again.
    """

    name: str
    repository: str | None
    config: str | None
    split: str | None
    revision: str | None
    details: str | None
    own_files: tuple[tuple[str, str], ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def own(self) -> str | None:
        """In words, which prompts of the user's own were asked; None for the task's data."""
        if not self.own_files:
            return None
        files = ", ".join(f"{name} (SHA-256 {digest})" for name, digest in self.own_files)
        return f"prompts of the user's own file, not of the task's data set: {files}"


@dataclass(frozen=True)
class Figure:
    """A score with its uncertainty.

    Attributes:
        value: The score as the run reports it.
        standard_error: None where there is none.
        error_method: How it was made; None without one.
        interval: None where the data give none.
        n: Documents with a number; None where nobody knows.
        missing: Documents without one; None where nobody knows.
        clusters: Number of clusters; None where the documents are independent.
    """

    value: float
    standard_error: float | None
    error_method: str | None
    interval: Interval | None
    n: int | None
    missing: int | None
    clusters: int | None


@dataclass(frozen=True)
class Claim:
    """One metric of a task under one filter.

    Attributes:
        key: Metric and filter.
        figure: The score.
        higher_is_better: None where the run does not say.
        lowest: Smallest possible score; None where that is not known.
        highest: Largest possible score, perhaps infinite; None where that is not known.
        judge: Who judged; None where nobody did.
        possible: Where the score could lie had every response got one, as (lower, upper); None
            where nothing is unknown, or nobody said.
        labels: What corrected it; None where nothing did.
        notes: What keeps the figure from being read as it stands.
    """

    key: MetricKey
    figure: Figure
    higher_is_better: bool | None
    lowest: float | None
    highest: float | None
    judge: JudgeClaim | None
    possible: tuple[float, float] | None
    labels: LabelsClaim | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class TaskClaim:
    """A task, or a group of tasks, with what may be claimed of it.

    Attributes:
        name: Its name.
        members: A group's tasks; empty for a task.
        version: Its version.
        shots: Number of few-shot examples; None where the run does not say.
        repeats: Responses per document.
        documents: Documents evaluated; None where the run does not say.
        available: Documents there are; None where the run does not say.
        limited: Whether fewer documents were evaluated than there are.
        output_type: lm-eval's, such as "generate_until".
        generation: Sampling settings as JSON.
        command: Command that evaluates it again, without the model's arguments.
        data: What was asked.
        started: When the run began, seconds since 1970 UTC; None where the run does not say.
        lm_eval_version: Empty where the run does not say.
        eft_eval_version: That evaluated; None where the run does not say.
        transformers_version: None where the run does not say.
        chat_template: Hash of the chat template; None: none.
        seeds: As JSON.
        digest: Hash of what the run says of this task: another result has another digest.
        checked: Whether the aggregates were recomputed from samples.
        samples_file: Where they are; None without samples. A path of this machine: never exported.
        filters: Names of its filters in order, for samples that do not say theirs.
        claims: Its metrics.
    """

    name: str
    members: tuple[str, ...]
    version: str
    shots: int | None
    repeats: int
    documents: int | None
    available: int | None
    limited: bool
    output_type: str | None
    generation: str
    command: str
    data: DataClaim
    started: float | None
    lm_eval_version: str
    eft_eval_version: str | None
    transformers_version: str | None
    chat_template: str | None
    seeds: str
    digest: str
    checked: bool
    samples_file: Path | None
    filters: tuple[str, ...]
    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class RunClaim:
    """What may be claimed of one run.

    Attributes:
        label: How the user calls the run. A path of this machine: never exported.
        model: The model's name; for a composite its canonical name.
        backend: lm-eval's kind of model, such as "eft" or "hf".
        repository: The model's id on the hub; None for a composite and all else.
        commit: Of the repository, 40 hexadecimal digits; None where the run does not say.
        composite: What composes it; None for a single model.
        from_baseline: Whether it is a baseline file, without settings and texts.
        level: Confidence level that was asked for.
        tasks: Its tasks and groups.
        notes: What was left out and why.
        path: The model's name as the run has it, perhaps a path of that machine: never exported.
        named_by: What the repository is known by, where lm-eval noted no commit.
        below: Models that a single model lies on, as an adapter does.
        variant: What tells it from others of its name, such as its adapter or revision.
    """

    label: str
    model: str
    backend: str
    repository: str | None
    commit: str | None
    composite: CompositeClaim | None
    from_baseline: bool
    level: float
    tasks: tuple[TaskClaim, ...]
    notes: tuple[str, ...]
    path: str = ""
    named_by: str = ""
    below: tuple[str, ...] = ()
    variant: str = ""
