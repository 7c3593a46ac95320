"""What eft-eval writes of a task's judging into lm-eval's results files: a typed record per thing.

Who writes such a thing makes the record and calls `as_dict`; who reads it calls `judging_in`.
Fields that older versions did not write are None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from eft_eval.records import plain, restored

__all__ = [
    "JUDGE_MARK",
    "PANEL_OF",
    "Bounds",
    "Judging",
    "KeptJudging",
    "PanelJudge",
    "PromptUsed",
    "Usage",
    "judging_in",
]

PANEL_OF = "panel of "
"""How a panel is called where a judge's name would stand: this, and the judges' names."""
JUDGE_MARK = "@"
"""Between the name of a panel's pipeline and that of one of its judges."""


class PromptUsed(NamedTuple):
    """A judge prompt: its name, its version and the hash of its file."""

    name: str
    version: int | None = None
    sha256: str | None = None


class Bounds(NamedTuple):
    """Where a score could lie, had every response got one that the judge left without.

    Attributes:
        lower: The score if all of them had the lowest value.
        upper: The score if all of them had the highest.
        unknown: How many responses these are: refused, unreadable, missing or unfinished. An
            abstention is an answer, and none of them.
    """

    lower: float | None
    upper: float | None
    unknown: int


class Usage(NamedTuple):
    """What verdicts took.

    Attributes:
        prompt_tokens: Tokens sent.
        completion_tokens: Tokens received.
        cost_usd: List price; None where one is not known.
        price_tables: Dates of the price tables.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    price_tables: tuple[str, ...] = ()


class KeptJudging(NamedTuple):
    """Who gave verdicts that stayed when others were asked anew.

    Attributes:
        model: The judge.
        endpoint: Where it was asked.
        parameters: How.
        prompt: With which prompt.
        measure: What it measured.
        described_in: The results file that says the rest.
    """

    model: str
    endpoint: str | None = None
    parameters: Mapping[str, Any] | None = None
    prompt: PromptUsed | None = None
    measure: str | None = None
    described_in: str | None = None


class PanelJudge(NamedTuple):
    """One judge of a panel, by the filter pipeline that has its verdicts.

    Attributes:
        name: What it is called in the names of pipelines.
        model: The judge.
        endpoint: Where it was asked.
        parameters: How.
        verdicts: Number of its verdicts by status.
        models_returned: The models that answered.
        usage: Tokens and cost, over all that it was asked of the task.
    """

    name: str
    model: str
    endpoint: str | None = None
    parameters: Mapping[str, Any] | None = None
    verdicts: Mapping[str, int] | None = None
    models_returned: tuple[str, ...] | None = None
    usage: Usage | None = None


@dataclass(frozen=True)
class Judging:
    """Who judged a task's responses, and how that went (``metadata.eft_judge``).

    Attributes:
        model: The judge.
        version: Of a judge that is a program.
        endpoint: Where it was asked.
        parameters: All that its replies depend on besides name and prompt.
        parser_version: Of the reader of its replies.
        prompts: Judge prompts by the filter pipeline that used them.
        measures: What they measure, by the same names.
        responses_with_score_line: Responses with a score line of their own.
        verdicts: Number of verdicts by status.
        read_as_fractions: Scores that were read as fractions of one.
        bounds: Per ``metric,filter`` where it could lie.
        models_returned: The models that answered.
        usage: Tokens and cost.
        self_agreement: Of repeated asking, by pipeline.
        drift: Of stored against new verdicts, by pipeline; None where nothing was stored.
        bridge: Of the judge before against this one, by pipeline.
        kept: Who gave the verdicts that stayed, by pipeline.
        judges: The judges of a panel, by the pipeline of each; ``verdicts`` and ``usage`` are then
            of all of them together.
        panel: How the judges of a panel agree, by the pipeline of their common verdicts.
    """

    model: str
    version: int | None = None
    endpoint: str | None = None
    parameters: Mapping[str, Any] | None = None
    parser_version: int | None = None
    prompts: Mapping[str, PromptUsed] | None = None
    measures: Mapping[str, str] | None = None
    responses_with_score_line: int | None = None
    verdicts: Mapping[str, int] | None = None
    read_as_fractions: int | None = None
    bounds: Mapping[str, Bounds] | None = None
    models_returned: tuple[str, ...] | None = None
    usage: Usage | None = None
    self_agreement: Mapping[str, Any] | None = None
    drift: Mapping[str, Any] | None = None
    bridge: Mapping[str, Any] | None = None
    kept: Mapping[str, KeptJudging] | None = None
    judges: Mapping[str, PanelJudge] | None = None
    panel: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the record as it stands in the results: what is not known is left out."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        found: dict[str, Any] = plain({k: v for k, v in values.items() if v is not None})
        return found

    def judges_of(self, panel: str) -> list[tuple[str, PanelJudge]]:
        """Return the judges of a panel, each with its pipeline; none for one judge.

        Args:
            panel: The pipeline of the panel's common verdicts.
        """
        if panel not in (self.panel or {}):
            return []
        beginning = f"{panel}{JUDGE_MARK}"
        return [
            (name, one) for name, one in (self.judges or {}).items() if name.startswith(beginning)
        ]

    def judged(self, pipeline: str) -> bool:
        """Whether a filter pipeline's responses were judged, as far as the record says."""
        names = {*(self.prompts or ()), *(self.kept or ())}
        return pipeline in names if names else True

    def kept_for(self, judged_now: set[str], file: str) -> dict[str, KeptJudging] | None:
        """Return who gave the verdicts that stay when some pipelines are judged anew.

        Args:
            judged_now: These pipelines.
            file: Name of the results file that holds this record.
        """
        kept = dict(self.kept or {})
        for name, prompt in (self.prompts or {}).items():
            measure = (self.measures or {}).get(name)
            who = (self.judges or {}).get(name, self)
            kept[name] = KeptJudging(who.model, who.endpoint, who.parameters, prompt, measure, file)
        return {name: one for name, one in kept.items() if name not in judged_now} or None


def judging_in(task_config: Mapping[str, Any], where: str) -> Judging | None:
    """Return what a task's configuration says of its judge; None where nobody judged.

    Raises:
        ConfigError: It is not as eft-eval writes it.
    """
    found = (task_config.get("metadata") or {}).get("eft_judge")
    return restored(Judging, found, f"{where}: eft_judge") if found else None
