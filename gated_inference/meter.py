"""Counting what an engine writes, and reading its answers closely where that is needed."""

import json
from typing import Any

import orjson

WHOLE_MAX = 32 << 20
COUNT_MAX = 10_000_000
TAIL = 700
USAGE = b'"usage"'


class Lost(Exception):
    """An engine's answer cannot be finished: it went away, fell silent or wrote nonsense."""


def parse(data: bytes) -> dict[str, Any]:
    """Read what an engine wrote as a JSON object, or raise `Lost`."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise Lost("the engine wrote no JSON") from None
    if not isinstance(value, dict):
        raise Lost("the engine wrote no JSON object")
    return value


class Meter:
    """How many text tokens one request used so far: by what the engine says, else by what came out of it."""

    __slots__ = ("completion_tokens", "prompt_tokens", "told")
    reads = False  # whether each event has to be shown to it

    def __init__(self, prompt_estimate: int) -> None:
        self.prompt_tokens = prompt_estimate
        self.completion_tokens = 0
        self.told = False

    def see(self, value: dict[str, Any]) -> None:
        """Count a whole answer or one event of a stream."""
        usage = value.get("usage")
        if isinstance(usage, dict):
            self.told = True
            self.prompt_tokens = _count(usage.get("prompt_tokens"), self.prompt_tokens)
            self.completion_tokens = _count(usage.get("completion_tokens"), self.completion_tokens)
        else:
            choices = value.get("choices")
            self.completion_tokens += sum(1 for choice in choices if _wrote(choice)) if isinstance(choices, list) else 0

    def end(self) -> None:
        """The answer is whole; nothing is left to look at."""

    def see_tail(self, data: bytes) -> None:
        """Look for the counts in the last bytes of a stream, if they were not told by an event of their own."""
        if not self.told and (usage := usage_in(data[-TAIL:])) is not None:
            self.see({"usage": usage})


def usage_in(tail: bytes) -> dict[str, Any] | None:
    """Return the last counts in some JSON.

    The bytes looked for cannot be the model's words, in which each quote is escaped. Engines also write null there,
    and objects in it.
    """
    at = tail.rfind(USAGE)
    while at >= 0:
        rest = tail[at + len(USAGE) :].lstrip(b" :").decode("utf-8", "replace")
        if rest.startswith("{"):
            try:
                return dict(json.JSONDecoder().raw_decode(rest)[0])
            except ValueError:
                return None
        at = tail.rfind(USAGE, 0, at)
    return None


def is_usage_only(value: dict[str, Any]) -> bool:
    """Say whether an event of a stream carries the counts and nothing else."""
    return value.get("choices") == [] and isinstance(value.get("usage"), dict)


def _wrote(choice: Any) -> bool:
    return isinstance(choice, dict) and bool(choice.get("text"))


def _count(value: Any, otherwise: int) -> int:
    good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= COUNT_MAX
    return value if good else otherwise
