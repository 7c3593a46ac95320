"""Engines: any implementation of the protocol decodes and scores through the same loop.

`TableEngine` is one: a model whose logits are a table over the last two tokens, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pytest
import torch
from tiny_models import byte_tokenizer
from torch import Tensor
from transformers import LlamaConfig

from eft_eval import Composite
from eft_eval.composite.mathematics import gumbel_noise, request_seed
from eft_eval.decoding import Decoder, Request, SamplingRule
from eft_eval.engine.engine import Engine, PlainWay, State, ends_of
from eft_eval.engine.loading import ENGINES, LoadOptions, Member
from eft_eval.errors import ConfigError
from eft_eval.recipe import MemberSpec

TOKENS = 259
SEEDS = {"base": 3, "tuned": 4, "reference": 5}


class TableState:
    """The tokens of every row, as they were read."""

    def __init__(self, table: Tensor, can_join: bool) -> None:
        self.passes = 0
        self._table, self._can_join = table, can_join
        self._rows: list[list[int]] = []

    @property
    def reading(self) -> bool:
        return False

    def join(self, prompts: Sequence[Sequence[int]]) -> None:
        assert self._can_join or not self._rows
        self._rows += [list(prompt[:-1]) for prompt in prompts]

    def forward(self, tokens: Tensor) -> Tensor:
        self.passes += 1
        made = []
        for row, new in zip(self._rows, tokens.tolist(), strict=True):
            row += new
            made.append(_after(self._table, row, len(new)))
        return torch.stack(made)

    def rewind(self, lengths: Sequence[int]) -> None:
        for row, length in zip(self._rows, lengths, strict=True):
            assert self._can_join or length == len(row)
            del row[length:]

    def keep(self, rows: Sequence[int]) -> None:
        self._rows = [self._rows[row] for row in rows]

    def settle(self) -> None:
        pass


class TableEngine:
    """Logits by the last two tokens: ``table[before] + table[last]`` rolled by one."""

    dtype = torch.float64

    def __init__(self, seed: int, rolls_back: bool = True) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.table = 2 * torch.randn(TOKENS, TOKENS, generator=draw, dtype=torch.float64)
        self.num_parameters = self.table.numel() * (2 if seed == SEEDS["base"] else 1)
        self._rolls_back = rolls_back

    def logits(self, inputs: Sequence[Sequence[int]], lengths: Sequence[int]) -> tuple[Tensor, int]:
        longest = max(map(len, inputs))
        found = torch.full((len(inputs), longest, TOKENS), math.nan, dtype=torch.float64)
        for row, tokens in enumerate(inputs):
            found[row, : len(tokens)] = _after(self.table, tokens, len(tokens))
        return found, 0

    def last_logits(
        self, inputs: Sequence[Sequence[int]], lengths: Sequence[int]
    ) -> Iterator[tuple[int, Tensor]]:
        return ends_of(*self.logits(inputs, lengths), inputs, lengths)

    def check_positions(self, length: int) -> None:
        pass

    def cannot_roll_back(self, length: int) -> str | None:
        return None if self._rolls_back else "a table that only goes on"

    def row_state(self, rows: int, length: int) -> State:
        assert self._rolls_back
        return TableState(self.table, can_join=True)

    def plain_way(self, length: int) -> PlainWay:
        return PlainWay("any", shrinks=True, cache=True, reason=None)

    def plain_state(self, way: PlainWay) -> State:
        return TableState(self.table, can_join=False)


def _after(table: Tensor, tokens: Sequence[int], last: int) -> Tensor:
    places = range(len(tokens) - last, len(tokens))
    return torch.stack(
        [table[tokens[place]] + table[tokens[max(place - 1, 0)]].roll(1) for place in places]
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Configurations and tokenizers; there are no weights that `transformers` could load."""
    found = {}
    for role in SEEDS:
        folder = tmp_path_factory.mktemp(role)
        LlamaConfig(
            vocab_size=TOKENS, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
            intermediate_size=8, max_position_embeddings=128, eos_token_id=1,
        ).save_pretrained(folder)  # fmt: skip
        byte_tokenizer().save_pretrained(folder)
        found[role] = str(folder)
    return found


@pytest.fixture(params=[True, False], ids=["rolls back", "goes on only"])
def composite(
    request: pytest.FixtureRequest, folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Composite:
    def load(member: Member) -> Engine:
        role = next(role for role, path in folders.items() if path == member.spec.model)
        return TableEngine(SEEDS[role], request.param)

    monkeypatch.setitem(ENGINES, "table", load)
    return Composite.load(folders, device="cpu", engine="table")


def next_scores(tokens: Sequence[int]) -> Tensor:
    """Eq. 4 written down: base + tuned - reference, normalised, [1, V]."""
    parts = {role: _after(TableEngine(seed).table, tokens, 1) for role, seed in SEEDS.items()}
    parts = {role: part.log_softmax(dim=-1) for role, part in parts.items()}
    return (parts["base"] + parts["tuned"] - parts["reference"]).log_softmax(dim=-1)


def reference(prompt: list[int], seed: int, temperature: float, limit: int) -> list[int]:
    """Generate token by token from `next_scores`."""
    made: list[int] = []
    while len(made) < limit and 1 not in made:
        scores = next_scores([*prompt, *made])
        noise = gumbel_noise(torch.tensor([seed]), torch.tensor([len(made)]), TOKENS)
        values = scores / temperature + noise if temperature else scores
        made.append(int(values.argmax()))
    return made


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("block", [0, 3, "auto"])
def test_another_engine_decodes_in_the_same_loop(
    composite: Composite, temperature: float, block: int | str
) -> None:
    prompts = [[40 + 7 * i + j for j in range(1 + i)] for i in range(5)]
    requests = [Request((p,) * 3, request_seed(0, str(p), 0)) for p in prompts]
    decoder = Decoder(composite, block)  # type: ignore[arg-type]  # one of the three
    made = decoder.generate(requests, SamplingRule(temperature), 20, batch_size=3)
    for request, one in zip(requests, made, strict=True):
        assert one.tokens == reference(list(request.prompts[0]), request.seed, temperature, 20)
    seen = decoder.statistics
    assert set(seen.passes) == {"base", "tuned", "reference"}
    rolls_back = composite.views[0].member.engine.cannot_roll_back(9) is None
    assert (seen.drafted > 0) == (rolls_back and block != 0)
    assert (seen.plain_reason is None) == rolls_back


def test_another_engine_scores_and_traces(composite: Composite) -> None:
    encode = composite.tokenizer.encode
    pairs = [("Hello", " you"), ("A", "!"), ("Why is", " that?")]
    for (context, text), scored in zip(
        pairs, composite.loglikelihood(pairs, batch_size=2), strict=True
    ):
        before, after = encode(context), encode(text)
        expected = sum(
            float(next_scores([*before, *after[:place]])[0, token])
            for place, token in enumerate(after)
        )
        assert scored.log_prob == pytest.approx(expected, abs=1e-12)
    traced = composite.trace("Hello", " you")
    assert traced.tokens[0].probability == pytest.approx(
        float(next_scores(encode("Hello"))[0, encode(" you")[0]].exp()), abs=1e-12
    )


def test_an_unknown_engine_names_the_nearest(folders: dict[str, str]) -> None:
    with pytest.raises(
        ConfigError, match=r"engine: got 'transformer'.*did you mean 'transformers'"
    ):
        Composite.load(folders, engine="transformer")


def test_a_member_alone_needs_no_recipe(folders: dict[str, str]) -> None:
    member = Member(MemberSpec(model=folders["base"]), LoadOptions())
    assert member.label == f"model {folders['base']!r}"
    assert member.max_length == 128
    assert member.stop_tokens == {1}
    assert not member.loaded
    with pytest.raises(ConfigError, match=f"model {folders['base']!r}: cannot read its weights"):
        _ = member.engine
