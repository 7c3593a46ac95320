"""`eft-eval demo`: the arms side by side, one question, and the training of the family."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from eft_eval.errors import ConfigError
from eft_eval.streams import say

app = typer.Typer(
    help="Emulated fine-tuning at work on a family of tiny models, offline.",
    invoke_without_command=True,
    add_completion=False,
)


@app.callback()
def demo(
    context: typer.Context,
    prompt: Annotated[
        str | None, typer.Option(help="Ask this one question and show every arm's answer.")
    ] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 1.0,
    questions: Annotated[int, typer.Option(min=2, max=256, help="How many questions.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sampling noise.")] = 1234,
    family: Annotated[
        Path | None, typer.Option(help="Folder of a family of your own, from `demo train`.")
    ] = None,
) -> None:
    """Run the four arms (small tuned, up-scaled, down-scaled, large tuned) and judge them exactly.

    A toy world with templated facts: it shows the mechanism, it is no evidence about real models.
    """
    if context.invoked_subcommand is not None:
        if prompt is not None or family is not None:
            raise ConfigError(
                f"--prompt and --family are not options of `demo {context.invoked_subcommand}`"
            )
        return
    _prepare()
    from eft_eval.demo.family import family_folder, world_size

    if family is not None:
        family = family_folder(family)
    if prompt is not None:
        _ask(prompt, temperature, seed, family)
        return
    from tqdm import tqdm

    from eft_eval.demo.arms import ARMS
    from eft_eval.demo.figures import Survey, arm_figures
    from eft_eval.demo.questions import knowledge_questions
    from eft_eval.demo.world import make_world
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.demo import arms

    world = make_world(size=world_size(family))
    questions = min(questions, len(knowledge_questions(world)))
    with tqdm(total=questions * len(ARMS), desc="Answering", disable=None) as bar:
        survey = Survey(
            world, family, temperature, questions, seed, on_response=lambda *_: bar.update()
        )
        figures = arm_figures(survey)
    print_document(arms(figures, temperature, questions))


def _ask(prompt: str, temperature: float, seed: int, family: Path | None) -> None:
    from eft_eval.demo.arms import ARMS, respond
    from eft_eval.demo.figures import relocate
    from eft_eval.recipe import parse_recipe
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.demo import answers as view

    answers = {
        arm: respond(relocate(parse_recipe(name), family), [prompt], temperature, seed)[0]
        for arm, name in ARMS.items()
    }
    print_document(view(prompt, answers))


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Where models, checkpoints and figures go.")],
    seeds: Annotated[str, typer.Option(help="Training seeds.")] = "0,1,2",
    jobs: Annotated[int, typer.Option(min=1, help="Models trained at a time.")] = 2,
    quick: Annotated[
        bool, typer.Option("--quick", help="A fifth of the world, smaller models: minutes.")
    ] = False,
) -> None:
    """Train the family from nothing, measure every seed, and export one of them.

    Resumable: the same command goes on where it was cut off. Deterministic on one machine.
    """
    try:
        numbers = [int(part) for part in seeds.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds {seeds}: expected whole numbers, such as 0,1,2") from None
    if any(abs(number) >= 2**63 for number in numbers):
        raise ConfigError(f"--seeds {seeds}: a seed has more than 63 bits")
    if len(set(numbers)) != len(numbers):
        raise ConfigError(f"--seeds {seeds}: a seed appears twice")
    _prepare()
    from rich.console import Console
    from rich.progress import Progress

    from eft_eval.demo.building import Plan, Update, quick_plan
    from eft_eval.demo.study import study
    from eft_eval.reports.renderers.markdown import document_markdown
    from eft_eval.reports.views.demo import study_figures

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bars: dict[tuple[int, str], Any] = {}

        def report(update: Update) -> None:
            key = (update.seed, update.model)
            if key not in bars:
                bars[key] = progress.add_task("", total=update.steps)
            text = f"seed {update.seed} {update.model} (loss {update.loss:.3f})"
            progress.update(bars[key], completed=update.step, description=text)
            if update.step == update.steps and not console.is_terminal:
                console.print(f"trained {text}")

        figures = study(
            out, quick_plan() if quick else Plan(), numbers, jobs, report, say=console.print
        )
    print(document_markdown(study_figures(figures)))
    say(f"use them: eft-eval demo --family {out}", sys.stderr)


def _prepare() -> None:
    """Run tiny models as they run best: on one thread, and with no bar for each that is loaded."""
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.disable_progress_bar()
