"""An adapter as tuned member of lm-eval's model: provenance, and the file's type of a GGUF base."""

from __future__ import annotations

from pathlib import Path

import pytest
from adapters import make_adapter
from gguf_files import needs_gguf, write_gguf
from tiny_models import byte_tokenizer, make_model

from eft_eval.model_adapters.eft import EFTLM

pytest.importorskip("peft", reason="adapters need eft-eval[peft]")
pytest.importorskip("gguf", reason="GGUF files need eft-eval[gguf]")
pytestmark = needs_gguf


def test_results_say_adapter_and_type(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer(extra=("qq",))
    small = make_model(tmp_path / "small", vocabulary=260, tokenizer=tokenizer)
    large = make_model(tmp_path / "large", vocabulary=260, hidden=64, tokenizer=tokenizer)
    file = write_gguf(large, tmp_path / "large.Q8_0.gguf", "Q8_0")
    adapter = make_adapter(tmp_path / "lora", small)
    model = EFTLM(base=file, tuned=adapter, reference=small)
    for member in set(model.composite.members.values()):
        _ = member.model
    info = model.get_model_info()
    base, tuned, reference = (info["eft_members"][r] for r in ("base", "tuned", "reference"))
    assert (base["quantization"], base["gguf_file"]) == ("gguf Q8_0", "large.Q8_0.gguf")
    assert base["model"].startswith("sha256:")
    assert tuned["model"] == reference["model"]
    assert (tuned["adapter"][:7], tuned["adapter_source"]) == ("sha256:", adapter)
    assert "adapter" not in reference
    assert tuned["num_parameters"] > reference["num_parameters"]
    # shared weights are counted once
    assert info["model_num_parameters"] == base["num_parameters"] + tuned["num_parameters"]
    assert info["eft_identity"]["deltas"][0][0]["adapter"] == tuned["adapter"]
