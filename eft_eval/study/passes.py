"""What the models are asked again of the responses of a run; kept in the study's folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from eft_eval.errors import ConfigError
from eft_eval.files import make_folder, write_json
from eft_eval.records import read_record_file, restored
from eft_eval.runs.records import Document, Sample
from eft_eval.runs.saved import open_run
from eft_eval.runs.traces import Trace
from eft_eval.study.folder import StudyFolder
from eft_eval.study.plan import ArmRun, PlannedArm

if TYPE_CHECKING:
    from eft_eval.api import Composite

__all__ = ["Answered", "Weighed", "answers_of", "traces_of", "weights_of"]

_TEXT = "generate_until"


class Answered(NamedTuple):
    """A response of a run: the document, what was read, and what was said."""

    task: str
    document: Document
    prompt: str
    response: str


class Weighed(NamedTuple):
    """The logarithm of a response's sequence-level weight, up to a constant of the prompt."""

    task: str
    document: Document
    log_weight: float
    tokens: int


def answers_of(folder: StudyFolder, run: ArmRun) -> list[Answered]:
    """Return the first documents' responses of every task of a run; the first of several repeats.

    Tasks that generate no text are left out.

    Raises:
        ConfigError: The run has no samples, or no task generates text.
    """
    saved = open_run(folder.place(run))
    names = [
        name
        for name in sorted(saved.tasks)
        if saved.tasks[name].config.get("output_type", _TEXT) == _TEXT
    ]
    if not names:
        asked = ", ".join(folder.plan.tasks)
        raise ConfigError(f"no task of {asked} generates text: there is no response to look into")
    return [
        Answered(name, number, sample.prompt, _first(sample))
        for name in names
        for number, sample in _documents(saved.lines(saved.tasks[name]), folder)
    ]


def _documents(lines: Any, folder: StudyFolder) -> Iterator[tuple[Document, Sample]]:
    by_document = next(iter(lines.values()))
    yield from sorted(by_document.items())[: folder.plan.design.documents]


def _first(sample: Sample) -> str:
    several = sample.responses[0] if sample.responses else ""
    return str(several[0] if isinstance(several, list) else several)


def traces_of(folder: StudyFolder, run: ArmRun) -> list[Trace]:
    """Return the token traces of a run's responses, each prompt and response once.

    Raises:
        ConfigError: A response cannot be traced.
    """
    seen = dict.fromkeys(
        (one.prompt, one.response) for one in answers_of(folder, run) if one.response
    )

    def ask(composite: Composite) -> list[dict[str, Any]]:
        return [composite.trace(prompt, said).as_dict() for prompt, said in seen]

    return [restored(Trace, one, "a trace") for one in _kept(folder, run, "traces", ask)]


def weights_of(folder: StudyFolder, run: ArmRun) -> list[Weighed]:
    """Return the sequence-level weights of a run's responses.

    Raises:
        ConfigError: The composite has none, or a prompt does not fit.
    """

    def ask(composite: Composite) -> list[dict[str, Any]]:
        known: dict[tuple[str, str], list[float]] = {}
        found = []
        for one in answers_of(folder, run):
            text = (one.prompt, one.response)
            if text not in known:
                known[text] = composite.log_normalisers(*text)
            steps = known[text]
            found.append(Weighed(one.task, one.document, sum(steps), len(steps))._asdict())
        return found

    return [restored(Weighed, one, "a weight") for one in _kept(folder, run, "weights", ask)]


def _kept(
    folder: StudyFolder,
    run: ArmRun,
    kind: str,
    ask: Callable[[Composite], list[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """Return what an earlier start found out, else what ``ask`` does."""
    path = folder.path / "passes" / f"{run.arm.name}-seed-{run.seed}-{kind}.json"
    if not path.exists():
        make_folder(path.parent)
        write_json(path, {"found": ask(_loaded(run.arm, folder))})
    found = read_record_file(path, f"the {kind} of a study").get("found")
    if not isinstance(found, list):
        raise ConfigError(f"{path} is damaged; take it away, and the same command makes it anew")
    return found


_LOADED: dict[str, Any] = {}


def _loaded(arm: PlannedArm, folder: StudyFolder) -> Composite:
    """Return an arm's composite; the last one stays loaded."""
    from eft_eval.api import Composite

    key = arm.recipe.model_dump_json()
    if key not in _LOADED:
        _LOADED.clear()
        args = folder.plan.model_args
        options = {
            name: args[name]
            for name in ("trust_remote_code", "use_fast_tokenizer", "add_bos_token", "device")
            if name in args
        }
        _LOADED[key] = Composite.load(arm.recipe, **options)
    found: Composite = _LOADED[key]
    return found
