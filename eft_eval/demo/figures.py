"""What a family shows: the four arms, the frontier and what each model knows, as records."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eft_eval.demo.arms import ARMS, SEED, Judged, judge_all, respond
from eft_eval.demo.family import MODELS, PREFIX
from eft_eval.demo.language import Question, question_text, statement
from eft_eval.demo.questions import COUNT, hazard_questions, knowledge_questions
from eft_eval.demo.world import Kind, World
from eft_eval.judging.prompts.ranges import mean_of_metric
from eft_eval.recipe import MemberSpec, Recipe, parse_recipe
from eft_eval.statistics.fieller import improvement_if_apart
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.means import proportion

__all__ = ["ALPHAS", "ArmFigures", "Survey", "arm_figures", "figures_of", "frontier", "recall",
           "relocate"]  # fmt: skip

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Survey:
    """Who is asked what, and how.

    Attributes:
        world: What is asked about.
        folder: A family's folder; None is the shipped one.
        temperature: 0 is greedy.
        count: Number of questions.
        seed: Of the coupled noise.
        on_response: Called with place and text of each response as it ends.
    """

    world: World
    folder: Path | None = None
    temperature: float = 1.0
    count: int = COUNT
    seed: int = SEED
    on_response: Callable[[int, str], None] | None = None

    def judged(self, recipe: Recipe, questions: Sequence[Question]) -> list[Judged]:
        """Return what the exact judge says of a composite's responses."""
        responses = respond(
            relocate(recipe, self.folder),
            [question_text(question) for question in questions],
            self.temperature,
            self.seed,
            self.on_response,
        )
        return judge_all(responses, questions, self.world)


class ArmFigures(NamedTuple):
    """What one arm's answers are worth.

    Attributes:
        errors: Mean number of false statements per response.
        wrong_entity: Mean number of true statements about somebody else per response.
        not_understood: Mean number of sentences that are no statement and out of place.
        helpfulness: Share of helpful responses.
        errors_normalised: Between small tuned (0) and large tuned (1); None for these two, and
            where the large one is not clearly better.
        helpfulness_normalised: The same for helpfulness.
    """

    errors: Interval
    wrong_entity: Interval
    not_understood: Interval
    helpfulness: Interval
    errors_normalised: Interval | None
    helpfulness_normalised: Interval | None


def relocate(recipe: Recipe, folder: Path | None) -> Recipe:
    """Return ``recipe`` with the family's members taken from ``folder`` (None: as shipped)."""
    if folder is None:
        return recipe

    def moved(member: MemberSpec) -> MemberSpec:
        if not member.model.startswith(PREFIX):
            return member
        name = f"demo-{member.model.removeprefix(PREFIX)}"
        return member.model_copy(update={"model": str(folder / name)})

    deltas = tuple(
        delta.model_copy(update={"tuned": moved(delta.tuned), "reference": moved(delta.reference)})
        for delta in recipe.deltas
    )
    return recipe.model_copy(update={"base": moved(recipe.base), "deltas": deltas})


def arm_figures(survey: Survey) -> dict[str, ArmFigures]:
    """Run the four arms on the same questions."""
    questions = knowledge_questions(survey.world)[: survey.count]
    return figures_of(
        {arm: survey.judged(parse_recipe(name), questions) for arm, name in ARMS.items()}
    )


def figures_of(judged: Mapping[str, Sequence[Judged]]) -> dict[str, ArmFigures]:
    """Return every arm's figures from what the judge says of its responses.

    They are those of `eft-eval report` on runs of the demo's tasks.
    """
    return {arm: _figures(arm, judged) for arm in judged}


def _figures(arm: str, judged: Mapping[str, Sequence[Judged]]) -> ArmFigures:
    def between(name: str) -> Interval | None:
        if arm in ("small tuned", "large tuned"):
            return None
        three = [_values(judged[one], name) for one in ("small tuned", arm, "large tuned")]
        return improvement_if_apart(np.array(three), name == "errors")

    own = judged[arm]
    return ArmFigures(
        errors=_mean(own, "errors"),
        wrong_entity=_mean(own, "wrong_entity"),
        not_understood=_mean(own, "not_understood"),
        helpfulness=_share(own, "helpful"),
        errors_normalised=between("errors"),
        helpfulness_normalised=between("helpful"),
    )


def _values(judged: Sequence[Judged], name: str) -> list[float]:
    return [float(getattr(one, name)) for one in judged]


def _mean(judged: Sequence[Judged], name: str) -> Interval:
    return mean_of_metric(f"fact_{name}", np.array(_values(judged, name)), None).interval


def _share(judged: Sequence[Judged], name: str) -> Interval:
    return proportion(int(sum(_values(judged, name))), len(judged)).wilson


def frontier(survey: Survey, alphas: Sequence[float] = ALPHAS) -> dict[float, dict[str, Interval]]:
    """Return harm and helpfulness of the large base with α helpful and 1 - α harmless deltas.

    Returns:
        Per α: ``harm`` and ``declined`` on questions about hazards, ``helpfulness`` on the others.
    """
    hazards = hazard_questions(survey.world)[: survey.count]
    others = knowledge_questions(survey.world)[: survey.count]
    found = {}
    for alpha in alphas:
        weights = {"weight1": alpha, "weight2": 1 - alpha}
        recipe = parse_recipe({"model": "demo-frontier", **weights})
        judged = survey.judged(recipe, (*hazards, *others))
        found[alpha] = {
            "harm": _share(judged[: len(hazards)], "harm"),
            "declined": _share(judged[: len(hazards)], "declined"),
            "helpfulness": _share(judged[len(hazards) :], "helpful"),
        }
    return found


def recall(world: World, folder: Path) -> dict[str, float]:
    """Return the share of held-out facts of people and towns that each model completes.

    The model reads the canonical sentence up to the value, and must give the value's first token
    as the most likely one.
    """
    return {name: _recall(world, folder / f"demo-{name}") for name in MODELS}


def _recall(world: World, folder: Path) -> float:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    starts, sentences = [], []
    for kind in (Kind.person, Kind.town):
        for entity in world.of(kind, held_out=True):
            for relation, value in enumerate(entity.values):
                sentences.append(statement(entity, relation))
                starts.append(sentences[-1][: sentences[-1].rindex(value)].rstrip())
    tokens = tokenizer(sentences, padding=True, padding_side="right", return_tensors="pt").input_ids
    places = torch.tensor([len(row) for row in tokenizer(starts).input_ids])
    known: list[bool] = []
    for start in range(0, len(tokens), 128):
        rows, at = tokens[start : start + 128], places[start : start + 128]
        with torch.inference_mode():
            best = model(rows).logits.argmax(dim=-1)  # [rows, length]
        row = torch.arange(len(rows))
        known += (best[row, at - 1] == rows[row, at]).tolist()
    return statistics.fmean(known)
