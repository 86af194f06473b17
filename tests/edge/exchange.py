"""An exchange without a connection, for tests of handlers."""

from dataclasses import dataclass, field

from portal.edge.routes import Answer, Exchange, Headers, Request


@dataclass
class FakeExchange(Exchange):
    """Keeps what a handler answers; a test plays the client."""

    request: Request
    chunks: bool = True  # type: ignore[assignment]
    answer: Answer | None = None
    status: int = 0
    headers: Headers = field(default_factory=list)
    raw: bool = False
    pieces: list[bytes] = field(default_factory=list)
    ended: bool = False
    aborted: bool = False

    def send(self, answer: Answer) -> None:
        assert not self.status, "answered twice"
        self.answer, self.status, self.headers, self.ended = answer, answer.status, answer.headers, True

    def begin(self, status: int, headers: Headers, *, raw: bool = False) -> None:
        assert not self.status, "answered twice"
        assert not raw or self.chunks, "ready made chunks for a client that knows none"
        self.status, self.headers, self.raw = status, headers, raw

    def write(self, data: bytes) -> None:
        assert self.status, "written before begun"
        assert not self.ended, "written after the end"
        if not self.left:
            self.pieces.append(data)

    def end(self, last: bytes = b"") -> None:
        assert not self.ended, "ended twice"
        if last:
            self.write(last)
        self.ended = True

    def abort(self) -> None:
        self.aborted = self.ended = True

    @property
    def body(self) -> bytes:
        """What was streamed."""
        return b"".join(self.pieces)

    def leave(self) -> None:
        """Be a client that goes away."""
        if not (self.left or self.ended):
            self.left = True
            self.on_left()

    def pause(self) -> None:
        """Be a client that takes no more for now."""
        self.paused = True
        self.on_pause()

    def resume(self) -> None:
        """Be a client that reads on."""
        self.paused = False
        self.on_resume()
