"""The lm-eval model ``eft``: composites as first-class models of the harness.

A subclass of `HFLM` for what lies around a model (chat templates, tokenisation, rolling windows,
batch-size search, ranks, the request cache); what a model computes comes from `eft_eval`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from lm_eval.api.model import CacheHook, TemplateLM
from lm_eval.models.utils import configure_pad_token
from transformers import AutoModelForCausalLM

from eft_eval.composite.model import CompositeModel
from eft_eval.decoding.loop import Decoder
from eft_eval.decoding.reasoning import reasoning_of
from eft_eval.decoding.statistics import DecodingStatistics
from eft_eval.engine.loading import LoadOptions
from eft_eval.errors import ConfigError
from eft_eval.model_adapters.chat import ChatTurns, template_text
from eft_eval.model_adapters.provenance import model_info
from eft_eval.model_adapters.request_cache import RequestCache
from eft_eval.model_adapters.responses import RespondingLM
from eft_eval.model_adapters.resume import Resume
from eft_eval.model_adapters.samples import drop_padding
from eft_eval.model_adapters.settings import (
    batch_attributes,
    check_length,
    limit_threads,
    rank_attributes,
    text_attributes,
)
from eft_eval.recipe import parse_model_args
from eft_eval.streams import logger, one_line_errors

log = logger("lm_eval.eft")
one_line_errors()


class EFTLM(RespondingLM):
    """A composite model for lm-eval: ``--model eft --model_args base=,tuned=,reference=``.

    ``model_args`` are recipe keys (`eft_eval.recipe`) and the run-time arguments of `HFLM` that
    make sense for several models. Configurations and tokenizers are checked here, weights are
    loaded with the first request, so that whatever else is wrong shows before.
    """

    backend = "causal"
    AUTO_MODEL_CLASS = AutoModelForCausalLM

    def __init__(self, **model_args: Any) -> None:
        TemplateLM.__init__(self)
        recipe, runtime = parse_model_args(model_args)
        if recipe.is_base_alone:
            log.info("%s alone: no fine-tuning is added (weight 0)", recipe.base.model)
        self._runtime = runtime
        # what HFLM's own constructor sets, which would load one model
        self.__dict__.update(rank_attributes(runtime.get("device")))
        self.__dict__.update(text_attributes(runtime) | batch_attributes(runtime))
        limit_threads(recipe, self._device)
        self.composite = CompositeModel(
            recipe,
            LoadOptions(
                device=self._device,
                trust_remote_code=bool(runtime.get("trust_remote_code", False)),
                use_fast_tokenizer=bool(runtime.get("use_fast_tokenizer", True)),
                add_bos_token=self.add_bos_token,
                prefix_token_id=self.custom_prefix_token_id,
            ),
        )
        check_length(self.composite, self._max_length)
        self.decoder = Decoder(self.composite)
        self._reasoning = reasoning_of(
            self.composite.tokenizer, self.think_end_token, self.composite.gives
        )
        self._marked: Counter[str] = Counter()  # ends of reasoning that nobody takes away
        self._answers_at_once = self.chat_template_args.get("enable_thinking") is False
        self._config = self.composite.members["base"].config
        self.tokenizer = configure_pad_token(self.composite.tokenizer, model_config=self._config)
        self.vocab_size = self.tokenizer.vocab_size
        self.pretrained = self.composite.name
        self.revision, self.peft, self.delta = None, None, None
        self._turns = ChatTurns(self.composite)
        self._template: str | None = None  # the name of the chat template, if it is asked by name
        self._resume = Resume(runtime.get("resume"), self.composite, self._cache_settings())
        self._cache: RequestCache | None = None
        self._tasks: Mapping[str, Any] = {}
        self._ranks_statistics: list[DecodingStatistics] = []

    # ------------------------------------------------------------------ set-up

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Give this composite a table of its own in lm-eval's request cache; see `RequestCache`.

        The cache keys on the request alone, so a second model would get the first one's answers.
        """
        super().set_cache_hook(cache_hook)
        if cache_hook.dbdict is not None:
            self._cache = RequestCache.adopt(cache_hook.dbdict, self._resume.identity())

    def _cache_settings(self) -> dict[str, str]:
        speed_only = {"device", "batch_size", "max_batch_size", "logits_cache", "resume"}
        return {k: str(v) for k, v in sorted(self._runtime.items()) if k not in speed_only}

    # ------------------------------------------------------------------ properties

    @property
    def _model(self) -> Any:
        """The base's transformers model, for code that wants one model; loads its weights."""
        return self.composite.members["base"].model

    @property
    def max_length(self) -> int:
        """Tokens that fit into every member (or ``max_length=``)."""
        return self._max_length or self.composite.max_length or self._DEFAULT_MAX_LENGTH

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
        """Gather results of all ranks; what each rank decoded travels along."""
        found = super().gather_object((obj, self.decoder.statistics, self._resume.close()), dst)
        if found is None:
            return None
        self._ranks_statistics = [statistics for _, statistics, _ in found]
        self._resume.used.update(*(used for _, _, used in found))
        return [one for one, _, _ in found]

    def barrier(self) -> None:
        """Wait for all ranks; lm-eval does so when it has handed out the responses.

        Those that it asked for only to fill up a rank are taken away, in any task.
        """
        for task in self._tasks.values():
            drop_padding(task.instances or [])
        super().barrier()

    def get_model_info(self) -> dict[str, Any]:
        """Return every member with revision, factor and rule, for the results file."""
        self._resume.evaluated = True  # lm-eval asks at the end
        ranks = self._ranks_statistics or [self.decoder.statistics]
        return model_info(self.composite, DecodingStatistics.of_ranks(ranks))

    # ------------------------------------------------------------------ prompts

    @property
    def tokenizer_name(self) -> str:
        """The tokenizer's name, for lm-eval's request cache; asked for with a chat template only.

        With cached requests `apply_chat_template` is never called: this is how one knows.
        """
        self._turns.asked_for = True
        name: str = super().tokenizer_name
        return name if self._template is None else f"{name}__{self._template}"

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return the tuned member's chat template, for the results file.

        Args:
            chat_template: False for none, True for the default one, or a name.

        Raises:
            ConfigError: There is none, or none of that name.
        """
        if chat_template is False or chat_template is None:
            return None
        return template_text(self.composite, self.tokenizer, chat_template)

    def check_evaluation(self, tasks: Mapping[str, Any], chat_template: bool | str) -> None:
        """Check what an evaluation asks for before anything is built or loaded.

        Args:
            tasks: By name.
            chat_template: As for `chat_template`.

        Raises:
            ConfigError: A task's generation settings are not supported, there is no such chat
                template, or finished responses cannot be kept.
        """
        self._tasks = tasks
        self.chat_template(chat_template)
        self._template = chat_template if isinstance(chat_template, str) else None
        generates = False
        for name, task in tasks.items():
            config: Any = getattr(task, "config", None)
            if getattr(config, "output_type", None) != "generate_until":
                continue
            generates = True
            try:
                self._plan(config.generation_kwargs or {})
            except ConfigError as error:
                raise ConfigError(f"task {name!r}: {error}") from None
        if generates:
            self._resume.store()

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Render chat turns with the tuned member's template."""
        template = self.chat_template(self._template or True)
        if isinstance(self.tokenizer.chat_template, dict):
            self.chat_template_args["chat_template"] = template
        above: Any = super()
        return self._turns.render(
            chat_history, lambda turns: str(above.apply_chat_template(turns, add_generation_prompt))
        )

    def tok_encode(
        self,
        string: str,
        add_special_tokens: bool | None = None,
        left_truncate_len: int | None = None,
        **kwargs: Any,
    ) -> list[int]:
        """Return a text's tokens; see `eft_eval.composite.encoding.TextEncoding.tokens`."""
        tokens = self.composite.encoding.tokens(string, add_special_tokens)
        return tokens[-left_truncate_len:] if left_truncate_len else tokens

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        pair = self.composite.encoding.pair(context, continuation)
        return pair.context, pair.continuation

    @property
    def prefix_token_id(self) -> int:
        """The token that stands for an empty context."""
        return self.composite.encoding.prefix_token
