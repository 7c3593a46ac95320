"""What endpoints answer, by name: imitated after the sources in docs/endpoints.md, if it names any.

Each kind is a function from a request's JSON to (status, body).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["KINDS", "Kind", "completion", "sse"]

Body = dict[str, Any]
Answer = Callable[[Body], "tuple[int, Any]"]
SCORE_2 = "Reason: two.\n\nScore: 2"


def completion(
    content: Any = SCORE_2, finish: str | None = "stop", **message: Any
) -> dict[str, Any]:
    """A chat completion."""
    choice = {"index": 0, "finish_reason": finish, "message": {"content": content, **message}}
    return {"object": "chat.completion", "model": "m", "choices": [choice]}


def sse(*events: Any, done: bool = True) -> bytes:
    """A stream of events."""
    lines = [f"data: {json.dumps(event)}\n\n" for event in events]
    return ("".join(lines) + ("data: [DONE]\n\n" if done else "")).encode()


def chunk(content: str = "", finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return {"object": "chat.completion.chunk", "model": "m", "choices": [choice]}


def error(message: str, code: Any = None, kind: str | None = None, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "code": code, **more}}


@dataclass(frozen=True)
class Kind:
    """How an endpoint behaves.

    Attributes:
        answer: To a request.
        status: The verdict's status that comes of it.
        says: What the user must be told, where there is no verdict or less is sent.
        ends: Whether nothing more is sent afterwards.
        passes: Whether it is tried again.
    """

    answer: Answer
    status: str = "scored"
    says: str = ""
    ends: bool = False
    passes: bool = False


def always(payload: Any, status: int = 200) -> Answer:
    return lambda body: (status, payload)


def refusing(field: str, payload: Any, status: int = 400) -> Answer:
    """Refuses requests that have a field, or a value of it that is false."""
    return lambda body: (status, payload) if field in body else (200, completion())


AZURE_FILTER = error(
    "The response was filtered due to the prompt triggering Azure OpenAI's content management "
    "policy.", "content_filter", None, param="prompt", status=400,
    innererror={"code": "ResponsibleAIPolicyViolation"},
)  # fmt: skip
OPENAI_FLAGGED = error(
    "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
    "invalid_prompt", "invalid_request_error",
)  # fmt: skip
NO_MAX_TOKENS = error(
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
    "'max_completion_tokens' instead.", "unsupported_parameter", "invalid_request_error",
    param="max_tokens",
)  # fmt: skip
NO_TEMPERATURE = error(
    "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) "
    "value is supported.", "unsupported_value", "invalid_request_error", param="temperature",
)  # fmt: skip
PYDANTIC = {
    "detail": [
        {
            "type": "extra_forbidden",
            "loc": ["body", "temperature"],
            "msg": "Extra inputs are not permitted",
        }
    ]
}
CHOICE_ERROR = completion("", "error")
CHOICE_ERROR["choices"][0]["error"] = {"code": 502, "message": "Provider returned error"}
TOO_LONG = (
    "'max_tokens' or 'max_completion_tokens' is too large: 2048. This model's maximum context "
    "length is 4096 tokens and your request has 3000 input tokens"
)


def azure_deployment(body: Body) -> tuple[int, Any]:
    """A reasoning model behind a deployment's name."""
    if "max_tokens" in body:
        return 400, NO_MAX_TOKENS
    return (400, NO_TEMPERATURE) if body.get("temperature") == 0 else (200, completion())


def streams_unless_told(body: Body) -> tuple[int, Any]:
    if body.get("stream") is False:
        return 200, completion()
    return 200, sse(chunk("Reason: two.\n\nScore: 9", "stop"))


KINDS: dict[str, Kind] = {
    # good ends
    "OpenAI": Kind(always(completion())),
    "Anthropic compatibility: end_turn": Kind(always(completion(finish="end_turn"))),
    "Together: eos": Kind(always(completion(finish="eos"))),
    "TGI: eos_token": Kind(always(completion(finish="eos_token"))),
    "Gemini: STOP": Kind(always(completion(finish="STOP"))),
    "Azure vision: finish_details": Kind(
        always({"choices": [{"message": {"content": SCORE_2}, "finish_details": {"type": "stop"}}]})
    ),
    "DeepSeek: reasoning_content beside": Kind(always(completion(reasoning_content="Score: 9"))),
    "vLLM: reasoning beside": Kind(always(completion(reasoning="Score: 9"))),
    "Mistral: thinking parts": Kind(
        always(
            completion(
                [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "Score: 9"}]},
                    {"type": "text", "text": SCORE_2},
                ]
            )
        )
    ),
    "LiteLLM: reasoning part with a text": Kind(
        always(
            completion(
                [{"type": "reasoning", "text": "Score: 9"}, {"type": "text", "text": SCORE_2}]
            )
        )
    ),
    "Gemini: thought part": Kind(
        always(completion([{"text": "Score: 9", "thought": True}, {"text": SCORE_2}]))
    ),
    "SGLang: thoughts in the content": Kind(always(completion(f"Score: 9\n</think>\n{SCORE_2}"))),
    "gpt-oss, unparsed": Kind(
        always(
            completion(
                "<|channel|>analysis<|message|>Score: 9<|end|><|start|>assistant"
                f"<|channel|>final<|message|>{SCORE_2}"
            )
        )
    ),
    # streams
    "a gateway that streams unless told": Kind(streams_unless_told),
    "a gateway that always streams": Kind(
        always(sse(chunk("Reason: two."), chunk("\n\nScore: 2"), chunk("", "stop")))
    ),
    "OpenRouter: comments in a stream": Kind(
        always(b": OPENROUTER PROCESSING\n\n" + sse(chunk(SCORE_2), chunk("", "stop")))
    ),
    "a stream that is cut": Kind(
        always(sse(chunk("Reason: twelve.\n\nScore: 1"), chunk("", "length"))), "truncated"
    ),
    "a stream that breaks off": Kind(
        always(sse(chunk("Reason: twelve.\n\nScore: 1"), done=False)),
        "api_error",
        "the stream ended before the reply did",
        passes=True,
    ),
    "OpenRouter: an error in a stream": Kind(
        always(
            sse(
                chunk("Reason: x\nScore: 1"),
                {**chunk("", "error"), **error("Provider disconnected", 502)},
            )
        ),
        "api_error",
        "Provider disconnected",
        passes=True,
    ),
    "vLLM: an error in a stream": Kind(
        always(sse({"object": "error", "message": "EngineCore died", "code": 500})),
        "api_error",
        "EngineCore died",
        passes=True,
    ),
    # cut
    "OpenAI: length": Kind(always(completion("Score: 1", "length")), "truncated"),
    "Anthropic: max_tokens": Kind(always(completion("Score: 1", "max_tokens")), "truncated"),
    "Mistral: model_length": Kind(always(completion("Score: 1", "model_length")), "truncated"),
    "Gemini: MAX_TOKENS": Kind(always(completion("Score: 1", "MAX_TOKENS")), "truncated"),
    "an end that nobody knows": Kind(always(completion("Score: 1", "other")), "truncated"),
    "no end": Kind(always(completion("Score: 1", None)), "truncated"),
    "a tool call": Kind(
        always(
            completion(None, "tool_calls", tool_calls=[{"function": {"arguments": '{"score": 3}'}}])
        ),
        "malformed",
    ),
    "thoughts only": Kind(always(completion("", reasoning_content="Score: 3")), "malformed"),
    # moderation
    "OpenAI: content_filter": Kind(always(completion(None, "content_filter")), "refused"),
    "OpenAI: refusal": Kind(always(completion(None, refusal="I can't.")), "refused"),
    "OpenAI: a refusal part": Kind(
        always(completion([{"type": "refusal", "refusal": "I can't."}])), "refused"
    ),
    "Anthropic: refusal": Kind(always(completion("Score: 1", "refusal")), "refused"),
    "Gemini: SAFETY": Kind(always(completion("Score: 1", "SAFETY")), "refused"),
    "Gemini: promptFeedback": Kind(
        always({"choices": [], "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}), "refused"
    ),
    "Azure: content_filter, 400": Kind(always(AZURE_FILTER, 400), "refused"),
    "OpenAI: invalid_prompt, 400": Kind(always(OPENAI_FLAGGED, 400), "refused"),
    "OpenRouter: moderation, 403": Kind(
        always(
            error(
                "Your chosen model requires moderation and your input was flagged",
                403,
                metadata={"reasons": ["violence"], "flagged_input": "x"},
            ),
            403,
        ),
        "refused",
    ),
    "LiteLLM: ContentPolicyViolationError": Kind(
        always(error("litellm.ContentPolicyViolationError: AzureException", "400"), 400), "refused"
    ),
    "DeepSeek: Content Exists Risk": Kind(
        always(error("Content Exists Risk", "invalid_request_error"), 400), "refused"
    ),
    "a gateway: moderation in a 200": Kind(always(AZURE_FILTER), "refused"),
    # errors that pass
    "OpenRouter: an error in a choice": Kind(
        always(CHOICE_ERROR), "api_error", "Provider returned error", passes=True
    ),
    "OpenRouter: an error in a 200": Kind(
        always(error("Internal Server Error", 500)),
        "api_error",
        "Internal Server Error",
        passes=True,
    ),
    "an error as text in a 200": Kind(
        always({"error": "model runner has crashed"}),
        "api_error",
        "model runner has crashed",
        passes=True,
    ),
    "FastAPI: detail in a 200": Kind(
        always({"detail": "worker is not ready"}), "api_error", "worker is not ready", passes=True
    ),
    "a page in a 200": Kind(
        always(b"<!DOCTYPE html><html><head><title>Maintenance &amp; more</title></head></html>"),
        "api_error",
        "Maintenance & more",
        passes=True,
    ),
    "Cloudflare: a page, 502": Kind(
        always(b"<html><head><title>502 Bad Gateway</title></head><body>x</body></html>", 502),
        "api_error",
        "502 Bad Gateway",
        passes=True,
    ),
    "text, 503": Kind(
        always(b"no healthy upstream", 503), "api_error", "no healthy upstream", passes=True
    ),
    "llama.cpp: loading, 503": Kind(
        always(error("Loading model", 503, "unavailable_error"), 503),
        "api_error",
        "Loading model",
        passes=True,
    ),
    "Ollama: error as text, 500": Kind(
        always({"error": "llama runner process has terminated"}, 500),
        "api_error",
        "llama runner process has terminated",
        passes=True,
    ),
    "Anthropic: overloaded, 529": Kind(
        always(
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, 529
        ),
        "api_error",
        "Overloaded",
        passes=True,
    ),
    "Gemini: RESOURCE_EXHAUSTED, a list": Kind(
        always(
            [
                error(
                    "You exceeded your current quota, please check your plan and billing details.",
                    429,
                    status="RESOURCE_EXHAUSTED",
                )
            ],
            429,
        ),
        "api_error",
        "exceeded your current quota",
        passes=True,
    ),
    "DeepSeek: insufficient_system_resource": Kind(
        always(completion("Score: 1", "insufficient_system_resource")),
        "api_error",
        "insufficient_system_resource",
        passes=True,
    ),
    "vLLM: abort": Kind(
        always(completion("Score: 1", "abort")), "api_error", "'abort'", passes=True
    ),
    "MiniMax: base_resp": Kind(
        always({"choices": None, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}}),
        "api_error",
        "rate limit",
        passes=True,
    ),
    "no completion": Kind(always({"choices": []}), "api_error", "no chat completion", passes=True),
    # the end
    "OpenAI: insufficient_quota": Kind(
        always(
            error(
                "You exceeded your current quota, please check your plan and billing details.",
                "insufficient_quota",
                "insufficient_quota",
            ),
            429,
        ),
        "api_error",
        "no credit (HTTP status 429: You exceeded",
        ends=True,
    ),
    "OpenRouter: 402": Kind(
        always(error("This request requires more credits", 402), 402),
        "api_error",
        "no credit",
        ends=True,
    ),
    "OpenRouter: 402 in a 200": Kind(
        always(error("Insufficient credits", 402)), "api_error", "no credit", ends=True
    ),
    "DeepSeek: Insufficient Balance": Kind(
        always(error("Insufficient Balance", "invalid_request_error"), 402),
        "api_error",
        "Insufficient Balance",
        ends=True,
    ),
    "Anthropic: no credit, 400": Kind(
        always(
            {
                "error": {
                    "type": "invalid_request_error",
                    "message": "Your credit balance is too low to access the Anthropic API.",
                }
            },
            400,
        ),
        "api_error",
        "no credit",
        ends=True,
    ),
    "OpenAI: model_not_found": Kind(
        always(
            error(
                "The model `gpt-4.9` does not exist or you do not have access to it.",
                "model_not_found",
            ),
            404,
        ),
        "api_error",
        "no such model",
        ends=True,
    ),
    "Azure: DeploymentNotFound": Kind(
        always(
            error("The API deployment for this resource does not exist.", "DeploymentNotFound"), 404
        ),
        "api_error",
        "no such model",
        ends=True,
    ),
    "Ollama: pull it first": Kind(
        always(error('model "m" not found, try pulling it first', None, "api_error"), 404),
        "api_error",
        "no such model",
        ends=True,
    ),
    "DeepSeek: Model Not Exist, 400": Kind(
        always(error("Model Not Exist", "invalid_request_error"), 400),
        "api_error",
        "no such model",
        ends=True,
    ),
    "Mistral: invalid_model": Kind(
        always(
            {
                "object": "error",
                "message": "Invalid model: m",
                "type": "invalid_model",
                "code": "1500",
            },
            400,
        ),
        "api_error",
        "no such model",
        ends=True,
    ),
    "Groq: decommissioned": Kind(
        always(error("The model `m` has been decommissioned", "model_decommissioned"), 400),
        "api_error",
        "no such model",
        ends=True,
    ),
    "no such model, as text in a 200": Kind(
        always({"error": "model 'm' not found"}), "api_error", "no such model", ends=True
    ),
    "Gemini: API key not valid, 400": Kind(
        always(
            [
                error(
                    "API key not valid. Please pass a valid API key.",
                    400,
                    status="INVALID_ARGUMENT",
                )
            ],
            400,
        ),
        "api_error",
        "API key not valid",
        ends=True,
    ),
    "FastAPI: another address": Kind(
        always({"detail": "Not Found"}, 404), "api_error", "usually ends in /v1", ends=True
    ),
    # refused fields
    "Azure: a reasoning model's deployment": Kind(
        azure_deployment, says="max_completion_tokens in place of max_tokens"
    ),
    "TGI: temperature, 422": Kind(
        refusing(
            "temperature",
            {
                "error": "Input validation error: `temperature` must be strictly positive",
                "error_type": "validation",
            },
            422,
        ),
        says="without temperature",
    ),
    "pydantic: extra_forbidden, 422": Kind(
        refusing("temperature", PYDANTIC, 422), says="without temperature"
    ),
    "no stream field": Kind(
        refusing("stream", error("Unrecognized request argument supplied: 'stream'", None), 400),
        says="without stream",
    ),
    "in a 200": Kind(
        refusing("temperature", error("temperature is not supported by this model", 400)),
        says="without temperature",
    ),
    # a request's own fault
    "vLLM: a prompt too long": Kind(
        always(
            {"object": "error", "message": TOO_LONG, "type": "BadRequestError", "code": 400}, 400
        ),
        "api_error",
        "maximum context length",
    ),
    "text, 400": Kind(always(b"bad request, sorry", 400), "api_error", "bad request, sorry"),
}
"""By what it imitates."""
