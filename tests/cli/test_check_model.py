"""`eft-eval check-model`: what a model can do as a member."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
import transformers
from adapters import make_adapter
from tiny_models import byte_tokenizer, make_model
from typer.testing import CliRunner

from eft_eval.cli.app import app
from eft_eval.engine.checking import check_model
from eft_eval.engine.passes import Passes
from eft_eval.errors import ConfigError

ROOT = Path(__file__).parents[2]


def generator() -> ModuleType:
    """docs/generate/models.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("models", ROOT / "docs/generate/models.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*arguments: str) -> tuple[int, str]:
    made = CliRunner().invoke(app, ["check-model", *arguments])
    return made.exit_code, made.output


def test_a_model_that_can_all(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    code, text = run(folder)
    assert code == 0
    assert "drafts: always" in text
    assert "scored in batches: as each row alone" in text
    code, text = run(folder, "--json")
    found = json.loads(text)
    assert found["architecture"] == "LlamaForCausalLM"
    assert (found["drafts"], found["batches"], found["refused"]) == ("always", "any", None)


def test_an_adapter_is_tried_out_on_its_model(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="adapters need eft-eval[peft]")
    adapter = make_adapter(tmp_path / "adapter", make_model(tmp_path / "model"))
    code, text = run(adapter, "--json")
    found = json.loads(text[text.index("{") :])
    assert code == 0
    assert (found["architecture"], found["drafts"]) == ("LlamaForCausalLM", "always")


def test_a_model_that_looks_ahead_is_refused(tmp_path: Path) -> None:
    config = transformers.BertConfig(
        vocab_size=259, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32,
    )  # fmt: skip
    torch.manual_seed(1)
    model = transformers.BertLMHeadModel(config)
    for weights in model.parameters():
        torch.nn.init.normal_(weights, 0, 0.5)
    model.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    code, text = run(str(tmp_path))
    assert code == 1
    assert "refused: what it says of a token depends on later ones" in text


def test_rows_that_are_refused_are_told(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", positions=64)
    file = Path(folder, "config.json")
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"rope_parameters": rope}))
    assert "refused: rows of more than 64 tokens" in run(folder)[1]
    assert json.loads(run(folder, "--json")[1])["longest"] == 64


@pytest.mark.parametrize(
    ("kind", "drafts", "batches"),
    [
        ("qwen3", "always", "any"),
        ("gemma3_text", "always", "any"),
        ("gpt_neo", "within 16 tokens", "any"),
        ("qwen3_5_text", "always", "any"),
        ("jamba", "never", "any"),
        ("minimax_m3_vl_text", "never", "equal"),
        ("rwkv", "never", "one"),
        ("openai-gpt", "never", "reread"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_architectures(kind: str, drafts: str, batches: str) -> None:
    model = Passes(generator().tiny_model(kind), torch.device("cpu"), kind)
    found = check_model(model, scale=3)
    assert (found.drafts, found.batches, found.scored) == (drafts, batches, None)


def test_the_page_names_every_architecture() -> None:
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    if f"transformers {transformers.__version__}," not in page:
        pytest.skip("docs/models.md is of another transformers")
    missing = [kind for kind in generator().kinds() if kind not in page]
    assert not missing


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x", "--dtype", "foo"], ["dtype", "'foo'", "'float16'"]),
        ([""], ["model", "at least 1 character"]),
        (["x.gguf/", "--dtype", "int8"], ["dtype", "'int8'"]),
    ],
)
def test_a_wrong_argument_is_one_line(arguments: list[str], words: list[str]) -> None:
    error = CliRunner().invoke(app, ["check-model", *arguments]).exception
    assert isinstance(error, ConfigError)
    for word in ["eft-eval check-model: ", *words]:
        assert word in str(error)
    for tail in ("\n", "pydantic", "type="):
        assert tail not in str(error)
