"""Typed records of a run: what lm-eval's results and samples files say, read once at the edge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from eft_eval.records import data_frame
from eft_eval.runs.judged import JUDGE_MARK, PANEL_OF
from eft_eval.runs.metadata import model_arguments

__all__ = [
    "BYPASS",
    "CORRECTED",
    "CORRECTED_NAME",
    "LENGTH_CONTROLLED",
    "Column",
    "Document",
    "Group",
    "ItemSeen",
    "JudgeSeen",
    "MetricKey",
    "Pipeline",
    "Problem",
    "ResultsFile",
    "Run",
    "Sample",
    "TaskRun",
    "bypass_note",
]

BYPASS = "bypass"
"""lm-eval's metric of ``--predict_only``, which has no number."""
_UNFINISHED = "unfinished"

CORRECTED = "prediction_powered"
"""The aggregation of metrics that `eft-eval correct` wrote."""
CORRECTED_NAME = "_ppi"
"""How their names end."""
LENGTH_CONTROLLED = "length_controlled"
"""The aggregation of a win rate at equal lengths (`eft-eval judge --pairwise --length-control`)."""
_MOST = 2**53  # documents; more are no number that anybody gave
_NAMES = ("peft", "delta", "pretrained", "model", "path", "engine")  # lm-eval's, in its order

Severity = Literal["error", "note"]
Document = tuple[int, str]
"""What tells documents of a task apart: lm-eval's number, which several may share, and the hash."""


def bypass_note(unfinished: Sequence[int]) -> dict[str, list[int]] | None:
    """Return what a prediction has as `BYPASS`; None, as lm-eval's own, where there is nothing.

    Args:
        unfinished: Places of the responses whose reasoning did not end.
    """
    return {_UNFINISHED: [*unfinished]} if unfinished else None


class ResultsFile(NamedTuple):
    """A results file of lm-eval.

    Attributes:
        path: The file.
        date: Local time, as in the names that lm-eval gives; sorts by age.
        content: The parsed file; empty where there is none, as for a baseline.
    """

    path: Path
    date: str
    content: Mapping[str, Any]

    @property
    def model(self) -> str:
        """Name of the model: lm-eval's, else that in ``model_args``, else the model's kind."""
        arguments = model_arguments(self.config)
        in_arguments = next((arguments[key] for key in _NAMES if arguments.get(key)), None)
        given = self.content.get("model_name") or in_arguments or self.config.get("model")
        return str(given or "unnamed")

    @property
    def limit(self) -> float | None:
        """What ``--limit`` was: a number of documents, or a share below 1; None without one."""
        limit = self.config.get("limit")
        if not isinstance(limit, (int, float)) or isinstance(limit, bool):
            return None
        return float(limit) if 0 <= limit < _MOST else None

    @property
    def config(self) -> Mapping[str, Any]:
        """Model and settings of the evaluation."""
        found = self.content.get("config")
        return found if isinstance(found, Mapping) else {}

    @property
    def judged_from(self) -> Path | None:
        """The results file beside it whose responses were judged; None where it was not so made."""
        name = self.content.get("eft_judged_from")
        return self.path.with_name(name) if isinstance(name, str) else None


class MetricKey(NamedTuple):
    """One column of lm-eval's table: a metric and the filter it was computed on."""

    metric: str
    filter: str

    def __str__(self) -> str:
        return f"{self.metric},{self.filter}"


@dataclass(frozen=True)
class Problem:
    """Something about a run that a reader must know.

    Attributes:
        severity: "error" where no figure of the task can be trusted, else "note".
        task: The task it concerns; None for the run.
        text: What is wrong, with the file's name.
    """

    severity: Severity
    task: str | None
    text: str


@dataclass(frozen=True)
class Sample:
    """One line of a samples file: one document and one filter.

    Attributes:
        doc_id: lm-eval's number of the document.
        filter: The filter's name.
        doc: The document.
        prompt: The first request's context; empty where there is none.
        target: The target as text.
        responses: Raw responses, per request one text per repeat.
        filtered: What the filter made of them, one per request.
        values: Metrics of this document; None where there is no number.
        hashes: lm-eval's doc_hash, prompt_hash and target_hash; empty where it wrote none.
        record: The line as it is.
    """

    doc_id: int
    filter: str
    doc: Any
    prompt: str
    target: str
    responses: tuple[Any, ...]
    filtered: tuple[Any, ...]
    values: Mapping[str, Any]
    hashes: tuple[str, str, str]
    record: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def document(self) -> Document:
        """Which of the task's documents it is on."""
        return self.doc_id, self.hashes[0]

    @property
    def judged(self) -> Sequence[Any]:
        """The responses that a judge was given: the raw ones, unless the line says otherwise."""
        others = self.record.get("judged_responses")
        raw = self.responses[0] if self.responses else ()
        if raw is None or isinstance(raw, str):  # one response that is not in a list
            raw = [raw]
        return others or (raw if isinstance(raw, list) else ())

    @property
    def bypassed(self) -> bool:
        """Whether it is a response of ``--predict_only``, which nobody scored."""
        return BYPASS in self.values

    @property
    def unfinished(self) -> frozenset[int]:
        """Places of the responses that are no answer, as a run with ``--predict_only`` noted."""
        note = self.values.get(BYPASS)
        places = note.get(_UNFINISHED) if isinstance(note, Mapping) else None
        return frozenset(one for one in places or () if isinstance(one, int))


@dataclass(frozen=True)
class ItemSeen:
    """A document of a run, without its texts.

    Attributes:
        doc_id: lm-eval's number of the document.
        doc_hash: Hash of its content; pairs it with the other run's.
        prompt_hash: Hash of the prompt.
        cluster: What it belongs to: equal words are not independent.
        text: Hash of the content as it is in the file, which need not be what lm-eval hashed;
            empty where the content is not there.
    """

    doc_id: int
    doc_hash: str
    prompt_hash: str
    cluster: str
    text: str = ""

    @property
    def document(self) -> Document:
        """Which of the task's documents it is."""
        return self.doc_id, self.doc_hash


@dataclass(frozen=True)
class JudgeSeen:
    """The judge behind a filter's verdicts, as the verdicts themselves say.

    Attributes:
        model: The model asked for.
        prompt: Name of the judge prompt.
        prompt_sha256: Hash of its text.
        parameters: Sampling parameters, as JSON with sorted keys.
        returned: Names of the models that answered.
    """

    model: str
    prompt: str
    prompt_sha256: str
    parameters: str
    returned: tuple[str, ...]


@dataclass(frozen=True)
class Pipeline:
    """One filter of a task, with its documents.

    Attributes:
        name: The filter's name.
        items: The documents, by doc_id.
        verdicts: Number of verdicts by status; None where the filter is no judge.
        judge: The judge; None where the filter is none.
        repeats: Verdicts per document; None where the filter is no judge.
    """

    name: str
    items: tuple[ItemSeen, ...] = field(repr=False)
    verdicts: Mapping[str, int] | None
    judge: JudgeSeen | None
    repeats: int | None


@dataclass(frozen=True)
class Column:
    """A metric of a task under one filter.

    Attributes:
        key: Metric and filter.
        reported: The aggregate in the results file; None where it is no number (NaN).
        reported_error: Its standard error; None where lm-eval gives none ("N/A", NaN).
        higher_is_better: Its direction; None where the run does not say.
        values: Per item of the filter; None where the document has no number. Empty without a
            samples file.
        is_mean: Whether the aggregate is the mean of the values; only then can it be paired.
        unusual: How many of the values are NaN or infinite, and so None here.
    """

    key: MetricKey
    reported: float | None
    reported_error: float | None
    higher_is_better: bool | None
    values: tuple[float | None, ...] = field(repr=False)
    is_mean: bool
    unusual: int = 0

    @property
    def infinite(self) -> bool:
        """Whether the aggregate is no finite number as some values are none: it is left out."""
        return self.reported is None and self.unusual > 0


@dataclass(frozen=True)
class TaskRun:
    """One task of a run.

    Attributes:
        name: Its name.
        version: Its version, as text.
        shots: Number of few-shot examples.
        repeats: Responses per document.
        documents: Number of documents evaluated; None where the file does not say.
        generation: Sampling settings of the model under test, as JSON with sorted keys.
        bypassed: Whether its metrics were left out (``--predict_only``).
        columns: Its metrics.
        pipelines: Its filters, by name; empty without samples.
        results_file: Where the aggregates come from.
        samples_file: Where the items come from; None where there is no such file.
        config: lm-eval's configuration of the task.
        undated: How that file is known to be the task's, where no date says so; else empty.
    """

    name: str
    version: str
    shots: int | None
    repeats: int
    documents: int | None
    generation: str
    bypassed: bool
    columns: Mapping[MetricKey, Column]
    pipelines: Mapping[str, Pipeline]
    results_file: Path
    samples_file: Path | None
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    undated: str = ""

    def is_one_of_panel(self, filter_name: str) -> bool:
        """Whether a filter has the verdicts of one judge of a panel, beside the panel's own."""
        whole = self.pipelines.get(filter_name.partition(JUDGE_MARK)[0])
        if whole is None or whole.name == filter_name or whole.judge is None:
            return False
        return whole.judge.model.startswith(PANEL_OF)

    def __repr__(self) -> str:
        return (
            f"TaskRun({self.name!r}, documents={self.documents}, "
            f"columns={[f'{key.metric},{key.filter}' for key in self.columns]})"
        )


@dataclass(frozen=True)
class Group:
    """A group of tasks with aggregates of its own.

    Attributes:
        name: Its name.
        tasks: Its tasks, those of inner groups included.
        columns: Its metrics, without values.
        documents: Per metric how many documents it is of; None where nobody says.
    """

    name: str
    tasks: tuple[str, ...]
    columns: Mapping[MetricKey, Column]
    documents: Mapping[MetricKey, int | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """What one model was evaluated to.

    Attributes:
        label: How to call it: the path as given.
        model: The model's name.
        date: Of the newest results file, local time as lm-eval writes it.
        lm_eval_version: As the newest file says; empty where it does not.
        tasks: By name.
        groups: Groups with aggregates, by name.
        problems: What is wrong with it.
        kind: "run", or "baseline" for a file that `bless` wrote.
        files: Its results files, newest first; none of a baseline.
        conditions: What a baseline kept of the conditions that it was made under.
    """

    label: str
    model: str
    date: str
    lm_eval_version: str
    tasks: Mapping[str, TaskRun]
    groups: Mapping[str, Group]
    problems: tuple[Problem, ...]
    kind: Literal["run", "baseline"] = "run"
    files: tuple[ResultsFile, ...] = field(default=(), repr=False)
    conditions: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def details(self) -> Mapping[str, Any]:
        """The newest results file: model, seeds, versions; empty of a baseline."""
        return self.files[0].content if self.files else {}

    def file_of(self, task: str) -> ResultsFile:
        """Return the results file that a task is from; without content for a baseline."""
        path = self.tasks[task].results_file
        found = (file for file in self.files if file.path == path)
        return next(found, ResultsFile(path, "", {}))

    def to_frame(self, *, documents: bool = False) -> Any:
        """Return the run's numbers as a pandas data frame.

        Args:
            documents: One row per task, metric, filter and document (``doc_id``, ``doc_hash``,
                ``cluster``, ``value``) in place of one per task or group, metric and filter
                (``value``, ``stderr``, ``higher_is_better``, ``documents``).

        Returns:
            The frame; a number that does not exist is missing. Documents are there only where the
            run was made with ``--log_samples``.

        Raises:
            ConfigError: pandas is not installed.
        """
        names = ["task", "metric", "filter"]
        if documents:
            return data_frame(self._values(), [*names, "doc_id", "doc_hash", "cluster", "value"])
        return data_frame(
            self._aggregates(), [*names, "value", "stderr", "higher_is_better", "documents"]
        )

    def _aggregates(self) -> Iterator[dict[str, Any]]:
        for group in self.groups.values():
            for key, column in group.columns.items():
                yield _aggregate(group.name, column, group.documents.get(key))
        for task in self.tasks.values():
            for column in task.columns.values():
                yield _aggregate(task.name, column, task.documents)

    def _values(self) -> Iterator[dict[str, Any]]:
        for task in self.tasks.values():
            for key, column in task.columns.items():
                if not column.values:
                    continue
                for item, value in zip(
                    task.pipelines[key.filter].items, column.values, strict=True
                ):
                    yield {
                        "task": task.name,
                        "metric": key.metric,
                        "filter": key.filter,
                        "doc_id": item.doc_id,
                        "doc_hash": item.doc_hash,
                        "cluster": item.cluster,
                        "value": value,
                    }

    def __repr__(self) -> str:
        return (
            f"Run({self.label!r}, model={self.model!r}, date={self.date!r}, "
            f"tasks={[*self.tasks]}, problems={len(self.problems)})"
        )


def _aggregate(name: str, column: Column, documents: int | None) -> dict[str, Any]:
    return {
        "task": name,
        "metric": column.key.metric,
        "filter": column.key.filter,
        "value": column.reported,
        "stderr": column.reported_error,
        "higher_is_better": column.higher_is_better,
        "documents": documents,
    }
