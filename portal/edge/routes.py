"""What a handler of the data plane is given and gives back; no domain in here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from portal.core.actor import Actor

Headers = list[tuple[str, str]]


def _stays() -> bool:
    return False


@dataclass(frozen=True)
class Request:
    """One parsed request.

    Args:
        raw_path: the path as the client wrote it, percent-encoded, without the query.
        headers: by lower-case name.
        actor: set when a page of the portal calls for the person who is signed in there.
        hung_up: says whether the client has left.
    """

    method: str
    raw_path: str
    query: dict[str, list[str]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    request_id: str = ""
    actor: Actor | None = None
    hung_up: Callable[[], bool] = _stays


@dataclass(frozen=True)
class FileBody:
    """A span of a file to send.

    Args:
        start: first byte.
        length: how many bytes.
        finished: told once how many bytes were handed on, however the sending ended.
        allowed: asked between pieces; the sending ends when it says no.
    """

    path: Path
    start: int
    length: int
    finished: Callable[[int], None]
    allowed: Callable[[], bool] = lambda: True


@dataclass(frozen=True)
class Answer:
    """What a handler returns: a body that is whole, comes in pieces, or lies in a file."""

    status: int
    headers: Headers
    body: bytes | Iterator[bytes] | FileBody | None = None
