"""Answers of gateways and providers, after reports of their users; sources in docs/endpoints.md."""

from __future__ import annotations

from typing import Any, NamedTuple

from endpoint_kinds import SCORE_2, chunk, error, sse

__all__ = ["ANSWERS", "GatewayAnswer"]


class GatewayAnswer(NamedTuple):
    """One answer and what must become of it.

    Attributes:
        status: Of the HTTP response.
        body: JSON, or bytes.
        becomes: A verdict's status, or the kind of the error that it is.
        says: Words that must reach the user.
        sent: How the request is changed, by field: another name, or None for left out.
    """

    status: int
    body: Any
    becomes: str
    says: str = ""
    sent: dict[str, str | None] | None = None


def good(body: Any) -> GatewayAnswer:
    return GatewayAnswer(200, body, "scored")


def choices(*found: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"object": "chat.completion", "model": "m", "choices": [*found], **more}


def choice(content: Any = SCORE_2, finish: Any = "stop", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **more.pop("message", {})}
    return {"index": 0, "message": message, "finish_reason": finish, **more}


WRONG = "Reason: nine.\n\nScore: 9"
LIMIT = (
    "input length and `max_tokens` exceed context limit: 179413 + 32768 > 200000, decrease input "
    "length or `max_tokens` and try again"
)
ON_DEMAND = (
    "An error occurred (ValidationException) when calling the Converse operation: Invocation of "
    "model ID anthropic.m-v1:0 with on-demand throughput isn\u2019t supported. Retry your request "
    "with the ID or ARN of an inference profile that contains this model."
)

ANSWERS: dict[str, GatewayAnswer] = {
    # whole replies in odd dress
    "usage null, another model's name": good(
        choices(choice(), usage=None, model="some-other-model", system_fingerprint=None)
    ),
    "Azure: the filter itself failed, and says so beside the reply": good(
        choices(
            choice(
                content_filter_result={
                    "error": {"code": "content_filter_error", "message": "not filtered"}
                }
            ),
            prompt_filter_results=[{"content_filter_results": {"hate": {"filtered": False}}}],
        )
    ),
    "one-api: an error field that says nothing": good(
        choices(choice(), error={"message": "", "type": "", "param": "", "code": None})
    ),
    "two choices, the first one last": good(choices(choice(WRONG, index=1), choice())),
    "OpenRouter: reasoning, its details, white space before": GatewayAnswer(
        200,
        b"\n\n          \n"
        + __import__("json")
        .dumps(
            choices(
                choice(
                    native_finish_reason="STOP",
                    message={"reasoning": WRONG, "reasoning_details": [{"text": WRONG}]},
                )
            )
        )
        .encode(),
        "scored",
    ),
    "tool_calls empty, refusal and audio null": good(
        choices(
            choice(message={"tool_calls": [], "refusal": None, "audio": None, "annotations": []})
        )
    ),
    "a parsed object as content": good(choices(choice({"reason": "two", "score": 2}))),
    "output_text parts": good(choices(choice([{"type": "output_text", "text": SCORE_2}]))),
    "Perplexity: a stream with pieces and all of it beside": good(
        sse(
            choices({"index": 0, "delta": {"content": "Reason: two."}, "finish_reason": None}),
            choices(
                {
                    "index": 0,
                    "delta": {"content": "\n\nScore: 2"},
                    "message": {"content": SCORE_2},
                    "finish_reason": None,
                }
            ),
            choices(
                {"index": 0, "delta": {}, "message": {"content": SCORE_2}, "finish_reason": "stop"}
            ),
        )
    ),
    "a stream of one whole completion": good(sse(choices(choice()))),
    "a stream of parts, thoughts among them": good(
        sse(
            choices({"delta": {"reasoning_content": WRONG}, "finish_reason": None}),
            choices({"delta": {"content": [{"type": "thinking", "thinking": WRONG}]}}),
            choices({"delta": {"content": [{"text": WRONG, "thought": True}]}}),
            choices({"delta": {"content": [{"type": "output_text", "text": "Reason: two."}]}}),
            choices({"delta": {"content": [{"text": "\n\nScore: 2"}]}, "finish_reason": "stop"}),
            choices(usage={"prompt_tokens": 1, "completion_tokens": 2}),
        )
    ),
    "a stream of two choices": good(
        sse(
            choices({"index": 1, "delta": {"content": WRONG}, "finish_reason": "stop"}),
            chunk(SCORE_2, "stop"),
        )
    ),
    # not whole
    "OpenRouter: stop, natively cut": GatewayAnswer(
        200, choices(choice("Score: 1", native_finish_reason="MAX_TOKENS")), "truncated"
    ),
    "OpenRouter: stop, natively refused": GatewayAnswer(
        200, choices(choice("Score: 1", native_finish_reason="PROHIBITED_CONTENT")), "refused"
    ),
    "an empty end": GatewayAnswer(200, choices(choice("Score: 1", "")), "truncated"),
    "an end that is a number": GatewayAnswer(200, choices(choice("Score: 1", 0)), "truncated"),
    "Ollama: loaded, nothing said": GatewayAnswer(200, choices(choice("", "load")), "malformed"),
    "a number as content": GatewayAnswer(200, choices(choice(2)), "malformed"),
    "legacy function_call": GatewayAnswer(
        200,
        choices(
            choice(None, "function_call", message={"function_call": {"arguments": '{"score": 3}'}})
        ),
        "malformed",
    ),
    "a refusal beside a score": GatewayAnswer(
        200, choices(choice("Score: 1", message={"refusal": "I can't help with that."})), "refused"
    ),
    "reasoning alone, as text, in a stream": GatewayAnswer(
        200,
        sse(choices({"delta": {"reasoning": WRONG}}), chunk("", "stop")),
        "malformed",
    ),
    # moderation
    "xAI: usage guidelines, 403": GatewayAnswer(
        403,
        {
            "code": "Client specified an invalid argument",
            "error": "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO",
        },
        "refused",
    ),
    "Zhipu: 1301": GatewayAnswer(
        400,
        {
            "contentFilter": [{"level": 1, "role": "user"}],
            "error": {
                "code": "1301",
                "message": "System detected potentially unsafe or sensitive content in input or "
                "generation. Please avoid using prompts that may generate sensitive content.",
            },
        },
        "refused",
    ),
    "Volcengine: SensitiveContentDetected": GatewayAnswer(
        400,
        error(
            "The request failed because the input text may contain sensitive information.",
            "SensitiveContentDetected",
            "BadRequest",
        ),
        "refused",
    ),
    "MiniMax: new_sensitive": GatewayAnswer(
        200,
        {"choices": None, "base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}},
        "refused",
    ),
    "StepFun: 451": GatewayAnswer(
        451,
        error("The content you provided or machine outputted is blocked.", "censorship_blocked"),
        "refused",
    ),
    "LiteLLM: a Bedrock guardrail": GatewayAnswer(
        400,
        error(
            "{'error': 'Violated guardrail policy', 'bedrock_guardrail_response': 'Sorry'}", "400"
        ),
        "refused",
    ),
    "Moonshot: high risk": GatewayAnswer(
        400,
        error(
            "The request was rejected because it was considered high risk", None, "content_filter"
        ),
        "refused",
    ),
    "Qwen: inappropriate content": GatewayAnswer(
        400,
        error(
            "Output data may contain inappropriate content.",
            "data_inspection_failed",
            "data_inspection_failed",
        ),
        "refused",
    ),
    "Anthropic: output blocked, 400": GatewayAnswer(
        400,
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": "Output blocked by content filtering policy",
            },
        },
        "refused",
    ),
    # no credit
    "xAI: no credits, 403": GatewayAnswer(
        403,
        {
            "code": "The caller does not have permission to execute the specified operation",
            "error": "Your newly created team doesn't have any credits yet. You can purchase "
            "credits at https://console.x.ai/.",
        },
        "credit",
        "purchase credits",
    ),
    "LiteLLM: budget": GatewayAnswer(
        400,
        error(
            "Budget has been exceeded! Current cost: 1.2, Max budget: 1.0",
            "400",
            "budget_exceeded",
            param=None,
        ),
        "credit",
        "Max budget: 1.0",
    ),
    "Fireworks: suspended, 412": GatewayAnswer(
        412,
        error(
            "Account x is suspended, possibly due to reaching the monthly spending limit or "
            "failure to pay past invoices.",
            None,
            "error",
        ),
        "credit",
        "spending limit",
    ),
    "SiliconFlow: 30001": GatewayAnswer(
        403,
        {"code": 30001, "message": "Sorry, your account balance is insufficient", "data": None},
        "credit",
        "insufficient",
    ),
    "Hugging Face: monthly credits": GatewayAnswer(
        402,
        {"error": "You have exceeded your monthly included credits for Inference Providers."},
        "credit",
        "monthly included credits",
    ),
    # no such model, no such address
    "Vertex: publisher model": GatewayAnswer(
        404,
        [
            error(
                "Publisher Model `projects/p/locations/l/publishers/google/models/m` was not found "
                "or your project does not have access to it.",
                404,
                status="NOT_FOUND",
            )
        ],
        "model",
        "Publisher Model",
    ),
    "Vertex: a bare name": GatewayAnswer(
        400,
        [
            error(
                "Malformed publisher model name: expected format '<publisher>/<model>'",
                400,
                status="INVALID_ARGUMENT",
            )
        ],
        "model",
        "Malformed publisher model name",
    ),
    "Bedrock: on-demand": GatewayAnswer(400, {"detail": ON_DEMAND}, "model", "on-demand"),
    "Hugging Face: no provider": GatewayAnswer(
        400,
        error(
            "The requested model 'm' is not supported by any provider you have enabled.",
            "model_not_supported",
            "invalid_request_error",
            param="model",
        ),
        "model",
        "not supported by any provider",
    ),
    "OpenAI: another interface": GatewayAnswer(
        404,
        error(
            "This model is only supported in v1/responses and not in v1/chat/completions.",
            None,
            "invalid_request_error",
            param="model",
        ),
        "model",
        "v1/responses",
    ),
    "Cloudflare: a list of errors": GatewayAnswer(
        400,
        {
            "errors": [{"message": "AiError: No such model m or task", "code": 5007}],
            "success": False,
            "result": {},
            "messages": [],
        },
        "model",
        "No such model m",
    ),
    "LiteLLM: invalid model name": GatewayAnswer(
        400,
        error(
            "/chat/completions: Invalid model name passed in model=m. Call `/v1/models` to view "
            "available models for your key.",
            "400",
            "invalid_request_error",
            param="model",
        ),
        "model",
        "Invalid model name",
    ),
    "GitHub Models: unknown_model": GatewayAnswer(
        400,
        {"error": {"code": "unknown_model", "message": "Unknown model: m", "details": "m"}},
        "model",
        "Unknown model",
    ),
    "LM Studio: another address, 200": GatewayAnswer(
        200,
        {"error": "Unexpected endpoint or method. (POST /chat/completions)"},
        "address",
        "Unexpected endpoint or method",
    ),
    "TGI: another address": GatewayAnswer(404, b"", "address", "/v1"),
    # the key
    "xAI: an incorrect key, 400": GatewayAnswer(
        400,
        {
            "code": "Client specified an invalid argument",
            "error": "Incorrect API key provided: xa***aa.",
        },
        "key",
        "Incorrect API key",
    ),
    "LiteLLM: auth_error": GatewayAnswer(
        401,
        error(
            "Authentication Error, Invalid proxy server token passed",
            "401",
            "auth_error",
            param="None",
        ),
        "key",
        "Invalid proxy server token",
    ),
    "Databricks: an invalid token, 403": GatewayAnswer(
        403, {"error_code": "403", "message": "Invalid access token."}, "key", "access token"
    ),
    # will pass
    "LiteLLM: cooldown": GatewayAnswer(
        429,
        error(
            "No deployments available for selected model, Try again in 60 seconds. Passed model=m.",
            "429",
            "None",
        ),
        "temporary",
        "Try again in 60 seconds",
    ),
    "Bedrock: throttling": GatewayAnswer(
        429,
        {"detail": "An error occurred (ThrottlingException) when calling the Converse operation"},
        "temporary",
        "ThrottlingException",
    ),
    "Databricks: REQUEST_LIMIT_EXCEEDED": GatewayAnswer(
        429, {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "slow"}, "temporary", "slow"
    ),
    "Groq: an error beside a stream": GatewayAnswer(
        200,
        sse({**chunk("Score: 1", "stop"), "x_groq": {"error": "over_capacity"}}),
        "temporary",
        "over_capacity",
    ),
    "Anthropic: an error event": GatewayAnswer(
        200,
        b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", '
        b'"message": "Overloaded"}}\n\n',
        "temporary",
        "Overloaded",
    ),
    "Ollama's own interface": GatewayAnswer(
        200,
        {"model": "m", "message": {"role": "assistant", "content": SCORE_2}, "done": True},
        "temporary",
        "no chat completion",
    ),
    "Anthropic's own interface": GatewayAnswer(
        200,
        {
            "type": "message",
            "content": [{"type": "text", "text": SCORE_2}],
            "stop_reason": "end_turn",
        },
        "temporary",
        "no chat completion",
    ),
    "NVIDIA: accepted, later": GatewayAnswer(
        202, {"requestId": "r", "status": "PENDING"}, "temporary", "no chat completion"
    ),
    # this text
    "Anthropic, by LiteLLM: context limit": GatewayAnswer(
        400,
        error(f"litellm.BadRequestError: AnthropicException - {{'message': '{LIMIT}'}}", "400"),
        "request",
        "context limit",
    ),
    "TGI: too many tokens, 422": GatewayAnswer(
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. "
            "Given: 3000 `inputs` tokens and 2048 `max_new_tokens`",
            "error_type": "validation",
        },
        "request",
        "Given: 3000",
    ),
    "SGLang: longer than the context": GatewayAnswer(
        400,
        {
            "object": "error",
            "message": "The input (61709 tokens) is longer than the model's "
            "context length (40960 tokens).",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
        "request",
        "61709",
    ),
    "Gemini: token count": GatewayAnswer(
        400,
        [
            error(
                "The input token count (2800010) exceeds the maximum number of tokens allowed "
                "(1048575).",
                400,
                status="INVALID_ARGUMENT",
            )
        ],
        "request",
        "2800010",
    ),
    "Groq: larger than a minute's tokens, 413": GatewayAnswer(
        413,
        error(
            "Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested "
            "8000, please reduce your message size and try again.",
            "rate_limit_exceeded",
            "tokens",
        ),
        "request",
        "Limit 6000",
    ),
    "GitHub Models: tokens_limit_reached, 413": GatewayAnswer(
        413,
        error("Request body too large for m model. Max size: 8000 tokens.", "tokens_limit_reached"),
        "request",
        "Max size: 8000",
    ),
    # refused fields
    "OpenAI: detail": GatewayAnswer(
        400, {"detail": "Unsupported parameter: temperature"}, "request", sent={"temperature": None}
    ),
    "LiteLLM: UnsupportedParamsError": GatewayAnswer(
        400,
        error(
            "litellm.UnsupportedParamsError: bedrock does not support parameters: "
            "['response_format'], for model=m. To drop these, set `litellm.drop_params=True`.",
            "400",
        ),
        "request",
        sent={"response_format": None},
    ),
    "LiteLLM: gpt-5 and its temperature": GatewayAnswer(
        400,
        error(
            "litellm.UnsupportedParamsError: gpt-5 models don't support temperature=0. Only "
            "temperature=1 is supported.",
            "400",
        ),
        "request",
        sent={"temperature": None},
    ),
    "Mistral: a message that is an object, 422": GatewayAnswer(
        422,
        {
            "object": "error",
            "message": {
                "detail": [
                    {
                        "type": "extra_forbidden",
                        "loc": ["body", "seed"],
                        "msg": "Extra inputs are not permitted",
                    }
                ]
            },
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        },
        "request",
        "Extra inputs are not permitted",
        {"seed": None},
    ),
    "DeepSeek: response_format": GatewayAnswer(
        400,
        error(
            "This response_format type is unavailable now",
            "invalid_request_error",
            "invalid_request_error",
        ),
        "request",
        sent={"response_format": None},
    ),
    "Anthropic: temperature is deprecated": GatewayAnswer(
        400,
        error(
            "`temperature` is deprecated for this model.",
            "invalid_request_error",
            "invalid_request_error",
        ),
        "request",
        sent={"temperature": None},
    ),
    "Bedrock: malformed input": GatewayAnswer(
        400,
        {
            "message": "Malformed input request: extraneous key [seed] is not permitted, please "
            "reformat your input and try again."
        },
        "request",
        sent={"seed": None},
    ),
}
"""By what they are of."""
