#!/usr/bin/env bash
# lm-eval 0.4.13 on two ranks, with a number of documents that the ranks cannot share evenly: the rank with fewer asks
# its last request again, and the extra answer is appended to that document's responses (`repeats` is 1). With
# sampling the two differ; --log_samples writes both, and a filter that keeps all responses averages over both.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check lm-eval==0.4.13 torch==2.13.0 transformers==5.23.0 accelerate==1.15.0
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=

python3 -c "import json; print('\n'.join(json.dumps({'question': f'number {n}'}) for n in range(5)))" >docs.jsonl
cat >task.yaml <<'YAML'
task: padded
dataset_path: json
dataset_kwargs: {data_files: {test: docs.jsonl}}
test_split: test
output_type: generate_until
repeats: 1
doc_to_text: "{{question}}"
doc_to_target: ""
generation_kwargs: {until: [], do_sample: true, temperature: 1.0}
metric_list: [{metric: bypass}]
YAML
cat >evaluate.py <<'PYTHON'
import random

import accelerate
import lm_eval
import torch
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager


class Sampler(LM):
    """Answers with a random number; knows its rank as lm-eval's own models do."""

    def __init__(self):
        super().__init__()
        self.accelerator = accelerate.Accelerator(cpu=True)
        self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
        self._device = self.accelerator.device

    @property
    def device(self):
        return self._device

    def all_gather(self, tensor):
        return self.accelerator.gather(tensor)

    def gather_object(self, obj, dst=0):
        found = [None] * self.world_size if self.rank == dst else None
        torch.distributed.gather_object(obj=obj, object_gather_list=found, dst=dst)
        return found

    def barrier(self):
        self.accelerator.wait_for_everyone()

    def generate_until(self, requests, disable_tqdm=False):
        return [str(random.random()) for _ in requests]

    def loglikelihood(self, requests, disable_tqdm=False):
        raise ValueError("not asked")

    loglikelihood_rolling = loglikelihood


results = lm_eval.simple_evaluate(
    Sampler(), tasks=["padded"], task_manager=TaskManager(include_path="."), random_seed=None
)
if results is not None:
    counts = {sample["doc_id"]: len(sample["resps"][0]) for sample in results["samples"]["padded"]}
    print("responses per document:", dict(sorted(counts.items())))
    assert counts == {0: 1, 1: 1, 2: 1, 3: 2, 4: 1}, counts
PYTHON
venv/bin/torchrun --nproc_per_node 2 evaluate.py >log 2>&1 || { tail -n 20 log; exit 1; }
grep "responses per document" log
# Seen: responses per document: {0: 1, 1: 1, 2: 1, 3: 2, 4: 1}
