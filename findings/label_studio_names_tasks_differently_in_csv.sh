#!/usr/bin/env bash
# label-studio-sdk 2.1.2, tasks whose data have an `id` of their own: of one export its converter writes JSON_MIN with
# the task's number under `id`, and CSV with the data's own id, so that the same annotation has two names.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check label-studio-sdk==2.1.2
cat >convert.py <<'PYTHON'
import csv
import json
import sys
from importlib.metadata import version

from label_studio_sdk.converter import Converter

result = {"from_name": "ok", "to_name": "text", "type": "choices", "value": {"choices": ["yes"]}}
annotation = {"id": 1, "completed_by": 1, "result": [result]}
task = {"id": 41, "data": {"id": "mine-7", "text": "a text"}, "annotations": [annotation]}
with open("export.json", "w") as file:
    json.dump([task], file)
config = (
    '<View><Text name="text" value="$text"/>'
    '<Choices name="ok" toName="text"><Choice value="yes"/></Choices></View>'
)
for kind in ("JSON_MIN", "CSV"):
    Converter(config, ".", download_resources=False).convert("export.json", kind, kind, is_dir=False)
with open("JSON_MIN/result.json") as file:
    in_json = json.load(file)[0]["id"]
with open("CSV/result.csv", newline="") as file:
    in_csv = next(csv.DictReader(file))["id"]
print(f"label-studio-sdk {version('label-studio-sdk')}: id in JSON_MIN {in_json!r}, in CSV {in_csv!r}")
sys.exit((in_json, in_csv) != (41, "mine-7"))
PYTHON
venv/bin/python convert.py 2>/dev/null
