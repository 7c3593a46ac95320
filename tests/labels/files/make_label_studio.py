"""Writes the files of label_studio/ with the converter of label-studio-sdk 2.1.2.

Run in an environment of its own: python make_label_studio.py FOLDER
"""

import json
import shutil
import sys
from pathlib import Path

from label_studio_sdk.converter import Converter

CONFIG = """<View>
  <Text name="prompt" value="$prompt"/><Text name="reply" value="$reply"/>
  <Choices name="verdict" toName="reply" choice="single">
    <Choice value="good"/><Choice value="bad"/></Choices>
  <Choices name="faults" toName="reply" choice="multiple">
    <Choice value="wrong"/><Choice value="rude"/></Choices>
  <Number name="errors" toName="reply"/>
  <Rating name="stars" toName="reply"/>
  <TextArea name="why" toName="reply"/>
  <Taxonomy name="topic" toName="reply">
    <Choice value="science"><Choice value="physics"/></Choice></Taxonomy>
  <DateTime name="read_on" toName="reply" only="date"/>
  <Labels name="spans" toName="reply"><Label value="error"/></Labels>
</View>"""

TASKS = [
    {"id": "d1", "q_id": "a", "prompt": "Why is the sky blue?", "reply": "Scattering.", "year": 1},
    {"id": "d2", "q_id": "b", "prompt": "How do planes fly?", "reply": "Lift; air.", "year": 2},
    {"id": "d3", "q_id": "c", "prompt": "What is rain?", "reply": "Water\nthat falls.", "year": 3},
]


def result(name: str, kind: str, **value: object) -> dict[str, object]:
    return {"from_name": name, "to_name": "reply", "type": kind, "value": value}


def answers(who: int, number: int) -> list[dict[str, object]]:
    bad = (who + number) % 2 == 0
    found = [
        result("verdict", "choices", choices=["bad" if bad else "good"]),
        result("faults", "choices", choices=["wrong", "rude"] if number == 0 else ["wrong"]),
        result("errors", "number", number=who * number),
        result("stars", "rating", rating=5 - who - number),
        result("why", "textarea", text=["one, two", "three"] if number == 1 else ["so"]),
        result("topic", "taxonomy", taxonomy=[["science", "physics"]]),
        result("read_on", "datetime", datetime="2026-11-20"),
        result("spans", "labels", start=0, end=4, text="Scat", labels=["error"]),
    ]
    return found[::-1] if who == 2 else found  # one may answer in any order


def annotation(task: int, who: int) -> dict[str, object]:
    return {
        "id": 10 * task + who,
        "completed_by": who,
        "result": [] if (task, who) == (2, 2) else answers(who, task),
        "was_cancelled": (task, who) == (2, 2),
        "ground_truth": False,
        "created_at": "2026-11-20T10:00:00Z",
        "updated_at": f"2026-11-20T10:0{task}:00Z",
        "lead_time": 12.5 + task,
    }


def main(out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    tasks = [
        {
            "id": 41 + number,
            "annotations": [annotation(number, who) for who in (1, 2)],
            "drafts": [{"id": 3, "user": "x", "result": answers(1, 3)}],
            "predictions": [{"id": 9, "model_version": "m", "result": answers(2, 3)}],
            "data": data,
            "meta": {},
        }
        for number, data in enumerate(TASKS)
    ]
    (out / "export.json").write_text(json.dumps(tasks, indent=1))
    for kind in ("JSON_MIN", "CSV", "TSV"):
        converter = Converter(CONFIG, str(out), download_resources=False)
        converter.convert(str(out / "export.json"), str(out / kind), kind, is_dir=False)
        (file,) = (out / kind).iterdir()
        file.rename(out / f"{kind.lower()}.{'json' if kind == 'JSON_MIN' else kind.lower()}")
        (out / kind).rmdir()


main(Path(sys.argv[1]))
