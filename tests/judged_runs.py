"""A judged run on disk, people's labels about it, and commands of eft-eval on both."""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from eft_eval.cli import main
from eft_eval.judging import Status, Verdict
from eft_eval.judging.metrics import scored_mean
from eft_eval.judging.prompts.measures import MEASURES
from eft_eval.labels import Item, read_items
from eft_eval.verdicts.text import write_verdicts

DATE = "2026-11-22T10-00-00.000001"
OLDER = "2026-11-20T10-00-00.000000"
JUDGE = "judge-1"
VERDICTS = [0, 2, 1, 0, None, 3, 0, 1, 1, 0, 2, 0] * 5
PEOPLE: dict[str, Sequence[float | None]] = {
    "jane@example.com": [0, 1, 1, 1, 2, 0, 0, 1, 0, 0, 4, 0] * 5,
    "bob": [0, 2, 0, 1, 0, 0, 0, None, 0, 1, 1, 0] * 5,
    "carol": [0, 1, 1, 0, 1, 2, 0, 1, 1, 0, 2, 1] * 5,
}


def make_verdict(value: float | None, status: Status = Status.scored) -> Verdict:
    """Return a verdict as the judge's client makes it."""
    empty = ("reason", "raw", "finish_reason", "judge_model_returned", "prompt_tokens")
    none: dict[str, Any] = dict.fromkeys(
        (*empty, "completion_tokens", "cost_usd", "price_table", "error")
    )
    return Verdict(
        key="k",
        status=status,
        value=value,
        judge_model=JUDGE,
        prompt_name="factuality",
        prompt_version=1,
        prompt_sha256="",
        parameters={},
        parser_version=1,
        created="2026-01-01T00:00:00+00:00",
        **none,
    )


def write_judged_run(
    folder: Path,
    verdicts: Sequence[Verdict],
    *,
    task: str = "eli5_fact",
    repeats: int = 1,
    response: Callable[[int], str] = "Answer {} is here.".format,
    measure: str = "factuality",
) -> Path:
    """Write one task's results and samples files; every ``repeats`` verdicts are of one prompt."""
    folder.mkdir(parents=True, exist_ok=True)
    lines, values = [], []
    of = MEASURES[measure]
    for doc, start in enumerate(range(0, len(verdicts), repeats)):
        group = list(verdicts[start : start + repeats])
        values.append(of.values(group))
        sample = {
            "doc_id": doc,
            "doc": {"question": f"Why is number {doc} odd?", "prompt_id": str(doc)},
            "resps": [[response(start + i) for i in range(len(group))]],
            "filtered_resps": [write_verdicts(group, None if measure == "factuality" else measure)],
            "filter": measure,
            "metrics": list(of.metrics),
            **{name: f"{name} {doc}" for name in ("doc_hash", "prompt_hash", "target_hash")},
            **values[-1],
        }
        lines.append(json.dumps(sample) + "\n")
    entry: dict[str, Any] = {"alias": task}
    for name in of.metrics:
        entry[f"{name},{measure}"] = scored_mean([value[name] for value in values])
        entry[f"{name}_stderr,{measure}"] = "N/A"
    metadata = {"eft_scale": of.scale, "version": 1.0}
    step = {"function": "eft_judge", "prompt": "harmfulness" if measure == "harm" else measure}
    config = {
        "task": task,
        "repeats": repeats,
        "metadata": metadata,
        "metric_list": [],
        "filter_list": [{"name": measure, "filter": [step]}],
    }
    content = {
        "results": {task: entry},
        "configs": {task: config},
        "versions": {task: 1.0},
        "higher_is_better": {task: dict(of.metrics)},
    }
    (folder / f"results_{DATE}.json").write_text(json.dumps(content), "utf-8")
    (folder / f"samples_{task}_{DATE}.jsonl").write_text("".join(lines), "utf-8")
    return folder


def write_two_files(folder: Path) -> Path:
    """Write a run whose older results file has hh_fact, and whose newer has eli5_fact."""
    write_judged_run(folder, counted([3, 0, 1]), task="hh_fact", response="Of hh {}.".format)
    for file in sorted(folder.iterdir()):
        file.rename(folder / file.name.replace(DATE, OLDER))
    return write_judged_run(folder, counted([0, 2]), task="eli5_fact")


def counted(values: Sequence[float | None]) -> list[Verdict]:
    """Return scored verdicts, and abstentions for None."""
    return [
        make_verdict(None, Status.abstained) if value is None else make_verdict(value)
        for value in values
    ]


def items_in_order(run_dir: Path) -> list[Item]:
    """Return the run's items in the order of its verdicts."""
    return read_items(run_dir)


def write_labels(
    path: Path, items: Sequence[Item], people: Mapping[str, Sequence[float | None]]
) -> Path:
    """Write a long table of error counts, one column of numbers for each person."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "annotator", "field", "value"])
        for name, values in people.items():
            for item, value in zip(items, values, strict=True):
                if value is not None:
                    writer.writerow([item.item_id, name, "error_count", f"{value:g}"])
    return path


def fill(sheet: Path, out: Path, answer: Callable[[dict[str, str]], float | None]) -> Path:
    """Fill in a copy of an exported sheet."""
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if (value := answer(row)) is None:
            row["has_error"] = "unsure"
        else:
            row["error_count"] = f"{value:g}"
            row["has_error"] = "yes" if value else "no"
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return out


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def hashes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


# --- what the commands print


class Done(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Done]


def command_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs `eft-eval` with its arguments in this process."""

    def call(*arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["eft-eval", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return call


def fails(done: Done, *said: str) -> None:
    """Check for exit code 2 and one clear line that has these words."""
    assert done.code == 2, done
    assert done.err.count("\n") == 1
    assert done.err.startswith("eft-eval: error: ")
    for words in said:
        assert words in done.err
