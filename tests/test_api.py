"""`eft_eval.Composite` over texts: generation, log-likelihoods, traces, and memory."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import Reference
from thinking import PROMPT, family
from tiny_models import make_model
from tokenizer_kinds import size_of, tokenizer_of
from typer.testing import CliRunner

import eft_eval.composite.memory as memory
from eft_eval import Composite
from eft_eval.cli.app import app
from eft_eval.composite.mathematics import total_variation
from eft_eval.composite.prompting import view_tokens
from eft_eval.decoding import Decoder
from eft_eval.errors import ConfigError
from eft_eval.judging.progress import judging_progress
from eft_eval.recipe import parse_recipe


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("texts")
    return {
        role: make_model(folder / role, seed=seed, layers=1)
        for seed, role in enumerate(("base", "tuned", "reference"))
    }


@pytest.fixture(scope="module")
def composite(folders: dict[str, str]) -> Composite:
    return load(folders)


def load(folders: dict[str, str], **base: object) -> Composite:
    spec = {role: {"model": path, "dtype": "float64"} for role, path in folders.items()}
    return Composite.load({**spec, "base": {**spec["base"], **base}}, device="cpu")


@pytest.fixture(scope="module")
def reference(folders: dict[str, str]) -> Reference:
    return Reference(folders["base"], [(folders["tuned"], folders["reference"], 1.0)])


def test_a_bar_shows_how_far_it_is_where_it_is_asked_for(
    composite: Composite, capfd: pytest.CaptureFixture[str]
) -> None:
    prompts, pairs = ["ab", "b"], [("a", "b"), ("b", "a"), ("a", "a")]
    composite.generate(prompts, max_new_tokens=2)
    composite.loglikelihood(pairs)
    assert capfd.readouterr() == ("", "")
    composite.generate(prompts, max_new_tokens=2, progress=True)
    composite.loglikelihood(pairs, batch_size=2, progress=True)
    out, said = capfd.readouterr()
    assert out == ""
    assert re.search(r"Generating: 100%.* 2/2 ", said)
    assert re.search(r"Scoring: 100%.* 3/3 ", said)


def test_a_notebook_shows_bars_by_itself(
    composite: Composite, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    kernel = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: kernel))
    composite.generate(["ab"], max_new_tokens=2)
    with judging_progress("Judging", 3) as tell:
        tell(1, 3)
        tell(3, 3)
    said = capfd.readouterr().err
    assert re.search(r"Generating: 100%.* 1/1 ", said)
    assert re.search(r"Judging: 100%.* 3/3 ", said)
    composite.generate(["ab"], max_new_tokens=2, progress=False)
    assert capfd.readouterr().err == ""


def test_generation_is_the_reference(composite: Composite, reference: Reference) -> None:
    prompts = ["Hello", "Why is that?", "x"]
    made = composite.generate(prompts, max_new_tokens=10)
    for prompt, text in zip(prompts, made, strict=True):
        tokens = reference.tokenizer.encode(prompt)
        expected = reference.generate(tokens, 10, composite.stop_tokens)
        assert text == reference.tokenizer.decode(expected, skip_special_tokens=True)


def test_a_seed_is_a_sample_and_a_repeat_another(composite: Composite) -> None:
    options = {"max_new_tokens": 12, "temperature": 1.0}
    first = composite.generate(["Hi", "Hi", "Ho"], seed=1, **options)
    assert first == composite.generate(["Hi", "Hi", "Ho"], seed=1, batch_size=1, block=0, **options)
    told: dict[int, str] = {}
    assert composite.generate(["Ho"], seed=1, on_response=told.__setitem__, **options) == [first[2]]
    assert told == {0: first[2]}
    assert first[0] != first[1]
    assert first != composite.generate(["Hi", "Hi", "Ho"], seed=2, **options)


def test_a_stop_string_ends_a_response(composite: Composite) -> None:
    (free,) = composite.generate(["Hello"], max_new_tokens=12)
    (cut,) = composite.generate(["Hello"], max_new_tokens=12, stop=[free[4:6]])
    assert cut == free[: free.index(free[4:6])]


def test_a_decoder_counts_on(composite: Composite) -> None:
    decoder = Decoder(composite)
    composite.generate(["a"], max_new_tokens=3, decoder=decoder)
    composite.generate(["b", "c"], max_new_tokens=3, decoder=decoder)
    assert decoder.statistics.requests == 3


def test_log_likelihoods_are_the_reference(composite: Composite, reference: Reference) -> None:
    pairs = [("Hello", " you"), ("A", "!"), ("", "x"), ("Why", " not?")]
    for (context, continuation), scored in zip(
        pairs, composite.loglikelihood(pairs, batch_size=3), strict=True
    ):
        before = reference.tokenizer.encode(context) or [0]
        after = reference.tokenizer.encode(continuation)
        expected, is_greedy = reference.score(before, after)
        assert scored.log_prob == pytest.approx(expected, abs=1e-4)
        assert scored.is_greedy == is_greedy


def test_a_trace_is_the_reference(composite: Composite, reference: Reference) -> None:
    found = composite.trace("Hello", " there")
    assert found.response == " there"
    assert found.draft == "tuned"
    tokens = reference.tokenizer.encode("Hello")
    (tuned_model, _, _) = reference.deltas[0]
    for token, one in zip(reference.tokenizer.encode(" there"), found.tokens, strict=True):
        p = torch.tensor(reference.log_probs(tokens)[-1]).exp()
        q = torch.tensor(reference.log_probs_of(tuned_model, tokens)[-1]).exp()
        assert one.token_id == token
        assert one.probability == pytest.approx(float(p[token]), abs=1e-5)
        assert one.draft_probability == pytest.approx(float(q[token]), abs=1e-5)
        distance = 1 - float(torch.minimum(p, q).sum())
        assert one.total_variation == pytest.approx(distance, abs=1e-5)
        assert one.entropy == pytest.approx(-float((p * p.log()).sum()), abs=1e-4)
        best = {choice.member: choice for choice in one.choices}
        assert set(best) == {"base", "reference", "tuned", "composite"}
        assert best["tuned"].token == reference.tokenizer.decode([int(q.argmax())])
        assert best["composite"].probability == pytest.approx(float(p.max()), abs=1e-5)
        assert one.raised[0].change == pytest.approx(float((p - q).max()), abs=1e-5)
        assert one.lowered[0].change == pytest.approx(float((p - q).min()), abs=1e-5)
        tokens.append(token)
    json.dumps(found.as_dict())


def test_a_trace_of_its_own_response(composite: Composite) -> None:
    found = composite.trace("Hello", max_new_tokens=5, temperature=1.0)
    assert found.response == "".join(one.token for one in found.tokens)
    (text,) = composite.generate(["Hello"], max_new_tokens=5, temperature=1.0)
    assert text == found.response.replace("</s>", "")


@given(st.lists(st.floats(0.01, 1), min_size=4, max_size=4), st.lists(st.floats(0.01, 1),
       min_size=4, max_size=4))  # fmt: skip
def test_total_variation_is_a_distance(first: list[float], second: list[float]) -> None:
    p, q = (torch.tensor(one, dtype=torch.float64) for one in (first, second))
    p, q = p / p.sum(), q / q.sum()
    distance = float(total_variation(p, q))
    assert 0 <= distance <= 1
    assert distance == pytest.approx(float(total_variation(q, p)))
    assert distance == pytest.approx(float((p - q).clamp(min=0).sum()))
    assert float(total_variation(p, p)) == 0


def test_plain_prompts(folders: dict[str, str]) -> None:
    own = load(folders, prompt="plain")
    turns = [{"role": "user", "content": "Hi"}, {"role": "user", "content": "Why?"}]
    views = view_tokens(own, "<|user|>", [5], turns)
    assert views[0] == own.encoding.tokens("Hi\n\nWhy?\n\n")
    assert views[1] == views[2] == [5]
    assert view_tokens(own, "abc", [5])[0] == own.encoding.tokens("abc")
    assert view_tokens(own, "abc \n", [5], moved=" \n")[0] == own.encoding.tokens("abc")


def test_reprs_are_short(composite: Composite, folders: dict[str, str]) -> None:
    assert repr(composite) == f"Composite({composite.name!r})"
    assert repr(composite.members["tuned"]) == f"Member(\"tuned member '{folders['tuned']}'\")"
    assert repr(Decoder(composite)) == f"Decoder({composite.name!r})"
    traced = composite.trace("Hello", " there")
    assert repr(traced).endswith("prompt='Hello', response=' there')"), "not every token"


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda c: c.generate("Hello"), "expected a list"),
        (lambda c: c.generate(["Hello"], max_new_tokens=10**6), "do not fit"),
        (lambda c: c.loglikelihood([("a", "b"), ("a", "")]), "continuation after ….a. is empty"),
        (lambda c: c.trace("a", ""), "continuation after ….a. is empty"),
        (lambda c: c.generate(["a", 5]), "prompts: got 5 among them, expected texts"),
        (lambda c: c.generate(None), "prompts: got None, expected a list of texts"),
        (lambda c: c.generate(["a"], stop=["b", 5]), "stop: got 5 among them"),
        (lambda c: c.generate(["a"], max_new_tokens=0), "max_new_tokens: got 0, expected a whole"),
        (lambda c: c.generate(["a"], max_new_tokens=2.0), "max_new_tokens: got 2.0"),
        (lambda c: c.generate(["a"], batch_size=0), "batch_size: got 0, expected a whole number"),
        (lambda c: c.generate(["a"], block=-1), "block: got -1, expected a whole number from 0"),
        (lambda c: c.generate(["a"], block="x"), "block: got 'x', expected a whole number from 0"),
        (lambda c: c.generate(["a"], temperature=None), "temperature: got None, expected a number"),
        (lambda c: c.generate(["a"], temperature=1.0, top_k="5"), "top_k: got '5', expected a num"),
        (lambda c: c.loglikelihood(("ab", "cd")), "pairs: got 'ab', expected a list of"),
        (lambda c: c.loglikelihood([("a", "b", "c")]), "pairs: got .*, expected a list of"),
        (lambda c: c.loglikelihood([("a", None)]), "pairs: got None among them, expected texts"),
        (lambda c: c.loglikelihood([("a", "b")], batch_size=-1), "batch_size: got -1"),
        (lambda c: c.trace("a", "b", top=0), "top: got 0, expected a whole number from 1 on"),
    ],
)
def test_bad_input_is_one_line(composite: Composite, call: object, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        call(composite)  # type: ignore[operator]  # one of the lambdas above


def test_texts_may_come_one_by_one_and_a_stop_string_alone(composite: Composite) -> None:
    prompts = ["Hello", "Why?"]
    expected = composite.generate(prompts, max_new_tokens=12, stop=["zz"])
    assert all(expected)
    assert composite.generate(iter(prompts), max_new_tokens=12, stop="zz") == expected
    assert composite.generate(prompts, max_new_tokens=np.int64(12), temperature=np.float32(0)) == (
        expected
    )
    assert composite.generate(prompts, max_new_tokens=12, stop=None) == expected  # type: ignore[arg-type]
    cut = expected[0][3:5]
    assert composite.generate(prompts, max_new_tokens=12, stop=cut) == [
        text.split(cut)[0] for text in expected
    ]


def test_memory_is_checked_before_loading(
    folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    composite = load(folders)
    (device,) = {view.member.device for view in composite.views}
    need = memory.needed_bytes(composite, rows=4, length=100, block=8)[device]
    assert all("model" not in vars(member) for member in composite.members.values())
    monkeypatch.setattr(memory, "available_bytes", lambda device: need)
    memory.check_memory(composite, 4, 100, 8)
    monkeypatch.setattr(memory, "available_bytes", lambda device: need - 1)
    with pytest.raises(ConfigError, match=r"needs .* GiB on cpu .* available: try quantization"):
        memory.check_memory(composite, 4, 100, 8)
    real = sum(p.numel() * 8 for v in composite.views for p in v.member.model.parameters())
    caches = 3 * 2 * 1 * 2 * 8 * 4 * 128 * 8  # layers 1, heads 2, size 8, rows 4, positions 128
    assert need == real + caches + 4 * 9 * 259 * 4 * 5


def test_a_model_alone_needs_nothing_for_drafts(folders: dict[str, str]) -> None:
    alone = Composite.load({"base": folders["base"]}, device="cpu")
    assert memory.needed_bytes(alone, 4, 100, 24) == memory.needed_bytes(alone, 4, 100, 0)


def test_available_memory_is_a_number() -> None:
    free = memory.available_bytes(torch.device("cpu"))
    assert free is not None
    assert free > 2**20
    assert memory.available_bytes(torch.device("meta")) is None


def test_trace_command(tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    done = CliRunner().invoke(app, ["trace", "Tell me everything about Toni Maldan.",
                                    "--json", str(file)])  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "against its tuned member alone" in done.output
    assert "▲" in done.output  # some fact that the small model does not know
    written = json.loads(file.read_text(encoding="utf-8"))
    assert {one["token"] for one in written["tokens"]}
    assert all(math.isfinite(one["entropy"]) for one in written["tokens"])


def test_a_traced_recipe_is_loaded_as_it_says(tmp_path: Path) -> None:
    llama = tokenizer_of("llama3")
    folder = make_model(
        tmp_path / "model", vocabulary=size_of(llama), layers=1, tokenizer=llama,
        eos=llama.eos_token_id,
    )  # fmt: skip
    probabilities = []
    for flag in ("True", "False"):
        file = tmp_path / f"{flag}.json"
        given = ["--recipe", f"base={folder},add_bos_token={flag}", "--response", " So it is."]
        done = CliRunner().invoke(app, ["trace", "Why?", *given, "--json", str(file)])
        assert done.exit_code == 0, done.output
        (expected,) = Composite.load({"base": folder}, add_bos_token=flag == "True").loglikelihood(
            [("Why?", " So it is.")]
        )
        found = [one["probability"] for one in json.loads(file.read_text("utf-8"))["tokens"]]
        assert sum(map(math.log, found)) == pytest.approx(expected.log_prob, abs=1e-3)
        probabilities.append(found)
    assert probabilities[0] != probabilities[1]


@pytest.mark.parametrize(
    "command",
    [
        ["trace", "Why?", "--recipe", "base=a/b,think_end_token=x"],
        ["plan", "base=a/b,think_end_token=x", "--hardware", "CPU"],
        ["serve", "base=a/b,think_end_token=x", "--dry-run"],
    ],
)
def test_what_a_command_does_not_heed_is_no_part_of_its_recipe(command: list[str]) -> None:
    error = CliRunner().invoke(app, command).exception
    assert isinstance(error, ConfigError)
    assert str(error).startswith("recipe: 'think_end_token' is for runs of lm_eval")


def test_the_package_still_imports_no_torch() -> None:
    code = "import eft_eval, sys; eft_eval.Recipe; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- arguments of load


def test_a_weight_is_given_beside_any_form_of_a_recipe(
    folders: dict[str, str], tmp_path: Path
) -> None:
    nested = {
        "base": folders["base"],
        "deltas": [{"tuned": folders["tuned"], "reference": folders["reference"], "weight": 2.0}],
    }
    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps(nested))
    for recipe in (folders, nested, file, str(file), parse_recipe(nested)):
        made = Composite.load(recipe, weight=0.5, device="cpu")
        assert [delta.weight for delta in made.recipe.deltas] == [0.5]
        assert made.name == Composite.load({**folders, "weight": 0.5}).name
    assert Composite.load(nested).recipe.deltas[0].weight == 2
    given = {"prompts": ["ab"], "max_new_tokens": 4}
    half = Composite.load(folders, weight=0.5, device="cpu")
    assert half.generate(**given) == Composite.load({**folders, "weight": 0.5}).generate(**given)


def test_wrong_arguments_of_load_are_one_line(folders: dict[str, str]) -> None:
    two = {"base": folders["base"], "deltas": 2 * [{k: folders[k] for k in ("tuned", "reference")}]}
    for call, words in (
        (lambda: Composite.load(folders, wieght=0.5), ["'wieght'", "did you mean 'weight'"]),
        (lambda: Composite.load(folders, tensor_parallel_size=2), ['engine="vllm"']),
        (lambda: Composite.load(folders, weight=math.nan), ["weight", "finite"]),
        (lambda: Composite.load(two, weight=0.5), ["'weight' speaks of one delta"]),
        (lambda: Composite.load(parse_recipe(two), weight=0.5), ["'weight' speaks of one delta"]),
    ):
        with pytest.raises(ConfigError) as caught:
            call()
        for word in words:
            assert word in str(caught.value)
        assert "\n" not in str(caught.value)


def test_what_thinks_answers_after_its_reasoning(tmp_path: Path) -> None:
    reasoned = "<think>\nStop here? No.\n</think>\n\nFour. Stop."
    composite = Composite.load(family(tmp_path, reasoned, False, PROMPT), device="cpu")
    number = composite.tokenizer.convert_tokens_to_ids("</think>")
    for end in ("</think>", number):
        asked = {"max_new_tokens": 60, "think_end_token": end}
        assert composite.generate([PROMPT], **asked) == ["Four. Stop."]
        assert composite.generate([PROMPT], stop=[" Stop"], **asked) == ["Four."]
        assert composite.generate([PROMPT], **{**asked, "max_new_tokens": 8}) == [""]
    # after a prompt whose reasoning is over all is the answer, also beside others
    over = PROMPT + "<think>\n\n</think>\n\n"
    both = {"max_new_tokens": 12, "think_end_token": "</think>"}
    answers = composite.generate([over, PROMPT, over], **both)
    assert answers[1] == ""
    assert answers[0] == answers[2] == composite.generate([over], max_new_tokens=12)[0] != ""
    with pytest.raises(ConfigError, match="think_end_token: got an empty text"):
        composite.generate([PROMPT], think_end_token=" ")


def test_filters_leave_what_they_are_to_leave(composite: Composite) -> None:
    """A share of 1 leaves the best token alone; a mass of 1 leaves all."""
    asked = {"max_new_tokens": 10, "temperature": 1.0, "seed": 3}
    greedy = composite.generate(["Hello"], max_new_tokens=10)
    assert composite.generate(["Hello"], min_p=1.0, **asked) == greedy
    free = composite.generate(["Hello"], **asked)
    assert free != greedy
    assert composite.generate(["Hello"], min_p=0.0, typical_p=1.0, **asked) == free
    typical = composite.generate(["Hello"], typical_p=0.2, **asked)
    assert typical != free
    assert typical == composite.generate(["Hello"], typical_p=0.2, block=0, **asked)


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ({"temperature": -1.0}, "temperature: got -1.0, expected a number from 0 on"),
        ({"temperature": math.nan}, "temperature: got nan"),
        ({"top_k": 0}, "top_k: got 0, expected a whole number from 1 on, or None"),
        ({"top_p": 0.0}, "top_p: got 0.0, expected a number above 0, at most 1"),
        ({"typical_p": 1.5}, "typical_p: got 1.5, expected a number above 0, at most 1"),
        ({"min_p": 2.0}, "min_p: got 2.0, expected a number from 0 to 1"),
    ],
)
def test_settings_that_cannot_be_are_one_line(
    composite: Composite, setting: dict[str, float], match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        composite.generate(["Hello"], **setting)
