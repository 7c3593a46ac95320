"""``hf:MODEL``: a judge in this process, with transformers; no endpoint, no network needed.

Loaded as members of composites are. torch and transformers are imported when the first prompt is
sent, not before.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import itertools
import re
from collections import deque
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from eft_eval.characters import HALF_CHARACTER
from eft_eval.errors import ConfigError, EftEvalError, nearest
from eft_eval.judging.cost.budget import Budget
from eft_eval.judging.judges.base import Failure, Judge, Outcome, Reply
from eft_eval.judging.prompts.reasoning import has_mark
from eft_eval.judging.settings import JudgeSettings
from eft_eval.recipe import MemberSpec

__all__ = ["LocalJudge"]

_LONGEST_ERROR = 300
_SAMPLED_BYTES = 1 << 20
_OPTIONS = ("dtype", "quantization")
_OPTION = re.compile(r",(?P<name>[a-z_]+)=(?P<value>[^,=]*)$")


class LocalJudge(Judge):
    """Decodes greedily, in batches of up to ``settings.concurrency`` prompts.

    A prompt is the user's turn of the model's chat template, or plain text where it has none.
    ``hf:NAME@REVISION`` pins a revision on the hub; ``,dtype=bfloat16`` and ``,quantization=4bit``
    behind it are a recipe's, and part of the judge's name, as they change its replies.
    """

    def __init__(self, settings: JudgeSettings, budget: Budget | None = None) -> None:
        super().__init__(settings, budget)
        if settings.params:
            raise ConfigError(
                f"EFT_JUDGE_PARAMS are fields of requests to an endpoint; {settings.model} is none "
                "and decodes greedily"
            )
        self._waiting: deque[tuple[str, asyncio.Future[Outcome]]] = deque()
        self._runner: asyncio.Task[None] | None = None
        self._model: Any = None
        self._tokenizer: Any = None

    @functools.cached_property
    def _spec(self) -> MemberSpec:
        return _spec(self.name, self.settings.placement)

    def key(self) -> dict[str, Any]:
        """Return how it decodes, and the fingerprint of a local folder, whose name tells little."""
        folder = Path(self._spec.location)
        files = {"model_files": _fingerprint(folder)} if folder.is_dir() else {}
        return {
            "do_sample": False,
            "max_new_tokens": self.settings.max_tokens,
            "generation_config": "greedy",  # the first version followed the checkpoint's
            **files,
        }

    def check(self, today: date) -> str | None:
        """Look whether a local folder holds a model."""
        folder = Path(self._spec.location)
        if folder.is_dir() and not (folder / "config.json").is_file():
            raise ConfigError(f"the judge's model folder {folder} has no config.json")
        return None

    async def send(self, prompt: str) -> Outcome:
        """Return the model's reply; prompts that wait at the same time share a batch."""
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((prompt, answer))
        if self._runner is None or self._runner.done():
            self._runner = asyncio.ensure_future(self._run())
        return await answer

    async def close(self) -> None:
        """End the work; the model stays for the next call with the same judge."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)

    async def _run(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # let the other workers join the batch
            size = min(len(self._waiting), self.at_once)
            batch = [self._waiting.popleft() for _ in range(size)]
            try:
                outcomes = await asyncio.to_thread(self._answer, [prompt for prompt, _ in batch])
            except EftEvalError as error:
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                raise
            except Exception as error:  # noqa: BLE001  # out of memory, or what else models raise
                why = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST_ERROR]
                text = f"{self.settings.model} failed ({why}); lower EFT_JUDGE_CONCURRENCY where "
                outcomes = [Failure(f"{text}memory is short")] * size
            for (_, answer), outcome in zip(batch, outcomes, strict=True):
                if not answer.done():
                    answer.set_result(outcome)

    def _answer(self, prompts: list[str]) -> list[Outcome]:
        if self._model is None:
            files = self.key().get("model_files")
            self._tokenizer, self._model = _load(self._spec, files)
        encoded = [self._encode(prompt) for prompt in prompts]
        fitting = [tokens for tokens in encoded if not isinstance(tokens, Failure)]
        replies = iter(self._generate(fitting) if fitting else [])
        return [one if isinstance(one, Failure) else next(replies) for one in encoded]

    def _encode(self, prompt: str) -> list[int] | Failure:
        """Return the turn's tokens; in the prompt, names of control tokens are text."""
        turn = self._as_turn(prompt)
        shown = next((text for text in (prompt, prompt.strip()) if text in turn), None)
        control = self._control
        if not any(name in prompt for name in control):
            tokens = self._tokens(turn)
        elif shown is None:
            why = "the chat template changes the prompt, which names control tokens"
            return Failure(why, "item")
        else:
            before, _, after = turn.partition(shown)
            parts = [self._tokens(part) for part in _cut(shown, [*control])]
            if any(token in control.values() for part in parts for token in part):
                return Failure("a part of the prompt cannot be told from a control token", "item")
            tokens = [*self._tokens(before), *itertools.chain(*parts), *self._tokens(after)]
        room = self._room()
        if len(tokens) > room:
            why = f"the prompt has {len(tokens)} tokens; {self._spec.model} has room for {room}"
            return Failure(why, "item")
        return tokens

    def _tokens(self, text: str) -> list[int]:
        whole = HALF_CHARACTER.sub("\ufffd", text)  # no tokenizer reads half a character
        tokens: list[int] = self._tokenizer(whole, add_special_tokens=False).input_ids
        return tokens

    @functools.cached_property
    def _control(self) -> dict[str, int]:
        """Names of the tokens that are no text, and their numbers; runs of blanks are text."""
        added = self._tokenizer.added_tokens_decoder.items()
        return {token.content: number for number, token in added if len(token.content.strip()) > 1}

    def _as_turn(self, prompt: str) -> str:
        if self._tokenizer.chat_template is None:
            bos = self._tokenizer.bos_token
            return f"{bos}{prompt}" if self._adds_bos() else prompt
        turn = [{"role": "user", "content": prompt}]
        return str(
            self._tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        )

    def _adds_bos(self) -> bool:
        bos = self._tokenizer.bos_token_id
        return bos is not None and self._tokenizer("").input_ids[:1] == [bos]

    def _room(self) -> int:
        most = getattr(self._model.config, "max_position_embeddings", None)
        return (most or 1 << 30) - self.settings.max_tokens

    def _generate(self, encoded: list[list[int]]) -> list[Outcome]:
        import torch

        batch = self._tokenizer.pad({"input_ids": encoded}, return_tensors="pt").to(
            self._model.device
        )
        with torch.inference_mode():
            written = self._model.generate(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                do_sample=False,
                max_new_tokens=self.settings.max_tokens,
                pad_token_id=self._tokenizer.pad_token_id,
            )
        replies = written[:, batch.input_ids.shape[1] :].tolist()
        sent = batch.attention_mask.sum(1).tolist()
        return [self._reply(tokens, count) for tokens, count in zip(replies, sent, strict=True)]

    def _reply(self, tokens: list[int], sent: int) -> Reply:
        ends = self._model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends]) - {None}
        stop = next((place for place, token in enumerate(tokens) if token in ends), None)
        own = tokens if stop is None else tokens[:stop]
        text = self._tokenizer.decode(own, skip_special_tokens=True)
        marked = self._tokenizer.decode(own, skip_special_tokens=False)
        return Reply(
            # marks of reasoning are special tokens of some models
            text=marked if has_mark(marked) and not has_mark(text) else text,
            finish_reason="length" if stop is None else "stop",
            model=self.settings.model,
            prompt_tokens=sent,
            completion_tokens=len(own) + (stop is not None),
        )


def _cut(text: str, names: list[str]) -> list[str]:
    """Return a text in pieces, none of which holds any of the names."""
    pattern = re.compile("|".join(map(re.escape, names)))
    pieces, start = [], 0
    while found := pattern.search(text, start):
        pieces.append(text[start : found.start() + 1])
        start = found.start() + 1
    return [*pieces, text[start:]]


def _spec(name: str, placement: str | None) -> MemberSpec:
    """Read what follows ``hf:``.

    Raises:
        ConfigError: An option is unknown or has a wrong value.
    """
    options: dict[str, str] = {}
    model = name
    while found := _OPTION.search(model):
        if found["name"] not in _OPTIONS:
            hint = nearest(found["name"], _OPTIONS)
            raise ConfigError(
                f"the judge hf:{name} has the option {found['name']!r}{hint}; known: "
                f"{', '.join(_OPTIONS)} (EFT_JUDGE_PLACEMENT says where it goes)"
            )
        options[found["name"]] = found["value"]
        model = model[: found.start()]
    model, _, revision = model.partition("@")
    try:
        return MemberSpec.model_validate(
            {"model": model, "revision": revision or None, "placement": placement, **options}
        )
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        variable = " (EFT_JUDGE_PLACEMENT)" if where == "placement" else ""
        raise ConfigError(
            f"the judge hf:{name}: {where}{variable} is {problem['input']!r}: {problem['msg']}"
        ) from error


@functools.lru_cache(maxsize=1)  # a run asks the same judge once per task and prompt
def _load(spec: MemberSpec, files: str | None) -> tuple[Any, Any]:
    """Return tokenizer and model; ``files`` tells a folder's contents apart."""
    import torch

    from eft_eval.engine.loading import LoadOptions, Member

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    member = Member(spec, LoadOptions(device=device), f"judge hf:{spec.model}")
    member.decode_greedily()
    tokenizer, model = member.tokenizer, member.model
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise ConfigError(f"the tokenizer of hf:{spec.model} has neither pad nor end token")
    return tokenizer, model


def _fingerprint(folder: Path) -> str:
    """Return a hash of a model folder: names and sizes, and both ends of every file.

    Reading gigabytes of weights whole would take longer than judging with them.
    """
    digest = hashlib.sha256()
    try:
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            size = path.stat().st_size
            digest.update(f"{path.name}\0{size}\0".encode())
            with path.open("rb") as file:
                digest.update(file.read(_SAMPLED_BYTES))
                file.seek(max(0, size - _SAMPLED_BYTES))
                digest.update(file.read(_SAMPLED_BYTES))
    except OSError as error:
        raise ConfigError(f"cannot read the judge's model folder {folder}: {error}") from error
    return digest.hexdigest()
