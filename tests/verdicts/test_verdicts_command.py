"""`eft-eval verdicts` over a store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from verdict_stores import call, verdict

from eft_eval.errors import ConfigError
from eft_eval.judging import PARSER_VERSION, Status, Verdict, VerdictStore


def test_list_counts(filled: VerdictStore) -> None:
    out = call("list").stdout
    assert "5 verdicts, 0.4000 USD; 1 without a known price" in out
    assert "malformed" in out
    assert "1 verdicts, 0.1000 USD" in call("list", "--judge", "other").stdout
    assert "4 verdicts" in call("list", "--before", "2026-03-01").stdout


def test_reparse_says_and_writes(filled: VerdictStore, tmp_path: Path) -> None:
    said = call("reparse").stdout
    assert "4 verdicts read again, 1 read differently" in said
    assert "1 malformed -> scored" in said
    assert "1 not read: the prompt 'mine' is not known" in said
    assert filled.get_many(["d"])["d"].status is Status.malformed
    call("reparse", "--write")
    again = filled.get_many(["d"])["d"]
    assert (again.status, again.value, again.parser_version) == (Status.scored, 2, PARSER_VERSION)
    assert "4 verdicts read again, 0 read differently" in call("reparse").stdout
    template = tmp_path / "mine.jinja"
    template.write_text(
        "{#-\nname: mine\nversion: 1\nscale: count\nbetter: lower\nparser: reason_score\n"
        "variables: [response]\n-#}\nRate: {{ response }}"
    )
    assert "5 verdicts read again" in call("reparse", "--template", template).stdout


def test_a_namesake_s_scale_spoils_no_verdict(tmp_path: Path, filled: VerdictStore) -> None:
    """A user's own `factuality` on the percent scale is not read on the shipped one's."""
    own = verdict("p", raw="Score: 85 %", value=85.0, prompt_sha256="own", prompt_scale="percent")
    filled.put_many([own])
    call("reparse", "--write")
    again = filled.get_many(["p"])["p"]
    assert (again.status, again.value, again.prompt_scale) == (Status.scored, 85, "percent")
    template = tmp_path / "factuality.jinja"
    template.write_text(
        "{#-\nname: factuality\nversion: 1\nscale: percent\nbetter: higher\n"
        "parser: reason_score\nvariables: [response]\n-#}\nRate: {{ response }}"
    )
    said = call("reparse", "--template", template).stdout
    assert "the prompt 'factuality' is not known" in said, "two scales, and none noted: not read"


def test_a_verdict_stored_before_scales_were_noted_is_one() -> None:
    record = verdict("a").to_dict()
    del record["prompt_scale"]
    assert Verdict.from_dict(record).prompt_scale is None


def test_export_is_whole(filled: VerdictStore, tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    assert "2 verdicts written" in call("export", file, "--status", "scored").stdout
    records = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert [Verdict.from_dict(record).key for record in records] == ["a", "c"]


def test_prune_says_first(filled: VerdictStore) -> None:
    filled.add_readings([verdict("c", judge_model="other", value=9)])
    said = call("prune", "--judge", "other").stdout
    assert "1 verdicts, 0.1000 USD" in said
    assert "nothing was removed" in said
    assert len(filled) == 5
    assert "1 verdicts removed" in call("prune", "--judge", "other", "--yes").stdout
    assert {v.key for v in filled} == {"a", "b", "d", "e"}
    with filled.connection() as connection:
        assert connection.execute("SELECT COUNT(*) FROM readings").fetchone() == (0,)


def test_wrong_choices(filled: VerdictStore, tmp_path: Path) -> None:
    for arguments, message in (
        (("prune", "--yes"), "say which verdicts to remove"),
        (("list", "--status", "fine"), "it must be one of scored"),
        (("list", "--before", "soon"), "it must be a date"),
        (("list", "--store", tmp_path / "none"), "there is no verdict store"),
    ):
        with pytest.raises(ConfigError, match=message):
            call(*arguments)
    assert len(filled) == 5
