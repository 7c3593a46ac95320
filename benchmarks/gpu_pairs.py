"""The models of `benchmarks.gpu`: trained members in random weights of real sizes."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.machine import Machine

POSITIONS = 4096
SECONDS = 12.0  # for one contestant's repeats
ROLES = {"base": "large-base", "tuned": "small-tuned", "reference": "small-base"}


class Sizes(NamedTuple):
    """One pair: a base and two small members, as the first numbers of `widening.Shape`."""

    name: str
    base: tuple[int, int, int, int, int, int]
    small: tuple[int, int, int, int, int, int]
    vocabulary: int
    base_tied: bool


PAIRS = (
    Sizes("7B + 0.5B", (3584, 18944, 28, 28, 4, 128), (896, 4864, 24, 16, 4, 64), 151936, False),
    Sizes("1.5B + 135M", (1536, 8960, 28, 12, 4, 128), (576, 1536, 30, 12, 4, 64), 49152, True),
)
TINY = Sizes("tiny", (192, 384, 4, 8, 4, 64), (96, 192, 2, 4, 4, 32), 2048, False)


class Scale(NamedTuple):
    """How much is measured.

    Attributes:
        pairs: Which models.
        rows: Of the batches.
        limit: Tokens of the longest response.
        questions: Whose responses are compared with the trained members'.
        repeats: Of every contestant, at most, after one for warmth.
    """

    pairs: tuple[Sizes, ...]
    rows: tuple[int, ...]
    limit: int
    questions: int
    repeats: int


class Pair:
    """A composite of widened members, and what else its members can do.

    Args:
        sizes: Of the members.
        scale: How much is measured.
        folder: For configurations and tokenizers.
        machine: Where everything runs.
    """

    def __init__(self, sizes: Sizes, scale: Scale, folder: Path, machine: Machine) -> None:
        from benchmarks.widening import Shape
        from eft_eval.composite.model import CompositeModel
        from eft_eval.engine.loading import LoadOptions
        from eft_eval.recipe import parse_recipe

        device, dtype = machine.device, machine.dtype
        self.name = sizes.name
        self._scale, self._bandwidth, self._device = scale, machine.bandwidth, device
        self.models = {}
        for role in ROLES:
            large = role == "base"
            numbers = sizes.base if large else sizes.small
            tied = not large or sizes.base_tied
            shape = Shape(*numbers, sizes.vocabulary, tied, role == "reference")
            self.models[role] = _save(role, shape, folder, device, dtype)
        spec = {role: {"model": str(folder / role)} for role in ROLES}
        self.composite = CompositeModel(parse_recipe(spec), LoadOptions(device))
        for role, member in self.composite.members.items():
            vars(member)["model"] = self.models[role]  # in place of reading it from a disk
        self.prompts = _prompts(self.composite.tokenizer, max(*scale.rows, scale.questions))

    def decoded(
        self, block: Any, rows: int, temperature: float = 0.0, record: Any = "auto"
    ) -> dict[str, Any]:
        """Return the figures of our decoder."""
        from eft_eval.decoding.loop import Decoder

        decoder = Decoder(self.composite, block, record)
        seen = decoder.statistics
        speeds, shares = [], []

        def run() -> None:
            before, made = dict(seen.passes), seen.tokens
            start = time.perf_counter()
            _generate(decoder, self.prompts[:rows], self._scale.limit, temperature)
            took = self._since(start)
            passes = {role: seen.passes[role] - before.get(role, 0) for role in self.models}
            length = self._length((seen.tokens - made) / rows / 2)
            bound = sum(n * self._pass_seconds(role, rows, length) for role, n in passes.items())
            speeds.append((seen.tokens - made) / took)
            shares.append(bound / took)

        _repeat(run, self._scale.repeats)
        record = seen.record()
        figures = {"tokens_per_second": statistics.median(speeds[1:] or speeds)}
        figures["share_of_bandwidth"] = statistics.median(shares[1:] or shares)
        if seen.tested:
            figures["acceptance"] = float(record.acceptance or 0.0)
            figures["tokens_per_round"] = float(record.tokens_per_round or 0.0)
        return {**figures, "own_time_share": float(record.own_time_share or 0.0)}

    def base_alone(self, rows: int, **options: Any) -> dict[str, Any]:
        """Return the figures of transformers' generate on the base."""
        return self._transformers(self.models["base"], rows, **options)

    def assisted(self) -> dict[str, Any]:
        """Return those of transformers' assisted generation of the composite, at batch 1."""
        from benchmarks.rivals import CompositeModule

        module = CompositeModule(*self.models.values())
        figures = self._transformers(module, 1, assistant_model=self.models["tuned"])
        del figures["share_of_bandwidth"]  # how many passes it made, nobody says
        return figures

    def _transformers(self, model: Any, rows: int, **options: Any) -> dict[str, Any]:
        end = self.composite.tokenizer.eos_token_id
        longest = max(map(len, self.prompts[:rows]))
        tokens = torch.full((rows, longest), end)
        mask = torch.zeros(rows, longest, dtype=torch.long)
        for row, prompt in enumerate(self.prompts[:rows]):
            tokens[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        tokens, mask = tokens.to(self._device), mask.to(self._device)
        speeds, shares = [], []

        def run() -> None:
            start = time.perf_counter()
            out = model.generate(
                tokens, attention_mask=mask, do_sample=False, max_new_tokens=self._scale.limit,
                pad_token_id=end, **options,
            )[:, longest:].tolist()  # fmt: skip
            took = self._since(start)
            counts = [row.index(end) + 1 if end in row else len(row) for row in out]
            step = self._pass_seconds("base", rows, self._length(max(counts) / 2))
            speeds.append(sum(counts) / took)
            shares.append(max(counts) * step / took)

        _repeat(run, self._scale.repeats)
        return {
            "tokens_per_second": statistics.median(speeds[1:] or speeds),
            "share_of_bandwidth": statistics.median(shares[1:] or shares),
        }

    def flips(self, truth: list[list[int]]) -> dict[str, Any]:
        """Return first differences per 1,000 tokens, of plain and drafted responses."""
        from benchmarks.decoding import flips
        from eft_eval.decoding.loop import Decoder

        prompts = self.prompts[: len(truth)]
        plain = _generate(Decoder(self.composite, 0), prompts, self._scale.limit)
        drafted = _generate(Decoder(self.composite, 4), prompts, self._scale.limit)
        launched = _generate(Decoder(self.composite, 4, record=None), prompts, self._scale.limit)
        return {
            "plain_against_trained_float32": flips(plain, truth),
            "block_4_against_trained_float32": flips(drafted, truth),
            "block_4_against_plain": flips(drafted, plain),
            "block_4_against_block_4_without_graphs": flips(drafted, launched),
            "tokens": sum(map(len, truth)),
        }

    def _length(self, made: float) -> float:
        return statistics.mean(map(len, self.prompts)) + made

    def _pass_seconds(self, role: str, rows: int, length: float) -> float:
        """Return the least time of a pass: every weight and every cached number read once."""
        model = self.models[role]
        config, size = model.config, model.dtype.itemsize
        weights = sum(one.numel() for one in model.parameters())
        if not config.tie_word_embeddings:  # looked up, not multiplied
            weights -= model.get_input_embeddings().weight.numel()
        per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
        return (weights + rows * length * per_token) * size / self._bandwidth

    def _since(self, start: float) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start


def _repeat(run: Callable[[], None], repeats: int) -> None:
    """Run once for warmth, then up to so many times within `SECONDS`."""
    run()
    end = time.monotonic() + SECONDS
    for _ in range(repeats):
        run()
        if time.monotonic() > end:
            break


def _generate(
    decoder: Any, prompts: list[list[int]], limit: int, temperature: float = 0.0
) -> list[list[int]]:
    from eft_eval.decoding.requests import Request, SamplingRule

    requests = [Request((prompt,) * 3, seed) for seed, prompt in enumerate(prompts)]
    return [one.tokens for one in decoder.generate(requests, SamplingRule(temperature), limit)]


def _prompts(tokenizer: Any, count: int) -> list[list[int]]:
    from eft_eval.demo.language import dialogue, question_text
    from eft_eval.demo.questions import knowledge_questions
    from eft_eval.demo.world import make_world

    questions = list(knowledge_questions(make_world()))[:count]
    return [tokenizer(dialogue(question_text(one))).input_ids for one in questions]


def _save(role: str, shape: Any, folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """Make a widened member; save what `Member` reads of it besides its weights."""
    from transformers import LlamaForCausalLM

    from benchmarks.widening import widen
    from eft_eval.recipe.locations import location_of

    source = Path(str(location_of(f"demo:{ROLES[role]}")))
    trained = LlamaForCausalLM.from_pretrained(source, dtype=torch.float32)
    model = widen(trained, shape, POSITIONS, device, dtype)
    model.config.dtype = dtype
    model.config.save_pretrained(folder / role)
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    words |= {f"unused{number}": number for number in range(len(words), shape.vocabulary)}
    (folder / role / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / role / "tokenizer_config.json").write_bytes(
        (source / "tokenizer_config.json").read_bytes()
    )
    return model


def trained_responses(scale: Scale, device: torch.device) -> list[list[int]]:
    """Return what the demo's own members say, in float32."""
    from eft_eval.composite.model import CompositeModel
    from eft_eval.decoding.loop import Decoder

    members = {role: {"model": f"demo:{name}", "dtype": "float32"} for role, name in ROLES.items()}
    composite = CompositeModel.load(members, device=device)
    prompts = _prompts(composite.tokenizer, scale.questions)
    return _generate(Decoder(composite, 0), prompts, scale.limit)
