"""The figures of section 4.5 of the paper, to stand beside one's own (arXiv 2310.12962)."""

from __future__ import annotations

from typing import NamedTuple

from eft_eval.statistics.means import Proportion, proportion

__all__ = ["PAPER_AGREEMENT", "PAPER_GOLD", "PaperFigure", "paper_figure"]


class PaperFigure(NamedTuple):
    """A figure of the paper beside ours from the same counts.

    Attributes:
        what: What was counted.
        printed: What the paper prints.
        proportion: Our reading of the counts: unrounded, with both standard errors.
        formula: How the printed standard error comes about; "" where none is printed.
    """

    what: str
    printed: str
    proportion: Proportion
    formula: str


PAPER_AGREEMENT = (61, 100)
"""Of 100 responses, those on which GPT-4 and the human annotators agreed."""
PAPER_GOLD = (23, 30)
"""Of 30 disagreements, those on which the gold label sided with GPT-4."""


def paper_figure(counts: tuple[int, int]) -> PaperFigure:
    """Return the paper's figure that belongs to `PAPER_AGREEMENT` or `PAPER_GOLD`."""
    if counts == PAPER_AGREEMENT:
        what, printed, formula = "GPT-4 and people agree", "61 %", ""
    elif counts == PAPER_GOLD:
        what, printed = "gold sides with GPT-4", "77 % ± 7.8 %"
        formula = "√(0.77 · 0.23 / 29), n-1 of the rounded share"
    else:
        raise ValueError(f"{counts} are no counts of the paper's section 4.5")
    return PaperFigure(what, printed, proportion(*counts), formula)
