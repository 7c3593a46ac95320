#!/usr/bin/env bash
# transformers 5.23.0, Nemotron-H: a pass over several tokens raises a head's time steps to config.time_step_min (0.001
# unless it says otherwise); a pass over one token with the cache does not. Expected: tokens read one by one give the
# logits of one pass over all. Seen: where time steps are shorter, they differ, so that what is generated is scored
# otherwise than it was drawn. With time_step_min next to 0 the two are one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check torch==2.13.0 transformers==5.23.0
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=

venv/bin/python - <<'PYTHON' 2>log || { tail -n 20 log; exit 1; }
import torch
from transformers import AutoModelForCausalLM, NemotronHConfig


def furthest(**settings):
    torch.manual_seed(0)
    config = NemotronHConfig(
        vocab_size=64, hidden_size=32, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        intermediate_size=48, layers_block_type=["mamba", "attention", "mamba"], mamba_num_heads=8,
        mamba_head_dim=8, ssm_state_size=8, n_groups=1, chunk_size=32, max_position_embeddings=256,
        bos_token_id=0, eos_token_id=1, pad_token_id=2, **settings,
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.dim() > 1:
                weights.normal_(0, 0.5)
            elif name.endswith("dt_bias"):
                weights.fill_(-9.0)  # time steps around 0.0001
    tokens = torch.randint(3, 64, (1, 64))
    with torch.inference_mode():
        whole = model(tokens, use_cache=False).logits
        cache, logits = None, []
        for place in range(64):
            step = model(tokens[:, place : place + 1], past_key_values=cache, use_cache=True)
            cache = step.past_key_values
            logits.append(step.logits)
    return ((torch.cat(logits, 1) - whole).abs().max() / whole.std()).item()


limited, free = furthest(), furthest(time_step_min=1e-9)
print(f"furthest logit, in standard deviations: {limited:.2g}; with time_step_min 1e-9: {free:.2g}")
assert limited > 0.01 and free < 1e-4, (limited, free)
PYTHON
