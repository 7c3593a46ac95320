"""The task class of generation tasks with a judge."""

from __future__ import annotations

import logging
from typing import Any

from lm_eval.api.task import ConfigurableTask
from lm_eval.filters import build_filter_ensemble

from eft_eval.errors import ConfigError, one_line_errors
from eft_eval.judging import (
    JudgePrompt,
    JudgeSettings,
    VerdictStore,
    default_store_path,
    load_prompt,
    preflight,
)
from eft_eval.judging.describe import describe_judge
from eft_eval.judging.metrics import read_verdicts
from eft_eval.tasks.data import describe

log = logging.getLogger("lm_eval.eft")
one_line_errors()


class JudgedTask(ConfigurableTask):  # type: ignore[misc]  # lm-eval ships no types
    """A task whose responses a judge scores; task YAML names it under ``class``.

    What it adds to lm-eval's own class: the judge is checked before any model is loaded;
    ``--predict_only`` never asks it; with ``--apply_chat_template`` the bare question is the
    user's turn; ``--metadata judge_prompt=NAME|FILE`` replaces the judge prompt; the results say
    which judge, prompt and data were used.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        config = {key: value for key, value in config.items() if key != "class"}
        self._settings = dict(config.get("metadata") or {})
        self._data_name = str(self._settings["eft_data"])
        config["filter_list"] = [
            {**pipeline, "filter": [self._judge_step(step, config) for step in pipeline["filter"]]}
            for pipeline in config["filter_list"]
        ]
        self._prompts: dict[str, JudgePrompt] = {
            pipeline["name"]: load_prompt(step["prompt"])
            for pipeline in config["filter_list"]
            for step in pipeline["filter"]
            if step["function"] == "eft_judge"
        }
        self._check_scales(str(self._settings["eft_scale"]))
        self._chat = False
        self._ranks = 1
        super().__init__(config=config)

    def build_all_requests(self, **options: Any) -> None:
        """Check the judge, then build the requests (never from lm-eval's request cache)."""
        self._chat = bool(options.get("apply_chat_template"))
        self._ranks = int(options.get("world_size", 1))
        if not self._predict_only:
            settings = JudgeSettings.from_environment()
            VerdictStore(default_store_path())
            if warning := preflight(settings):
                log.warning("%s", warning)
        # the cache is keyed by the task's name alone and would serve another data file's prompts
        super().build_all_requests(**{**options, "cache_requests": False})

    def doc_to_text(self, doc: dict[str, Any], doc_to_text: Any = None) -> Any:
        """Return the prompt: dialogue form, or the bare question for a chat template."""
        if self._chat and doc_to_text is None:
            return doc["question"]
        return super().doc_to_text(doc, doc_to_text)

    def apply_filters(self) -> Any:
        """Judge the responses; with ``--predict_only`` keep them as they are."""
        if self._predict_only:
            self._filters = [build_filter_ensemble("none", [["take_first", None]])]
        return super().apply_filters()

    def dump_config(self) -> dict[str, Any]:
        """Return the task's settings for the results file, with judge and data."""
        config: dict[str, Any] = super().dump_config()
        metadata = dict(config.get("metadata") or {})
        metadata["eft_data"] = describe(self._data_name, **self._settings).as_dict()
        metadata["eft_judge"] = None if self._predict_only else self._describe_judge()
        return {**config, "metadata": metadata}

    @property
    def _predict_only(self) -> bool:
        return "bypass" in self._metric_fn_list

    def _judge_step(self, step: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
        if step["function"] != "eft_judge":
            return step
        prompt = self._settings.get("judge_prompt") or step["prompt"]
        return {**step, "prompt": str(prompt), "repeats": int(config.get("repeats") or 1)}

    def _check_scales(self, scale: str) -> None:
        for prompt in self._prompts.values():
            if prompt.scale != scale:
                raise ConfigError(
                    f"judge_prompt {prompt.name!r} scores on the scale {prompt.scale!r}, but this "
                    f"task needs {scale!r}; name a prompt of that scale"
                )

    def _describe_judge(self) -> dict[str, Any]:
        verdicts = None
        if self._ranks == 1:  # a rank sees its own responses only
            verdicts = [
                verdict
                for instance in self.instances or []
                for name in self._prompts
                if name in instance.filtered_resps
                for verdict in read_verdicts(instance.filtered_resps[name])
            ]
        return describe_judge(JudgeSettings.from_environment(), self._prompts, verdicts)
