"""Counting what an engine writes, while it writes it."""

import json
from collections.abc import Iterator
from typing import Any

from portal.edge.upstream import Lost

EVENT_MAX = 1 << 20
WHOLE_MAX = 32 << 20
DONE = b"[DONE]"
COUNT_MAX = 10_000_000


def events(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Give the data of each server-sent event, and an empty one for each moment of silence; comments are dropped."""
    rest = b""
    for piece in pieces:
        if not piece:
            yield b""
            continue
        rest = (rest + piece).replace(b"\r\n", b"\n")
        *whole, rest = rest.split(b"\n\n")
        if len(rest) > EVENT_MAX:
            raise Lost("an event without end")
        for event in whole:
            data = b"\n".join(line[5:].lstrip(b" ") for line in event.split(b"\n") if line.startswith(b"data:"))
            if data:
                yield data


def parse(data: bytes) -> dict[str, Any]:
    """Read what an engine wrote as a JSON object, or raise `Lost`."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise Lost("the engine wrote no JSON") from None
    if not isinstance(value, dict):
        raise Lost("the engine wrote no JSON object")
    return value


class Meter:
    """How many text tokens one request used so far: by what the engine says, else by what came out of it."""

    def __init__(self, prompt_estimate: int) -> None:
        self.prompt_tokens = prompt_estimate
        self.completion_tokens = 0

    def see(self, value: dict[str, Any]) -> None:
        """Count a whole answer or one event of a stream."""
        usage = value.get("usage")
        if isinstance(usage, dict):
            self.prompt_tokens = _count(usage.get("prompt_tokens"), self.prompt_tokens)
            self.completion_tokens = _count(usage.get("completion_tokens"), self.completion_tokens)
        else:
            choices = value.get("choices")
            self.completion_tokens += sum(1 for choice in choices if _wrote(choice)) if isinstance(choices, list) else 0


def is_usage_only(value: dict[str, Any]) -> bool:
    """Say whether an event of a stream carries the counts and nothing else."""
    return value.get("choices") == [] and isinstance(value.get("usage"), dict)


def _wrote(choice: Any) -> bool:
    return isinstance(choice, dict) and bool(choice.get("text"))


def _count(value: Any, otherwise: int) -> int:
    good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= COUNT_MAX
    return value if good else otherwise
