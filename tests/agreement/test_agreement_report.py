"""The whole report from ratings: against counting by hand, and as JSON."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import eft_eval
from eft_eval.agreement import (
    Agreement,
    Interval,
    LabelReading,
    Method,
    agree,
    agree_files,
    agree_labels,
    krippendorff_alpha,
    leave_one_out,
    majority,
    mean_rating,
    pair_agreement,
    panel_agreement,
)
from eft_eval.agreement.answers import read_answers
from eft_eval.errors import ConfigError
from eft_eval.labels import (
    Columns,
    FileReading,
    Label,
    LabelSet,
    labels_of_frame,
    read_meanings,
    save_labels,
)
from eft_eval.records import plain, write_report

fewer = settings(max_examples=40)
QUICK = Method(resamples=0)


@st.composite
def panels(draw, least: int = 1):
    """Ratings of several people with holes, and a judge's."""
    shape = (draw(st.integers(least, 5)), draw(st.integers(1, 25)))
    values = draw(arrays(np.float64, shape, elements=st.integers(0, 3).map(float)))
    values[draw(arrays(np.bool_, shape, elements=st.booleans() | st.just(False)))] = np.nan
    judge = draw(arrays(np.float64, shape[1], elements=st.integers(0, 3).map(float)))
    judge[draw(arrays(np.bool_, shape[1], elements=st.booleans() | st.just(False)))] = np.nan
    return {f"p{i}": row for i, row in enumerate(values)}, judge


def columns(panel):
    return [
        [v for v in column if not math.isnan(v)] for column in zip(*panel.values(), strict=True)
    ]


@given(panels())
def test_majority_and_mean_by_counting(drawn):
    panel, _ = drawn
    found, means = majority(panel), mean_rating(panel)
    tied = 0
    for item, ratings in enumerate(columns(panel)):
        best = Counter(ratings).most_common()
        winners = [value for value, count in best if count == best[0][1]]
        tied += len(winners) > 1
        expected = winners[0] if len(winners) == 1 else math.nan
        assert found.values[item] == pytest.approx(expected, nan_ok=True)
        mean = sum(ratings) / len(ratings) if ratings else math.nan
        assert means.values[item] == pytest.approx(mean, nan_ok=True)
    several = sum(len(ratings) > 1 for ratings in columns(panel))
    assert (found.tied, found.several, means.several) == (tied, several, several)


@fewer
@given(panels(), st.sampled_from(["any error", "raw"]), st.booleans())
def test_the_report_is_its_parts(drawn, rule, clustered):
    panel, judge = drawn
    items = len(judge)
    prompts = [i // 2 for i in range(items)] if clustered else None
    result = agree(panel, judge, clusters=prompts, method=Method(rule=rule, resamples=20))
    read = {
        name: np.where(np.isnan(one), one, one > 0) if rule == "any error" else one
        for name, one in panel.items()
    }
    rated = [i for i, ratings in enumerate(columns(panel)) if ratings]
    shares = clustered and len({i // 2 for i in rated}) < len(rated)
    assert (result.clusters is not None) == shares
    ids = prompts if shares else None
    assert same(result.pair, pair_agreement(majority(read).values, judge, rule=rule, clusters=ids))
    if len(panel) == 1:
        assert (result.people, result.ceiling, result.alpha) == (None, None, ())
    else:
        assert same(result.people, panel_agreement(panel, rule=rule, clusters=ids))
        scale = "nominal" if rule == "any error" else "numeric"
        ceiling = leave_one_out(panel, judge, rule=rule, scale=scale, clusters=ids)
        assert same(result.ceiling, ceiling)
        alpha = krippendorff_alpha(read, clusters=ids, resamples=20)
        assert same(result.alpha[0], alpha)
    assert len(result.alpha_with_judge) == (1 if rule == "any error" else 3)
    assert (result.alternative is None) == (len(panel) < 3)


def same(first, second) -> bool:
    """Whether two results are equal; NaN, as None in the plain form, equals itself."""
    return plain(first) == plain(second)


@given(panels())
def test_agreement_with_a_random_person_by_counting(drawn):
    panel, judge = drawn
    shares = []
    for ratings, verdict in zip(columns(panel), judge, strict=True):
        if ratings and not math.isnan(verdict):
            shares.append(sum((r > 0) == (verdict > 0) for r in ratings) / len(ratings))
    result = agree(panel, judge, method=QUICK)
    mean = result.random_person
    assert mean.n == len(shares)
    if shares:
        assert mean.interval.estimate == pytest.approx(sum(shares) / len(shares))
    for one in result.each:
        both = [
            (a > 0) == (b > 0)
            for a, b in zip(panel[one.first], judge, strict=True)
            if not (math.isnan(a) or math.isnan(b))
        ]
        assert (one.n, one.agreement) == (len(both), pytest.approx(sum(both) / len(both)))


@given(panels())
def test_judge_minus_people_by_counting(drawn):
    panel, judge = drawn
    gaps = [
        verdict - sum(ratings) / len(ratings)
        for ratings, verdict in zip(columns(panel), judge, strict=True)
        if ratings and not math.isnan(verdict)
    ]
    found = agree(panel, judge, method=Method(rule="raw", resamples=0)).difference
    assert found.n == len(gaps)
    if gaps:
        assert found.interval.estimate == pytest.approx(sum(gaps) / len(gaps))
    assert agree(panel, judge, method=QUICK).difference is None


@given(panels())
def test_every_item_is_accounted_for(drawn):
    panel, judge = drawn
    counted = agree(panel, judge, method=QUICK).counted
    per_item = columns(panel)
    assert counted.items == sum(bool(ratings) for ratings in per_item)
    assert counted.ratings == sum(map(len, per_item))
    assert counted.judged + sum(counted.unscored.values()) == counted.items
    assert counted.judged + counted.unlabelled == sum(not math.isnan(v) for v in judge)
    tied_and_judged = sum(
        len(r) > 1 and sum(v > 0 for v in r) * 2 == len(r) and not math.isnan(v)
        for r, v in zip(per_item, judge, strict=True)
    )
    assert counted.compared == counted.judged - tied_and_judged


@given(panels(), st.booleans())
def test_the_report_is_json_without_nan(drawn, judged):
    panel, judge = drawn
    result = agree(panel, judge if judged else None, method=Method(resamples=5))
    text = json.dumps(result.to_dict(), allow_nan=False)
    back = json.loads(text)
    assert back["counted"]["items"] == result.counted.items
    assert (back["pair"] is None) == (not judged)


def test_people_alone_and_one_person_alone():
    two = agree({"a": [1, 0, 2], "b": [1, 1, 0]})
    assert (two.judge, two.pair, two.each) == (None, None, ())
    assert two.people.pairs[0].agreement == pytest.approx(1 / 3)
    one = agree({"a": [1, 0, 2]})
    assert one.raters[0].rate.estimate == pytest.approx(2 / 3)
    assert "nothing to compare" in one.warnings[0]
    with pytest.raises(ConfigError, match="is an annotator and the judge"):
        agree({"judge": [1, 0]}, [1, 0])


def test_ties_are_no_agreement_and_no_disagreement():
    """Two people who differ on half of the items: the rest looks easier than it is."""
    result = agree({"a": [1, 1, 0, 0] * 10, "b": [1, 0, 1, 0] * 10}, [1, 1, 1, 0] * 10)
    assert (result.counted.tied, result.counted.compared) == (20, 20)
    assert result.pair.agreement.rate == 1
    assert result.random_person.interval.estimate == 0.75
    assert any("the rest is the easier part" in text for text in result.warnings)


def test_words_have_no_amounts():
    panel = {"a": [0, 1, 2, 0], "b": [0, 1, 1, 2]}
    result = agree(
        panel, [0, 1, 2, 2], strata=list("xxyy"), method=Method(rule="raw", scale="nominal")
    )
    assert result.pair.scale is None
    assert result.pair.strata["x"].scale is None
    assert [alpha.metric for alpha in result.alpha] == ["nominal"]
    assert result.ceiling.measure == "agreement with the majority"
    assert agree(panel, method=Method(rule="raw")).alpha[2].metric == "interval"


def test_the_papers_numbers_stand_beside():
    """61 of 100 by chance alone at 50/50: κ is 0.22."""
    people = [1] * 50 + [0] * 50
    judge = [1] * 30 + [0] * 20 + [0] * 31 + [1] * 19
    result = agree({"human": people}, judge)
    agreement = result.pair.agreement
    assert (agreement.successes, agreement.n) == (61, 100)
    assert round(agreement.standard_error, 6) == 0.049021
    assert round(agreement.population_standard_error, 6) == 0.048775
    assert result.pair.kappa.interval.estimate == pytest.approx(0.22)
    assert result.paper.printed == "61 %"
    assert result.paper.proportion == agreement


def test_pandas_frames_and_public_names():
    pandas = pytest.importorskip("pandas")
    panel = {"a": [1, 0, None, 2, 0], "b": [1, 1, 0, None, 0]}
    judge = [1, 0, 0, 1, None]
    frame = pandas.DataFrame(panel)
    assert same(agree(frame, pandas.Series(judge)), agree(panel, judge))
    assert eft_eval.Agreement is Agreement
    assert eft_eval.Interval is Interval

    long = frame.assign(item=list("vwxyz"), prompt=[1, 1, 2, 2, 3]).melt(["item", "prompt"])
    long = long.rename(columns={"variable": "who"})
    labels = labels_of_frame(long, Columns("item", "who", cluster="prompt"))
    assert labels.drop_counts() == {"no value": 2}
    result = agree_labels(labels, method=Method(rule="any error"))
    wanted = agree(panel, clusters=[1, 1, 2, 2, 3])
    assert same(result.alpha, wanted.alpha)
    assert result.clusters == 3
    named = labels_of_frame(long, Columns("item", "who"), judge="a")
    assert named.judge == "a"
    assert agree_labels(named).pair.n == 3
    back = labels.to_frame()
    assert len(labels_of_frame(back, Columns(field="field")).labels) == 8
    with pytest.raises(ConfigError, match="no column 'wrong'"):
        labels_of_frame(long, Columns("wrong"))
    with pytest.raises(ConfigError, match=r"no annotator is called .c."):
        labels_of_frame(long, Columns("item", "who"), judge="c")


# --- how labels are read


def make_labels(answers: dict[tuple[str, str, str], float | str]) -> LabelSet:
    labels = [Label(i, who, field, value, None, "") for (i, who, field), value in answers.items()]
    return LabelSet(tuple(labels))


choices, counts = st.sampled_from(["yes", "no", "unsure", None]), st.sampled_from([None, 0.0, 2.0])


@given(st.lists(st.tuples(choices, counts), min_size=1, max_size=12))
def test_any_error_is_read_from_both_fields(given_answers):
    answers, expected = {}, {}
    unsure = contradictory = 0
    for number, (said, count) in enumerate(given_answers):
        name = f"i{number:02}"
        if said is not None:
            answers[name, "A1", "has_error"] = said
        if count is not None:
            answers[name, "A1", "error_count"] = count
        if said is None and count is None:
            continue
        unsure += said == "unsure"
        expected[name] = math.nan
        if said is None:
            expected[name] = float(count > 0)
        elif said != "unsure" and (count is None or (count > 0) == (said == "yes")):
            expected[name] = float(said == "yes")
        else:
            contradictory += said != "unsure"
    if not answers:
        with pytest.raises(ConfigError, match="no usable labels"):
            read_answers(make_labels(answers))
        return
    found = read_answers(make_labels(answers))
    assert (found.field, found.rule) == ("any_error", "any error")
    assert dict(zip(found.item_ids, found.panel["A1"], strict=True)) == pytest.approx(
        expected, nan_ok=True
    )
    assert (found.unsure, found.contradictory) == (unsure, contradictory)


def test_words_are_categories_or_one_of_them_counts():
    labels = make_labels(
        {(str(i), "A1", "safe"): word for i, word in enumerate(("Yes", "No", "?"))}
    )
    found = read_answers(labels)
    assert (found.words, found.rule, found.scale) == (("?", "no", "yes"), "raw", "nominal")
    found = read_answers(labels, LabelReading(positive="no", missing=("?",)))
    assert found.panel["A1"].tolist() == pytest.approx([0, 1, math.nan], nan_ok=True)
    assert (found.rule, found.unsure) == ("any error", 1)


@pytest.mark.parametrize(
    ("answers", "options", "said"),
    [
        ({("i", "A1", "x"): 1.0, ("i", "A1", "y"): 1.0}, {}, "several fields.*x, y"),
        ({("i", "A1", "notes"): "hm"}, {}, "notes only"),
        ({("i", "A1", "x"): 1.0}, {"positive": "yes"}, "holds numbers"),
        ({("i", "A1", "x"): "a"}, {"positive": "b"}, "no label of x is 'b'"),
        ({("i", "A1", "x"): "a"}, {"rule": "any error"}, "--positive"),
        ({("i", "A1", "has_error"): "yes"}, {"rule": "raw"}, "needs counts"),
        ({("i", "A1", "has_error"): "yes"}, {"missing": ("no",)}, "answers of its own"),
        ({("i", "A1", "x"): 1.0}, {"field": "xx"}, "no label of the field 'xx'.*'x'"),
        ({("i", "A1", "x"): 1.0}, {"field": "any_error"}, "no label of has_error"),
    ],
)
def test_labels_that_cannot_be_read_so(answers, options, said):
    rule = options.pop("rule", None)
    with pytest.raises(ConfigError, match=said):
        read_answers(make_labels(answers), LabelReading(**options), rule=rule)


# --- files


def test_reports_replace_reports_only(tmp_path):
    path = tmp_path / "a.json"
    write_report(path, {"format": "eft-eval agreement", "n": 1})
    write_report(path, {"format": "eft-eval agreement", "n": 2})
    assert json.loads(path.read_text("utf-8"))["n"] == 2
    for text in ("item_id,annotator,value\n", '{"format": "eft-eval labels"}', "[]"):
        path.write_text(text, "utf-8")
        with pytest.raises(ConfigError, match="choose another name"):
            write_report(path, {"format": "eft-eval agreement"})
        assert path.read_text("utf-8") == text
    with pytest.raises(TypeError):
        plain(object())


def test_labels_are_not_written_over_somebody_elses(tmp_path):
    labels = make_labels({("i", "A1", "x"): 1.0})
    for name in ("a.csv", "a.json"):
        path = tmp_path / name
        path.write_text("item_id,annotator,value\nx,y,1\n", "utf-8")
        with pytest.raises(ConfigError, match="choose another name"):
            save_labels(labels, path)
        path.unlink()
        save_labels(labels, path)
        save_labels(labels, path)
    with pytest.raises(ConfigError, match="ends in"):
        save_labels(labels, tmp_path / "a.txt")


@pytest.mark.parametrize("numbers", [("0,5", "1,0"), ("50%", "10 %"), ("1,000", "2,500")])
def test_numbers_as_people_write_them_are_no_categories(
    tmp_path: Path, numbers: tuple[str, str]
) -> None:
    path, classes = tmp_path / "wide.csv", tmp_path / "classes.json"
    path.write_text("item_id;jo;al\ni1;{0};{0}\ni2;{1};{0}\n".format(*numbers))
    with pytest.raises(ConfigError, match="numbers with a comma or a percent sign"):
        agree_files([path])
    path.write_text(f"item_id;jo;al\ni1;{numbers[0]};0\ni2;1;0\ni3;0;1\n")
    with pytest.raises(ConfigError, match=f"percent sign, such as i1: {numbers[0]}: write"):
        agree_files([path])  # left out, they would leave the whole numbers alone
    path.write_text("item_id;jo;al\ni1;{0};{0}\ni2;{1};{0}\n".format(*numbers))
    classes.write_text(json.dumps(dict(zip(numbers, ("low", "high"), strict=True))))
    meant = LabelReading(files=FileReading(meanings=read_meanings(classes)))
    found = agree_files([path], reading=meant)
    assert found.categories == ("high", "low")
    assert found.people is not None
    assert found.people.agreement.interval.estimate == 0.5
