"""Weights in several files: one checkpoint's, or an error; a model under two paths is one."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import torch
from adapters import composite, make_adapter
from safetensors.torch import load_file, save_file
from tiny_models import make_model
from transformers import AutoModelForCausalLM

from eft_eval import Composite
from eft_eval.errors import ConfigError
from eft_eval.recipe import canonical_name, parse_recipe

PAIRS = [("Who works here?", " Toni works.")]


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Return a folder whose weights lie in several files."""
    whole, folder = make_model(tmp_path / "whole"), tmp_path / "parts"
    AutoModelForCausalLM.from_pretrained(whole).save_pretrained(folder, max_shard_size="40KB")
    for file in Path(whole).glob("*token*"):
        shutil.copy(file, folder)
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    return folder


def score(folder: Path | str) -> float:
    return Composite.load({"base": str(folder)}).loglikelihood(PAIRS)[0].log_prob


def test_weights_in_several_files_are_those_in_one(parts: Path, tmp_path: Path) -> None:
    assert score(parts) == score(tmp_path / "whole")


def test_a_tensor_in_two_files_is_an_error(parts: Path) -> None:
    first, second = sorted(parts.glob("model-*"))[:2]
    weights = load_file(second)
    name, tensor = next(iter(load_file(first).items()))
    save_file({**weights, name: torch.zeros_like(tensor)}, second, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=f"{first.name} and {second.name} both hold {name}"):
        score(parts)


@pytest.mark.parametrize("missing", [False, True])
def test_one_file_beside_several_is_told(
    parts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, missing: bool
) -> None:
    shutil.copy(tmp_path / "whole" / "model.safetensors", parts)
    if missing:  # an index that an earlier save left
        sorted(parts.glob("model-*"))[0].unlink()
    with caplog.at_level(logging.WARNING, logger="eft_eval"):
        assert score(parts) == score(tmp_path / "whole")
    assert ("are read from model.safetensors; those of" in caplog.text) is not missing


def test_a_folder_of_models_names_them(tmp_path: Path) -> None:
    make_model(tmp_path / "run" / "checkpoint-10")
    with pytest.raises(ConfigError, match=r"no config.json.* such as in its checkpoint-10$"):
        Composite.load({"base": str(tmp_path / "run")})


def test_a_file_in_place_of_its_folder_is_told(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    with pytest.raises(ConfigError, match="it is a file; give the folder that it lies in"):
        Composite.load({"base": f"{folder}/model.safetensors"})


def test_a_model_under_several_paths_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_model(tmp_path / "base")
    make_model(tmp_path / "other", seed=3)
    (tmp_path / "link").symlink_to(tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    made = Composite.load({"base": base, "tuned": "other/", "reference": "link"})
    assert made.members["base"] is made.members["reference"]
    assert [view.role for view in made.views] == ["tuned"]


def test_an_adapter_under_two_paths_is_one(tmp_path: Path) -> None:
    small = make_model(tmp_path / "small")
    make_model(tmp_path / "large", seed=2)
    adapter = make_adapter(tmp_path / "adapter", small)
    (tmp_path / "link").symlink_to(tmp_path / "adapter")
    one = composite(tmp_path, adapter, base=str(tmp_path / "link"))
    assert one.members["base"] is one.members["tuned"]


def test_a_model_that_is_trained_on_has_another_name(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", seed=1)
    recipe = parse_recipe({"base": folder})
    first = Composite.load(recipe)
    name = first.name
    assert canonical_name(recipe) == name
    make_model(tmp_path / "model", seed=2)
    assert canonical_name(recipe) != name
    assert first.name == name  # whose weights it may have read before
