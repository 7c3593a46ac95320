#!/usr/bin/env bash
# lm-eval 0.4.13, `--samples`: documents are taken in the order of the data set, but numbered in the order in which the
# option names them. With [5,0] the samples file calls document 0 "5" and document 5 "0"; with [0,0,5] both of its
# lines, of documents 0 and 5, have doc_id 0. Runs that are paired by doc_id compare different questions.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check lm-eval==0.4.13 torch==2.13.0 transformers==5.23.0
export HF_HUB_OFFLINE=1 HF_HOME=$work CUDA_VISIBLE_DEVICES=

for letter in A B C D E F; do printf '{"letter": "%s"}\n' "$letter"; done >documents.jsonl
cat >letters.yaml <<'YAML'
task: letters
dataset_path: json
dataset_kwargs: {data_files: {test: documents.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{letter}}"
doc_to_target: "{{letter}}"
metric_list: [{metric: exact_match}]
YAML

for asked in '[0,5]' '[5,0]' '[0,0,5]'; do
    rm -rf out
    venv/bin/lm_eval run --model dummy --include_path . --tasks letters --samples "{\"letters\": $asked}" \
        --log_samples --output_path out >log 2>&1 || { tail -n 20 log; exit 1; }
    printf '%s: ' "$asked"
    venv/bin/python - <<'PYTHON'
import json
from pathlib import Path

(file,) = Path("out").rglob("samples_letters_*.jsonl")
print(*(f"{one['doc_id']}={one['doc']['letter']}" for one in map(json.loads, file.open())))
PYTHON
done | tee seen
diff seen - <<'SEEN'
[0,5]: 0=A 5=F
[5,0]: 5=A 0=F
[0,0,5]: 0=A 0=F
SEEN
# Seen: [0,5]: 0=A 5=F | [5,0]: 5=A 0=F | [0,0,5]: 0=A 0=F
