#!/usr/bin/env bash
# transformers 5.23.0, AutoTokenizer with gguf_file: a file says in tokenizer.ggml.pre how its texts are split, and
# `smollm` splits every digit, as SmolLM's own tokenizer.json does (Digits with individual_digits). Expected: one token
# per digit. Seen: the word is not known, GPT-2's split is taken in silence, and "123" is one token, on which the model
# was not trained.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check torch==2.13.0 transformers==5.23.0 tokenizers==0.23.3 gguf==0.19.0
export HF_HUB_OFFLINE=1 CUDA_VISIBLE_DEVICES=

venv/bin/python - <<'PYTHON' 2>log | tee seen || { tail -n 20 log; exit 1; }
import gguf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

vocabulary = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
vocabulary |= {"12": 256, "123": 257, "<|endoftext|>": 258}
merges = [("1", "2"), ("12", "3")]

own = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
own.pre_tokenizer = pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
)
own.decoder = decoders.ByteLevel()
PreTrainedTokenizerFast(tokenizer_object=own, eos_token="<|endoftext|>").save_pretrained("own")

out = gguf.GGUFWriter("model.gguf", "llama")
for add, value in (
    (out.add_block_count, 1), (out.add_context_length, 64), (out.add_embedding_length, 32),
    (out.add_feed_forward_length, 32), (out.add_head_count, 2), (out.add_head_count_kv, 2),
    (out.add_layer_norm_rms_eps, 1e-5), (out.add_vocab_size, len(vocabulary)),
    (out.add_tokenizer_model, "gpt2"), (out.add_tokenizer_pre, "smollm"),
    (out.add_token_list, list(vocabulary)), (out.add_token_types, [1] * 258 + [3]),
    (out.add_token_merges, [" ".join(pair) for pair in merges]), (out.add_eos_token_id, 258),
):
    add(value)
out.write_header_to_file()
out.write_kv_data_to_file()
out.write_tensors_to_file()
out.close()

print("tokenizer.json:", AutoTokenizer.from_pretrained("own").tokenize("123"))
print("GGUF, smollm:", AutoTokenizer.from_pretrained(".", gguf_file="model.gguf").tokenize("123"))
PYTHON
diff seen - <<'SEEN'
tokenizer.json: ['1', '2', '3']
GGUF, smollm: ['123']
SEEN
