"""The quicker reader of GGUF files finds what the gguf package's own finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf_files import write_gguf
from tiny_models import byte_tokenizer, make_model

from eft_eval.engine.gguf_reader import quick_reader
from eft_eval.engine.loading import LoadOptions, Member
from eft_eval.errors import ConfigError
from eft_eval.recipe import MemberSpec

gguf = pytest.importorskip("gguf", reason="GGUF files need eft-eval[gguf]")


def values(file: Path) -> tuple[list[Any], list[Any]]:
    """Return all that a reader says of a file's settings and tensors."""
    reader = gguf.GGUFReader(file)
    fields = [
        (name, one.types, one.data, [(part.dtype.name, part.tolist()) for part in one.parts])
        for name, one in reader.fields.items()
    ]
    tensors = [
        (one.name, one.tensor_type, one.data.shape, one.data.dtype.name, one.data.tolist())
        for one in reader.tensors
    ]
    return fields, tensors


def in_order(file: Path, order: Any) -> None:
    """Write a file with every kind of value, in one order of bytes."""
    out = gguf.GGUFWriter(file, "llama", endianess=order)
    out.add_string("a.text", "naïve")
    out.add_string("a.empty", "")
    out.add_array("a.texts", ["", "one", "日本"])
    out.add_array("a.numbers", [1, -2, 3])
    out.add_array("a.reals", [0.5, 2.25])
    out.add_bool("a.flag", True)
    out.add_int64("a.large", -(2**40))
    out.add_float64("a.double", 0.1)
    out.add_tensor("rows", np.arange(12, dtype=np.float32).reshape(3, 4))
    for write in ("header", "kv_data", "tensors"):
        getattr(out, f"write_{write}_to_file")()
    out.close()


@pytest.mark.parametrize("order", ["LITTLE", "BIG"])
def test_it_reads_the_same(tmp_path: Path, order: str) -> None:
    file = tmp_path / "m.gguf"
    in_order(file, getattr(gguf.GGUFEndian, order))
    expected = values(file)
    assert len(expected[0]) > 10
    with quick_reader():
        assert values(file) == expected


def test_members_read_with_it_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers.integrations.gguf")
    model = make_model(tmp_path / "m", vocabulary=260, tokenizer=byte_tokenizer(extra=("qq",)))
    file = write_gguf(model, tmp_path / "m.gguf")
    own, used = gguf.GGUFReader, []
    begin = own.__init__

    def noted(self: Any, *args: Any, **options: Any) -> None:
        used.append(type(self).__name__)
        begin(self, *args, **options)

    monkeypatch.setattr(own, "__init__", noted)
    one = Member(MemberSpec(model=str(file)), LoadOptions())
    assert one.tokenizer.eos_token_id is not None
    assert one.model.num_parameters() > 0
    assert used
    assert {*used} == {"QuickReader"}
    assert gguf.GGUFReader is own


def read_all(file: Path) -> int:
    one = Member(MemberSpec(model=str(file)), LoadOptions())
    return len(one.tokenizer) + int(one.model.num_parameters())


@pytest.mark.parametrize("share", [0.001, 0.02, 0.5])
def test_a_file_that_is_cut_short_is_one_line(tmp_path: Path, share: float) -> None:
    pytest.importorskip("transformers.integrations.gguf")
    model = make_model(tmp_path / "m", vocabulary=260, tokenizer=byte_tokenizer(extra=("qq",)))
    file = Path(write_gguf(model, tmp_path / "m.gguf"))
    assert read_all(file) > 0
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ConfigError, match="cannot read its"):
        read_all(file)
