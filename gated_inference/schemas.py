"""What a request for text may say, and how it is answered when it cannot be."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from portal.access.rules import Reason
from portal.core.errors import reason_json
from portal.edge.routes import Answer, Headers
from portal.usage.rules import estimated_tokens

BODY_MAX = 1 << 20
DEPTH_MAX = 16
DEFAULT_TOKENS = 16
TOKENS_MAX = 32_768
CHOICES_MAX = 4
PROMPTS_MAX = 16
MODEL_MAX = 200
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63
SAFE_FLOAT = 1e15  # a larger one may have been an integer
HALF = "holds half a character (a lone surrogate)."
# fmt: off
PASSED_ON = frozenset({
    "prompt", "max_tokens", "temperature", "top_p", "n", "stream", "stop", "seed", "logprobs", "echo", "top_k", "min_p",
    "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "ignore_eos", "min_tokens",
})
# fmt: on
# Fields that say something to us and nothing to an engine, which is never told who asks.
OURS = frozenset({"model", "stream_options", "user"})
KNOWN = PASSED_ON | OURS
TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Refusal(Exception):
    """A request that is answered with an error, in the shape that clients of this protocol read.

    `param` names the field at fault; `model` is what was asked for, as far as it could be read.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        model: str = "",
        reasons: Sequence[Reason] = (),
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param = status, code, message, param
        self.model, self.reasons, self.retry_after = model, tuple(reasons), retry_after

    @property
    def body(self) -> dict[str, Any]:
        """What the answer says."""
        kind = TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")  # noqa: PLR2004
        error = {
            "message": self.message, "type": kind, "code": self.code, "param": self.param,
            "reasons": [reason_json(reason) for reason in self.reasons],
        }  # fmt: skip
        return {"error": error}

    def answer(self, headers: Headers) -> Answer:
        """Return the answer, with header fields that every answer has."""
        fields = [*headers]
        if self.status == 401:  # noqa: PLR2004
            fields.append(("WWW-Authenticate", "Bearer"))
        if self.retry_after is not None:
            fields.append(("Retry-After", str(self.retry_after)))
        return json_answer(self.status, self.body, fields)


def json_answer(status: int, body: Any, headers: Headers) -> Answer:
    """Return an answer in JSON."""
    return Answer(status, [("Content-Type", "application/json"), *headers], orjson.dumps(body))


@dataclass(slots=True)
class Ask:
    """A request for text, checked as far as the gate needs; `fields` is what an engine is told.

    `reserve` is the most text tokens that it can use, the prompt's estimated.
    """

    model: str
    fields: dict[str, Any]
    stream: bool
    include_usage: bool
    reserve: int
    prompt_estimate: int


def read(body: bytes) -> dict[str, Any]:
    """Parse a body once and strictly, or raise `Refusal`: what is checked here is what an engine gets."""
    if len(body) > BODY_MAX:
        raise Refusal(413, "body_too_large", f"The body is larger than {BODY_MAX:,} bytes.")
    value = _read_plain(body)
    return _read_strictly(body) if value is None else value


def _read_plain(body: bytes) -> dict[str, Any] | None:
    """Parse the common sort of body quickly; None where something about it must be looked at more closely."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict):
        return None
    names = len(value)
    for part in value.values():
        kind = type(part)
        if kind is str or kind is bool or part is None:
            continue
        if kind is int and INTEGER_MIN <= part < INTEGER_MAX:
            continue
        if kind is float and -SAFE_FLOAT < part < SAFE_FLOAT:
            continue
        if kind is list and all(type(one) is str for one in part):
            continue
        if kind is dict and all(type(one) is bool for one in part.values()):
            names += len(part)
            continue
        return None
    # A name that stands twice is there once now; then the body holds more names than were found.
    return value if body.translate(None, b" \t\r\n").count(b'":') == names else None


def _read_strictly(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(
            body.decode("utf-8"), object_pairs_hook=_checked, parse_constant=_constant, parse_float=_finite,
            parse_int=_bounded,
        )  # fmt: skip
    except Refusal:
        raise
    except (ValueError, RecursionError):
        raise Refusal(400, "body_not_json", "The body is not valid JSON.") from None
    if not isinstance(value, dict):
        raise Refusal(400, "body_not_object", "The body is not a JSON object.")
    if _depth(value) > DEPTH_MAX:
        raise Refusal(400, "body_too_deep", f"The body is nested deeper than {DEPTH_MAX} levels.")
    for name, given in value.items():
        try:
            orjson.dumps(given)  # as it goes to an engine
        except TypeError:
            raise Refusal(400, "invalid_field", f"{name[:MODEL_MAX]} {HALF}", param=name[:MODEL_MAX]) from None
    return value


def ask(value: dict[str, Any]) -> Ask:
    """Check what was asked for, or raise `Refusal` that names the field."""
    model = model_of(value)
    checked = _Fields(value, model)
    if not KNOWN.issuperset(value):
        unknown = sorted(set(value) - KNOWN)
        raise checked.bad(unknown[0][:MODEL_MAX], f"The field {unknown[0][:MODEL_MAX]!r} is not supported here.")
    stream = "stream" in value and checked.flag("stream")
    include_usage = "stream_options" in value and checked.include_usage(stream=stream)
    max_tokens = value.get("max_tokens")
    if type(max_tokens) is not int or not 1 <= max_tokens <= TOKENS_MAX:
        max_tokens = checked.whole("max_tokens", DEFAULT_TOKENS, TOKENS_MAX)
    choices = checked.whole("n", 1, CHOICES_MAX) if "n" in value else 1
    prompt = value.get("prompt")
    prompts, estimate = (1, estimated_tokens(prompt)) if type(prompt) is str else checked.prompt()
    fields = value.copy()
    fields["max_tokens"] = max_tokens
    fields.pop("user", None)
    fields.pop("stream_options", None)
    if None in fields.values():
        fields = {name: given for name, given in fields.items() if given is not None}
    if stream:
        fields["stream_options"] = {"include_usage": True}
    reserve = estimate + prompts * choices * max_tokens
    return Ask(model, fields, stream, include_usage, reserve, estimate)


def model_of(value: dict[str, Any]) -> str:
    """Return the model that was asked for, or raise `Refusal`."""
    model = value.get("model")
    if model is None:
        raise Refusal(400, "model_missing", 'Name the model: "model": "NAMESPACE/NAME".', param="model")
    if not isinstance(model, str) or not model or len(model) > MODEL_MAX or not model.isprintable():
        raise Refusal(400, "model_name", "model is a name such as NAMESPACE/NAME.", param="model")
    return model


class _Fields:
    """The fields of a body, read one by one."""

    def __init__(self, value: dict[str, Any], model: str) -> None:
        self.value = value
        self.model = model

    def bad(self, param: str, message: str) -> Refusal:
        return Refusal(400, "invalid_field", message, param=param, model=self.model)

    def flag(self, name: str) -> bool:
        given = self.value.get(name)
        if given is not None and not isinstance(given, bool):
            raise self.bad(name, f"{name} is true or false.")
        return bool(given)

    def whole(self, name: str, default: int, highest: int) -> int:
        given = self.value.get(name)
        if given is None:
            return default
        if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= highest:
            raise self.bad(name, f"{name} is a whole number from 1 to {highest:,}.")
        return given

    def include_usage(self, *, stream: bool) -> bool:
        options = self.value.get("stream_options")
        if options is None:
            return False
        if not stream:
            raise self.bad("stream_options", 'stream_options needs "stream": true.')
        good = isinstance(options, dict) and set(options) <= {"include_usage"}
        if not good or not isinstance(options.get("include_usage", False), bool):
            raise self.bad("stream_options", "stream_options holds include_usage, true or false.")
        return bool(options.get("include_usage", False))

    def prompt(self) -> tuple[int, int]:
        """Return how many prompts there are and about how many tokens they have."""
        given = self.value.get("prompt")
        if isinstance(given, list) and given:
            if all(isinstance(part, str) for part in given) and len(given) <= PROMPTS_MAX:
                return len(given), sum(estimated_tokens(part) for part in given)
            if _is_tokens(given):
                return 1, len(given)
            if (
                all(isinstance(part, list) and part and _is_tokens(part) for part in given)
                and len(given) <= PROMPTS_MAX
            ):
                return len(given), sum(len(part) for part in given)
        raise self.bad("prompt", f"prompt is a text, token numbers, or a list of up to {PROMPTS_MAX} of either.")


def _is_tokens(given: list[Any]) -> bool:
    return all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in given)


class _NoNumber:
    """Stands for what JSON has no number for, or what no field can hold, until its field's name is known."""


NO_NUMBER = _NoNumber()


def _checked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object, and refuse by name a field that is there twice or holds a number that cannot be."""
    found = dict(pairs)
    if not all(_is_whole(name) for name in found):
        raise Refusal(400, "invalid_field", f"The name of a field {HALF}")
    if len(found) != len(pairs):
        twice = next(name for name, _ in pairs if sum(other == name for other, _ in pairs) > 1)
        raise Refusal(400, "field_twice", f"The field {twice[:MODEL_MAX]!r} is there twice.", param=twice[:MODEL_MAX])
    for name, value in pairs:
        if _holds_no_number(value):
            message = f"{name[:MODEL_MAX]} holds a number that is not finite, or too large."
            raise Refusal(400, "number_out_of_range", message, param=name[:MODEL_MAX])
    return found


def _is_whole(text: str) -> bool:
    """Say whether a text can be written at all."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _holds_no_number(value: Any) -> bool:
    level = [value]
    while level:
        if any(part is NO_NUMBER for part in level):
            return True
        level = [inner for part in level if isinstance(part, list) for inner in part]
    return False


def _constant(_name: str) -> Any:
    return NO_NUMBER


def _finite(text: str) -> Any:
    number = float(text)
    return number if math.isfinite(number) else NO_NUMBER


def _bounded(text: str) -> Any:
    if len(text) > len(str(INTEGER_MAX)) + 1 or not -INTEGER_MAX <= int(text) < INTEGER_MAX:
        return NO_NUMBER
    return int(text)


def _depth(value: Any) -> int:
    """Return how deeply lists and objects are nested; level by level, so that no depth is too much for it."""
    depth, level = 0, [value]
    while level:
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
        level = [inner for inner in level if isinstance(inner, dict | list)]
        depth += 1
    return depth
