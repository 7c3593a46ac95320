"""Recipes: one parser, closed models, canonical names."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from eft_eval.errors import ConfigError
from eft_eval.recipe import (
    MemberSpec,
    Recipe,
    canonical_name,
    named_recipe_names,
    needs,
    parse_model_args,
    parse_recipe,
)

FLAT = {"base": "org/Big", "tuned": "org/small-chat", "reference": "org/small"}


def test_text_dict_yaml_and_flat_forms_are_one_recipe(tmp_path: Path) -> None:
    nested = {
        "base": {"model": "org/Big", "dtype": "float16"},
        "deltas": [
            {
                "tuned": {"model": "org/small-chat", "dtype": "float16"},
                "reference": {"model": "org/small", "dtype": "float16"},
                "weight": 0.5,
            }
        ],
    }
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(nested))
    text = "base=org/Big,tuned=org/small-chat,reference=org/small,weight=0.5,dtype=float16"
    forms = [
        parse_recipe(nested),
        parse_recipe({**FLAT, "weight": 0.5, "dtype": "float16"}),
        parse_recipe({**FLAT, "weight": "0.5", "dtype": "float16"}),
        parse_recipe(file),
        parse_recipe(str(file)),
        parse_model_args(text).recipe,
        parse_model_args(f"model={file}").recipe,
        parse_model_args({"model": str(file), "batch_size": 4, "device": "cpu"}).recipe,
        parse_recipe({**FLAT, "weight": 0.5, **{f"{r}.dtype": "float16" for r in FLAT}}),
    ]
    assert len(set(map(str, forms))) == 1
    assert len({canonical_name(recipe) for recipe in forms}) == 1
    assert parse_recipe(forms[0]) is forms[0]


def test_overrides_of_a_named_recipe() -> None:
    recipe = parse_model_args("model=llama2-up,weight=0.25,base.dtype=bfloat16,block=4").recipe
    assert recipe.deltas[0].weight == 0.25
    assert recipe.base.dtype == "bfloat16"
    assert recipe.deltas[0].tuned.dtype == "float16"
    assert recipe.decoding.block == 4
    recipe = parse_model_args("model=llama2-up,base=/models/llama,quantization=4bit").recipe
    assert recipe.base.model == "/models/llama"
    assert recipe.base.parameters is None
    assert {spec.quantization for _, spec in recipe.members} == {"4bit"}


def test_runtime_arguments_are_split_off() -> None:
    recipe, runtime = parse_model_args({**FLAT, "batch_size": "auto:4", "max_length": 512})
    assert runtime == {"batch_size": "auto:4", "max_length": 512}
    parallel = parse_model_args({**FLAT, "parallelize": True})
    assert {spec.placement for _, spec in parallel.recipe.members} == {"auto"}
    assert recipe.base.placement is None


def test_recipe_of_the_environment_and_the_default() -> None:
    default = parse_model_args(None, env={}).recipe
    assert default.base.model == "Qwen/Qwen2.5-1.5B"
    assert default.deltas[0].tuned.model == "Qwen/Qwen2.5-0.5B-Instruct"
    assert parse_model_args("", env={"EFT_RECIPE": "llama2-up"}).recipe == parse_recipe("llama2-up")
    given = parse_model_args({"weight": 0.5}, env={"EFT_RECIPE": "llama2-up"}).recipe
    assert (given.base.model, given.deltas[0].weight) == ("meta-llama/Llama-2-70b-hf", 0.5)
    assert parse_model_args(FLAT, env={"EFT_RECIPE": "nothing"}).recipe.base.model == "org/Big"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({**FLAT, "decoding": {"base": "x"}}, ["'decoding.base': it belongs to a recipe, not to"]),
        ({**FLAT, "base": {"model": "x", "tuned": "y"}}, ["'base.tuned': it belongs to a delta"]),
        ({**FLAT, "wieght": 1}, ["'wieght'", "did you mean 'weight'"]),
        ({**FLAT, "base.dtyp": "x"}, ["'base.dtyp'", "did you mean 'dtype'"]),
        ({**FLAT, "weight": "abc"}, ["weight", "'abc'", "number"]),
        ({**FLAT, "weight": "nan"}, ["weight", "finite"]),
        ("base=a/b,tuned=c/d,reference=e/f,weight=true", ["weight", "not true or false"]),
        ({**FLAT, "block": True}, ["block", "True", "not true or false"]),
        ({**FLAT, "dtype": "float12"}, ["dtype", "'float12'", "float16"]),
        ({**FLAT, "weight_top_p": 1.5}, ["weight_top_p", "1.5"]),
        ({**FLAT, "weight_top_p": 0.9, "weight": 2}, ["weight_top_p", "exactly one delta"]),
        ({**FLAT, "block": -1}, ["block", "-1"]),
        ({**FLAT, "placement": "gpu"}, ["placement", "'gpu'"]),
        ({**FLAT, "reference.prompt": "{{ propmt }}"}, ["prompt", "propmt"]),
        ({"base": "a/b", "tuned": "c/d"}, ["reference", "missing"]),
        ({"pretrained": "a/b"}, ["pretrained", "base="]),
        ({**FLAT, "peft": "x"}, ["peft", "tuned.adapter=ADAPTER"]),
        ({**FLAT, "attn_implementation": "eager"}, ["attn_implementation", "transformers chooses"]),
        ({**FLAT, "subfolder": "x"}, ["subfolder", "FOLDER/SUBFOLDER"]),
        ({**FLAT, "seed": "1"}, ["seed", "--seed"]),
        ({**FLAT, "temperature": "1"}, ["temperature", "--gen_kwargs"]),
        ({**FLAT, "tokenizer_map": "{"}, ["tokenizer_map", "JSON"]),
        ({**FLAT, "base": "x.gguf", "quantization": "8bit"}, ["base", "GGUF", "quantization"]),
        ({"model": "lama2-up"}, ["'lama2-up'", "did you mean 'llama2-up'", "eft-eval recipes"]),
        ({"model": "none/such.yaml"}, ["none/such.yaml", "does not exist"]),
        ({"model": "~nobody-here/such.yaml"}, ["~nobody-here/such.yaml", "does not exist"]),
        ({"model": f"{'x' * 300}.yaml"}, ["cannot read", "too long"]),
        ({"base": "x" * 5000}, ["base.model", "at most 255 bytes"]),
        ({**FLAT, "tuned.adapter": "o/" + "é" * 130}, ["tuned.adapter", "at most 255 bytes"]),
        ({**FLAT, "reference.revision": "a/" * 3000}, ["reference.revision", "at most 255"]),
        ({"base": "a/\ud800"}, ["base.model", "valid string"]),
        ({"base": "a", "deltas": [{str(n): 1 for n in range(9999)}]}, ["more of the kind"]),
        ({**FLAT, "weight": ["x" * 9999]}, ["weight", "…"]),
        ({"base": "a", "deltas": [], "weight": 1}, ["'weight'", "one delta"]),
        ({"base": "a", "deltas": [{**FLAT}]}, ["unknown key", "deltas.0.base"]),
    ],
)
def test_bad_input_is_one_clear_line(args: dict | str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_model_args(args, env={})
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 2000
    for word in words:
        assert word in message


def test_text_without_an_equals_sign() -> None:
    with pytest.raises(ConfigError, match="'llama2-up' is no key=value pair"):
        parse_model_args("llama2-up")


def test_all_named_recipes_validate_offline() -> None:
    names = named_recipe_names()
    assert {"llama1-up", "llama1-down", "llama2-up", "llama2-down", "falcon-up"} <= set(names)
    canonical = [canonical_name(parse_recipe(name)) for name in names if name != "demo-up"]
    assert len(set(canonical)) == len(canonical)
    for name in names:
        recipe = parse_recipe(name)
        assert recipe.description, name
        roles = [spec.model for _, spec in recipe.members]
        assert len(set(roles)) == len(roles) or name.startswith("demo"), name
        need = needs(recipe)
        # shapes that are not published where they could be read
        uncounted = name in ("qwen3.5-9b-up", "gemma4-31b-up", "granite4-h-small-up")
        assert (need.parameters is None) == (need.weight_bytes is None) == uncounted
    assert needs(parse_recipe("llama2-up")).parameters == 68976648192 + 2 * 6738415616
    eight_bit = parse_recipe("falcon-down")
    assert eight_bit.deltas[0].tuned.quantization == "8bit"


class TestNames:
    def test_a_name_is_pinned(self) -> None:
        """Names label published results: they must not change from version to version."""
        assert canonical_name(parse_recipe("llama2-up")) == (
            "eft_Llama-2-70b-hf+Llama-2-7b-chat-hf-vs-Llama-2-7b-hf_43098055"
        )

    def test_what_changes_a_result_changes_the_name(self) -> None:
        variants = [
            {},
            {"weight": 0.5},
            {"dtype": "float16"},
            {"base.revision": "v1"},
            {"quantization": "8bit"},
            {"weight_top_p": 0.9},
            {"reference.prompt": "{{ prompt }}!"},
        ]
        names = {canonical_name(parse_recipe({**FLAT, **variant})) for variant in variants}
        assert len(names) == len(variants)

    def test_speed_settings_do_not(self) -> None:
        plain = canonical_name(parse_recipe(FLAT))
        for variant in ({"placement": "cuda:1"}, {"block": 8}, {"description": "x"}):
            assert canonical_name(parse_recipe({**FLAT, **variant})) == plain

    def test_a_folder_is_named_by_content_not_by_place(self, tmp_path: Path) -> None:
        def recipe(folder: Path) -> Recipe:
            return parse_recipe({**FLAT, "base": str(folder)})

        first = tmp_path / "a" / "model"
        first.mkdir(parents=True)
        (first / "config.json").write_text("{}")
        (first / "model.safetensors").write_bytes(bytes(100))
        second = tmp_path / "b" / "model"
        shutil.copytree(first, second)
        (second / "README.md").write_text("not part of the model")
        assert canonical_name(recipe(first)) == canonical_name(recipe(second))
        third = tmp_path / "c" / "model"
        shutil.copytree(first, third)
        (third / "model.safetensors").write_bytes(bytes(99) + b"x")
        assert canonical_name(recipe(third)) != canonical_name(recipe(first))

    def test_large_files_are_sampled_and_still_told_apart(self, tmp_path: Path) -> None:
        from eft_eval.recipe.naming import folder_digest

        digests = []
        for name, byte in (("a", b"\0"), ("b", b"\1")):
            folder = tmp_path / name
            folder.mkdir()
            with (folder / "model.safetensors").open("wb") as stream:
                stream.write(b"header")
                stream.seek(20 << 20)
                stream.write(byte)
            digests.append(folder_digest(str(folder)))
        assert digests[0] != digests[1]

    def test_a_folder_that_is_written_anew_is_named_anew(self, tmp_path: Path) -> None:
        """As a notebook does that trains, evaluates and trains on."""
        (tmp_path / "model.gguf").write_bytes(bytes(100))
        for model in (tmp_path, tmp_path / "model.gguf"):
            names = []
            for content in (b"one", b"two", b"one"):
                (tmp_path / "tokenizer.json").write_bytes(content)
                names.append(canonical_name(parse_recipe({**FLAT, "base": str(model)})))
            assert names[0] != names[1]
            assert names[0] == names[2]

    def test_names_are_folder_names(self, tmp_path: Path) -> None:
        folder = tmp_path / ("very long " * 20 + "näme:*")
        folder.mkdir()
        name = canonical_name(parse_recipe({**FLAT, "base": str(folder)}))
        assert len(name) < 180
        assert not set(name) & set('"<>:/|\\?*[] ')


def test_what_lies_beside_a_gguf_file_is_part_of_it(tmp_path: Path) -> None:
    names = []
    for number, beside in enumerate(
        ({}, {"notes.txt": "x"}, {"tokenizer.json": "{}"}, {"tokenizer.json": "[]"},
         {"generation_config.json": "{}"})
    ):  # fmt: skip
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "model.gguf").write_bytes(b"GGUF")
        for name, text in beside.items():
            (folder / name).write_text(text)
        names.append(canonical_name(parse_recipe({"base": str(folder / "model.gguf")})))
    assert names[0] == names[1]
    assert len({*names}) == 4


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("bf16", "bfloat16"), ("half", "float16"), ("torch.float32", "float32"),
        ("fp64", "float64"), ("BF16", "bfloat16"), ("f32", "float32"),
        (torch.bfloat16, "bfloat16"),
    ],
)  # fmt: skip
def test_types_by_their_other_names(short: object, long: str) -> None:
    recipe = parse_recipe({**FLAT, "dtype": short})
    assert {spec.dtype for _, spec in recipe.members} == {long}
    assert canonical_name(recipe) == canonical_name(parse_recipe({**FLAT, "dtype": long}))


@pytest.mark.parametrize(
    ("path", "model", "file"),
    [
        ("/models/m.Q4.gguf", "/models", "m.Q4.gguf"),
        ("m.gguf", ".", "m.gguf"),
        ("org/name/m.gguf", "org/name", "m.gguf"),
        ("org/name/sub/m.gguf", "org/name", "sub/m.gguf"),
        ("./a/b/c/m.gguf", "./a/b/c", "m.gguf"),
    ],
)
def test_a_path_of_a_gguf_file_is_folder_and_file(path: str, model: str, file: str) -> None:
    base = parse_recipe({**FLAT, "base": path}).base
    assert (base.model, base.gguf_file) == (model, file)
    assert base == parse_recipe({**FLAT, "base": model, "base.gguf_file": file}).base


def test_a_path_of_python_is_a_member(tmp_path: Path) -> None:
    given = {"base": tmp_path / "big", "tuned": {"model": tmp_path / "m.gguf"}}
    recipe = parse_recipe({**given, "reference": "org/small", "tuned.adapter": tmp_path / "x"})
    assert recipe.base == MemberSpec(model=str(tmp_path / "big"))
    tuned = recipe.deltas[0].tuned
    assert (tuned.model, tuned.gguf_file) == (str(tmp_path), "m.gguf")
    assert tuned.adapter == str(tmp_path / "x")


@pytest.mark.parametrize("given", [None, 3, ["org/model"], ("a", "b")])
def test_what_is_no_recipe_is_one_line(given: object) -> None:
    with pytest.raises(ConfigError, match="expected a recipe's name, the path of a YAML file, a"):
        parse_recipe(given)  # type: ignore[arg-type]


def test_json_within_text_keeps_its_commas() -> None:
    text = 'base=a,tuned=b,reference=c,tokenizer_map={"<x>": "<y>", "<z>": "<w>"},weight=2'
    recipe = parse_model_args(text).recipe
    assert recipe.tokenizer_map == {"<x>": "<y>", "<z>": "<w>"}
    assert recipe.deltas[0].weight == 2


def test_a_key_of_another_place_is_told_where_it_belongs(tmp_path: Path) -> None:
    file = tmp_path / "flat.yaml"
    file.write_text("base: a\ntuned: b\nreference: c\nblock: 3\ndescriptoin: x\n")
    with pytest.raises(ConfigError) as caught:
        parse_recipe(str(file))
    text = str(caught.value)
    assert "unknown key 'tuned': it belongs to a delta (deltas: [{tuned: …" in text
    assert "unknown key 'block': it belongs to decoding" in text
    assert "'descriptoin' (did you mean 'description'?); a recipe has base, deltas" in text
    assert "did you mean 'tuned'" not in text
