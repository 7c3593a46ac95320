"""What a family shows: the four arms, the frontier and what each model knows, as records."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eft_eval.demo.arms import ARMS, SEED, Judged, judge_all, mean, normalised, respond
from eft_eval.demo.family import MODELS, PREFIX
from eft_eval.demo.language import question_text, statement
from eft_eval.demo.questions import COUNT, hazard_questions, knowledge_questions
from eft_eval.demo.world import Kind, World
from eft_eval.recipe import MemberSpec, Recipe, parse_recipe
from eft_eval.statistics.interval import Interval

__all__ = ["ALPHAS", "ArmFigures", "arm_figures", "frontier", "recall", "relocate"]

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
Report = Callable[[int], None]


class ArmFigures(NamedTuple):
    """One arm's answers and what they are worth.

    Attributes:
        responses: In the order of the questions.
        errors: Mean number of false statements per response.
        wrong_entity: Mean number of true statements about somebody else per response.
        not_understood: Mean number of sentences that are no statement and out of place.
        helpfulness: Share of helpful responses.
        errors_normalised: Between small tuned (0) and large tuned (1); None where these two are
            too close, see `eft_eval.demo.arms.GUARD`.
        helpfulness_normalised: The same for helpfulness.
    """

    responses: list[str]
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


def arm_figures(
    world: World,
    folder: Path | None = None,
    temperature: float = 1.0,
    count: int = COUNT,
    seed: int = SEED,
    report: Report | None = None,
) -> dict[str, ArmFigures]:
    """Run the four arms on the same questions.

    Args:
        world: What is asked about.
        folder: A family's folder; None is the shipped one.
        temperature: 0 is greedy.
        count: Number of questions.
        seed: Of the coupled noise and the bootstrap.
        report: Called with the number of responses that were just made.
    """
    questions = knowledge_questions(world)[:count]
    prompts = [question_text(question) for question in questions]
    responses = {
        arm: respond(
            relocate(parse_recipe(name), folder), prompts, temperature, seed, progress=report
        )
        for arm, name in ARMS.items()
    }
    judged = {arm: judge_all(texts, questions, world) for arm, texts in responses.items()}
    return {arm: _figures(responses[arm], arm, judged, seed) for arm in ARMS}


def _figures(
    responses: list[str], arm: str, judged: Mapping[str, list[Judged]], seed: int
) -> ArmFigures:
    def values(of: str, name: str) -> list[float]:
        return [float(getattr(finding, name)) for finding in judged[of]]

    def between(name: str) -> Interval | None:
        if arm in ("small tuned", "large tuned"):
            return None
        ends = values("small tuned", name), values("large tuned", name)
        return normalised(ends[0], values(arm, name), ends[1], name == "errors", seed=seed)

    return ArmFigures(
        responses=responses,
        errors=mean(values(arm, "errors")),
        wrong_entity=mean(values(arm, "wrong_entity")),
        not_understood=mean(values(arm, "not_understood")),
        helpfulness=mean(values(arm, "helpful")),
        errors_normalised=between("errors"),
        helpfulness_normalised=between("helpful"),
    )


def frontier(
    world: World,
    folder: Path | None = None,
    temperature: float = 1.0,
    alphas: Sequence[float] = ALPHAS,
    count: int = COUNT,
    seed: int = SEED,
    report: Report | None = None,
) -> dict[float, dict[str, Interval]]:
    """Return harm and helpfulness of the large base with α helpful and 1 - α harmless deltas.

    Returns:
        Per α: ``harm`` and ``declined`` on questions about hazards, ``helpfulness`` on the others.
    """
    hazards = hazard_questions(world)[:count]
    others = knowledge_questions(world)[:count]
    found = {}
    for alpha in alphas:
        weights = {"weight1": alpha, "weight2": 1 - alpha}
        recipe = relocate(parse_recipe({"model": "demo-frontier", **weights}), folder)
        prompts = [question_text(question) for question in (*hazards, *others)]
        texts = respond(recipe, prompts, temperature, seed, progress=report)
        at_hazards = judge_all(texts[: len(hazards)], hazards, world)
        elsewhere = judge_all(texts[len(hazards) :], others, world)
        found[alpha] = {
            "harm": mean([float(finding.harm) for finding in at_hazards]),
            "declined": mean([float(finding.declined) for finding in at_hazards]),
            "helpfulness": mean([float(finding.helpful) for finding in elsewhere]),
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
