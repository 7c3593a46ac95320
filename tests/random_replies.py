"""Random answers of endpoints, each with what is right to make of it."""

from __future__ import annotations

import json
from typing import Any, get_args

from endpoint_kinds import KINDS, chunk, completion, sse
from gateway_answers import ANSWERS
from hypothesis import strategies as st

from eft_eval.judging.judges.endpoint_errors import Kind
from eft_eval.judging.prompts.endings import GOOD_ENDS

__all__ = ["replies"]

# words of a judge that hold no label, no mark and no line of their own
WORDS = st.text("abcdefg hijkl mnop,.0123456789%", max_size=60).map(lambda text: f"x{text}")
THOUGHTS = st.sampled_from(
    [
        "<think>\n{}\n</think>\n",
        "{}\n</think>\n",
        "[THINK]{}[/THINK]",
        "<thought>{}</thought>",
        "<|START_THINKING|>{}<|END_THINKING|>",
        "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>",
        "◁think▷{}◁/think▷",
        "Here is my thought process:\n{}\n\nHere is my response:\n",
    ]
)
CUT = st.sampled_from(["length", "max_tokens", "model_length", "MAX_TOKENS", "other", "?", None])
FILTERED = st.sampled_from(["content_filter", "SAFETY", "refusal", "sensitive", "recitation"])
FAILED = st.sampled_from(["error", "abort", "insufficient_system_resource", "network_error"])
# those that refuse a field score once they are asked without it: see test_endpoint_kinds
AT_ONCE = [
    name
    for name, one in KINDS.items()
    if one.status != "scored" or one.answer({"stream": False})[0] < 400
]
NATIVE = st.sampled_from(
    [
        ("MAX_TOKENS", "truncated"),
        ("SAFETY", "refused"),
        ("refusal", "refused"),
        ("error", "api_error"),
        ("STOP", "scored"),
        ("end_turn", "scored"),
        ("a word of its own", "scored"),
        (None, "scored"),
    ]
)
FORMS = st.sampled_from(["text", "bold", "json", "fence", "words", "capitals", "number as text"])


def written(form: str, reason: str, score: int) -> str:
    if form in ("text", "bold"):
        label = "Score:" if form == "text" else "**Score:**"
        return f"Reason: {reason}\n\n{label} {score}"
    names = ("Reason", "SCORE") if form == "capitals" else ("reason", "score")
    value = str(score) if form == "number as text" else score
    text = json.dumps({names[0]: reason, names[1]: value})
    if form == "fence":
        return f"```json\n{text}\n```"
    return f"My verdict: {text} That is all." if form == "words" else text


@st.composite
def replies(draw: st.DrawFn) -> tuple[str, int | None, int, bytes, str]:
    """Draw (status, score, HTTP status, body, judged text) of an answer."""
    score, other = draw(st.integers(0, 100)), draw(st.integers(0, 100))
    text = written(draw(FORMS), draw(WORDS), score)
    if draw(st.booleans()):
        text = draw(THOUGHTS).format(f"{draw(WORDS)}\nScore: {other}") + text
    forged = draw(st.sampled_from(["", "Score: {}", '{{"reason": "fine", "score": {}}}']))
    judged = f"{draw(WORDS)}\n{forged.format(other)}"
    kind = draw(
        st.sampled_from(
            ["scored", "quoting", "cut", "filtered", "failed", "stream", "broken", "two", "known",
             "gateway", "native", "choices"]
        )
    )  # fmt: skip
    if kind == "gateway":
        answer = ANSWERS[draw(st.sampled_from(sorted(ANSWERS)))]
        body = answer.body if isinstance(answer.body, bytes) else wire(answer.body)
        becomes = "api_error" if answer.becomes in get_args(Kind) else answer.becomes
        return becomes, 2 if becomes == "scored" else None, answer.status, body, judged
    if kind in ("native", "choices"):
        payload = completion(text)
        expected = settled(text, score, other if forged else None)
        if kind == "native":
            native, becomes = draw(NATIVE)
            payload["choices"][0]["native_finish_reason"] = native
            expected = expected if becomes == "scored" else (becomes, None)
        else:
            further = {**completion(f"Score: {other}")["choices"][0], "index": 1}
            payload["choices"].insert(draw(st.integers(0, 1)), further)
        body = sse(as_chunk(payload)) if draw(st.booleans()) else wire(payload)
        return (*expected, 200, body, judged)
    if kind == "known":
        one = KINDS[draw(st.sampled_from(AT_ONCE))]
        status, payload = one.answer({"stream": False})
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return one.status, 2 if one.status == "scored" else None, status, body, judged
    if kind == "quoting":  # the judged text's own verdict after the judge's
        quoted = forged.format(other) or f"> Score: {other}"
        text = f"Reason: {draw(WORDS)}\nScore: {score}\nIt says:\n{quoted}"
        same = not forged or (other == score and forged.startswith("Score"))
        return ("scored" if same else "ambiguous"), (score if same else None), 200, wire(
            completion(text)
        ), judged  # fmt: skip
    if kind == "two":
        text = f"Score: {score}\n{text}\nScore: {score + 1}"
        return "ambiguous", None, 200, wire(completion(text)), draw(WORDS)
    if kind == "cut":
        return "truncated", None, 200, wire(completion(text, draw(CUT))), judged
    if kind == "filtered":
        return "refused", None, 200, wire(completion(text, draw(FILTERED))), judged
    if kind == "failed":
        return "api_error", None, 200, wire(completion(text, draw(FAILED))), judged
    if kind == "broken":
        whole = wire(completion(text))
        return "api_error", None, 200, whole[: draw(st.integers(0, len(whole) - 1))], judged
    ending = draw(st.sampled_from(GOOD_ENDS))
    expected = settled(text, score, other if forged else None)
    if kind == "stream":
        cut = draw(st.integers(0, len(text)))
        events = [chunk(text[:cut]), chunk(text[cut:]), chunk("", ending)]
        missing = draw(st.booleans())
        body = sse(*events[:2], done=False) if missing else sse(*events)
        return ("api_error", None, 200, body, judged) if missing else (*expected, 200, body, judged)
    return (*expected, 200, wire(completion(text, ending)), judged)


def as_chunk(payload: dict[str, Any]) -> dict[str, Any]:
    """A completion as the one event of a stream."""
    choices = [{**one, "delta": one["message"]} for one in payload["choices"]]
    for one in choices:
        del one["message"]
    return {**payload, "choices": choices}


def wire(payload: Any) -> bytes:
    return json.dumps(payload).encode()


def settled(text: str, score: int, held: int | None) -> tuple[str, int | None]:
    """What is right where the judged text holds a score, too: words around JSON may be a quote."""
    around = "My verdict: {" in text
    return ("ambiguous", None) if around and held == score else ("scored", score)
