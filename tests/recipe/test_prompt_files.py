"""Members' own prompts: template files, texts, and what is neither."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from eft_eval.errors import ConfigError
from eft_eval.recipe import Recipe, canonical_name, identity, parse_model_args, parse_recipe
from eft_eval.recipe.model import MemberSpec

FLAT = {"base": "org/Big", "tuned": "org/small-chat", "reference": "org/small"}
TEXT = "Question: {{ prompt }}\nAnswer:"
NESTED = {
    "base": {"model": "org/Big", "prompt": TEXT},
    "deltas": [{"tuned": "org/small-chat", "reference": "org/small"}],
}


def recipe_file(folder: Path, prompt: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "mine.yaml"
    data = {**NESTED, "base": {"model": "org/Big", "prompt": prompt}}
    path.write_text(yaml.safe_dump(data), "utf-8")
    return path


def test_a_file_and_its_text_are_one_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every form; a relative path is relative to the recipe's YAML, else to where one is."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    written = recipe_file(tmp_path / "mine", "own prompt.jinja")
    (tmp_path / "mine" / "own prompt.jinja").write_bytes(TEXT.replace("\n", "\r\n").encode())
    for name in ("here.jinja", "HERE.J2", "here.jinja2", "here.txt"):
        Path(name).write_text(TEXT + "\n", "utf-8")
    forms = [
        parse_recipe(NESTED),
        parse_recipe({**FLAT, "base.prompt": TEXT}),
        parse_recipe({**NESTED, "base": {"model": "org/Big", "prompt": TEXT + "\n"}}),
        parse_recipe(written),
        parse_recipe("../mine/mine.yaml"),
        *(
            parse_recipe({**FLAT, "base.prompt": name})
            for name in ("here.jinja", "HERE.J2", "here.jinja2", "@here.txt", " @here.jinja ")
        ),
        parse_recipe({**FLAT, "base": {"model": "org/Big", "prompt": "here.jinja"}}),
        parse_model_args(
            "base=org/Big,tuned=org/small-chat,reference=org/small,base.prompt=@here.txt"
        ).recipe,
        parse_model_args(f"model={recipe_file(elsewhere, 'plain')},base.prompt=here.jinja").recipe,
        parse_recipe({**NESTED, "base": {"model": "org/Big", "prompt": "@here.jinja"}}),
    ]
    assert {recipe.base.prompt for recipe in forms} == {TEXT}
    assert len({canonical_name(recipe) for recipe in forms}) == 1
    assert identity(forms[3])["base"]["prompt"] == TEXT


def test_each_member_of_several_deltas_has_its_own(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jinja").write_text(f"{name}: {{{{ prompt }}}}")
    pair = {"tuned": "org/t", "reference": {"model": "org/r", "prompt": "a.jinja"}}
    other = {"tuned": {"model": "org/u", "prompt": "b.jinja"}, "reference": "org/r"}
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump({"base": "org/Big", "deltas": [pair, other]}))
    found = {role: spec.prompt for role, spec in parse_recipe(path).members}
    assert found == {
        "base": None,
        "tuned1": None,
        "reference1": "a: {{ prompt }}",
        "tuned2": "b: {{ prompt }}",
        "reference2": None,
    }


def test_what_is_written_down_is_read_again(tmp_path: Path) -> None:
    """A results file keeps the text; the recipe made of it is the same, the file forgotten."""
    path = recipe_file(tmp_path, "p.jinja")
    (tmp_path / "p.jinja").write_text("@{{ prompt }}.jinja\n")
    recipe = parse_recipe(path)
    (tmp_path / "p.jinja").unlink()
    assert parse_recipe(recipe.model_dump()) == recipe
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_other_text_in_the_file_is_another_model(tmp_path: Path) -> None:
    path = recipe_file(tmp_path, "p.jinja")
    names = set()
    for text in ("Q: {{ prompt }}", "Q:  {{ prompt }}", "Q: {{ prompt }}\n\n"):
        (tmp_path / "p.jinja").write_text(text)
        names.add(canonical_name(parse_recipe(path)))
    assert len(names) == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["does not exist"]),
        (b"", ["no template"]),
        (b"plain\n", ["no template"]),
        (b"[default]\nkey = a secret of a home folder\n", ["no template"]),
        (b"{{ prompt", ["not a Jinja template"]),
        (b"one\ntwo\n{% if prompt %}\nthree", ["not a Jinja template"]),
        (b"{{ question }}", ["'question'", "'prompt' and 'messages'"]),
        (b"{{ prompt.__class__ }}", ["cannot be rendered"]),
        (b"{{ cycler.__init__.__globals__ }}", ["cannot be rendered"]),
        (b"{% include 'other' %}{{ prompt }}", ["cannot include others"]),
        (b"{% for i in range(9**9) %}{{ prompt }}{% endfor %}", ["cannot be rendered"]),
        (
            b"{% for i in range(9999) %}{% for j in range(9999) %}{{ prompt }}"
            b"{% endfor %}{% endfor %}",
            ["too much"],
        ),
        (b"\xff\xfe{\0{\0", ["not UTF-8"]),
        (b"{{ prompt }}" * 40_000, ["bytes"]),
        (b"other.jinja", ["looks like a path"]),
        (b"Q: {prompt}", ["two braces: {{ prompt }}"]),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(
    tmp_path: Path, content: bytes | None, words: list[str]
) -> None:
    path = recipe_file(tmp_path, "p.jinja")
    if content is not None:
        (tmp_path / "p.jinja").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        parse_recipe(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    for word in [str(tmp_path / "p.jinja"), "base.prompt", "mine.yaml", *words]:
        assert word in message


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "p.jinja").mkdir()
    with pytest.raises(ConfigError, match="no file"):
        parse_recipe(recipe_file(tmp_path, "p.jinja"))


@pytest.mark.parametrize(
    "text",
    [
        "prompts/mine", "mine.txt", "./mine", "../a b", "~/mine", "/abs/a b", "my prompt.md",
        "plian", "Plain", "a\\b.tmpl", "123",
    ],
)  # fmt: skip
def test_a_text_that_looks_like_a_path_is_refused(text: str) -> None:
    for given in ({**FLAT, "base.prompt": text}, {**FLAT, "base": {"model": "a", "prompt": text}}):
        with pytest.raises(ConfigError, match=r"looks like a path.*@FILE") as caught:
            parse_recipe(given)
        assert "\n" not in str(caught.value)


def test_a_misspelt_plain_is_told() -> None:
    with pytest.raises(ConfigError, match="did you mean 'plain'"):
        parse_recipe({**FLAT, "reference.prompt": "plian"})


@pytest.mark.parametrize("name", ["@none", "none.jinja", "x/none.j2", "~nobody-here/none.jinja"])
def test_a_missing_file_of_the_command_line(name: str) -> None:
    with pytest.raises(ConfigError, match=r"model_args: tuned\.prompt: .*none.* does not exist"):
        parse_model_args(f"base=a,tuned=b,reference=c,tuned.prompt={name}")


@pytest.mark.parametrize(
    "text", ["", "Answer:", "Answer yes or no", "{{ prompt }}.jinja", "@{{ prompt }}", "a/b c"]
)
def test_texts_stay_texts(text: str) -> None:
    assert parse_recipe({**FLAT, "reference.prompt": text}).deltas[0].reference.prompt == text


def test_a_member_made_in_python_reads_no_file() -> None:
    with pytest.raises(ValueError, match="looks like a path"):
        MemberSpec(model="a", prompt="mine.jinja")


def test_a_template_may_need_a_system_turn() -> None:
    text = "{{ messages[0].content }}\n\n{{ messages[1].content }}"
    assert MemberSpec(model="a", prompt=text).prompt == text
