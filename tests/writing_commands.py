"""Every command that writes, and a folder in which each can run; OUT is where it writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from exported_runs import write_composite_run
from judged_runs import counted, make_verdict, write_judged_run, write_labels
from typer.testing import CliRunner
from written_runs import write_run

from eft_eval.cli.app import app
from eft_eval.judging import Status
from eft_eval.labels.responses import read_items
from eft_eval.verdicts.store import VerdictStore

STORE = Path("store.sqlite3")
STORED = 60
VALUES = [1.0, 0.0] * 30
TRACE = ["trace", "Hm?", "--max-new-tokens", "1", "--json", "OUT"]
COMPARE = ["compare", "old", "same", "--out"]
FILES = {
    "bless": ["bless", "old", "--out", "OUT"],
    "compare text": [*COMPARE, "text=OUT"],
    "compare json": [*COMPARE, "json=OUT"],
    "compare markdown": [*COMPARE, "markdown=OUT"],
    "compare junit": [*COMPARE, "junit=OUT"],
    "compare github": [*COMPARE, "github=OUT"],
    "report": ["report", "old", "same", "--out", "OUT"],
    "report md": ["report", "old", "same", "--format", "md", "--out", "OUT"],
    "verdicts export": ["verdicts", "export", "OUT"],
    "agree": ["agree", "--labels", "labels.csv", "--run", "judged", "--json", "OUT"],
    "correct": ["correct", "judged", "--labels", "labels.csv", "--json", "OUT"],
    "gold import": [
        *("gold", "import", "gold-labels.csv", "--key", "gold.gold-key.json"),
        *("--by", "us", "--json", "OUT"),
    ],
    "labels import csv": ["labels", "import", "labels.csv", "--out", "OUT.csv"],
    "labels import json": ["labels", "import", "labels.csv", "--out", "OUT.json"],
    "export csv": ["export", "run", "--format", "csv", "--out", "OUT"],
    "trace": TRACE,
}
LABELS = ["labels", "export", "judged", "--out", "OUT", "--format"]
GOLD = ["gold", "sample", "judged", "--labels", "labels.csv", "--out", "OUT", "--key"]
FOLDERS = {
    "labels export potato": [*LABELS, "potato"],
    "labels export label-studio": [*LABELS, "label-studio"],
    "labels export csv": [*LABELS, "csv"],
    "gold sample": [*GOLD, "new-key.json"],
    "demo train": ["demo", "train", "--quick", "--seeds", "0", "--out", "OUT"],
}
EXPORT = ["export", "run", "--overwrite", "--out", "OUT", "--format"]
EXPORTS = {
    "export parquet": [*EXPORT, "parquet"],
    "export documents": [*EXPORT, "parquet", "--samples"],
    "export eee": [*EXPORT, "eee", "--organization", "Us", "--samples"],
    "export card": [*EXPORT, "model-card", "--repo", "me/x"],
    "export hub": [
        *(*EXPORT, "hf-eval-results", "--repo", "me/x", "--benchmark", "eli5_fact=me/eli5:fact"),
        *("--metric", "eli5_fact/fact_any_error"),
    ],
}
RUNS = {
    "judge": ["judge", "judged", "--judge", "scripted:judge.yaml"],
    "judge panel": [
        *("judge", "judged", "--judge", "scripted:judge.yaml", "--judge", "scripted:other.yaml"),
    ],
    "judge pairwise": ["judge", "judged", "--pairwise", "second", "--judge", "scripted:pair.yaml"],
    "correct a run": ["correct", "judged", "--labels", "labels.csv"],
}
STORES = {
    "verdicts import": ["verdicts", "import", "verdicts.jsonl"],
    "verdicts reparse": ["verdicts", "reparse", "--write"],
    "verdicts prune": ["verdicts", "prune", "--judge", "judge-1", "--yes"],
}


def prepare(work: Path) -> None:
    """Fill a folder with runs, labels and what else the commands read."""
    for name in ("old", "same"):
        write_run(work / name, {"t": {"acc": VALUES}})
    write_composite_run(work / "run")
    judge = [1.0, 0.0, 2.0, 0.0, 1.0, 0.0, 1.0, 3.0]
    write_judged_run(work / "judged", counted(judge))
    people = [1.0, 1.0, 2.0, 0.0, 0.0, 0.0, 1.0, 2.0]
    write_labels(work / "labels.csv", read_items(work / "judged"), {"A1": people, "A2": people})


def prepare_judging() -> None:
    """Make, in the current folder, a judge, a store and verdicts to import.

    The store's replies are unreadable in the words of the parser that it notes, and say 3 in those
    of the present one.
    """
    for name, reply in (("judge", "Score: 1"), ("other", "Score: 0"), ("pair", "More helpful: A")):
        Path(f"{name}.yaml").write_text(f'- {{match: ., reply: "{reply}"}}\n')
    write_judged_run(Path("second"), counted([0.0] * 8), response=lambda number: f"No. {number}")
    reply = {"raw": "Score: 3", "parser_version": 0, "finish_reason": "stop"}
    made = [
        replace(make_verdict(None, Status.malformed), key=f"{name}{number}", **reply)
        for name in ("old", "new")
        for number in range(STORED)
    ]
    VerdictStore(STORE).put_many(made[:STORED])
    lines = [json.dumps(one.to_dict()) + "\n" for one in made[STORED:]]
    Path("verdicts.jsonl").write_text("".join(lines), "utf-8")


def prepare_gold() -> None:
    """Make, in the current folder, a gold project's key and its labels."""
    made = run([*GOLD, "gold.gold-key.json", "--format", "csv"], "gold")
    assert made.exit_code == 0, made.output
    key = json.loads(Path("gold.gold-key.json").read_text("utf-8"))
    rows = [f"{name},Gold,error_count,1\n" for name in key["items"]]
    Path("gold-labels.csv").write_text("item_id,annotator,field,value\n" + "".join(rows), "utf-8")


def run(arguments: Sequence[str], out: str) -> Any:
    """Run a command in this process, its output given a name."""
    return CliRunner().invoke(app, [one.replace("OUT", out) for one in arguments])
