#!/usr/bin/env bash
# torch 2.13.0: the functions of torch.distributed.nn.functional have the default group as a default argument, read when
# the module is imported. Imported after init_process_group (as torch._dynamo, torch.distributed.fsdp and transformers'
# modeling_utils do in passing), it keeps the process group for ever: destroy_process_group reports success and
# is_initialized() is False, but gloo's threads go on, up to the exit of the interpreter, where one that wakes up may
# abort a rank that has done its work. Imported before init_process_group, the threads end with the group.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check torch==2.13.0 numpy

cat >threads.py <<'PYTHON'
import importlib
import os
import sys
from pathlib import Path

import torch
import torch.distributed


def gloo():
    tasks = Path("/proc/self/task").iterdir()
    return sum("gloo" in task.joinpath("comm").read_text() for task in tasks)


when, module = sys.argv[1:]
if when == "before":
    importlib.import_module(module)
store = f"file://{os.path.abspath('store')}_{when}_{module}"
torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
if when == "after":
    importlib.import_module(module)
assert gloo() > 0
torch.distributed.destroy_process_group()
assert not torch.distributed.is_initialized()
print(f"{module} imported {when} the group was made: threads left: {'some' if gloo() else 'none'}")
PYTHON

for when in before after; do
    for module in torch.distributed.nn.functional torch.distributed.fsdp; do
        venv/bin/python threads.py "$when" "$module"
    done
done | tee seen
diff seen - <<'SEEN'
torch.distributed.nn.functional imported before the group was made: threads left: none
torch.distributed.fsdp imported before the group was made: threads left: none
torch.distributed.nn.functional imported after the group was made: threads left: some
torch.distributed.fsdp imported after the group was made: threads left: some
SEEN
