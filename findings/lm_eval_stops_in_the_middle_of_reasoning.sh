#!/usr/bin/env bash
# lm-eval 0.4.13, `--model hf` with enable_thinking and think_end_token: a task's stop strings are said to be for the
# answer, not for the reasoning ("which often contains \n\n etc."). Expected, with `until: ["\n\n"]`: the answer that
# follows the reasoning. Seen: generation itself stops at the first of them, in the reasoning; there is no answer, and
# the reasoning's beginning is scored as one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check lm-eval==0.4.13 torch==2.13.0 transformers==5.23.0 accelerate==1.15.0
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=

venv/bin/python - <<'PYTHON' 2>log | tee seen || { tail -n 20 log; exit 1; }
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

# a model that always writes the same: each token is followed by the next of these
written = ["Question:", "<think>", "Six times seven.", "\n\n", "Forty-two.", "</think>", "42", "<end>"]
words = {word: number for number, word in enumerate([*written, "?"])}
tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
tokenizer.decoder = decoders.Fuse()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>")
model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=64, bos_token_id=7, eos_token_id=7,
    )
).eval()
with torch.no_grad():
    for weights in model.model.layers.parameters():
        weights.zero_()
    model.model.embed_tokens.weight.copy_(torch.eye(len(words), 16))
    model.lm_head.weight.copy_(torch.eye(len(words), 16).roll(1, dims=0))
lm = HFLM(
    pretrained=model, tokenizer=tokenizer, batch_size=1, enable_thinking=True, think_end_token="</think>"
)
for until in ([], ["\n\n"]):
    asked = ("Question:", {"until": until, "max_gen_toks": 16, "do_sample": False})
    (found,) = lm.generate_until([Instance("generate_until", {}, asked, 0)], disable_tqdm=True)
    print(f"until {until}: {found!r}")
PYTHON
diff seen - <<'SEEN'
until []: '42'
until ['\n\n']: '<think>Six times seven.'
SEEN
