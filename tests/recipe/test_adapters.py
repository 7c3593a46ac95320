"""Which model an adapter is applied to; read from its configuration alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eft_eval.errors import ConfigError
from eft_eval.recipe import MemberSpec, canonical_name, needs, parse_recipe


def adapter(folder: Path, base: str | None, **more: object) -> str:
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "base_model_name_or_path": base, **more}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(str(folder.name).encode())
    return str(folder)


def whole(folder: Path, content: str = "weights") -> str:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text(content)
    return str(folder)


def tuned_of(tuned: str, reference: str = "org/small", **keys: object) -> MemberSpec:
    recipe = parse_recipe({"base": "org/large", "tuned": tuned, "reference": reference, **keys})
    return recipe.deltas[0].tuned


def test_an_adapter_of_the_reference_is_loaded_as_the_reference_is(tmp_path: Path) -> None:
    lora = adapter(tmp_path / "lora", "org/small")
    keys = {"reference.revision": "abc", "reference.dtype": "bfloat16"}
    assert tuned_of(lora, **keys) == MemberSpec(
        model="org/small", revision="abc", dtype="bfloat16", adapter=lora
    )
    # unless the tuned member says otherwise
    assert tuned_of(lora, **keys, **{"tuned.quantization": "8bit"}).quantization == "8bit"


@pytest.mark.parametrize(
    ("named", "reference"),
    [
        (None, "org/small"),
        ("/gone/model", "org/small"),
        ("./gone", "org/small"),
        ("a/long/path", "org/small"),
        ("org/mine", "FOLDER/mine"),
        ("FOLDER/copy", "FOLDER/mine"),
        ("FOLDER/other/../mine", "FOLDER/mine"),
    ],
)
def test_a_model_that_is_the_reference_by_another_name(
    tmp_path: Path, named: str | None, reference: str
) -> None:
    whole(tmp_path / "mine")
    whole(tmp_path / "copy")
    whole(tmp_path / "other", "others")
    named = named and named.replace("FOLDER", str(tmp_path))
    reference = reference.replace("FOLDER", str(tmp_path))
    lora = adapter(tmp_path / "lora", named)
    assert tuned_of(lora, reference) == MemberSpec(model=reference, adapter=lora)


def test_an_adapter_of_another_model_keeps_it(tmp_path: Path) -> None:
    lora = adapter(tmp_path / "lora", "org/other", revision="abc")
    assert tuned_of(lora) == MemberSpec(model="org/other", revision="abc", adapter=lora)
    other = whole(tmp_path / "other", "others")
    lora = adapter(tmp_path / "lora2", other)
    assert tuned_of(lora, whole(tmp_path / "mine")) == MemberSpec(model=other, adapter=lora)


@pytest.mark.parametrize(
    ("says", "reference", "loaded"),
    [(None, "v2", "v2"), ("v2", "v2", "v2"), ("main", None, None), ("v2", None, "v2"),
     ("v2", "v3", "v2"), ("v2", "main", "v2")],
)  # fmt: skip
def test_an_adapter_of_a_revision_is_applied_to_that_one(
    tmp_path: Path, says: str | None, reference: str | None, loaded: str | None
) -> None:
    lora = adapter(tmp_path / "lora", "org/small", revision=says)
    keys = {} if reference is None else {"reference.revision": reference}
    assert tuned_of(lora, **keys).revision == loaded


def test_an_adapter_of_the_base_is_loaded_as_the_base_is(tmp_path: Path) -> None:
    lora = adapter(tmp_path / "lora", "org/large")
    assert tuned_of(lora, **{"base.dtype": "float16"}) == MemberSpec(
        model="org/large", dtype="float16", adapter=lora
    )


@pytest.mark.parametrize("named", [None, "/gone/model"])
def test_a_base_without_a_name_is_refused(tmp_path: Path, named: str | None) -> None:
    lora = adapter(tmp_path / "lora", named)
    with pytest.raises(ConfigError, match=r"write base=BASE,base\.adapter="):
        parse_recipe({"base": lora, "tuned": "org/chat", "reference": "org/small"})


def test_what_is_not_both_is_refused(tmp_path: Path) -> None:
    lora = adapter(tmp_path / "lora", "org/small")
    with pytest.raises(ConfigError, match="is an adapter itself"):
        tuned_of(lora, **{"tuned.adapter": lora})
    (tmp_path / "lora" / "model-00001-of-00002.safetensors").write_text("")
    with pytest.raises(ConfigError, match="beside the weights of a whole model"):
        tuned_of(lora)


@pytest.mark.parametrize("text", ["[]", "{", ""])
def test_a_damaged_configuration_is_one_line(tmp_path: Path, text: str) -> None:
    lora = adapter(tmp_path / "lora", "org/small")
    (tmp_path / "lora" / "adapter_config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"adapter_config\.json .*(JSON|mapping)"):
        tuned_of(lora)


def test_the_name_tells_adapters_apart_by_content(tmp_path: Path) -> None:
    def name(tuned: str, **keys: object) -> str:
        given = {"base": "org/large", "tuned": tuned, "reference": "org/small", **keys}
        return canonical_name(parse_recipe(given))

    one = adapter(tmp_path / "one", "org/small")
    again = adapter(tmp_path / "elsewhere" / "one", "org/small")
    two = adapter(tmp_path / "two", "org/small")
    assert name(one) == name(again) == name("org/small", **{"tuned.adapter": again})
    assert len({name(one), name(two), name("org/small")}) == 3


def test_shared_weights_are_counted_once(tmp_path: Path) -> None:
    lora = adapter(tmp_path / "lora", "org/small")
    keys = {"base.parameters": 7, "reference.parameters": 3}
    recipe = parse_recipe({"base": "org/large", "tuned": lora, "reference": "org/small", **keys})
    assert needs(recipe).parameters == 10
