"""Writes the files of argilla/ with the client of argilla 2.8.0 (and datasets); no server is asked.

Run in an environment of its own: python make_argilla.py FOLDER
"""

import json
import sys
import uuid
from pathlib import Path

import argilla as rg
from argilla.records._io import GenericIO, JsonIO
from datasets import Dataset

ROWS = [
    ("a", "Why is the sky blue?", "Scattering."),
    ("b", "How do planes fly?", "Lift."),
    ("c", "What is rain?", "Water."),
]


def responses(number: int, who: int) -> list[rg.Response]:
    status = {(2, 1): "draft", (1, 1): "discarded"}.get((number, who), "submitted")
    given = {
        "verdict": "bad" if (number + who) % 2 else "good",
        "stars": 1 + number + who,
        "faults": ["wrong", "rude"] if number == 0 else ["wrong"],
        "why": f"so, {number}",
        "order": ["x", "y"],
    }
    user = uuid.UUID(int=who + 1)
    return [rg.Response(name, one, user_id=user, status=status) for name, one in given.items()]


def main(out: Path) -> None:
    out.mkdir(exist_ok=True)
    records = [
        rg.Record(
            id=name,
            fields={"prompt": prompt, "reply": reply},
            metadata={"batch": number},
            responses=[one for who in (0, 1) for one in responses(number, who)],
            suggestions=[rg.Suggestion("verdict", "good", score=0.5, agent="gpt")],
        )
        for number, (name, prompt, reply) in enumerate(ROWS)
    ]
    (out / "records.json").unlink(missing_ok=True)
    JsonIO.to_json(records, out / "records.json")
    (out / "list.json").write_text(json.dumps(GenericIO.to_list(records, flatten=True)))
    columns = GenericIO.to_dict(records, flatten=True, orient="names")
    (out / "names.json").write_text(json.dumps(columns))
    Dataset.from_dict(columns).to_json(str(out / "datasets.jsonl"))
    Dataset.from_dict(columns).to_csv(str(out / "datasets.csv"))


main(Path(sys.argv[1]))
