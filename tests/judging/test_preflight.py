"""The look at an endpoint before a run."""

from __future__ import annotations

from datetime import date

import pytest
from judging_helpers import KEY, Start, score, settings

from eft_eval.errors import ConfigError
from eft_eval.judging import preflight


def test_preflight_finds_the_judge(openai_server: Start) -> None:
    server = openai_server(score, key=KEY, models=["judge"])
    assert preflight(settings(server.url)) is None
    assert [request.path for request in server.requests] == ["/v1/models/judge"]
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_preflight_names_a_near_shutdown(openai_server: Start) -> None:
    server = openai_server(score, models=["judge"], shutdown_date="2027-01-14")
    asked = settings(server.url)
    assert preflight(asked, today=date(2026, 10, 1)) is None
    assert "in 90 days (2027-01-14)" in str(preflight(asked, today=date(2026, 10, 16)))
    assert "was due to be shut down" in str(preflight(asked, today=date(2027, 2, 1)))


def test_preflight_names_other_models(openai_server: Start) -> None:
    names = ["judge-2", *(f"m{number:02}" for number in range(12))]
    server = openai_server(score, models=names)
    with pytest.raises(ConfigError, match=r"no model 'judge' \(did you mean 'judge-2'") as caught:
        preflight(settings(server.url))
    assert "EFT_JUDGE_MODEL" in str(caught.value)
    assert "m08, ..." in str(caught.value)
    assert "m09" not in str(caught.value)


@pytest.mark.parametrize("models", [None, []])
def test_preflight_trusts_endpoints_without_lookups(
    openai_server: Start, models: list[str] | None
) -> None:
    assert preflight(settings(openai_server(score, models=models).url)) is None


def test_preflight_with_a_refused_key(openai_server: Start) -> None:
    server = openai_server(score, key="another", models=["judge"])
    with pytest.raises(ConfigError, match=r"key refused: .* OPENAI_API_KEY") as caught:
        preflight(settings(server.url.replace("//", "//user:secret@")))
    assert len(server.requests) == 1
    assert server.url in str(caught.value)
    assert KEY not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_preflight_with_the_endpoint_down(openai_server: Start) -> None:
    server = openai_server(score)
    server.close()
    with pytest.raises(ConfigError, match="endpoint down: ") as caught:
        preflight(settings(server.url))
    assert server.url in str(caught.value)
    assert "\n" not in str(caught.value)
