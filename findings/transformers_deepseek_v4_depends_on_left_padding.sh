#!/usr/bin/env bash
# transformers 5.23.0, DeepSeek-V4: two prompts of different lengths in one batch, the shorter one padded on the left and
# masked, as generation is asked for. Expected: each is continued as when it stands alone. Seen: the padded one gets
# other logits and another greedy continuation. Prompts of one
# length in a batch are continued as alone. Nothing is said.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check torch==2.13.0 transformers==5.23.0
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=

venv/bin/python - <<'PYTHON' 2>log | tee seen || { tail -n 20 log; exit 1; }
import torch
from transformers import AutoModelForCausalLM, DeepseekV4Config

torch.manual_seed(0)
config = DeepseekV4Config(
    vocab_size=64, bos_token_id=0, eos_token_id=1, pad_token_id=2, hidden_size=32, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=1, head_dim=8, max_position_embeddings=256,
    n_routed_experts=4, num_local_experts=4, num_experts_per_tok=2, moe_intermediate_size=16,
    q_lora_rank=16, o_lora_rank=16, o_groups=2, qk_rope_head_dim=4, partial_rotary_factor=0.5,
    index_n_heads=4, index_head_dim=8, index_topk=64, sliding_window=16, mlp_layer_types=["moe"] * 2,
    layer_types=["compressed_sparse_attention", "sliding_attention"],
)
model = AutoModelForCausalLM.from_config(config).eval()
with torch.no_grad():
    for weights in model.parameters():
        if weights.dim() > 1:
            weights.normal_(0, 0.25)


def continued(*prompts):
    width = max(map(len, prompts))
    rows = torch.tensor([[2] * (width - len(prompt)) + prompt for prompt in prompts])
    with torch.inference_mode():
        written = model.generate(
            rows, attention_mask=(rows != 2).long(), max_new_tokens=12, do_sample=False,
            pad_token_id=2, eos_token_id=None,
        )
    return written[:, width:].tolist()


short, long, other = (torch.randint(3, 64, (length,)).tolist() for length in (9, 14, 9))
alone = {name: continued(row)[0] for name, row in (("short", short), ("long", long), ("other", other))}
padded, equal = continued(short, long), continued(short, other)
print("short, padded in a batch, as alone:", padded[0] == alone["short"])
print("long, beside it, as alone:", padded[1] == alone["long"])
print("two of one length, as alone:", equal == [alone["short"], alone["other"]])
PYTHON
diff seen - <<'SEEN'
short, padded in a batch, as alone: False
long, beside it, as alone: True
two of one length, as alone: True
SEEN
