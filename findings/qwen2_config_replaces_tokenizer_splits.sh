#!/usr/bin/env bash
# transformers 5.23.0, AutoTokenizer: the type of the model decides how a tokenizer.json splits texts.
#
# One tokenizer.json (byte-level BPE whose pre-tokenizer keeps numbers in groups of up to three digits,
# as Llama-3's does; tokenizer_class PreTrainedTokenizerFast) lies beside two config.json files.
# Expected: the same tokens, since both folders hold the same tokenizer files.
# Seen: beside `model_type: llama` the file is read as it stands; beside `model_type: qwen2` the class
# Qwen2Tokenizer is chosen against tokenizer_config.json, its own pre-tokenizer takes the file's place,
# and every digit is a token. Loading PreTrainedTokenizerFast itself gives the file's tokens for both.
# A checkpoint of one family with the tokenizer of another is read, in silence, with other tokens than
# it was trained on.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check transformers==5.23.0 tokenizers==0.23.3
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import json
from pathlib import Path

import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

letters = sorted(pre_tokenizers.ByteLevel.alphabet())
vocabulary = {letter: number for number, letter in enumerate(letters)}
vocabulary |= {"12": 256, "123": 257, "<end>": 258}
file = Tokenizer(models.BPE(vocab=vocabulary, merges=[("1", "2"), ("12", "3")]))
file.pre_tokenizer = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Split(Regex(r"\p{N}{1,3}|[^\p{N}]+"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
)
file.decoder = decoders.ByteLevel()
whole = PreTrainedTokenizerFast(tokenizer_object=file, eos_token="<end>")

seen = {}
for kind in ("llama", "qwen2"):
    folder = Path(kind)
    whole.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": kind, "vocab_size": 259}))
    for name, loader in (("AutoTokenizer", AutoTokenizer), ("the file", PreTrainedTokenizerFast)):
        tokenizer = loader.from_pretrained(folder)
        seen[kind, name] = tokenizer.tokenize("123")
        print(kind, name, type(tokenizer).__name__, seen[kind, name])
same = Path("llama/tokenizer.json").read_bytes() == Path("qwen2/tokenizer.json").read_bytes()
print("transformers", transformers.__version__, "- equal tokenizer.json:", same)
assert same
assert seen["llama", "AutoTokenizer"] == seen["llama", "the file"] == ["123"]
assert seen["qwen2", "the file"] == ["123"]
assert seen["qwen2", "AutoTokenizer"] == ["1", "2", "3"]
PYTHON
