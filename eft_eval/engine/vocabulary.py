"""Whether the members of a composite speak of the same tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from eft_eval.engine.loading import Member
from eft_eval.engine.prefixes import common_prefix
from eft_eval.engine.reading import frame_of
from eft_eval.errors import ConfigError
from eft_eval.files import user_path
from eft_eval.streams import logger

__all__ = ["SharedTokens", "common_vocabulary", "ids_end"]

log = logger("eft_eval")

_MOST_RENAMED = 32  # a family may rename its special tokens, not its words
_PROBES = (
    "1234567 and 3.14159, 1,000,000",
    " leading and  double   spaces ",
    "lines\n\n\nand\ttabs\r\n  indented",
    "naïve café Ünïcode e\u0301",
    "日本語 🙂👩‍🚀",
    "don't we'll I'd CamelCase ABCdef x**2 != y_1",
    "Human: Why?\n\nAssistant: Because.",
    "ﬁne ② ½ m² Ａ１ … no\u00a0break\u3000wide",
)
"""Texts that tokenizers of one vocabulary may still split otherwise."""
_AS_WRITTEN = frozenset({"TokenizersBackend", "PreTrainedTokenizerFast"})
"""Classes of tokenizers that read as their tokenizer.json says."""


class SharedTokens(NamedTuple):
    """The token ids that members have in common.

    Attributes:
        size: Ids below it are those of every member.
        alone: Ids below it that only some members' tokenizers know.
    """

    size: int
    alone: frozenset[int]


def common_vocabulary(
    members: Mapping[str, Member], renamed: Mapping[str, str] | None = None
) -> SharedTokens:
    """Return the token ids that all members share, after comparing tokenizers.

    Models of one family differ by padding (Qwen: 151,936 and 152,064 logits for one tokenizer) and
    by tokens that were added; ids may have holes. Every id that two members know must mean the
    same, and texts must be split alike.

    Args:
        members: By role.
        renamed: Tokens of the tuned member that are called otherwise, under the same id, in others.

    Raises:
        ConfigError: Two members disagree about a token or a text; the first one is named.
    """
    tuned = members.get("tuned") or members["tuned1"]
    distinct = list(dict.fromkeys(members.values()))
    size = min(min(ids_end(one.tokenizer), one.vocabulary_size) for one in distinct)
    renamed = renamed or {}
    ours = _by_id(tuned.tokenizer)
    others = [one for one in distinct if one is not tuned]
    reading = _reading(tuned.tokenizer) if others else None
    _check_names(renamed, tuned, others)
    alone: set[int] = set()
    for member in others:
        theirs = _by_id(member.tokenizer)
        alone |= {index for index in ours.keys() ^ theirs.keys() if index < size}
        wrong = [
            index
            for index in sorted(ours.keys() & theirs.keys())
            if index < size and theirs[index] not in (ours[index], renamed.get(ours[index]))
        ]
        if wrong:
            first = wrong[0]
            raise ConfigError(
                f"the tokenizers differ: token {first} is {ours[first]!r} in {tuned.label} and "
                f"{theirs[first]!r} in {member.label}; {_way_on(wrong, tuned, member)}"
            )
        _check_splits(tuned, member, size)
        if reading is not None and _reading(member.tokenizer) not in (None, reading):
            _compare_tokens(tuned, member, size)
    _check_file(tuned)
    return SharedTokens(size, frozenset(alone))


def _check_file(tuned: Member) -> None:
    """Warn where transformers' own class of tokenizers reads otherwise than the folder's file."""
    from tokenizers import Tokenizer
    from transformers.utils import cached_file

    tokenizer = tuned.tokenizer
    if type(tokenizer).__name__ in _AS_WRITTEN or tuned.spec.gguf_file is not None:
        return
    try:  # here, or in the hub's cache
        file = cached_file(
            str(user_path(str(tokenizer.name_or_path))), "tokenizer.json",
            revision=tuned.spec.revision or "main", local_files_only=True,
        )  # fmt: skip
    except OSError:  # it has none
        return
    written = Tokenizer.from_file(str(file))
    written.no_padding()  # of a training, which such a file may hold
    written.no_truncation()
    begin = tokenizer.bos_token or ""
    for text in (*_PROBES, f"{begin}[INST] Why? [/INST]"):
        ours, theirs = _encoded(tuned, text), written.encode(text, add_special_tokens=False)
        if ours != theirs.ids:
            log.warning(
                "%s: transformers' %s reads %r as %s, its tokenizer.json as %s; tokenizer_class: "
                "PreTrainedTokenizerFast in its tokenizer_config.json reads it as written",
                tuned.label, type(tokenizer).__name__, text, _tokens(tuned, ours[:4]),
                _tokens(tuned, theirs.ids[:4]),
            )  # fmt: skip
            return


def _check_names(renamed: Mapping[str, str], tuned: Member, others: Sequence[Member]) -> None:
    """Raise ConfigError where ``tokenizer_map`` names what is not there, or not in one place."""
    if not renamed:
        return
    if moved := _exchanged(renamed):
        raise ConfigError(
            f"tokenizer_map renames tokens in place, and {_listed(moved)} only change places with "
            "each other: one id means different tokens; give all members the same tokenizer files"
        )
    vocabulary = tuned.tokenizer.get_vocab()
    known = [(one, one.tokenizer.get_vocab()) for one in others]
    for ours, theirs in renamed.items():
        if ours not in vocabulary:
            raise ConfigError(f"tokenizer_map: {tuned.label} has no token {ours!r}")
        found = [(one, names[theirs]) for one, names in known if theirs in names]
        if not found:
            raise ConfigError(f"tokenizer_map: no other member has a token {theirs!r}")
        for one, index in found:
            if index != vocabulary[ours] and ours not in one.tokenizer.get_vocab():
                raise ConfigError(
                    f"tokenizer_map renames tokens in place: {ours!r} is token {vocabulary[ours]} "
                    f"in {tuned.label}, {theirs!r} is token {index} in {one.label}"
                )


def _exchanged(renamed: Mapping[str, str]) -> list[str]:
    """Return tokens whose new names are their own old ones, such as two that are swapped."""
    for first in renamed:
        names = [first]
        while (name := renamed.get(names[-1])) is not None and name not in names:
            names.append(name)
        if name == first and len(names) > 1:
            return names
    return []


def _elsewhere(names: Mapping[str, str], tuned: Member, member: Member) -> str | None:
    """Return the words for a renamed token's name that both have, under two ids; None for none."""
    here, there = (one.tokenizer.get_vocab() for one in (tuned, member))
    for name in names:
        if there.get(name, here[name]) != here[name]:
            return f"{name!r} is token {here[name]} in the first, {there[name]} in the second"
    return None


def _listed(tokens: Sequence[str]) -> str:
    return ", ".join(map(repr, tokens[:-1])) + f" and {tokens[-1]!r}"


def _way_on(wrong: Sequence[int], tuned: Member, member: Member) -> str:
    """Return what to do about tokens that differ: to map what was renamed, where that can be."""
    ours, theirs = (_by_id(one.tokenizer) for one in (tuned, member))
    added = [one.tokenizer.get_added_vocab().values() for one in (tuned, member)]
    if len(wrong) > _MOST_RENAMED or not all(index in ids for ids in added for index in wrong):
        return f"{len(wrong)} tokens differ: all members of a composite must come from one family"
    names = {ours[index]: theirs[index] for index in wrong}
    if moved := _exchanged(names):
        return f"{_listed(moved)} have changed places; give all members the same tokenizer files"
    pairs = json.dumps(names, ensure_ascii=False)
    if elsewhere := _elsewhere(names, tuned, member):
        return (
            f"{elsewhere}, so that tokens were put in between, or moved: give all members the same "
            "tokenizer files; only if no text has these tokens, say in the recipe file: "
            f"tokenizer_map: {pairs}"
        )
    return (
        "if these special tokens were only renamed, say so in the recipe file: "
        f"tokenizer_map: {pairs}"
    )


def _check_splits(tuned: Member, member: Member, size: int) -> None:
    """Compare how texts are encoded; every member reads the tuned member's tokens."""
    for text in _PROBES:
        ours, theirs = _encoded(tuned, text), _encoded(member, text)
        if ours == theirs or max([*ours, *theirs]) >= size:
            continue
        bare = text.lstrip(" ")
        if bare != text and _encoded(tuned, bare) == _encoded(member, bare):
            log.warning(
                "a space that a text begins with is read otherwise by %s (%s) than by %s (%s): all "
                "members read as the tuned one does",
                tuned.label, _tokens(tuned, ours[:3]), member.label, _tokens(member, theirs[:3]),
            )  # fmt: skip
        else:
            same = common_prefix(ours, theirs)
            shown = slice(max(same - 2, 0), same + 10)
            raise ConfigError(
                f"the tokenizers split texts otherwise: in {text!r} is "
                f"{_tokens(tuned, ours[shown])} in "
                f"{tuned.label} and {_tokens(member, theirs[shown])} in {member.label}, which "
                "would read "
                "what it was not trained on; if they are of one family, give all members the same "
                "tokenizer files"
            )
    first, second = frame_of(tuned.tokenizer).before, frame_of(member.tokenizer).before
    if first != second:
        log.warning(
            "%s begins texts with %s, %s with %s; all members read as the tuned one does "
            "(add_bos_token=True or False decides otherwise)",
            tuned.label, _tokens(tuned, [*first]), member.label, _tokens(member, [*second]),
        )  # fmt: skip


def _compare_tokens(tuned: Member, member: Member, size: int) -> None:
    """Warn of tokens whose own texts are read otherwise, as with merges that differ."""
    ours, theirs = (one.tokenizer.backend_tokenizer for one in (tuned, member))
    known = _by_id(tuned.tokenizer).items() & _by_id(member.tokenizer).items()
    texts = [ours.decode([index]) for index, _ in sorted(known) if index < size]
    texts = [text for text in texts if text.strip() and "\ufffd" not in text]
    read = [
        [one.ids for one in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        for tokenizer in (ours, theirs)
    ]
    wrong = [
        number
        for number, (first, second) in enumerate(zip(*read, strict=True))
        if first != second and max([*first, *second]) < size
    ]
    if wrong:
        first, second = (ids[wrong[0]] for ids in read)
        log.warning(
            "%d of %d tokens' own texts are read otherwise, such as %r: %s in %s, %s in %s; all "
            "members read as the tuned one does",
            len(wrong), len(texts), texts[wrong[0]], _tokens(tuned, first), tuned.label,
            _tokens(member, second), member.label,
        )  # fmt: skip


def _reading(tokenizer: Any) -> str | None:
    """Return what a tokenizer's file says of how texts are read, None where it has no such file.

    A text of many MB, whose parts are compared as they are written; added tokens, in its first
    part, are compared by name.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    whole: str = backend.to_str()
    start, end = whole.index('"normalizer":'), whole.index('"post_processor":')
    return whole[start:end] + whole[whole.index('"model":', end) :]


def _encoded(member: Member, text: str) -> list[int]:
    found: list[int] = member.tokenizer(text, add_special_tokens=False).input_ids
    return found


def _tokens(member: Member, ids: list[int]) -> str:
    return " ".join(map(repr, member.tokenizer.convert_ids_to_tokens(ids))) or "nothing"


def _by_id(tokenizer: Any) -> dict[int, str]:
    return {index: token for token, index in tokenizer.get_vocab().items()}


def ids_end(tokenizer: Any) -> int:
    """Return one more than the largest id: the number of tokens is less where ids have holes."""
    return int(max(tokenizer.get_vocab().values())) + 1
