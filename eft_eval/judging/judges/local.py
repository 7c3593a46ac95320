"""``hf:MODEL``: a judge in this process, with transformers; no endpoint, no network needed.

torch and transformers are imported when the first prompt is sent, not before.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from typing import Any

from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.judging.judges.base import Failure, Outcome, Reply
from eft_eval.judging.settings import JudgeSettings, parameters_for

__all__ = ["LocalSender"]

_LONGEST_ERROR = 300


class LocalSender:
    """Decodes greedily, in batches of up to ``settings.concurrency`` prompts.

    A prompt is the user's turn of the model's chat template, or plain text where it has none.
    ``hf:NAME@REVISION`` pins a revision on the hub.

    Args:
        settings: The judge.
    """

    def __init__(self, settings: JudgeSettings) -> None:
        name, _, revision = settings.model.partition(":")[2].partition("@")
        self._name = name
        self._revision = revision or None
        self._settings = settings
        self._waiting: deque[tuple[str, asyncio.Future[Outcome]]] = deque()
        self._runner: asyncio.Task[None] | None = None
        self._model: Any = None
        self._tokenizer: Any = None

    @property
    def at_once(self) -> int:
        """The largest batch."""
        return self._settings.concurrency

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
                text = f"{self._settings.model} failed ({why}); lower EFT_JUDGE_CONCURRENCY where "
                outcomes = [Failure(f"{text}memory is short")] * size
            for (_, answer), outcome in zip(batch, outcomes, strict=True):
                if not answer.done():
                    answer.set_result(outcome)

    def _answer(self, prompts: list[str]) -> list[Outcome]:
        if self._model is None:
            files = parameters_for(self._settings.model, 1).get("model_files")
            self._tokenizer, self._model = _load(self._name, self._revision, files)
        texts = [self._as_turn(prompt) for prompt in prompts]
        room = self._room()
        lengths = [len(self._tokenizer(text, add_special_tokens=False).input_ids) for text in texts]
        fitting = [text for text, length in zip(texts, lengths, strict=True) if length <= room]
        replies = iter(self._generate(fitting) if fitting else [])
        return [
            next(replies)
            if length <= room
            else Failure(
                f"the prompt has {length} tokens; {self._name} has room for {room}", "item"
            )
            for length in lengths
        ]

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
        return (most or 1 << 30) - self._settings.max_tokens

    def _generate(self, texts: list[str]) -> list[Outcome]:
        import torch

        batch = self._tokenizer(
            texts, add_special_tokens=False, padding=True, return_tensors="pt"
        ).to(self._model.device)
        with torch.inference_mode():
            written = self._model.generate(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                max_new_tokens=self._settings.max_tokens,
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
        return Reply(
            text=self._tokenizer.decode(own, skip_special_tokens=True),
            finish_reason="length" if stop is None else "stop",
            model=self._settings.model,
            prompt_tokens=sent,
            completion_tokens=len(own) + (stop is not None),
        )


@functools.lru_cache(maxsize=1)  # a run asks the same judge once per task and prompt
def _load(name: str, revision: str | None, files: str | None) -> tuple[Any, Any]:
    """Return tokenizer and model; ``files`` tells a folder's contents apart."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(name, revision=revision, dtype="auto")
    except (OSError, ValueError, KeyError) as error:
        why = " ".join(str(error).split())
        raise ConfigError(f"cannot load the judge hf:{name}: {why}") from error
    model.eval()
    if torch.cuda.is_available():
        model.to("cuda")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise ConfigError(f"the tokenizer of hf:{name} has neither pad nor end token")
    return tokenizer, model
