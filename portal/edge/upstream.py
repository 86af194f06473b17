"""Requests to servers behind the portal, over connections that are kept for the next request."""

import asyncio
import logging
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import httptools

from portal.edge.address import Address
from portal.edge.known import KnownHead, known_head

CONNECT_S = 2.0
FIRST_BYTE_S = 120.0
SILENCE_S = 60.0
IDLE_S = 30.0
HEAD_MAX = 64 << 10
HEAD_END = b"\r\n\r\n"
log = logging.getLogger("portal.upstream")


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _nowhere(_data: bytes) -> None:
    pass


class Call(ABC):
    """A request under way; who makes one says what becomes of the answer.

    `head` comes first, then `data`, at the end `done` or `lost`; after it, or after `cancel`, nothing more comes.
    """

    __slots__ = ("_connection", "_fresh", "_open", "connections", "heard", "quiet", "request", "sink")

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._open = False
        self.sink: Callable[[bytes], None] = _nowhere

    @abstractmethod
    def head(self, status: int, fields: dict[bytes, bytes]) -> bool:
        """Take the head; return whether the body is wanted as it comes, framing included, where it is in chunks."""

    @abstractmethod
    def data(self, data: bytes) -> None:
        """Take a piece of the body; `sink` may name something else that does."""

    @abstractmethod
    def done(self) -> None:
        """Take the end of a body that is whole. What comes in ready made chunks is ended by `over`."""

    def whole(self, status: int, fields: dict[bytes, bytes], body: bytes) -> None:
        """Take an answer that came all at once, when the connection is already given back."""
        self.head(status, fields)
        if body:
            self.sink = self.data
            self.sink(body)
        self.done()

    @abstractmethod
    def lost(self, why: str) -> None:
        """Hear that the server is not there, went away, or speaks no HTTP."""

    def cancel(self) -> None:
        """Let go of the answer: closing the connection is how servers are told to stop."""
        if self._open:
            connection = self.close()
            if connection is not None:
                connection.drop()

    def over(self, *, keep: bool) -> None:
        """End an answer whose chunks are read elsewhere, when the last one was seen."""
        if self._open:
            connection = self.close()
            if connection is not None:
                connection.release(keep=keep)

    def pause(self) -> None:
        """Take no more for now."""
        if self._connection is not None:
            self._connection.pause(paused=True)

    def resume(self) -> None:
        """Take more again."""
        if self._connection is not None:
            self._connection.pause(paused=False)

    # What connections do with it

    def open(self, connections: "Connections", request: bytes) -> None:
        """Begin, perhaps anew with another server."""
        self.connections, self.request = connections, request
        self._open, self._connection, self.sink = True, None, self.data
        self.heard, self.quiet = False, 0.0

    def begin(self, connection: "Connection", *, fresh: bool) -> None:
        """Send the request over a connection."""
        self._fresh, self._connection = fresh, connection
        connection.call = self
        connection.send(self.request)

    def close(self) -> "Connection | None":
        """End; return the connection, which is the caller's to let go of."""
        connection, self._connection, self._open = self._connection, None, False
        self.sink = _nowhere  # a call that names itself would wait for the collector of garbage
        self.connections.calls.discard(self)
        if connection is not None:
            connection.call = None
        return connection

    def dropped(self, why: str) -> None:
        """The connection is gone; a kept one that had been closed meanwhile costs another try on a fresh one."""
        self._connection = None
        if self._open and not self._fresh and not self.heard:
            self.connections.dial(self)
        elif self._open:
            self.close()
            self.lost(why)

    def look(self, passed: float, first_byte_s: float, silence_s: float) -> None:
        """Give up on a server that says nothing."""
        self.quiet += passed
        most = silence_s if self.heard else first_byte_s
        if self.quiet > most:
            self.cancel()
            self.lost(f"silent for {most:g} s")


class Connection(asyncio.Protocol):
    """One connection to a server: one answer at a time."""

    transport: asyncio.Transport | None = None
    call: Call | None = None
    idle_since = 0.0
    _paused = _raw = _until_close = False
    _fields: dict[bytes, bytes]

    def __init__(self, server: "Connections") -> None:
        self.server = server
        self._head, self._status = b"", 0
        self._begun = self._complete = self._keep = False
        self.send: Callable[[bytes], None] = _nowhere
        self._parser: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready."""
        self.transport = made = cast(asyncio.Transport, transport)
        self.send = made.write

    def data_received(self, data: bytes) -> None:
        """Take what the server says."""
        call = self.call
        if call is None:  # nobody asked for these bytes: the next one must not get them
            self.drop()
            return
        call.heard, call.quiet = True, 0.0
        if self._raw:
            call.sink(data)
            return
        known = self.server.known
        if self._parser is None and known is not None and (body := known[0].body_of(data)) is not None:
            call.close()
            self.release(keep=True)
            call.whole(known[1], known[2], body)
            return
        self._parse(call, data)

    def _parse(self, call: Call, data: bytes) -> None:
        if self._parser is None:
            self._await_head()
        if not self._begun:
            self._head += data
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._lose("spoke no HTTP", error)
            return
        if self._raw and self.call is call:
            head, self._head = self._head, b""
            if rest := head[head.find(HEAD_END) + 4 :]:
                call.sink(rest)
        elif self._complete and self.call is call:
            if self._head == data:
                self._learn(data)
            call.close()
            self.release(keep=self._keep)
            call.done()
        elif not self._begun and len(self._head) > HEAD_MAX:
            self._lose("sent a head without end")

    def _await_head(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._head, self._fields, self._status = b"", {}, 0
        self._begun = self._complete = self._keep = False

    def _learn(self, data: bytes) -> None:
        length = self._fields.get(b"content-length")
        if self._keep and self._status == 200 and length is not None and b"transfer-encoding" not in self._fields:  # noqa: PLR2004
            head = known_head(data, int(length))
            if head is not None:
                self.server.known = head, self._status, self._fields

    def eof_received(self) -> bool:
        """Take the end of a body that only closing ends."""
        call = self.call
        if call is not None and self._until_close:
            call.close()
            call.done()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self.transport, self.send = None, _nowhere
        self.server.forget(self)
        self._lose("closed its connection", exc)

    def release(self, *, keep: bool) -> None:
        """Keep the connection for the next request, or close it."""
        self.call = self._parser = None
        self._raw = self._until_close = False
        if keep and self.transport is not None and not self.transport.is_closing():
            if self._paused:
                self.pause(paused=False)
            self.server.keep(self)
        else:
            self.drop()

    def pause(self, *, paused: bool) -> None:
        """Read no more for now, or again."""
        if paused is not self._paused and self.transport is not None:
            self._paused = paused
            (self.transport.pause_reading if paused else self.transport.resume_reading)()

    def drop(self) -> None:
        """Close the connection at once."""
        if self.transport is not None:
            self.transport.abort()

    def _lose(self, why: str, error: BaseException | None = None) -> None:
        call, self.call = self.call, None
        if self.transport is not None:
            self.transport.abort()
        if call is not None:
            call.dropped(f"{why}: {error}" if error is not None and str(error) else why)

    # What the parser calls

    def on_message_begin(self) -> None:
        """An answer begins; a second one was not asked for."""
        self._keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head; what follows the body is nobody's business."""
        if not self._begun:
            self._fields[name.lower()] = value

    def on_headers_complete(self) -> None:
        """The head is whole."""
        status = self._parser.get_status_code()
        if status < 200 or self._complete:  # noqa: PLR2004 - only a word in between, or more than was asked for
            self._fields = {}
            return
        fields, call = self._fields, cast(Call, self.call)
        self._begun, self._status = True, status
        chunked = fields.get(b"transfer-encoding", b"").lower() == b"chunked"
        self._until_close = not chunked and b"content-length" not in fields
        self._raw = call.head(status, fields) and chunked and self.call is call

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if not self._raw and not self._complete and self.call is not None:
            self.call.sink(data)

    def on_message_complete(self) -> None:
        """The answer is whole. Only here does the parser still know whether the connection stays open."""
        if self._begun and not self._raw:
            self._keep = self._parser.should_keep_alive() and not self._complete
            self._complete = True


class Connections:
    """The connections to one server: the one that was used last is used next, so that the others grow old."""

    def __init__(self, address: Address, *, first_byte_s: float = FIRST_BYTE_S, silence_s: float = SILENCE_S) -> None:
        self.address = address
        self.first_byte_s, self.silence_s = first_byte_s, silence_s
        self.calls: set[Call] = set()
        self.known: tuple[KnownHead, int, dict[bytes, bytes]] | None = None
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, call: Call, request: bytes) -> None:
        """Send a request; nothing of its answer comes before this returns."""
        call.open(self, request)
        self.calls.add(call)
        while self._idle:
            connection = self._idle.pop()
            transport = connection.transport
            if transport is not None and not transport.is_closing():
                call.begin(connection, fresh=False)
                return
        self.dial(call)

    def dial(self, call: Call) -> None:
        """Open a connection for a request."""
        task = asyncio.get_running_loop().create_task(self._dial(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def keep(self, connection: Connection) -> None:
        """Take back a connection that is free again."""
        connection.idle_since = time.monotonic()
        self._idle.append(connection)

    def forget(self, connection: Connection) -> None:
        """Let go of a connection that is closed."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def sweep(self, passed: float) -> None:
        """Close connections that nobody needs, before the server does; give up on answers that do not come."""
        old = time.monotonic() - IDLE_S
        for connection in [c for c in self._idle if c.idle_since < old]:
            self._idle.remove(connection)
            connection.drop()
        for call in list(self.calls):
            call.look(passed, self.first_byte_s, self.silence_s)

    def close(self) -> None:
        """Close everything."""
        for task in list(self._tasks):
            task.cancel()
        for call in list(self.calls):
            call.cancel()
        for connection in list(self._open):
            connection.drop()
        self._idle.clear()

    async def _dial(self, call: Call) -> None:
        address, loop = self.address, asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                if address.uds is not None:
                    _, connection = await loop.create_unix_connection(lambda: Connection(self), str(address.uds))
                else:
                    _, connection = await loop.create_connection(
                        lambda: Connection(self), address.host, address.port, ssl=_tls() if address.tls else None
                    )
        except (OSError, ValueError) as error:  # a name that no host can have is a ValueError
            if call in self.calls:
                call.close()
                call.lost(f"cannot be reached: {error or type(error).__name__}")
            return
        if connection.transport is None:  # it has ended again meanwhile
            if call in self.calls:
                call.close()
                call.lost("closed its connection")
            return
        self._open.add(connection)
        if call in self.calls:
            call.begin(connection, fresh=True)
        else:  # the client left meanwhile
            connection.drop()
