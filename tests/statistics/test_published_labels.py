"""Published labels give the published numbers."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from pathlib import Path

import pytest
from sklearn.metrics import cohen_kappa_score

from eft_eval.agreement import (
    alternative_annotator_test,
    krippendorff_alpha,
    leave_one_out,
    pair_agreement,
)

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_pandalm = pytest.mark.skipif(not (DATA / "pandalm").is_dir(), reason="no PandaLM data")
needs_llmbar = pytest.mark.skipif(not (DATA / "llmbar").is_dir(), reason="no LLMBar data")


def read(path: str):
    return json.loads((DATA / path).read_text(encoding="utf-8"))


@needs_pandalm
def test_pandalms_pinned_values():
    items = read("pandalm/testset-v1.json")
    verdicts = read("pandalm/gpt-3.5-turbo-testset-v1.json")
    assert [item["idx"] for item in items] == [verdict["idx"] for verdict in verdicts]
    people = {f"annotator{k}": [item[f"annotator{k}"] for item in items] for k in (1, 2, 3)}
    codes = {"1": 1, "2": 2, "Tie": 0, "garbage": None}
    judge = [codes[verdict["gpt_result"]] for verdict in verdicts]
    alpha = krippendorff_alpha(people)
    assert alpha.interval.estimate == pytest.approx(0.864221, abs=5e-7)
    assert (alpha.items, alpha.ratings) == (999, 2997)
    majority = [statistics.mode(line) for line in zip(*people.values(), strict=True)]
    result = pair_agreement(majority, judge, rule="raw")
    assert (result.n, result.missing_second) == (974, 25)
    assert round(result.agreement.rate, 3) == 0.716
    assert result.kappa.interval.estimate == pytest.approx(0.492865, abs=5e-7)
    ceiling = leave_one_out(people, judge, rule="raw")
    assert ceiling.difference.interval.upper < 0  # people agree more than the judge does
    assert alternative_annotator_test(people, judge, epsilon=0.15).passed is False


@needs_llmbar
@pytest.mark.parametrize("style", ["CoT", "Vanilla"])
def test_llmbars_judge_against_gold(style):
    items = read(f"llmbar/LLMBar_Natural_GPT-4_{style}.json")
    gold = [int(item["label"]) for item in items]
    for swap in ("swap = False", "swap = True"):
        winners = [item["results"][0][swap]["winner"] for item in items]
        judge = [int(winner) if winner in ("1", "2") else None for winner in winners]
        result = pair_agreement(gold, judge, rule="raw")
        assert (result.n, result.dropped) == (100, 0)
        assert result.agreement.successes == sum(map(int.__eq__, gold, judge)) >= 93
        expected = cohen_kappa_score(gold, judge)
        assert result.kappa.interval.estimate == pytest.approx(expected)
        assert (
            result.first_shares
            == (0.42, 0.58)
            == tuple(count / 100 for _, count in sorted(Counter(gold).items()))
        )


@pytest.mark.skipif(not (DATA / "factool").is_dir(), reason="no FacTool data")
def test_factools_error_counts_say_what_its_labels_say():
    """A response is labelled false exactly where a claim is: "any error" must find these 27."""
    lines = (DATA / "factool/knowledge_qa.jsonl").read_text(encoding="utf-8").splitlines()
    responses = [json.loads(line) for line in lines]
    counts = [sum(not claim["label"] for claim in response["claims"]) for response in responses]
    labels = [not response["label"] for response in responses]
    result = pair_agreement(counts, labels)
    assert result.table == ((23, 0), (0, 27))
    assert result.first_rate.estimate == result.second_rate.estimate == 0.54
    assert any("never differ" in text for text in result.warnings)
    assert pair_agreement(counts, labels, rule="raw").agreement.successes == 34  # 23 + 11 ones
