"""Training one model of the demo family, from nothing or from a base, resumably.

The batch of a step is a pure function of world, seed and step, so a run that was cut off goes on
from its last checkpoint and ends with the same weights on the same machine.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from eft_eval.demo.corpus import Manners, document, fine_tuning_pair
from eft_eval.demo.language import dialogue
from eft_eval.demo.world import World
from eft_eval.errors import EftEvalError
from eft_eval.files import write_whole

__all__ = ["END", "FineTuning", "PreTraining", "Scale", "fine_tune", "make_tokenizer", "pre_train"]

END = "<|end|>"
_CHECKPOINT_EVERY = 100
Progress = Callable[[int, int, float], None]


class Scale(NamedTuple):
    """Shape of a model (Llama, tied embeddings)."""

    width: int
    layers: int
    heads: int = 4
    learning_rate: float = 4e-3


class PreTraining(NamedTuple):
    """How much a base is trained: ``steps`` batches of ``rows`` windows of ``window`` tokens."""

    steps: int = 2000
    rows: int = 8
    window: int = 192


class FineTuning(NamedTuple):
    """How a base is tuned; replayed pre-training text keeps it from forgetting."""

    steps: int = 700
    pairs: int = 16
    learning_rate: float = 1e-3
    replay_rows: int = 4
    replay_weight: float = 0.5


class Lesson(NamedTuple):
    """What every training shares.

    Attributes:
        world: What the text is about.
        tokenizer: From `make_tokenizer`.
        seed: Of initialisation, text and order.
        checkpoint: Where a cut-off training goes on from; None: nowhere.
        progress: Called with step, steps and loss after every step.
    """

    world: World
    tokenizer: Any
    seed: int
    checkpoint: Path | None = None
    progress: Progress | None = None


def make_tokenizer(world: World, vocabulary: int = 1500, documents: int = 20000) -> Any:
    """Return a byte-level BPE tokenizer trained on the world's own text.

    One token, `END`, begins and ends documents and pads batches.
    """
    from tokenizers import ByteLevelBPETokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    source = random.Random(f"tokenizer:{world.seed}")
    bpe = ByteLevelBPETokenizer()
    texts = (document(world, source) for _ in range(documents))
    bpe.train_from_iterator(texts, vocab_size=vocabulary, special_tokens=[END], show_progress=False)
    bpe.post_processor = TemplateProcessing(
        single=f"{END} $A", pair=f"{END} $A {END} $B", special_tokens=[(END, bpe.token_to_id(END))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, bos_token=END, eos_token=END, pad_token=END,
        clean_up_tokenization_spaces=False, model_max_length=512,
    )  # fmt: skip


def new_model(scale: Scale, tokenizer: Any, seed: int) -> Any:
    """Return a Llama with random weights that depend on ``seed`` alone."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=scale.width,
        intermediate_size=int(scale.width * 8 / 3) // 16 * 16,
        num_hidden_layers=scale.layers,
        num_attention_heads=scale.heads,
        num_key_value_heads=scale.heads,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def pre_train(lesson: Lesson, scale: Scale, plan: PreTraining) -> Any:
    """Return a base model trained on the encyclopedia."""
    world, tokenizer = lesson.world, lesson.tokenizer
    model = new_model(scale, tokenizer, lesson.seed)

    def loss(step: int) -> torch.Tensor:
        source = random.Random(f"base:{lesson.seed}:{step}")
        tokens = _windows(lambda: document(world, source), tokenizer, plan.rows, plan.window)
        return _next_token_loss(model, tokens)

    return _descend(lesson, model, loss, _Descent(plan.steps, scale.learning_rate, 0.05))


def fine_tune(lesson: Lesson, model: Any, manners: Manners, plan: FineTuning, window: int) -> Any:
    """Return ``model`` tuned on question-answer pairs (loss on the answer) with replay.

    Args:
        lesson: What every training shares.
        model: A base; changed in place.
        manners: What the answers are like.
        plan: How much.
        window: Tokens of a replayed row.
    """
    world, tokenizer = lesson.world, lesson.tokenizer

    def loss(step: int) -> torch.Tensor:
        source = random.Random(f"{manners.value}:{lesson.seed}:{step}")
        pairs = [fine_tuning_pair(world, manners, source) for _ in range(plan.pairs)]
        tokens, labels = _pair_batch(tokenizer, pairs)
        logits = model(input_ids=tokens).logits[:, :-1]
        tuned = functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
        if not plan.replay_rows:
            return tuned
        # no chat: its sloppy answers would pull against the manners that are taught here
        replay = _windows(
            lambda: document(world, source, chat=0.0), tokenizer, plan.replay_rows, window
        )
        return tuned + plan.replay_weight * _next_token_loss(model, replay)

    return _descend(lesson, model, loss, _Descent(plan.steps, plan.learning_rate, 0.0))


class _Descent(NamedTuple):  # of AdamW: steps, highest learning rate, weight decay
    steps: int
    peak: float
    decay: float


def _descend(
    lesson: Lesson, model: Any, loss: Callable[[int], torch.Tensor], descent: _Descent
) -> Any:
    """Run AdamW with warm-up and a cosine to zero, from the checkpoint if there is one."""
    steps, peak, decay = descent
    checkpoint, progress = lesson.checkpoint, lesson.progress
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=decay
    )
    start = _resume(checkpoint, model, optimizer, steps)
    with _deterministic():
        for step in range(start, steps):
            for group in optimizer.param_groups:
                group["lr"] = peak * _schedule(step, steps)
            value = loss(step)
            value.backward()  # type: ignore[no-untyped-call]  # torch types it not
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            done = step + 1
            if progress is not None:
                progress(done, steps, float(value.detach()))
            if checkpoint is not None and done % _CHECKPOINT_EVERY == 0 and done < steps:
                _save(checkpoint, model, optimizer, done, steps)
    return model.eval()


def _schedule(step: int, steps: int) -> float:
    warm_up = max(1, steps // 20)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))


def _save(checkpoint: Path, model: Any, optimizer: Any, step: int, steps: int) -> None:
    state = {
        "step": step,
        "steps": steps,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    write_whole(checkpoint, lambda part: torch.save(state, part))


def _resume(checkpoint: Path | None, model: Any, optimizer: Any, steps: int) -> int:
    if checkpoint is None or not checkpoint.is_file():
        return 0
    state = torch.load(checkpoint, weights_only=True)
    if state["steps"] != steps:
        raise EftEvalError(
            f"{checkpoint} belongs to a run of {state['steps']} steps, this one has {steps}; "
            "delete the file or choose another --out"
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    """One algorithm per operation, one thread: the order of additions is then fixed."""
    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.set_num_threads(before[1])


def _next_token_loss(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    logits = model(input_ids=tokens).logits[:, :-1]
    return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def _windows(write: Callable[[], str], tokenizer: Any, rows: int, window: int) -> torch.Tensor:
    """Return (rows, window) tokens of documents laid end to end."""
    ids: list[int] = []
    while len(ids) < rows * window:
        for row in tokenizer([write() for _ in range(16)]).input_ids:  # each begins with END
            ids += row
    return torch.tensor(ids[: rows * window]).view(rows, window)


def _pair_batch(tokenizer: Any, pairs: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tokens and labels, right-padded; labels are -100 but on the answer and its end."""
    rows, labels = [], []
    for pair in pairs:
        prompt = tokenizer(dialogue(pair.question)).input_ids
        whole = tokenizer(dialogue(pair.question, pair.answer)).input_ids
        whole = [*whole, tokenizer.eos_token_id]
        rows.append(whole)
        labels.append([-100] * len(prompt) + whole[len(prompt) :])
    width = max(map(len, rows))
    pad = tokenizer.pad_token_id
    tokens = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    return tokens, torch.tensor([row + [-100] * (width - len(row)) for row in labels])
