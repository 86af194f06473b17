"""What a handler of the data plane is given, and how it answers; no domain in here."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portal.core.actor import Actor

# In an answer of the control plane: which of the inner addresses of the data plane answers in its place.
HAND_ON = "portal-hand-on"
Headers = list[tuple[str, str]]
Known = dict[str, Any]


class Alike(list[tuple[str, str]]):
    """Fields that many answers have alike; how they are written is kept, by status. They are never changed."""

    __slots__ = ("written",)

    def __init__(self, fields: Headers) -> None:
        super().__init__(fields)
        self.written: dict[int, bytes] = {}


@dataclass(slots=True)
class Request:
    """One parsed request, its body whole.

    Args:
        raw_path: the path as the client wrote it, percent-encoded, without the query.
        headers: by lower-case name; a field that stands twice is joined by commas.
        address: whose it is, as far as proxies in front are trusted to say; empty over a Unix socket.
        actor: set when a page of the portal calls for the person who is signed in there.
        known: what handlers work out of the head alone, for the next request with the same head.
    """

    method: str
    raw_path: str
    query: dict[str, list[str]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    request_id: str = ""
    actor: Actor | None = None
    known: Known = field(default_factory=dict)
    address: str = ""


@dataclass(frozen=True, slots=True)
class FileBody:
    """A span of a file to send.

    Args:
        start: first byte.
        length: how many bytes.
        finished: told once how many bytes arrived at the other side, however the sending ended.
    """

    path: Path
    start: int
    length: int
    finished: Callable[[int], None]


@dataclass(slots=True)
class Answer:
    """An answer that is whole: its body lies in memory or in a file."""

    status: int
    headers: Headers
    body: bytes | FileBody | None = None


def _nothing() -> None:
    pass


class Exchange(ABC):
    """One request and its answer; all of it happens on the loop, and nothing here ever waits.

    A handler answers once, now or later: `send`, or `begin`, any number of `write` and `end`, or `abort`. Length or
    chunks, Date, X-Request-Id and Connection are added to its fields.

    `on_left` is called once if the client goes away, or is cut off, before the answer has ended; afterwards whatever
    the handler still sends is dropped. `on_pause` and `on_resume` say that the client does not take more for now, and
    that it does again: what is written in between is kept in memory. The handler sets them; for a whole answer it
    need not.
    """

    request: Request
    left: bool = False
    paused: bool = False
    on_left: Callable[[], None] = staticmethod(_nothing)
    on_pause: Callable[[], None] = staticmethod(_nothing)
    on_resume: Callable[[], None] = staticmethod(_nothing)

    @property
    @abstractmethod
    def chunks(self) -> bool:
        """Whether the client understands chunks; only then may `begin` be told that they come ready made."""

    @abstractmethod
    def send(self, answer: Answer) -> None:
        """Send a whole answer; for HEAD only the length of its body is told, and a file is neither opened nor sent."""

    @abstractmethod
    def begin(self, status: int, headers: Headers, *, raw: bool = False) -> None:
        """Send the head of an answer that comes in pieces; framing is added.

        Args:
            status: HTTP status.
            headers: its fields, without any about framing.
            raw: the pieces are chunks already, sizes and the last empty one included, and are passed on untouched.
        """

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send a piece."""

    @abstractmethod
    def end(self, last: bytes = b"") -> None:
        """Send the last piece; for ready made chunks it holds the empty chunk that ends them."""

    @abstractmethod
    def abort(self) -> None:
        """Cut the connection: the only honest end of an answer that was promised and cannot be finished."""


Handler = Callable[[Exchange], None]
HeadCheck = Callable[[Request], Answer | None]


@dataclass(frozen=True, slots=True)
class Route:
    """A handler, and how much of a body it takes.

    Args:
        handler: answers a request whose body is whole.
        body_limit: bytes of body; above it the plane answers 413.
        on_head: asked before the body of a request that expects ``100 Continue``; an answer refuses it.
        refusal: writes what the plane itself refuses, from status and sentence, in the words of this address.
        knows: no request with an access token that is not known succeeds here.
    """

    handler: Handler
    body_limit: int = 64 << 10
    on_head: HeadCheck | None = None
    refusal: Callable[[int, str], Answer] | None = None
    knows: bool = False


class Routes:
    """Which handler answers which address; what nobody answers goes to the control plane."""

    def __init__(self) -> None:
        self._exact: dict[tuple[str, str], Route] = {}
        self._patterns: list[tuple[frozenset[str], Callable[[str], bool], Route]] = []
        self.listed: list[tuple[str, str, Route]] = []

    def add(self, methods: str, path: str, route: Route) -> None:
        """Register a handler at one path; `methods` are separated by spaces."""
        self.listed.append((path, methods, route))
        for method in methods.split():
            self._exact[method, path] = route

    def add_where(self, methods: str, address: str, matches: Callable[[str], bool], route: Route) -> None:
        """Register a handler for every path that a function accepts; no methods means all.

        `address` is how the documentation writes such a path.
        """
        self.listed.append((address, methods, route))
        self._patterns.append((frozenset(methods.split()), matches, route))

    def find(self, method: str, path: str) -> Route | None:
        """Return who answers, or None."""
        found = self._exact.get((method, path))
        if found is not None:
            return found
        for methods, matches, route in self._patterns:
            if (not methods or method in methods) and matches(path):
                return route
        return None
