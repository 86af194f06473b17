"""What callers may ask of the engine, checked field by field, and the shapes of what they get back."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gated_inference.engine.batcher import Entry, Piece
from gated_inference.engine.sampling import Sampling

MAX_PROMPTS = MAX_STOPS = MAX_CHOICES = 4
MAX_STOP_LENGTH = 256
MAX_LOGPROBS = 5
MAX_SEED = 2**63 - 1
MAX_TOP_K = 2**31 - 1
MAX_FIELDS = 64
TOO_MANY, SERVER_ERROR = 429, 500


class Refusal(Exception):
    """A call that is answered with an error of OpenAI's shape."""

    def __init__(self, message: str, *, param: str | None = None, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.headers: dict[str, str] = {}

    def body(self) -> dict[str, Any]:
        """Return the JSON that clients of OpenAI's protocol expect."""
        kind = "invalid_request_error" if self.status < SERVER_ERROR else "server_error"
        kind = "rate_limit_error" if self.status == TOO_MANY else kind
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True)
class Limits:
    """What bounds every call to one model."""

    name: str
    max_context: int
    vocabulary: int
    slots: int


@dataclass(frozen=True)
class Ask:
    """A checked call for completions."""

    prompts: list[str | list[int]]
    max_tokens: int = 16
    choices: int = 1
    sampling: Sampling = field(default_factory=Sampling)
    logprobs: int | None = None
    stops: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = False
    ignore_eos: bool = False


def parse(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a body; a name that stands twice in it is refused, since readers disagree on it."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if len(names) > MAX_FIELDS:  # also keeps the count below cheap
            raise Refusal("Too many fields")
        for name in names:
            if names.count(name) > 1:
                raise Refusal(f"`{name[:64]}` is given twice", param=name[:64])
        return dict(pairs)

    def strange(constant: str) -> Any:
        raise Refusal(f"{constant} is not JSON")

    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=once, parse_constant=strange)
    except (ValueError, RecursionError) as error:
        raise Refusal("The body is not JSON in UTF-8") from error
    if not isinstance(value, dict):
        raise Refusal("The body must be a JSON object")
    return value


def integer(name: str, low: int, high: int) -> Callable[[Any], int]:
    """Return a check for whole numbers in a range; true and 1.0 are none."""

    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise Refusal(f"`{name}` must be a whole number from {low} to {high}", param=name)
        return value

    return check


def number(name: str, low: float, high: float, *, above: bool = False) -> Callable[[Any], float]:
    """Return a check for finite numbers in a range, its lower end left out with `above`."""

    def check(value: Any) -> float:
        # NaN fails every comparison; huge integers are compared before they are turned into floats.
        if type(value) not in {int, float} or not low <= value <= high or (above and value == low):
            start = f"more than {low:g}" if above else f"{low:g}"
            raise Refusal(f"`{name}` must be a number from {start} to {high:g}", param=name)
        return float(value)

    return check


def boolean(name: str) -> Callable[[Any], bool]:
    """Return a check for true and false."""

    def check(value: Any) -> bool:
        if not isinstance(value, bool):
            raise Refusal(f"`{name}` must be true or false", param=name)
        return value

    return check


def text(name: str, value: Any) -> str:
    """Return a text that can be written as UTF-8."""
    if not isinstance(value, str):
        raise Refusal(f"`{name}` must be a string", param=name)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Refusal(f"`{name}` holds half a character", param=name) from error
    return value


def stops(value: Any) -> tuple[str, ...]:
    """Check `stop`: one text or up to four, none of them empty."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or len(values) > MAX_STOPS:
        raise Refusal(f"`stop` must be a string or a list of at most {MAX_STOPS} strings", param="stop")
    checked = tuple(text("stop", each) for each in values)
    if not all(0 < len(each) <= MAX_STOP_LENGTH for each in checked):
        raise Refusal(f"Each `stop` must have from 1 to {MAX_STOP_LENGTH} characters", param="stop")
    return checked


def prompts(value: Any, vocabulary: int) -> list[str | list[int]]:
    """Check `prompt`: a text, up to four texts, or token ids in one list or up to four."""
    if isinstance(value, str):
        return [text("prompt", value)]
    if not isinstance(value, list) or not value:
        raise Refusal("`prompt` must be a string, a list of strings, or a list of token ids", param="prompt")
    if type(value[0]) is int:
        return [tokens(value, vocabulary)]
    if len(value) > MAX_PROMPTS:
        raise Refusal(f"`prompt` may hold at most {MAX_PROMPTS} prompts", param="prompt")
    if isinstance(value[0], list):
        return [tokens(each, vocabulary) for each in value]
    return [text("prompt", each) for each in value]


def tokens(value: Any, vocabulary: int) -> list[int]:
    """Check one prompt of token ids."""
    if not isinstance(value, list) or not value:
        raise Refusal("A `prompt` of token ids must be a list with at least one", param="prompt")
    if not all(type(each) is int and 0 <= each < vocabulary for each in value):
        raise Refusal(f"`prompt` holds a token id that is not from 0 to {vocabulary - 1}", param="prompt")
    return value


def usage_wanted(value: Any, *, stream: bool) -> bool:
    """Check `stream_options`, which only streams have."""
    if not stream:
        raise Refusal("`stream_options` needs `stream`", param="stream_options")
    if not isinstance(value, dict):
        raise Refusal("`stream_options` must be an object", param="stream_options")
    for name in value:
        if name != "include_usage":
            raise Refusal(f"Unknown field: `stream_options.{name[:64]}`", param=f"stream_options.{name[:64]}")
    return boolean("stream_options.include_usage")(value.get("include_usage", False))


# Fields of OpenAI's that this engine does not do, with the value that asks for nothing.
ABSENT: dict[str, Any] = {
    "suffix": None, "echo": False, "logit_bias": {}, "presence_penalty": 0, "frequency_penalty": 0,
}  # fmt: skip
KNOWN = {
    "model", "prompt", "max_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "seed", "n", "best_of",
    "stop", "logprobs", "stream", "stream_options", "ignore_eos", *ABSENT,
}  # fmt: skip


def asks_for_nothing(value: Any, neutral: Any) -> bool:
    """Say whether a value is the one that changes nothing; 0.0 does so as 0 does, but false is no number."""
    numbers = {int, float}
    return bool(value == neutral and (type(value) is type(neutral) or {type(value), type(neutral)} <= numbers))


def check(body: dict[str, Any], limits: Limits) -> Ask:
    """Return what a body asks for, or refuse it and name the field."""
    for name, value in body.items():
        if name not in KNOWN:
            raise Refusal(f"Unknown field: `{name[:64]}`", param=name[:64])
        if value is not None and name in ABSENT and not asks_for_nothing(value, ABSENT[name]):
            raise Refusal(f"`{name}` is not supported", param=name, code="unsupported_parameter")
    given = {name: value for name, value in body.items() if value is not None}
    model = text("model", given.get("model"))
    if model != limits.name:
        raise Refusal(f"This engine serves `{limits.name}` only", param="model", status=404, code="model_not_found")

    def read(name: str, how: Callable[[Any], Any], default: Any) -> Any:
        return how(given[name]) if name in given else default

    choices = read("n", integer("n", 1, min(MAX_CHOICES, limits.slots)), 1)
    if read("best_of", integer("best_of", 1, MAX_CHOICES), choices) != choices:
        raise Refusal("`best_of` other than `n` is not supported", param="best_of", code="unsupported_parameter")
    stream = read("stream", boolean("stream"), False)
    return Ask(
        prompts=prompts(given.get("prompt"), limits.vocabulary),
        max_tokens=read("max_tokens", integer("max_tokens", 1, limits.max_context - 1), 16),
        choices=choices,
        sampling=Sampling(
            temperature=read("temperature", number("temperature", 0, 2), 1.0),
            top_p=read("top_p", number("top_p", 0, 1, above=True), 1.0),
            top_k=read("top_k", integer("top_k", 0, MAX_TOP_K), 0),
            repetition_penalty=read("repetition_penalty", number("repetition_penalty", 0, 10, above=True), 1.0),
            seed=read("seed", integer("seed", 0, MAX_SEED), None),
        ),
        logprobs=read("logprobs", integer("logprobs", 0, MAX_LOGPROBS), None),
        stops=read("stop", stops, ()),
        stream=stream,
        include_usage=read("stream_options", lambda value: usage_wanted(value, stream=stream), False),
        ignore_eos=read("ignore_eos", boolean("ignore_eos"), False),
    )


def check_length(prompt: list[int], ask: Ask, limits: Limits) -> None:
    """Refuse a prompt that leaves no room for the answer."""
    room = limits.max_context - len(prompt)
    if room < 1:
        message = f"`prompt` has {len(prompt)} tokens; prompt and answer together may have {limits.max_context}"
        raise Refusal(message, param="prompt", code="context_length_exceeded")
    if ask.max_tokens > room:
        message = f"`max_tokens` may be at most {room} after a prompt of {len(prompt)} tokens"
        raise Refusal(message, param="max_tokens", code="context_length_exceeded")


def logprobs_of(entries: list[Entry]) -> dict[str, Any]:
    """Return log-probabilities in the shape of OpenAI's completions."""
    return {
        "tokens": [entry.token for entry in entries],
        "token_logprobs": [entry.logprob for entry in entries],
        "top_logprobs": [entry.top for entry in entries],
        "text_offset": [entry.offset for entry in entries],
    }


def choice_of(piece: Piece, ask: Ask) -> dict[str, Any]:
    """Return one choice of an answer or of a chunk."""
    logprobs = None if ask.logprobs is None else logprobs_of(piece.entries)
    return {"index": piece.choice, "text": piece.text, "logprobs": logprobs, "finish_reason": piece.finish}


def usage_of(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Return what an answer cost."""
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}
