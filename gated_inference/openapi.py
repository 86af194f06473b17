"""What programs may send to `/v1`, described for OpenAPI from the same bounds that are checked."""

from typing import Any

from gated_inference.moderations import INPUTS_MAX
from gated_inference.schemas import CHOICES_MAX, DEFAULT_TOKENS, OURS, PASSED_ON, PROMPTS_MAX, TOKENS_MAX

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
WHOLE: Schema = {"type": "integer"}
FLAG: Schema = {"type": "boolean"}
TOKENS: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
FIELDS: dict[str, Schema] = {
    "model": {**TEXT, "description": "NAMESPACE/NAME"},
    "prompt": {
        "description": f"a text, token numbers, or up to {PROMPTS_MAX} of either",
        "anyOf": [
            TEXT,
            TOKENS,
            {"type": "array", "items": TEXT, "minItems": 1, "maxItems": PROMPTS_MAX},
            {"type": "array", "items": TOKENS, "minItems": 1, "maxItems": PROMPTS_MAX},
        ],
    },
    "max_tokens": {**WHOLE, "minimum": 1, "maximum": TOKENS_MAX, "default": DEFAULT_TOKENS},
    "n": {**WHOLE, "minimum": 1, "maximum": CHOICES_MAX, "default": 1},
    "stream": {**FLAG, "default": False},
    "stream_options": {"type": "object", "properties": {"include_usage": FLAG}, "additionalProperties": False},
    "temperature": NUMBER,
    "top_p": NUMBER,
    "min_p": NUMBER,
    "presence_penalty": NUMBER,
    "frequency_penalty": NUMBER,
    "repetition_penalty": NUMBER,
    "top_k": WHOLE,
    "seed": WHOLE,
    "logprobs": WHOLE,
    "min_tokens": WHOLE,
    "stop": {"anyOf": [TEXT, {"type": "array", "items": TEXT}]},
    "echo": FLAG,
    "ignore_eos": FLAG,
    "logit_bias": {"type": "object", "additionalProperties": NUMBER},
    "user": {**TEXT, "description": "not passed on: an engine is never told who asks"},
}
ERROR: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "code", "param", "reasons"],
            "properties": {
                "message": TEXT,
                "type": TEXT,
                "code": TEXT,
                "param": {"type": ["string", "null"]},
                "reasons": {"type": "array", "items": {"type": "object"}},
            },
        }
    },
}

MODERATED: Schema = {
    "input": {"oneOf": [TEXT, {"type": "array", "items": TEXT, "minItems": 1, "maxItems": INPUTS_MAX}]},
    "model": {**TEXT, "description": "may be left out: there is only one"},
}


def paths() -> dict[str, Any]:
    """Return the addresses below `/v1` as OpenAPI describes addresses."""
    if set(FIELDS) != PASSED_ON | OURS:
        raise AssertionError(f"not described as they are taken: {sorted(set(FIELDS) ^ (PASSED_ON | OURS))}")
    body = {"type": "object", "required": ["model", "prompt"], "properties": FIELDS, "additionalProperties": False}
    event = {"schema": {**TEXT, "description": "server-sent events, the last one `data: [DONE]`"}}
    completions = _operation(
        "Continue one or several prompts. The release decided about is the model's newest.",
        {"application/json": {"schema": {"type": "object"}}, "text/event-stream": event},
        ("400", "401", "403", "404", "413", "422", "429", "502", "503"),
    )
    completions["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    models = _operation("List the models that the caller may use.", _json(), ("401",))
    asked = {"type": "object", "required": ["input"], "properties": MODERATED, "additionalProperties": False}
    moderations = _operation(
        "Say what the portal's banks of phrases find in texts, by the clauses of its license. Nothing of it is kept.",
        _json(), ("400", "401", "403", "413"),
    )  # fmt: skip
    moderations["requestBody"] = {"required": True, "content": {"application/json": {"schema": asked}}}
    return {
        "/v1/completions": {"post": completions}, "/v1/models": {"get": models},
        "/v1/moderations": {"post": moderations},
    }  # fmt: skip


def _json(schema: Schema | None = None) -> dict[str, Any]:
    return {"application/json": {"schema": schema or {"type": "object"}}}


def _operation(summary: str, good: dict[str, Any], bad: tuple[str, ...]) -> dict[str, Any]:
    answers: dict[str, Any] = {"200": {"description": "done", "content": good}}
    answers |= {status: {"description": "refused; the body says why", "content": _json(ERROR)} for status in bad}
    return {"summary": summary, "responses": answers, "security": [{"access token": []}]}
