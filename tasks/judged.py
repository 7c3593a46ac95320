"""The task class of generation tasks with a judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lm_eval.filters import build_filter_ensemble

from eft_eval.errors import ConfigError, nearest
from eft_eval.judging.availability import preflight
from eft_eval.judging.describe import describe_judge
from eft_eval.judging.metrics import judge_metrics, metric_list
from eft_eval.judging.prompts.measures import Measure, measure_of
from eft_eval.judging.prompts.prompt import JudgePrompt, load_prompt
from eft_eval.judging.settings import JudgeSettings
from eft_eval.model_adapters.samples import UnfinishedResponse, drop_padding
from eft_eval.runs.records import BYPASS, bypass_note
from eft_eval.streams import logger, one_line_errors
from eft_eval.tasks.data import describe
from eft_eval.tasks.loaded import LoadedTask
from eft_eval.verdicts.store import VerdictStore, default_store_path
from eft_eval.verdicts.text import read_verdicts
from eft_eval.verdicts.verdict import Verdict

log = logger("lm_eval.eft")
one_line_errors()


class JudgedTask(LoadedTask):
    """A task whose responses one or several judges score; task YAML names it under ``class``.

    Each pipeline of ``filter_list`` with the filter eft_judge is one judge; the responses are
    generated once. What it adds to lm-eval's own class: metrics follow from the judge prompts,
    unless the YAML lists its own; the judge is checked before any model is loaded;
    ``--predict_only`` never asks it; with ``--apply_chat_template`` the bare question is the
    user's turn; ``--metadata judge_prompt=NAME|FILE`` (or a list) replaces the judge prompt of
    the same measure; the results say which judge, prompts and data were used.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        config = {key: value for key, value in config.items() if key != "class"}
        self._settings = dict(config.get("metadata") or {})
        self._data_name = self._settings.get("eft_data")
        self._prompts: dict[str, JudgePrompt] = {}
        self._measures: dict[str, Measure] = {}
        config["filter_list"] = self._judge_pipelines(config)
        if not config.get("metric_list"):
            config["metric_list"] = metric_list([*self._measures.values()])
            config["process_results"] = judge_metrics
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
            self._check_queries()
        # the cache is keyed by the task's name alone and would serve another data file's prompts
        super().build_all_requests(**{**options, "cache_requests": False})

    def doc_to_text(self, doc: dict[str, Any], doc_to_text: Any = None) -> Any:
        """Return the prompt: dialogue form, or the bare question for a chat template."""
        if self._chat and doc_to_text is None and self._data_name is not None:
            return doc["question"]
        return super().doc_to_text(doc, doc_to_text)

    def apply_filters(self) -> Any:
        """Judge the responses; with ``--predict_only`` keep them as they are."""
        drop_padding(self.instances or [])
        if not self._predict_only:
            return super().apply_filters()
        self._filters = [build_filter_ensemble("none", [["take_first", None]])]
        filtered = super().apply_filters()
        for instance in self.instances or []:
            instance.filtered_resps["none"] = _Prediction.of(instance.resps)
        return filtered

    def process_results(self, doc: dict[str, Any], results: list[Any]) -> dict[str, Any]:
        """Return a document's metrics; of a prediction the note which responses are no answer."""
        values: dict[str, Any] = super().process_results(doc, results)
        if self._predict_only:
            values[BYPASS] = bypass_note(getattr(results[0], "unfinished", ()))
        return values

    def dump_config(self) -> dict[str, Any]:
        """Return the task's settings for the results file, with judge and data."""
        config: dict[str, Any] = super().dump_config()
        metadata = dict(config.get("metadata") or {})
        if self._data_name is not None:
            metadata["eft_data"] = describe(str(self._data_name), **self._settings).as_dict()
        metadata["eft_judge"] = None if self._predict_only else self._describe_judge()
        # tells readers of unjudged responses whether people are to count errors in them
        scales = {measure.scale for measure in self._measures.values()}
        metadata["eft_scale"] = "count" if "count" in scales else "percent"
        return {**config, "metadata": metadata}

    @property
    def _predict_only(self) -> bool:
        return "bypass" in self._metric_fn_list

    def _judge_pipelines(self, config: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the filter pipelines with all that their judges need; notes prompts, measures."""
        own = _own_prompts(self._settings.get("judge_prompt"))
        repeats = int(config.get("repeats") or 1)
        pipelines = []
        for pipeline in config.get("filter_list") or []:
            steps = [dict(step) for step in pipeline["filter"]]
            for step in steps:
                if step["function"] == "eft_judge":
                    shipped = str(step.get("prompt") or "factuality")
                    measure = measure_of(load_prompt(shipped), step.get("measure"))
                    prompt = own.get(measure.name, shipped)
                    step.update(prompt=prompt, repeats=repeats, measure=measure.name)
                    self._prompts[pipeline["name"]] = load_prompt(prompt)
                    self._measures[pipeline["name"]] = measure
            pipelines.append({**pipeline, "filter": steps})
        if not self._prompts:
            raise ConfigError(f"task {config.get('task')!r} has no filter eft_judge: no judge")
        self._check_own(own, str(config.get("task")))
        return pipelines

    def _check_own(self, own: dict[str, str], task: str) -> None:
        """Check that the user's prompts measure what the task does; of several, one at least."""
        known = {measure.name: measure.scale for measure in self._measures.values()}
        unfit = [name for name in own if name not in known]
        needed = " and ".join(f"{scale!r} ({name})" for name, scale in known.items())
        for name in unfit:
            text = (
                f"judge_prompt {own[name]!r} scores on the scale {load_prompt(own[name]).scale!r} "
                f"and so measures {name}, but task {task!r} needs {needed}"
            )
            if len(unfit) == len(own):
                raise ConfigError(text)
            log.warning("%s; it is not used there", text)  # another task of the run may need it

    def _check_queries(self) -> None:
        """Check that the documents have the query wherever a judge prompt shows it."""
        first: dict[str, Any] = next(iter(self.eval_docs), {})
        for pipeline in self.config.filter_list:
            prompt = self._prompts.get(pipeline["name"])
            for step in pipeline["filter"]:
                field = step.get("question", "question")
                if prompt and "query" in prompt.variables and field not in first:
                    raise ConfigError(
                        f"task {self.config.task!r}: judge prompt {prompt.name!r} shows the query, "
                        f"but the documents have no {field!r}{nearest(field, first)}; set "
                        "question: FIELD beside function: eft_judge"
                    )

    def _describe_judge(self) -> dict[str, Any]:
        verdicts = None
        if self._ranks == 1:  # a rank sees its own responses only
            verdicts = {name: self._verdicts(name) for name in self._prompts}
        repeats = int(self.config.repeats or 1)
        responses = [text for one in self.instances or [] for text in one.resps[:repeats]]
        settings = JudgeSettings.from_environment()
        return describe_judge(
            settings, self._prompts, self._measures, verdicts, responses
        ).as_dict()

    def _verdicts(self, pipeline: str) -> list[list[Verdict]]:
        return [
            read_verdicts(instance.filtered_resps[pipeline])
            for instance in self.instances or []
            if pipeline in instance.filtered_resps
        ]


class _Prediction(str):
    """The first response to a document, which knows how all of them ended.

    Attributes:
        unfinished: The places of those whose reasoning did not end.
    """

    unfinished: tuple[int, ...]

    @classmethod
    def of(cls, responses: Sequence[str]) -> _Prediction:
        made = cls(responses[0])
        ended = (isinstance(text, UnfinishedResponse) for text in responses)
        made.unfinished = tuple(place for place, unfinished in enumerate(ended) if unfinished)
        return made


def _own_prompts(given: object) -> dict[str, str]:
    """Return the user's judge prompts, one or a list of them, by what they measure."""
    listed = given if isinstance(given, (list, tuple)) else [given] if given else []
    own: dict[str, str] = {}
    for name in map(str, listed):
        measured = measure_of(load_prompt(name)).name
        if measured in own:
            raise ConfigError(f"judge_prompt: {own[measured]!r} and {name!r} measure the same")
        own[measured] = name
    return own
