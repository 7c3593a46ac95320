"""Templates and YAML that people pass on: data that run nothing, read nothing and end."""
# ruff: noqa: E501  # templates read best in one line

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from eft_eval.cli.app import app
from eft_eval.errors import ConfigError
from eft_eval.recipe import parse_recipe
from eft_eval.templates import LONGEST, TemplateProblem, check_template, render
from eft_eval.yaml_text import load_yaml

TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
GIVEN = {"prompt": "hi", "messages": TURNS}
GROWING = (
    "{{% set ns = namespace(x={}) %}}{{% for i in range(60) %}}{{% set ns.x = {} %}}{{% endfor %}}"
)
LISTS = GROWING.format("[1]", "[ns.x, ns.x]")


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ prompt }}", "hi"),
        (
            "{% for m in messages %}{{ m.role }}: {{ m['content'] }}"
            "{% if not loop.last %}|{% endif %}{% endfor %}",
            "user: a|assistant: b",
        ),
        ("{{ messages | map(attribute='content') | join('-') }}", "a-b"),
        ("{{ messages | join('-', attribute='content') }}", "a-b"),
        ("{{ prompt.replace('i', 'o') ~ '!' ~ 3 }}", "ho!3"),
        ("{{ prompt | replace('h', 'xx') | upper | trim }}", "XXI"),
        ("{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f(prompt) }}", "<hi>"),
        (
            "{% set ns = namespace(n=0) %}{% for i in range(3) %}{% set ns.n = ns.n + i %}"
            "{% endfor %}{{ ns.n }}",
            "3",
        ),
        ("{{ '%s-%d' % (prompt, 3) }}{{ '{} {}'.format(prompt, 1) }}", "hi-3hi 1"),
        ("{{ prompt | length }}{{ 'a' * 3 }}{{ 2 ** 3 }}{{ 7 % 4 }}{{ 1000000 * 1.5 }}", "2aaa831500000.0"),
        ("{{ messages[0] | tojson }}", '{"content": "a", "role": "user"}'),
        ("{{ prompt | indent(2) }}{{ prompt | title }}{% if prompt == 'hi' %}y{% endif %}", "hiHiy"),
        ("{% for i in range(2) recursive %}{{ i }}{% endfor %}{{ ['b', 'a'] | sort | join }}", "01ab"),
        ("{% filter upper %}{{ prompt }}{% endfilter %}{% set b %}{{ prompt }}{% endset %}{{ b }}", "HIhi"),
        ("{{ 'a' ~ ('b' ~ ('c' ~ prompt)) }}{{ messages[0].content | default('x') }}", "abchia"),
    ],
)  # fmt: skip
def test_templates_show_values(template: str, text: str) -> None:
    assert render(template, GIVEN) == text


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ cycler.__init__.__globals__.os.popen('true').read() }}", "unsafe"),
        ("{{ namespace.__init__.__globals__ }}", "unsafe"),
        ("{{ ().__class__.__bases__[0].__subclasses__() }}", "unsafe"),
        ("{{ self.__init__ }}", "unsafe"),
        ("{{ '{0.__class__}'.format(prompt) }}", "unsafe"),
        ("{{ prompt | attr('__class__') }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ prompt.encode() }}", "unsafe"),
        ("{{ (1).to_bytes(10 ** 9, 'big') }}", "unsafe"),
        ("{{ lipsum() }}", "undefined"),
        ("{{ nothing }}", "undefined"),
        ("{{ messages[7] }}", "no element 7"),
        ("{% include '/etc/hostname' %}", "no loader"),
        ("{{ 1 / 0 }}", "division"),
        ("{{ 'a' * 10 ** 10 }}", "too much"),
        ("{{ [0] * 10 ** 10 }}", "too much"),
        ("{{ 7 ** (10 ** 9) }}", "too much"),
        ("{{ 'x' | center(10 ** 9) }}", "too wide"),
        ("{{ 'x' | indent(10 ** 9) }}", "too wide"),
        ("{{ '%1000000000d' % 1 }}", "pads too far"),
        ("{{ '%*d' % (10 ** 9, 1) }}", "pads too far"),
        ("{{ '{:>1000000000}'.format(1) }}", "pads too far"),
        ("{{ '{:>{}}'.format(1, 10 ** 9) }}", "pads too far"),
        ("{{ 'x'.zfill(10 ** 9) }}", "unsafe"),
        ("{{ range(10 ** 9) }}", "too big"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "too much"),
        ("{% for i in range(9999) %}{% set x = 'y' in 'a' * 99999 %}{% endfor %}", "too much"),
        ("{{ 'a' | replace('', 'b' * 99999) | replace('b', 'c' * 99999) }}", "too much"),
        ("{{ (',' * 99999).split(',') | join('b' * 999) }}", "too much"),
        (GROWING.format("'aaaa'", "ns.x ~ ns.x") + "{{ ns.x }}", "too much"),
        (GROWING.format("'aaaa'", "ns.x + ns.x") + "{{ ns.x }}", "too much"),
        (LISTS + "{{ ns.x }}", "too much"),
        (LISTS + "{{ ns.x | string | length }}", "too much"),
        (LISTS + "{{ ns.x | tojson }}", "too much"),
        (LISTS + "{{ '%s' % ns.x }}", "too much"),
        (LISTS + "{{ '{}'.format(ns.x) }}", "too much"),
        (LISTS + "{{ {'a': ns.x}.values() }}", "too much"),
        (LISTS + "{{ 1 in ns.x }}", "too much"),
        ("{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(90) }}", "too much"),
        ("{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}", "recursion"),
        ("{{ " + "(" * 5000 + ")" * 5000 + " }}", "recursion"),
        ("{% if 1 %}" * 200 + "{% endif %}" * 200, "nested|indentation"),
        ("{{ " + "9" * 9000 + " }}", "digits"),
        ("{{ prompt", "unexpected end"),
        (" " * (LONGEST + 1), "at most"),
    ],
)  # fmt: skip
def test_templates_run_nothing_and_end(template: str, words: str) -> None:
    started = time.process_time()
    with pytest.raises(TemplateProblem, match=words) as refused:
        render(template, GIVEN)
    assert "\n" not in str(refused.value)
    assert time.process_time() - started < 10


def test_long_texts_have_room() -> None:
    text = "a long response. " * 60_000
    assert (
        render("<{{ prompt | trim }}>{{ prompt | upper | length }}", {"prompt": text})[1:9]
        == text[:8]
    )
    turns = [{"role": "user", "content": text[:5000]}] * 200
    loop = "{% for m in messages %}{{ m.role }}: {{ m.content | trim }}\n{% endfor %}"
    assert render(loop, {"messages": turns}).count("user: ") == 200


@given(st.text(max_size=60))
def test_any_text_is_a_template_or_a_problem(text: str) -> None:
    said = ""
    try:
        check_template(text)
        render(text, GIVEN)
    except TemplateProblem as problem:
        said = str(problem)
    assert "\n" not in said


# --- recipes


MEMBERS = "base: a\ndeltas:\n- {tuned: b, reference: c}\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (MEMBERS.encode("utf-16"), "not UTF-8"),
        (MEMBERS.encode() + b"description: \xff\n", "not UTF-8"),
        (b"base: " + b"[" * 3000 + b"]" * 3000, "nested deeper than 40"),
        (b"base: " + b"{a: " * 3000 + b"b" + b"}" * 3000, "nested deeper than 40"),
        (b"base: &a [*a]", "an alias stands in what it names"),
        (MEMBERS.encode() + b"base: d\n", "the key 'base' stands there twice"),
        (b"base: !!python/object/apply:os.system [true]", "could not determine a constructor"),
        (b"base: 0x" + b"f" * 5000 + b"\nbase_: 2001-99-99", "YAML"),
        (b"x: y\n" * 2 + b" " * 2**20, "more than"),
        (b"", "expected a mapping"),
        (b"\x00", "not YAML"),
    ],
)  # fmt: skip
def test_a_recipe_file_that_is_none_is_one_line(content: bytes, words: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as refused:
        parse_recipe(str(file))
    assert "\n" not in str(refused.value)
    assert str(file) in str(refused.value)


PARTS = [
    *("a", "'", '"', "\n", ":", " ", "-", "[", "]", "{", "}", "&a", "*a", "? ", "|", "<<: ", "---"),
    *(
        f"!!{tag} "
        for tag in ("bool", "int", "float", "timestamp", "binary", "omap", "pairs", "set")
    ),
    *("!!python/object:os.system ", "!<x>", "%TAG ! x\n", "%YAML 9.9\n", "1e999", "0o8", "1:99"),
    *("2024-99-99", "0b", "_", "=", "~", "!", "@", "`", "\t", "\0", "\ud800"),
]


@pytest.mark.parametrize("value", ["!!bool x", "!!timestamp x", "!!int ''", "!!float ''"])
def test_a_value_that_does_not_fit_its_tag_is_one_line(value: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"{MEMBERS}description: {value}\n")
    with pytest.raises(ConfigError, match=r"cannot read recipe file .*mine\.yaml") as caught:
        parse_recipe(str(tmp_path / "mine.yaml"))
    assert "\n" not in str(caught.value)


@given(st.lists(st.sampled_from(PARTS), max_size=14).map("".join))
def test_any_text_is_read_or_one_line(text: str) -> None:
    try:
        load_yaml(text, "it")
    except ConfigError as error:
        assert "\n" not in str(error)  # noqa: PT017  # most texts are read


def test_aliases_of_aliases_are_counted(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    started = time.process_time()
    with pytest.raises(ConfigError, match="100,000 values"):
        load_yaml("\n".join(lines), "it")
    with pytest.raises(ConfigError, match="100,000 values"):
        load_yaml("\n".join([*lines[:6], "m:\n  <<: [*a5, *a5]"]), "it")
    assert time.process_time() - started < 5
    assert load_yaml("a: &x {b: 1}\nc: *x\n", "it") == {"a": {"b": 1}, "c": {"b": 1}}
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ConfigError, match="no file"):
        parse_recipe(str(tmp_path / "folder.yaml"))
    (tmp_path / "bom.yaml").write_text(MEMBERS, encoding="utf-8-sig")
    assert parse_recipe(str(tmp_path / "bom.yaml")).base.model == "a"


def test_a_members_prompt_runs_nothing_and_is_checked_before_loading(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    attack = "{{ cycler.__init__.__globals__.os.system('touch " + str(marker) + "') }}"
    for template, words in (
        (attack, "unsafe"),
        ("{{ prompt | attr('__class__') }}", "unsafe"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "too much"),
        ("{{ messages[5].content }}", "no element 5"),
        ("{% include 'x' %}", "cannot include"),
        ("{{ prompt", "not a Jinja template"),
    ):  # fmt: skip
        file = tmp_path / "recipe.yaml"
        file.write_text(
            f'base:\n  model: a\n  prompt: "{template}"\ndeltas:\n- {{tuned: b, reference: c}}\n'
        )
        done = CliRunner().invoke(app, ["trace", "Hm?", "--recipe", str(file)])
        assert isinstance(done.exception, ConfigError), (template, done.exception)
        assert words in str(done.exception), template
        assert "\n" not in str(done.exception)
    assert not marker.exists()
    chat = "{{ messages[0].content }}"  # goes well with turns alone
    assert (
        parse_recipe({"base": "a", "tuned": "b", "reference": "c", "base.prompt": chat}).base.prompt
        == chat
    )
