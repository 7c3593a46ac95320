"""Families whose tokenizers differ: one line before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_models import make_model
from tokenizer_kinds import size_of, tokenizer_of
from typer.testing import CliRunner
from written_studies import planned

from eft_eval.cli.app import app
from eft_eval.errors import ConfigError
from eft_eval.study.family import Family, parse_family
from eft_eval.study.tokenizers import check_tokenizers


def family(folder: Path, **kinds: str) -> Family:
    """Return a family whose members have tokenizers of these kinds."""
    models = {}
    for name, kind in kinds.items():
        tokenizer = tokenizer_of(kind)
        models[name.replace("_", "-")] = make_model(
            folder / name, vocabulary=size_of(tokenizer), layers=1, tokenizer=tokenizer
        )
    return parse_family(models, "a test", "mixed")


@pytest.mark.parametrize("fetch", [True, False])
def test_other_tokenizers_are_one_line_with_their_names(tmp_path: Path, fetch: bool) -> None:
    one = family(
        tmp_path, small_base="gpt2", small_tuned="gpt2", large_base="llama3", large_tuned="llama3"
    )
    plan = planned(tmp_path / "s", "scaling", family=one).plan
    with pytest.raises(ConfigError) as caught:
        check_tokenizers(plan, fetch)
    said = str(caught.value)
    names = "family mixed (base: large-base, tuned: small-tuned, reference: small-base): the "
    assert said.startswith(names + "tokenizers differ: token ")
    assert str(tmp_path / "large_base") in said
    assert "\n" not in said
    alone = {"small-tuned": {"base": "small-tuned"}, "large-tuned": {"base": "large-tuned"}}
    check_tokenizers(planned(tmp_path / "t", "scaling", family=one, arms=alone).plan, fetch)


def test_tokenizers_that_agree_or_are_not_there_pass(tmp_path: Path) -> None:
    names = ("small_base", "small_tuned", "large_base", "large_tuned")
    same = family(tmp_path, **dict.fromkeys(names, "qwen"))
    check_tokenizers(planned(tmp_path / "s", "scaling", family=same).plan, fetch=True)
    gone = {name.replace("_", "-"): str(tmp_path / "nothing" / name) for name in names}
    nowhere = parse_family(gone, "a test")
    check_tokenizers(planned(tmp_path / "s", "scaling", family=nowhere).plan, fetch=True)


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_nothing_is_begun_with_them(tmp_path: Path, more: list[str]) -> None:
    one = family(tmp_path, small_base="gpt2", small_tuned="gpt2", large_base="qwen")
    file = tmp_path / "mixed.yaml"
    file.write_text(json.dumps({name: spec.model for name, spec in one.members.items()}))
    words = ["study", "truncation", "--family", str(file), "--tasks", "demo_fact"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "s"), *more])
    assert str(done.exception).startswith("family mixed (base: large-base, tuned: small-tuned")
    assert not (tmp_path / "s").exists()
