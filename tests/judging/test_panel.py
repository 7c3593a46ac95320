"""Several judges of every response: metrics of each and of the panel; what a failure costs."""

from __future__ import annotations

import itertools
import json
import math
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged_panels import COUNT, REFUSED, SCORES, judges, newest
from judged_runs import Run, fails, make_verdict
from sklearn.metrics import cohen_kappa_score

from eft_eval.errors import ConfigError
from eft_eval.judging import Status, Verdict, VerdictStore
from eft_eval.judging.panel import panel_agreement, panel_verdict, panel_verdicts
from eft_eval.judging.prompts.measures import MEASURES
from eft_eval.verdicts.text import read_verdicts

FACTS = MEASURES["factuality"]


def verdicts_of(values: Sequence[float | None]) -> list[list[Verdict]]:
    return [
        [make_verdict(value) if value is not None else make_verdict(None, Status.refused)]
        for value in values
    ]


def test_each_judge_and_the_panel_have_metrics_of_their_own(folder: Path, run: Run) -> None:
    done = run("judge", "out", *judges("a", "b", "c"))
    assert done.code == 0, done
    results, lines = newest(folder / "out")
    entry = results["results"]["eli5_fact"]
    all_three = [i for i in range(COUNT) if i != REFUSED]
    for name, scores in SCORES.items():
        own = [score for i, score in enumerate(scores) if (name, i) != ("c", REFUSED)]
        key = f"factuality@scripted:{name}.json"
        assert entry[f"fact_errors,{key}"] == pytest.approx(statistics.fmean(own))
        assert [v.judge_model for v in read_verdicts(lines[key][0]["filtered_resps"][0])] == [
            f"scripted:{name}.json"
        ]
    means = [statistics.fmean(SCORES[name][i] for name in SCORES) for i in all_three]
    votes = [sum(SCORES[name][i] > 0 for name in SCORES) for i in all_three]
    assert entry["fact_errors,factuality"] == pytest.approx(statistics.fmean(means))
    assert entry["fact_any_error,factuality"] == pytest.approx(
        statistics.fmean(float(vote >= 2) for vote in votes)
    )
    error = statistics.stdev(means) / math.sqrt(len(means))
    assert entry["fact_errors_stderr,factuality"] == pytest.approx(error)
    assert entry["fact_refused,factuality"] == pytest.approx(1 / COUNT)
    assert lines["factuality"][REFUSED]["fact_errors"] is None, "no mean over fewer judges"
    judge = results["configs"]["eli5_fact"]["metadata"]["eft_judge"]
    assert judge["panel"]["factuality"]["scored_by"] == {"3": COUNT - 1, "2": 1, "1": 0, "0": 0}
    assert judge["verdicts"] == {"scored": 3 * COUNT - 1, "refused": 1}
    assert judge["judges"]["factuality@scripted:c.json"]["verdicts"]["refused"] == 1


def test_a_score_that_none_can_hide_is_in_the_bounds() -> None:
    # the first has no score of b, on the second the two judges are tied
    panel = panel_verdicts({"a": verdicts_of([2, 1, 3]), "b": verdicts_of([None, 0, 1])})
    found = FACTS.bounds(panel)
    assert found["fact_errors"] == (
        pytest.approx((0 + 0.5 + 2) / 3),
        pytest.approx((2 + 0.5 + 2) / 3),
        1,
    )
    assert found["fact_any_error"] == (pytest.approx(1 / 3), pytest.approx(1.0), 2)
    values = [FACTS.values(group) for group in panel]
    assert [one["fact_any_error"] for one in values] == [None, None, 1.0]
    assert [one["fact_errors"] for one in values] == [None, 0.5, 2.0]
    assert values[0]["fact_refused"] == 1.0


_STATUSES = st.sampled_from([*Status])
_VERDICT = _STATUSES.flatmap(
    lambda status: st.builds(
        lambda value: make_verdict(value if status is Status.scored else None, status),
        st.integers(0, 9).map(float),
    )
)


@given(st.dictionaries(st.sampled_from("abcde"), _VERDICT, min_size=2))
def test_a_panel_scores_what_every_judge_scored_and_nothing_else(
    given_: Mapping[str, Verdict],
) -> None:
    found = panel_verdict(given_)
    scores = [one.value for one in given_.values() if one.status is Status.scored]
    if len(scores) == len(given_):
        assert found.value == pytest.approx(statistics.fmean(float(s or 0) for s in scores))
        above = sum(float(s or 0) > 0 for s in scores)
        wanted = None if 2 * above == len(scores) else float(2 * above > len(scores))
        assert FACTS.score("fact_any_error", found) == wanted
    else:
        assert found.value is None
        assert found.status in {one.status for one in given_.values()} - {Status.scored}
    values = FACTS.values([found])
    shares = sum(float(values[f"fact_{name}"] or 0) for name in _SHARES)
    assert shares == (0.0 if len(scores) == len(given_) else 1.0)
    assert read_verdicts(json.dumps([found.to_dict()])) == [found]
    assert panel_verdict(dict(reversed(given_.items()))).key == found.key


_SHARES = ("abstained", "refused", "unreadable", "missing", "unfinished")


def test_agreement_is_that_of_other_libraries() -> None:
    scores: dict[str, list[float | None]] = {name: [*of] for name, of in SCORES.items()}
    scores["c"][REFUSED] = None
    found = panel_agreement(
        {name: verdicts_of(of) for name, of in scores.items()},
        FACTS,
        [str(i) for i in range(COUNT)],
    )
    values = np.array([[np.nan if v is None else v for v in of] for of in scores.values()])
    sides = np.where(np.isnan(values), np.nan, values > 0)
    nominal, interval = found.alphas
    for alpha, data, level in ((nominal, sides, "nominal"), (interval, values, "interval")):
        expected = krippendorff.alpha(data, level_of_measurement=level)
        assert alpha.interval.estimate == pytest.approx(expected)
        assert alpha.interval.lower < expected < alpha.interval.upper
    assert len(found.pairs) == 3
    for (a, b), (first, second, pair) in zip(
        itertools.combinations("abc", 2), found.pairs, strict=True
    ):
        assert (first, second) == (a, b)
        both = [i for i in range(COUNT) if None not in (scores[a][i], scores[b][i])]
        left, right = (np.array([float(scores[n][i] or 0) for i in both]) for n in (a, b))
        assert pair.n == len(both)
        assert pair.kappa.estimate == pytest.approx(cohen_kappa_score(left > 0, right > 0))
        assert pair.offset.estimate == pytest.approx(float((right - left).mean()))
        assert pair.offset.lower < pair.offset.estimate < pair.offset.upper
        assert (pair.old.models, pair.new.models) == (("judge-1",), ("judge-1",))


def test_a_judge_that_fails_costs_the_others_nothing(
    folder: Path, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    done = run("judge", "out", *judges("a", "down", "b"))
    assert done.code == 3
    (line,) = [one.getMessage() for one in caplog.records if "down" in one.getMessage()]
    assert f"{COUNT} of {COUNT} responses have no verdict" in line
    entry = newest(folder / "out")[0]["results"]["eli5_fact"]
    assert entry["fact_errors,factuality@scripted:a.json"] == statistics.fmean(SCORES["a"])
    assert entry["fact_errors,factuality@scripted:b.json"] == statistics.fmean(SCORES["b"])
    assert entry["fact_missing,factuality@scripted:down.json"] == 1.0
    assert math.isnan(entry["fact_errors,factuality"]), "two of three judges are no panel"
    assert entry["fact_missing,factuality"] == 1.0
    # again with a judge in its place: the others are asked nothing
    assert (
        run("judge", "out", *judges("a", "c", "b"), "--dry-run").out.count(f"{COUNT} stored") >= 2
    )
    fails(run("judge", "out", *judges("down"), "--judge", "scripted:down.json"), "twice")


def test_an_endpoint_that_is_down_keeps_its_stored_verdicts(
    folder: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    openai_server: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def answer(prompt: str, body: object) -> Any:
        return "Reason: r.\n\nScore: 4" if "no. 1 here" in prompt else "Score: many"

    with pytest.MonkeyPatch.context() as before:
        before.setenv("EFT_JUDGE_BASE_URL", openai_server(answer).url)
        assert run("judge", "out", "--judge", "gone").code == 0
        assert run("verdicts", "prune", "--status", "malformed", "--yes").code == 0
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", "http://127.0.0.1:9/v1")
    done = run("judge", "out", *judges("a"), "--judge", "gone")
    assert done.code == 3
    assert sum("endpoint down" in one.getMessage() for one in caplog.records) == 1
    entry = newest(folder / "out")[0]["results"]["eli5_fact"]
    assert entry["fact_errors,factuality@scripted:a.json"] == statistics.fmean(SCORES["a"])
    assert entry["fact_missing,factuality@gone"] == 1 - 1 / COUNT
    assert entry["fact_errors,factuality@gone"] == 4.0
    assert entry["fact_errors,factuality"] == statistics.fmean([4, SCORES["a"][1]])


def test_a_store_that_fails_one_judge_costs_the_others_nothing(
    folder: Path, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """From the look-up on that the second judge begins with; nobody knows what it has stored."""
    stores: list[VerdictStore] = []
    begin, look_up = VerdictStore.__init__, VerdictStore.look_up

    def noted(store: VerdictStore, *given: Any, **more: Any) -> None:
        stores.append(store)
        begin(store, *given, **more)

    def failing(store: VerdictStore, keys: Iterable[str]) -> Any:
        asking = threading.current_thread().name.startswith("eft-panel")
        if asking and store is stores[1]:
            raise ConfigError("the verdict store cannot be used (disk I/O error)")
        return look_up(store, keys)

    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(VerdictStore, "__init__", noted)
        broken.setattr(VerdictStore, "look_up", failing)
        done = run("judge", "out", *judges("a", "c", "b"))
    assert done.code == 3
    (line,) = [one.getMessage() for one in caplog.records if "I/O error" in one.getMessage()]
    assert line.startswith(f"judge scripted:c.json: {COUNT} of {COUNT} responses have no verdict")
    entry = newest(folder / "out")[0]["results"]["eli5_fact"]
    for name in "ab":
        key = f"fact_errors,factuality@scripted:{name}.json"
        assert entry[key] == statistics.fmean(SCORES[name])
    assert entry["fact_missing,factuality@scripted:c.json"] == 1.0
    assert run("judge", "out", *judges("a", "c", "b")).code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (judges("a", "a"), "given twice"),
        ([*judges("a"), "--judge", "scripted:none.json"], "none.json"),
        ([*judges("a"), "--judge", ""], "lacks a name"),
        ([*judges("a", "b"), "--batch", "submit"], "needs a judge at an endpoint"),
        ([*judges("a"), "--judge", "m@http://h/v1?x=1"], "NAME@URL) has a query"),
        ([*judges("a"), "--judge", "m@http://me:secret@h/v1"], "EFT_JUDGE_KEYS"),
        ([*judges("a"), "--judge", "@http://h/v1"], "lacks a name"),
        (["--judge", "m@http://h/v1", "--judge", "m@http://g/v1"], "at one address"),
        ([*judges("a", "b"), "--bridge"], "one new"),
    ],
)
def test_bad_input_is_one_line_before_anybody_is_asked(
    folder: Path, run: Run, arguments: list[str], said: str
) -> None:
    fails(run("judge", "out", *arguments), said)
    assert len(list((folder / "out").glob("results_*"))) == 1
    assert "nothing" in run("verdicts", "list").out or not run("verdicts", "list").out.count("|")


def test_one_sum_is_for_all_judges(
    folder: Path, run: Run, openai_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = openai_server(lambda prompt, body: "Reason: r.\n\nScore: 1")
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", server.url)
    monkeypatch.setenv("EFT_JUDGE_MAX_TOKENS", "20")
    prices = {"date": "2026-11-01", "models": {n: {"input": 10.0, "output": 10.0} for n in "xy"}}
    Path("prices.json").write_text(json.dumps(prices))
    monkeypatch.setenv("EFT_JUDGE_PRICES", "prices.json")
    both = ["--judge", "x", "--judge", "y"]
    dry = run("judge", "out", *both, "--dry-run")
    assert "all 2 judges    80 new calls, 0 stored" in dry.out
    assert not server.chats
    done = run("judge", "out", *both, "--budget", "0.05")
    assert done.code == 3
    asked = server.chats
    spent = sum(10e-6 * 20 for _ in asked)  # at least the replies' limit each
    assert 0 < len(asked) < 2 * COUNT
    assert spent < 0.05


def test_judges_are_asked_at_the_same_time(
    folder: Path, run: Run, openai_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(2, timeout=20)
    met: set[str] = set()

    def answer(prompt: str, body: dict[str, Any]) -> str:
        if body["model"] not in met:
            met.add(body["model"])
            together.wait()  # nobody is answered before both are asked
        return "Reason: r.\n\nScore: 1"

    server = openai_server(answer)
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", server.url)
    monkeypatch.setenv("EFT_JUDGE_CONCURRENCY", "1")
    start = time.monotonic()
    assert run("judge", "out", "--judge", "x", "--judge", "y").code == 0
    assert time.monotonic() - start < 20
    assert server.most_at_once == 2, "each judge has places of its own"


def test_judges_at_several_endpoints_get_their_own_keys(
    folder: Path, run: Run, openai_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def says(number: int) -> Callable[..., str]:
        return lambda prompt, body: f"Reason: r.\n\nScore: {number}"

    given = {
        "here": openai_server(says(1), key="sk-own-key", models=["here", "beside"]),
        "there": openai_server(says(2), key="sk-there-key", models=["org/there"]),
        "open": openai_server(says(3), models=["open"]),
    }
    there = given["there"].url.split("/")[2]
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", given["here"].url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-own-key")
    monkeypatch.setenv("EFT_JUDGE_KEYS", json.dumps({there: "sk-there-key"}))
    named = [f"org/there@{given['there'].url}", "here", f"open@{given['open'].url}/"]
    done = run("judge", "out", *(word for name in named for word in ("--judge", name)))
    assert done.code == 0, done
    results = newest(folder / "out")[0]
    entry = results["results"]["eli5_fact"]
    scores = {name: entry[f"fact_errors,factuality@{name}"] for name in given}
    assert scores == {"here": 1.0, "there": 2.0, "open": 3.0}
    assert entry["fact_errors,factuality"] == 2.0
    said = results["configs"]["eli5_fact"]["metadata"]["eft_judge"]["judges"]
    assert {one["endpoint"] for one in said.values()} == {one.url for one in given.values()}
    assert "sk-" not in json.dumps(results)
    keys = {name: {r.headers["authorization"] for r in s.requests} for name, s in given.items()}
    assert keys == {
        "here": {"Bearer sk-own-key"},
        "there": {"Bearer sk-there-key"},
        "open": {"Bearer no-key"},
    }
    monkeypatch.setenv("EFT_JUDGE_KEYS", "{}")
    assert run("verdicts", "prune", "--judge", "org/there", "--yes").code == 0
    fails(
        run("judge", "out", "--judge", named[0], "--judge", named[1]),
        "key refused", "does not accept EFT_JUDGE_KEYS",
    )  # fmt: skip
