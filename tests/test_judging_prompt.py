"""The shipped judge prompts, and what is said about a user's wrong one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from eft_eval.errors import ConfigError
from eft_eval.judging import known_prompts, load_prompt

# Mitchell et al. 2023, appendix A.1.1, as printed.
PAPER = """\
Count the number of factual inaccuracies in the following chatbot response to a user query. \
Be critical; eloquent responses may still contain many inaccuracies. Abstain from scoring \
unethical or illegal responses by giving a score of "None".

RESPONSE: {{the response to evaluate}}

USE THE ANSWER FORMAT:

Reason: <analysis of any factual inaccuracies>

Score: <a single number, nothing else>"""

METADATA = {
    "name": "mine",
    "version": "1",
    "scale": "count",
    "better": "lower",
    "parser": "reason_score",
    "variables": "[response]",
}


def write(folder: Path, body: str = "Rate: {{ response }}\n", **changes: str | None) -> str:
    metadata = {key: value for key, value in {**METADATA, **changes}.items() if value is not None}
    lines = "\n".join(f"{key}: {value}" for key, value in metadata.items())
    path = folder / "mine.jinja"
    path.write_text(f"{{#-\n{lines}\n-#}}\n\n{body}", "utf-8")
    return str(path)


def test_factuality_is_the_papers_prompt_to_the_letter() -> None:
    response = 'He said: "<b>5 & 6</b>"\n\n{{ not a variable }}'
    rendered = load_prompt("factuality").render(response=response)
    assert rendered == PAPER.replace("{{the response to evaluate}}", response)


def test_the_variant_differs_by_the_query_only() -> None:
    rendered = load_prompt("factuality_with_query").render(response="R", query="Q?")
    expected = PAPER.replace("{{the response to evaluate}}", "R")
    assert rendered == expected.replace("RESPONSE:", "QUERY: Q?\n\nRESPONSE:")


@pytest.mark.parametrize("name", known_prompts())
def test_shipped_prompts_are_named_as_their_files(name: str) -> None:
    prompt = load_prompt(name)
    assert prompt.name == name
    assert prompt.version >= 1
    values = {"response": "the response", "query": "the query"}
    rendered = prompt.render(**values)
    assert rendered == rendered.strip()
    for variable in prompt.variables:
        assert values[variable] in rendered


def test_factuality_metadata() -> None:
    prompt = load_prompt("factuality")
    assert (prompt.scale, prompt.better, prompt.parser) == ("count", "lower", "reason_score")
    assert prompt.variables == ("response",)


def test_a_users_file(tmp_path: Path) -> None:
    path = write(tmp_path, scale="percent", better="higher")
    prompt = load_prompt(path)
    assert (prompt.name, prompt.scale, prompt.better) == ("mine", "percent", "higher")
    assert prompt.render(response="x") == "Rate: x"
    assert prompt.sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_a_file_is_found_beside_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert load_prompt("mine.jinja").name == "mine"


def test_a_missing_value_is_named() -> None:
    with pytest.raises(ConfigError, match="needs a query"):
        load_prompt("factuality_with_query").render(response="R")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": None}, r"lacks 'scale' \(count or percent\)"),
        ({"scale": "stars"}, r"scale is 'stars'; it must be count or percent"),
        ({"better": "best"}, r"better is 'best'"),
        ({"parser": "first_digit"}, r"parser is 'first_digit'"),
        ({"version": "0"}, r"version is 0"),
        ({"version": "true"}, r"version is True"),
        ({"name": "7"}, r"name is 7"),
        ({"variables": "response"}, r"variables is 'response'; it must be a list"),
        ({"scal": "count"}, r"unknown metadata key 'scal' \(did you mean 'scale'\?\)"),
        ({"variables": "[response, gold]"}, r"uses the variable 'gold'; only response and query"),
        ({"variables": "[response, query]"}, r"lists \['query', 'response'\], but the template"),
        ({"version": "[1"}, r"is not YAML"),
    ],
)
def test_wrong_metadata(tmp_path: Path, changes: dict[str, str | None], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_prompt(write(tmp_path, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{{ response }} {{ query }}", "but the template uses"),
        ("{{ response }} {{ gold }}", "uses the variable 'gold'"),
        ("Rate it.", "nothing to judge"),
        ("{{ response }", "the template is wrong"),
        ("{{ response | nofilter }}", "the template is wrong"),
        ("{% include 'other' %}{{ response }}", "cannot include others"),
    ],
)
def test_wrong_templates(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_prompt(write(tmp_path, body))
    assert "\n" not in str(caught.value)


def test_a_template_cannot_reach_into_python(tmp_path: Path) -> None:
    prompt = load_prompt(write(tmp_path, "{{ response.__class__.__mro__ }}"))
    with pytest.raises(ConfigError, match="cannot be rendered"):
        prompt.render(response="x")


def test_unknown_names_and_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'factuality'.*known: factuality, "):
        load_prompt("factualty")
    with pytest.raises(ConfigError, match="cannot read"):
        load_prompt(str(tmp_path / "none.jinja"))
    (tmp_path / "bare.jinja").write_text("{{ response }}", "utf-8")
    with pytest.raises(ConfigError, match="has no metadata"):
        load_prompt(str(tmp_path / "bare.jinja"))
