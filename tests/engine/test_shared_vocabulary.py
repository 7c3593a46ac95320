"""Members of one family speak alike: what their tokenizers share, and what is refused or told."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from tiny_models import make_model
from tokenizer_kinds import KINDS, size_of, tokenizer_of
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from eft_eval import Composite
from eft_eval.engine.loading import LoadOptions, Member
from eft_eval.engine.vocabulary import common_vocabulary
from eft_eval.errors import ConfigError
from eft_eval.recipe import MemberSpec


def member(folder: Path | str, label: str | None = None) -> Member:
    return Member(MemberSpec(model=str(folder)), LoadOptions(), label)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_holes_are_shared(kind: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(kind)
    end = size_of(tokenizer)
    members = {
        role: member(
            make_model(
                tmp_path / role,
                vocabulary=end + more,
                layers=1,
                tokenizer=tokenizer,
                eos=tokenizer.eos_token_id,
            )
        )
        for role, more in (("base", 40), ("tuned", 0), ("reference", 8))
    }
    assert common_vocabulary(members) == (end, frozenset())


def resplit(kind: str) -> PreTrainedTokenizerFast:
    """Return a kind's vocabulary with another rule for where texts are split."""
    source = tokenizer_of(kind)
    inner = Tokenizer.from_str(source.backend_tokenizer.to_str())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=source.eos_token)


def test_tokenizers_that_split_otherwise_are_refused(tmp_path: Path) -> None:
    plain, other = tokenizer_of("gpt2"), resplit("gpt2")
    assert plain.get_vocab() == other.get_vocab()
    folders = {
        role: make_model(tmp_path / role, vocabulary=size_of(plain), layers=1, tokenizer=tokenizer)
        for role, tokenizer in (("base", other), ("tuned", plain), ("reference", plain))
    }
    members = {role: member(folder, f"{role} member") for role, folder in folders.items()}
    with pytest.raises(ConfigError, match=r"split texts otherwise: .* in tuned member and .* base"):
        common_vocabulary(members)


def test_a_tokenizer_that_gives_no_token_is_compared_all_the_same(tmp_path: Path) -> None:
    words = Tokenizer(models.BPE(vocab={"<s>": 0, "</s>": 1, "word": 2}, merges=[], unk_token=None))
    bare = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>")
    assert bare("a").input_ids == []
    roles = ("base", "tuned", "reference")
    folders = {role: make_model(tmp_path / role, layers=1, tokenizer=bare) for role in roles}
    members = {role: member(folder, role) for role, folder in folders.items()}
    assert common_vocabulary(members).size == 3


def told_of_spaces(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, declared: Mapping[str, str]
) -> list[str]:
    """Return what is said of members of Llama-2's kind of which some are read by transformers'."""
    one, members = tokenizer_of("llama2"), {}
    for role in ("base", "tuned", "reference"):
        folder = make_model(tmp_path / role, vocabulary=size_of(one), layers=1, tokenizer=one)
        rewrite_class(Path(folder), declared.get(role, "PreTrainedTokenizerFast"))
        members[role] = member(folder, f"{role} member")
    with caplog.at_level(logging.WARNING, logger="eft_eval"):
        common_vocabulary(members)
    return [record.getMessage() for record in caplog.records]


def rewrite_class(folder: Path, name: str) -> None:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "tokenizer_class": name}))


def test_a_first_space_that_members_read_otherwise_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (told,) = told_of_spaces(tmp_path, caplog, {"base": "LlamaTokenizer"})
    assert re.match(
        r"a space that .* by tuned member \('▁' '▁' .* than by base member \('▁' 'l'", told
    )


def test_a_tokenizer_that_transformers_reads_otherwise_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    declared = dict.fromkeys(("base", "tuned", "reference"), "LlamaTokenizer")
    (told,) = told_of_spaces(tmp_path, caplog, declared)
    assert told.startswith("tuned member: transformers' LlamaTokenizer reads ' leading and ")


def test_padding_that_a_file_keeps_is_no_other_reading(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, members = tokenizer_of("gpt2"), {}
    for role in ("base", "tuned", "reference"):
        folder = Path(make_model(tmp_path / role, vocabulary=size_of(one), layers=1, tokenizer=one))
        rewrite_class(folder, "GPT2Tokenizer")
        written = Tokenizer.from_file(str(folder / "tokenizer.json"))
        written.enable_padding(length=64)
        written.enable_truncation(8)
        written.save(str(folder / "tokenizer.json"))
        members[role] = member(str(folder), f"{role} member")
    with caplog.at_level(logging.WARNING, logger="eft_eval"):
        common_vocabulary(members)
    assert not caplog.records


def test_another_beginning_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    begins = tokenizer_of("llama3")
    content = json.loads(begins.backend_tokenizer.to_str())
    bare = Tokenizer.from_str(json.dumps({**content, "post_processor": None}))
    plain = PreTrainedTokenizerFast(
        tokenizer_object=bare, bos_token=begins.bos_token, eos_token=begins.eos_token
    )
    members = {
        role: member(
            make_model(tmp_path / role, vocabulary=size_of(begins), layers=1, tokenizer=one),
            f"{role} member",
        )
        for role, one in (("base", plain), ("tuned", begins), ("reference", begins))
    }
    with caplog.at_level(logging.WARNING, logger="eft_eval"):
        assert common_vocabulary(members).size == size_of(begins)
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith(
        "tuned member begins texts with '<|begin_of_text|>', base member with nothing; all members"
    )


def tokens_of(renamed: dict[str, str] | None = None) -> PreTrainedTokenizerFast:
    """Return Qwen's kind, with special tokens that are called otherwise."""
    text = tokenizer_of("qwen").backend_tokenizer.to_str()
    for old, new in (renamed or {}).items():
        text = text.replace(json.dumps(old), json.dumps(f"new {new}"))
    text = text.replace('"new <', '"<')
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(text))
    tokenizer.add_special_tokens({"eos_token": (renamed or {}).get("<|im_end|>", "<|im_end|>")})
    return tokenizer


RENAMED = {"<|im_start|>": "<User>", "<|im_end|>": "<end>"}
BACK = {new: old for old, new in RENAMED.items()}


def family(tmp_path: Path, tuned: PreTrainedTokenizerFast) -> dict:
    """Return the folders of three members; the tuned one has a tokenizer of its own."""
    other = tokens_of()
    size = max(size_of(tuned), size_of(other)) + 4
    return {
        role: make_model(
            tmp_path / role, vocabulary=size, layers=1, seed=seed, tokenizer=one,
            eos=tuned.eos_token_id,
        )
        for seed, (role, one) in enumerate(
            (("base", other), ("tuned", tuned), ("reference", other))
        )
    }  # fmt: skip


def test_renamed_special_tokens_are_refused_with_the_way_on(tmp_path: Path) -> None:
    folders = family(tmp_path, tokens_of(RENAMED))
    with pytest.raises(ConfigError, match="is '<") as caught:
        Composite.load(folders)
    offered = json.loads(str(caught.value).partition("tokenizer_map: ")[2])
    assert offered == BACK
    mapped = Composite.load({**folders, "tokenizer_map": offered})
    # names change no number
    plain = Composite.load({**folders, "tuned": same_tokenizer(folders, tmp_path / "plain")})
    assert mapped.loglikelihood([("One", " two")]) == plain.loglikelihood([("One", " two")])
    assert mapped.vocabulary == plain.vocabulary


SWAPPED = {"<|im_start|>": "<|im_end|>", "<|im_end|>": "<|im_start|>"}
MOVED_ON = {"<|im_start|>": "<User>", "<|im_end|>": "<|im_start|>"}
TURNED = {"<|im_start|>": "<|im_end|>", "<|im_end|>": "<|endoftext|>"} | {
    "<|endoftext|>": "<|im_start|>"
}


@pytest.mark.parametrize("names", [SWAPPED, TURNED])
def test_tokens_that_change_places_are_no_renaming(tmp_path: Path, names: dict) -> None:
    folders = family(tmp_path, tokens_of(names))
    with pytest.raises(ConfigError, match="have changed places") as caught:
        Composite.load(folders)
    assert "tokenizer_map" not in str(caught.value)
    own = {new: old for old, new in names.items()}
    with pytest.raises(ConfigError, match="only change places with each other"):
        Composite.load({**folders, "tokenizer_map": own})


def test_a_name_that_goes_to_another_token_can_be_mapped(tmp_path: Path) -> None:
    folders = family(tmp_path, tokens_of(MOVED_ON))
    own = {new: old for old, new in MOVED_ON.items()}
    with pytest.raises(ConfigError, match="is '<") as caught:
        Composite.load(folders)
    assert json.loads(str(caught.value).partition("tokenizer_map: ")[2]) == own
    ids = [size_of(tokens_of()) - one for one in (1, 2)]
    text = f"'<|im_start|>' is token {ids[0]} in the first, {ids[1]} in the second, so that tokens"
    assert text in str(caught.value), "what was put in between is no renaming"
    assert "only if no text has these tokens" in str(caught.value)
    Composite.load({**folders, "tokenizer_map": own})


def same_tokenizer(folders: dict, folder: Path) -> str:
    """Return the tuned member with the base's tokenizer."""
    shutil.copytree(folders["tuned"], folder)
    for file in Path(folders["base"]).glob("*token*"):
        shutil.copy(file, folder)
    return str(folder)


@pytest.mark.parametrize(
    ("names", "match"),
    [
        ({**BACK, "<nothing>": "x"}, "tokenizer_map: tuned .* has no token '<nothing>'"),
        ({"<User>": "<nothing>"}, "no other member has a token '<nothing>'"),
        ({"<User>": "<|im_end|>"}, "renames tokens in place"),
        ("{", "no JSON mapping"),
        ({"<User>": 3}, "tokenizer_map"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(tmp_path: Path, names: object, match: str) -> None:
    folders = family(tmp_path, tokens_of(RENAMED))
    with pytest.raises(ConfigError, match=match):
        Composite.load({**folders, "tokenizer_map": names})


def test_words_that_differ_are_no_renaming(tmp_path: Path) -> None:
    folders = family(tmp_path, tokens_of())
    make_model(tmp_path / "tuned", vocabulary=900, layers=1, tokenizer=tokenizer_of("llama3"))
    with pytest.raises(ConfigError, match="all members of a composite must come from one family"):
        Composite.load(folders)


def test_tokens_of_the_tuned_member_alone_are_never_chosen(tmp_path: Path) -> None:
    other = tokenizer_of("holed")
    content = json.loads(other.backend_tokenizer.to_str())
    hole = min(set(range(size_of(other))) - set(other.get_vocab().values()))
    content["model"]["vocab"]["<think>"] = hole
    tuned = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)), eos_token=other.eos_token
    )
    made = Composite.load(
        {
            role: make_model(
                tmp_path / role, vocabulary=size_of(other), layers=1, tokenizer=tokenizer,
                eos=other.eos_token_id, seed=seed,
            )
            for seed, (role, tokenizer) in enumerate(
                (("base", other), ("tuned", tuned), ("reference", other))
            )
        }
    )  # fmt: skip
    scores = made.empty_scores(1)
    for view in made.views:
        with torch.inference_mode():
            made.accumulate(scores, view, view.member.engine.logits([[5, 6, 7]], [1])[0][:, 0])
    alone = set(tuned.get_vocab().values()) ^ set(other.get_vocab().values())
    assert hole in alone
    assert {i for i, score in enumerate(scores[0]) if score == -torch.inf} == alone
    with pytest.raises(ConfigError, match=f"holds token {hole} \\('<think>'\\)"):
        made.check_tokens([5, hole])
    made.check_tokens(range(20))
