"""A request over a client's connection, and the answer that a handler gives it."""

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from portal.edge.head import origin, written
from portal.edge.routes import Answer, Exchange, FileBody, Headers, Request
from portal.edge.sendfile import FileSender

if TYPE_CHECKING:
    from portal.edge.message import Message
    from portal.edge.protocol import Connection

LAST_CHUNK = b"0\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CLOSE = b"Connection: close\r\n"


def as_request(message: "Message", request_id: str, address: str = "") -> Request:
    """Return a request as handlers see it."""
    query = parse_qs(message.query, keep_blank_values=True) if message.query else {}
    body = b"".join(message.body)
    known = message.known
    return Request(message.method, message.path, query, message.headers, body, request_id, None, known, address)


class Answering(Exchange):
    """An exchange over a connection; its head carries Date, framing and the request's id."""

    def __init__(self, connection: "Connection", message: "Message") -> None:
        self._connection, self._message = connection, message
        self.request_id = connection.plane.new_id()
        address, _ = origin(connection.peer, message.fields, connection.plane.trusted)
        self.request = as_request(message, self.request_id, address)
        self.begun = self.ended = self._raw = False

    @property
    def chunks(self) -> bool:
        """Whether the client understands chunks."""
        return self._message.version == "1.1"

    def send(self, answer: Answer) -> None:
        """Send a whole answer."""
        body = answer.body
        if self.ended or self.left:
            if isinstance(body, FileBody):
                body.finished(0)
            return
        if self.begun:
            raise RuntimeError("a request is answered once")
        self._message.answering = self
        head_only = self._message.method == "HEAD"
        if isinstance(body, FileBody):
            length, data = body.length, b""
            if not head_only:
                self._send_file(answer, body)
                return
        else:
            length, data = (len(body), b"" if head_only else body) if body else (0, b"")
        connection = self._connection
        if not connection.proven:
            self._settle(answer.status)  # which may end the connection with this answer
        head = written(answer.status, answer.headers), length, self._own(), connection.plane.date, data
        self.begun = self.ended = True
        connection.transport.write(b"%bContent-Length: %d\r\n%b%b\r\n%b" % head)
        connection.answered(self._message)

    def begin(self, status: int, headers: Headers, *, raw: bool = False) -> None:
        """Send the head of an answer in pieces."""
        if self.left:
            return
        if self.begun:
            raise RuntimeError("a request is answered once")
        self._message.answering = self
        self._settle(status)
        self._raw = raw or not self.chunks
        framing = CHUNKED if self.chunks else b""
        if not self.chunks:
            self._message.keep = False
        self._connection.write_head(status, headers, framing + self._own())
        self.begun = True

    def write(self, data: bytes) -> None:
        """Send a piece."""
        if data and not (self.left or self.ended or self._message.method == "HEAD"):
            self._connection.transport.write(data if self._raw else b"%x\r\n%b\r\n" % (len(data), data))

    def end(self, last: bytes = b"") -> None:
        """Send the last piece."""
        if self.left or self.ended:
            return
        if self._message.method != "HEAD":
            if not self._raw:
                last = b"%x\r\n%b\r\n%b" % (len(last), last, LAST_CHUNK) if last else LAST_CHUNK
            if last:
                self._connection.transport.write(last)
        self._end()

    def abort(self) -> None:
        """Cut the connection."""
        if not self.left and not self.ended:
            self.ended = True
            self._connection.cut()

    def fail(self) -> None:
        """Say that a handler broke, or cut what it had begun."""
        if self.begun:
            self.abort()
        else:
            why = f"Something is wrong on our side. Tell the operators the request id {self.request_id}."
            self.send(self._connection.plane.refusal(500, why, self._message.route))

    def leave(self) -> None:
        """The client has left, or is cut off."""
        if not (self.ended or self.left):
            self.left = True
            self.on_left()

    def pause(self) -> None:
        """The client takes no more for now."""
        self.paused = True
        if not self.ended:
            self.on_pause()

    def resume(self) -> None:
        """The client takes more."""
        self.paused = False
        if not self.ended:
            self.on_resume()

    def _settle(self, status: int) -> None:
        self._connection.plane.settled(self._connection, self._message.fields, self._message.route, status)

    def _own(self) -> bytes:
        own = b"%bX-Request-Id: %b\r\n" % (self._connection.plane.guard, self.request_id.encode())
        return own if self._connection.keeps(self._message) else own + CLOSE

    def _send_file(self, answer: Answer, body: FileBody) -> None:
        connection = self._connection
        try:
            sender = FileSender(connection.transport, connection.plane.threads, self._file_done)
            fd = sender.open(body.path)
        except OSError:  # it is not there, or this process has too much open
            body.finished(0)
            self.fail()
            return
        self._settle(answer.status)
        framing = b"Content-Length: %d\r\n%b" % (body.length, self._own())
        head = connection.head_text(answer.status, answer.headers, framing)
        self.begun = True
        connection.sends(sender)
        sender.send(head, body, fd)

    def _file_done(self, whole: bool) -> None:
        if whole:
            self._end()
        else:
            self.abort()

    def _end(self) -> None:
        self.ended = True
        self._connection.answered(self._message)
