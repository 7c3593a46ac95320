#!/usr/bin/env bash
# lm-eval 0.4.13, `--model hf`: where a tokenizer merges the end of the context with the whole continuation (": C" is
# one token), the continuation has no token of its own. Its log-likelihood is 0.0, as of a certain event, so that
# this option wins multiple-choice questions; nothing is said.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check lm-eval==0.4.13 torch==2.13.0 transformers==5.23.0 accelerate==1.15.0
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=

venv/bin/python - <<'PYTHON' 2>log || { tail -n 20 log; exit 1; }
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

tokens = ["</s>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "ĠA", "ĠB", "ĠC", ":ĠC"]
tokenizer = Tokenizer(
    models.BPE(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=[("Ġ", "A"), ("Ġ", "B"), ("Ġ", "C"), (":", "ĠC")],
    )
)
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="</s>")
torch.manual_seed(0)
model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=len(tokens), hidden_size=32, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=64, bos_token_id=0, eos_token_id=0,
    )
).eval()
lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1)
pairs = [("Letter? Answer:", option) for option in (" A", " B", " C")]
found = lm.loglikelihood([Instance("loglikelihood", {}, pair, 0) for pair in pairs], disable_tqdm=True)
print({option: round(score, 1) for (_, option), (score, _) in zip(pairs, found)})
assert found[2][0] == 0.0 and max(found[0][0], found[1][0]) < -1.0, found
PYTHON
# Seen: {' A': -5.5, ' B': -5.5, ' C': 0.0}
