"""A LoRA adapter trained on real preference pairs, and what it turns as the weight α grows.

    python -m benchmarks.adapter MODEL PAIRS.jsonl.gz --out adapter --json adapter.json

MODEL is a folder, a hub id or a GGUF file with a chat template; PAIRS a JSON Lines file with
`chosen` and `rejected`, as in Anthropic's HH, of which dialogues of one turn are used. The adapter
is trained on the first pairs, by DPO with the likelihood of the chosen answer added. On the last
ones, with other questions, the composite MODEL + α · (adapter − MODEL) is asked for
log p(chosen) − log p(rejected). An adapter that is in the folder already is measured only.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from eft_eval import Composite

BETA = 0.1
RANK = 16


class Pair(NamedTuple):
    """A question in the model's chat template, and two answers, the first of which people chose."""

    question: str
    context: str
    chosen: str
    rejected: str

    @property
    def answers(self) -> tuple[str, str]:
        """Both answers."""
        return self.chosen, self.rejected


class Row(NamedTuple):
    """A question with an answer, as tokens; the last ``length`` are the answer's."""

    tokens: list[int]
    length: int


def pairs_in(file: Path, composite: Composite, longest: int) -> list[Pair]:
    """Return the pairs of one turn that are short enough, each question once."""
    opened = gzip.open if file.suffix == ".gz" else open
    found: dict[str, Pair] = {}
    with opened(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            turns = [record[name].split("\n\nAssistant:") for name in ("chosen", "rejected")]
            heads = {head for head, *_ in turns}
            if len(heads) > 1 or any(len(turn) != 2 or not turn[1].strip() for turn in turns):
                continue
            question = heads.pop().removeprefix("\n\nHuman:").strip()
            context = composite.tokenizer.apply_chat_template(
                [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
            )
            pair = Pair(question, context, turns[0][1].strip(), turns[1][1].strip())
            if max(len(row.tokens) for row in rows_of(composite, [pair])) <= longest:
                found.setdefault(question, pair)
    return [*found.values()]


def rows_of(composite: Composite, pairs: Sequence[Pair]) -> list[Row]:
    """Return the chosen answers to all questions, then the rejected ones."""
    rows = []
    for place in range(2):
        for pair in pairs:
            read = composite.encoding.pair(pair.context, pair.answers[place])
            rows.append(Row([*read.context, *read.continuation], len(read.continuation)))
    return rows


def log_probs(model: Any, rows: Sequence[Row]) -> Tensor:
    """Return the log-probability of every row's answer, [rows]."""
    longest = max(len(row.tokens) for row in rows)
    tokens = torch.tensor([row.tokens + [0] * (longest - len(row.tokens)) for row in rows])
    scores = model(input_ids=tokens).logits[:, :-1].float().log_softmax(-1)
    taken = scores.gather(-1, tokens[:, 1:, None])[..., 0]  # [rows, longest - 1]
    within = torch.zeros_like(taken, dtype=torch.bool)
    for number, row in enumerate(rows):
        within[number, len(row.tokens) - row.length - 1 : len(row.tokens) - 1] = True
    return (taken * within).sum(-1)


def train(composite: Composite, pairs: Sequence[Pair], given: argparse.Namespace) -> None:
    """Train an adapter on the pairs and save it."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(given.seed)
    model = composite.members["base"].model
    settings = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear")
    adapted: Any = get_peft_model(model, settings)
    wanted = [one for one in adapted.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(wanted, lr=given.rate)
    begun, batches = time.monotonic(), [*_batches(pairs, given)]
    for step, batch in enumerate(batches, start=1):
        rows, n = rows_of(composite, batch), len(batch)
        with torch.no_grad(), adapted.disable_adapter():
            before = log_probs(adapted, rows)
        after = log_probs(adapted, rows)
        gain = after - before
        prefers = -torch.nn.functional.logsigmoid(BETA * (gain[:n] - gain[n:])).mean()
        likely = -after[:n].sum() / sum(row.length for row in rows[:n])
        optimizer.zero_grad()
        (prefers + likely).backward()
        optimizer.step()
        spent = time.monotonic() - begun
        print(f"step {step}: DPO {prefers:.3f}, NLL {likely:.3f}, {spent:.0f} s", flush=True)
        if spent * (step + 1) / step > 60 * given.minutes:
            print(f"stopped after {step} of {len(batches)} steps: --minutes {given.minutes:g}")
            break
    below = composite.recipe.base.model  # of a GGUF file its folder
    adapted.peft_config["default"].base_model_name_or_path = below
    adapted.save_pretrained(given.out)


def _batches(pairs: Sequence[Pair], given: argparse.Namespace) -> Iterator[list[Pair]]:
    shuffled = torch.Generator().manual_seed(given.seed)
    for _ in range(given.epochs):
        order = torch.randperm(len(pairs), generator=shuffled).tolist()
        for start in range(0, len(order), given.batch):
            yield [pairs[place] for place in order[start : start + given.batch]]


def measured(composite: Composite, pairs: Sequence[Pair]) -> tuple[list[float], list[float]]:
    """Return per pair log p(chosen) − log p(rejected), and log p(chosen) per token."""
    asked = [(one.context, answer) for one in pairs for answer in one.answers]
    scored = [one.log_prob for one in composite.loglikelihood(asked)]
    chosen, rejected = scored[::2], scored[1::2]
    lengths = [row.length for row in rows_of(composite, pairs)[: len(pairs)]]
    margins = [a - b for a, b in zip(chosen, rejected, strict=True)]
    return margins, [score / length for score, length in zip(chosen, lengths, strict=True)]


def mean_with_error(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean over pairs, whose questions all differ, and its standard error."""
    return statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))


def main() -> None:
    """Train, print the figures and some answers, and write them where `--json` says."""
    given = _arguments()
    base = Composite.load({"base": given.model, "dtype": "float32"}, device="cpu")
    pairs = pairs_in(given.pairs, base, given.longest)
    if len(pairs) < given.train + given.held_out:
        raise SystemExit(f"{given.pairs} has {len(pairs)} such pairs: lower --train, --held-out")
    held_out = pairs[len(pairs) - given.held_out :]
    if not (given.out / "adapter_config.json").exists():
        train(base, pairs[: given.train], given)
    del base
    figures: dict[str, Any] = {"pairs": [given.train, given.held_out], "weights": {}}
    at_zero: tuple[list[float], list[float]] | None = None
    recipe = {"base": given.model, "tuned": str(given.out), "reference": given.model}
    for weight in given.weights:
        composite = Composite.load({**recipe, "dtype": "float32"}, weight=weight, device="cpu")
        found = measured(composite, held_out)
        at_zero = at_zero or found
        one: dict[str, Any] = {"preferred": sum(m > 0 for m in found[0]) / len(held_out)}
        for name, now, before in zip(("margin", "per token"), found, at_zero, strict=True):
            one[name] = mean_with_error(now)
            change = [a - b for a, b in zip(now, before, strict=True)]
            one[f"{name}, change"] = mean_with_error(change)
        figures["weights"][f"{weight:g}"] = one
        print(f"α = {weight:g}: {json.dumps(one)}", flush=True)
        asked = held_out[: given.answers]
        contexts = [pair.context for pair in asked]
        answers = composite.generate(contexts, max_new_tokens=given.tokens) if asked else []
        one["answers"] = {p.question: a for p, a in zip(asked, answers, strict=True)}
        for question, answer in one["answers"].items():
            print(f"  {question[:70]!r}\n    {answer!r}", flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model")
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the adapter")
    parser.add_argument("--train", type=int, default=200, help="pairs")
    parser.add_argument("--held-out", type=int, default=80, help="pairs")
    parser.add_argument("--longest", type=int, default=160, help="tokens of question and answer")
    parser.add_argument("--batch", type=int, default=4, help="pairs of a step")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=20, help="of training, at most")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 0.5, 1.0, 2.0])
    parser.add_argument("--answers", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=48, help="of an answer")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
