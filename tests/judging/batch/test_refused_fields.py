"""What an endpoint refuses in a batch is asked otherwise by the next."""

from __future__ import annotations

from batch_endpoint import BatchEndpoint
from batch_requests import RESPONSES, to_send
from judging_helpers import PROMPT, items, readings

from eft_eval.judging import JudgeSettings, VerdictStore, judge_responses
from eft_eval.judging.batch.batch import collect, submit
from eft_eval.judging.judges.adapting import forget as forget_forms


def test_a_field_that_the_endpoint_refuses_is_left_out_by_the_next_submit(
    endpoint: BatchEndpoint, judge: JudgeSettings, store: VerdictStore
) -> None:
    why = "Unsupported value: 'temperature' does not support 0 with this model."
    first = to_send(judge, store)
    submit(first, judge, store)
    sent = endpoint.requests("batch_0")[0]["body"]
    assert sent["temperature"] == 0
    endpoint.run("batch_0", errors=dict.fromkeys(first, why))
    done = collect(judge, store)
    assert (done.verdicts, done.failures) == (0, {f"HTTP status 400: {why}": len(first)})
    forget_forms()  # another process submits again
    second = to_send(judge, store)
    assert second.keys() == first.keys(), "the key stays that of what is asked"
    submit(second, judge, store)
    again = endpoint.requests("batch_1")[0]["body"]
    assert again == {name: value for name, value in sent.items() if name != "temperature"}
    endpoint.run("batch_1")
    assert collect(judge, store).verdicts == len(first)
    found = judge_responses(items(*RESPONSES), PROMPT, judge, store)
    assert readings(found) == [("scored", number) for number in range(5)]
    assert all("temperature" not in one.parameters["sent"] for one in found)


def test_a_limit_that_is_refused_is_renamed_once(
    endpoint: BatchEndpoint, judge: JudgeSettings, store: VerdictStore
) -> None:
    requests = to_send(judge, store)
    submit(requests, judge, store)
    hint = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead ({})."
    endpoint.run("batch_0", errors={key: hint.format(i) for i, key in enumerate(requests)})
    collect(judge, store)
    submit(to_send(judge, store), judge, store)
    body = endpoint.requests("batch_1")[0]["body"]
    assert "max_tokens" not in body
    assert body["max_completion_tokens"] == judge.max_tokens


def test_a_prompt_too_long_changes_no_other_request(
    endpoint: BatchEndpoint, judge: JudgeSettings, store: VerdictStore
) -> None:
    requests = to_send(judge, store)
    submit(requests, judge, store)
    sent = endpoint.requests("batch_0")[0]["body"]
    why = "This model's maximum context length is 8192 tokens, including max_tokens."
    endpoint.run("batch_0", errors={next(iter(requests)): why})
    collect(judge, store)
    submit(to_send(judge, store), judge, store)
    assert endpoint.requests("batch_1")[0]["body"].keys() == sent.keys()
