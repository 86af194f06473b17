"""A request that the control plane answers: passed on anew, its answer passed back, both as they come."""

import asyncio
import logging
import math
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import httptools

from portal.edge.answering import Answering
from portal.edge.head import NO_BODY, Fields, for_web, from_web, merged, origin
from portal.edge.routes import HAND_ON, Request

if TYPE_CHECKING:
    from portal.edge.message import Message
    from portal.edge.protocol import Connection

ANSWER_S = 60
MARK = 64 << 10
LAST_CHUNK = b"0\r\n\r\n"
AWAY = "The pages of this portal do not answer just now. Try again in a moment."
BROKE = "The pages of this portal broke off before they answered. Try again in a moment."
log = logging.getLogger("portal.edge")


class Splice(asyncio.Protocol):
    """One request on its way to the control plane, over a connection of its own that ends with the answer."""

    transport: asyncio.Transport | None = None

    def __init__(self, client: "Connection", message: "Message") -> None:
        self.client, self.message = client, message
        self.begun = self.ended = self.dropped = False
        self._held: list[bytes] = []
        self._chunked = message.length is None
        self._fields: Fields = []
        self._asked: list[bytes] | None = None
        self._rechunk = self._until_close = self._paused = False
        self._uploading = not message.whole
        self._parser: Any = httptools.HttpResponseParser(self)
        self._dialing: asyncio.Task[None] | None = None
        self._copy: socket.socket | None = None
        self.request_id = client.plane.new_id()

    def start(self) -> None:
        """Reach for the control plane, unless too many long bodies are under way to it."""
        plane, message = self.client.plane, self.message
        if plane.web is None:
            self._fail(404, "There is nothing here.")
            return
        if self._uploading and not plane.take_upload():
            self._uploading = False
            self._fail(503, "Too many bodies are being sent just now. Try again in a moment.")
            return
        body, message.body = message.body, []
        if message.whole:
            message.length, self._chunked = message.size, False
        self._held = [self._head(), *(self._framed(part) for part in body)]
        self._expect_progress()
        self._dialing = asyncio.get_running_loop().create_task(self._dial(str(plane.web)))

    def feed(self, data: bytes) -> None:
        """Pass on a piece of the request's body."""
        if not self.dropped and not self.ended:
            self._send(self._framed(data))

    def fed(self) -> None:
        """The request's body is whole."""
        self._upload_over()
        if self._chunked and not self.dropped and not self.ended:
            self._send(LAST_CHUNK)
        self._expect_progress()

    def drop(self) -> None:
        """The client has left, or is not answered any more."""
        self.dropped = True
        self._upload_over()
        if self._dialing is not None:
            self._dialing.cancel()
        if self.transport is not None:
            self.transport.abort()

    def expire(self) -> None:
        """The control plane takes too long."""
        if self.begun:
            self.client.cut()
        else:
            self._fail(504, AWAY)

    def pause_reading(self) -> None:
        """The client takes no more of the answer."""
        self._paused = True
        if self.transport is not None and not self.ended:
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """The client takes more of the answer."""
        self._paused = False
        if self.transport is not None and not self.ended:
            self.transport.resume_reading()

    # The connection to the control plane

    async def _dial(self, path: str) -> None:
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: self, path)
        except OSError:
            self._fail(503, AWAY)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send what there is."""
        self._dialing = None
        self.transport = made = cast(asyncio.Transport, transport)
        if self.dropped:
            made.abort()
            return
        made.set_write_buffer_limits(high=MARK)
        if self._uploading:
            self._copy = socket.socket(fileno=os.dup(made.get_extra_info("socket").fileno()))
        held, self._held = b"".join(self._held), []
        made.write(held)
        if made.get_write_buffer_size() <= MARK:
            self.client.go_on(self.message)

    def pause_writing(self) -> None:
        """The control plane takes no more of the body."""
        self.client.hold(self.message)

    def resume_writing(self) -> None:
        """The control plane takes more of the body."""
        self.client.go_on(self.message)

    def data_received(self, data: bytes) -> None:
        """Parse a piece of the answer."""
        if self.dropped or self.ended:
            return
        if not self._paused:
            self._expect_progress()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            log.exception("the control plane answered what is not HTTP")
            self._broken()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The control plane has ended the connection."""
        if self._copy is not None:
            with self._copy:
                self._read_on(self._copy)
        if self.dropped or self.ended:
            return
        if self.begun and self._until_close:
            self.on_message_complete()
        else:
            self._broken()

    def _read_on(self, copy: socket.socket) -> None:
        """Take an answer that came before all of the body did: the loop ends a connection on which it cannot write."""
        with suppress(OSError):
            while not (self.dropped or self.ended) and (data := copy.recv(MARK, socket.MSG_DONTWAIT)):
                self.data_received(data)

    # What the parser calls

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the answer's head; trailers are not passed on."""
        if not self.begun:
            self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The answer's head is whole."""
        status = self._parser.get_status_code()
        if status < 200:  # noqa: PLR2004
            self._fields = []
            return
        if any(name == HAND_ON.encode() for name, _ in self._fields):
            self._asked = []
            return
        self.begun = True
        self.client.plane.settled(self.client, self.message.fields, None, status)
        lengths = [value for name, value in self._fields if name == b"content-length"]
        bare = self.message.method == "HEAD" or status in NO_BODY
        framing = b"Content-Length: %b\r\n" % lengths[0] if lengths else b""
        if not lengths and not bare:
            self._until_close = not any(name == b"transfer-encoding" for name, _ in self._fields)
            self._rechunk = self.message.version == "1.1"
            framing = b"Transfer-Encoding: chunked\r\n" if self._rechunk else b""
            self.message.keep = self.message.keep and self._rechunk
        if not self.client.keeps(self.message):
            framing += b"Connection: close\r\n"
        headers = [(name.decode("ascii"), value.decode("latin-1")) for name, value in from_web(self._fields)]
        self.client.write_head(status, headers, b"%bX-Request-Id: %b\r\n" % (framing, self.request_id.encode()))
        if bare:
            self._finish()

    def on_body(self, data: bytes) -> None:
        """A piece of the answer's body."""
        if self._asked is not None:
            self._asked.append(data)
        elif not self.ended:
            self.client.transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._rechunk else data)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self._asked is not None and not self.ended:
            self._hand_on(b"".join(self._asked))
        elif self.begun and not self.ended:
            if self._rechunk:
                self.client.transport.write(LAST_CHUNK)
            self._finish()

    # Within

    def _head(self) -> bytes:
        plane, message = self.client.plane, self.message
        peer, scheme = origin(self.client.peer, message.fields, plane.trusted)
        ours = [("x-request-id", self.request_id), ("x-forwarded-for", peer)]
        if scheme:
            ours.append(("x-forwarded-proto", scheme))
        target = message.path.encode() + (b"?" + message.query.encode() if message.query else b"")
        return for_web(message.method, target, message.fields, length=message.length, ours=ours)

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data

    def _send(self, data: bytes) -> None:
        if self.transport is None:
            self._held.append(data)
            self.client.hold(self.message)  # until the control plane is reached
        else:
            self.transport.write(data)

    def _expect_progress(self) -> None:
        if self.message.whole:
            self.client.deadline = self.client.plane.now + ANSWER_S

    def _upload_over(self) -> None:
        if self._uploading:
            self._uploading = False
            self.client.plane.give_upload()
            self.client.go_on(self.message)

    def _finish(self) -> None:
        self.ended = True
        self._upload_over()
        if self.transport is not None:
            self.transport.abort()  # it ends with the answer, which is here
        self.message.splice = None
        self.client.answered(self.message)

    def _hand_on(self, body: bytes) -> None:
        """Have an inner address answer the client: the control plane has checked who asks, and what for."""
        client, message, fields = self.client, self.message, merged(self._fields)
        self.ended = True
        self._upload_over()
        if self.transport is not None:
            self.transport.abort()
        message.splice, client.deadline = None, math.inf
        message.answering = answering = Answering(client, message)
        answering.request_id, answering.paused = self.request_id, client.full
        answering.request = Request("POST", fields[HAND_ON], {}, fields, body, self.request_id)
        route = client.plane.inside.find("POST", fields[HAND_ON])
        try:
            if route is None:
                raise LookupError(fields[HAND_ON])
            route.handler(answering)
        except Exception:
            log.exception("request %s", answering.request_id)
            answering.fail()

    def _broken(self) -> None:
        if self.begun:
            self.drop()
            self.client.cut()
        else:
            self._fail(502, BROKE)

    def _fail(self, status: int, why: str) -> None:
        if self.dropped or self.ended:
            return
        self.drop()
        self.message.splice = None
        self.client.fail(self.message, status, why)
