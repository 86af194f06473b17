"""One client's connection: what it sends is parsed, answered in order, and given up when it does not go on."""

import asyncio
import logging
import math
from collections import deque
from typing import TYPE_CHECKING, Any, cast

import httptools

from portal.edge.answering import Answering
from portal.edge.head import HEAD_MAX, BadHead
from portal.edge.head import written as head_of
from portal.edge.known import KnownHead, known_head
from portal.edge.message import NO_UPGRADE, TOO_LARGE, Message
from portal.edge.routes import Headers, Routes
from portal.edge.sendfile import FileSender, reset, unconfirmed
from portal.edge.splice import ANSWER_S, Splice

if TYPE_CHECKING:
    from portal.edge.plane import Plane

HEAD_S, BODY_S, IDLE_S, READER_S, LINGER_S = 10, 30, 60, 60, 2
SLOWEST = 1 << 10  # bytes of a body a second
WAITING_MAX = 4
HELD_MAX = MARK = 64 << 10
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
log = logging.getLogger("portal.edge")


class Connection(asyncio.Protocol):
    """A client.

    Args:
        plane: the data plane that it has reached.
        routes: who answers it; what nobody here answers is passed on to the control plane.
    """

    transport: asyncio.Transport

    def __init__(self, plane: "Plane", routes: Routes) -> None:
        self.plane, self.routes = plane, routes
        self.queue: deque[Message] = deque()
        self.incoming: Message | None = None
        self.senders: list[FileSender] = []
        self.peer = ""
        self.proven = self.closing = self.lingering = self.lost = self.broken = False
        self.full = self._waits = False
        self.deadline = math.inf
        self._in_head = self._head_began = False
        self._head_size = 0
        self._before: Message | None = None
        self._last: Message | None = None
        self._known: tuple[KnownHead, Message] | None = None
        self._left = -1
        self.parser: Any = httptools.HttpRequestParser(self)

    # The connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless there are too many already."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=MARK)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        self.deadline = self.plane.now + HEAD_S
        if not self.plane.joined(self):
            self.closing = self.broken = True
            self.transport.write(self.plane.full())
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Tell whoever answers that the client has left."""
        self.lost = True
        self.plane.parted(self)
        for sender in self.senders:
            sender.close()
        self._let_go()

    def eof_received(self) -> bool:
        """Take a client that says no more for one that leaves."""
        if self.queue and not self.lingering:
            self.transport.abort()
        return False

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        between = self.incoming is None
        if self.broken or (between and self._known is not None and self._comes_again(*self._known, data)):
            return
        self._head_began, self._last = False, None
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.refuse(501, NO_UPGRADE)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if isinstance(cause, BadHead):
                self.refuse(cause.status, str(cause))
            else:
                log.exception("parsing a request")
                self.refuse(500, "Something is wrong on our side.")
        except httptools.HttpParserError:
            self.refuse(400, "This is not HTTP as RFC 9112 has it.")
        else:
            if self._in_head and not self._head_began:  # the parser sets the length of a field no limit
                self._head_size += len(data)
                if self._head_size > HEAD_MAX:
                    self.refuse(431, TOO_LARGE)
            elif between:
                self._learn(data)

    def _comes_again(self, head: KnownHead, like: Message, data: bytes) -> bool:
        """Take a request with the head of an earlier one without parsing it; say whether it is one."""
        if self.queue or not self.proven:
            return False
        body, route = head.body_of(data), like.route
        if body is None or route is None or len(body) > route.body_limit:
            return False
        for sender in self.senders:
            sender.confirmed()
        message = like.again(body)
        self.queue.append(message)
        self._begin(message)
        return True

    def _learn(self, data: bytes) -> None:
        message = self._last
        if message is not None and message.may_come_again and (head := known_head(data, message.size)) is not None:
            self._known = head, message.again(b"")

    def pause_writing(self) -> None:
        """Let whoever answers know that the client takes no more for now."""
        self.full, self.deadline = True, self.plane.now + READER_S
        message = self.queue[0] if self.queue else None
        if message is not None and message.splice is not None:
            message.splice.pause_reading()
        elif message is not None and message.answering is not None:
            message.answering.pause()

    def resume_writing(self) -> None:
        """Let whoever answers know that the client takes more."""
        message = self.queue[0] if self.queue else None
        self.full = False
        if self._waits:
            self._waits = False
            self.transport.resume_reading()
            self._go_on()
        elif message is not None and message.splice is not None:
            self.deadline = self.plane.now + ANSWER_S
            message.splice.resume_reading()
        elif message is not None and message.answering is not None:
            self.deadline = math.inf
            message.answering.resume()

    # What the parser calls

    def on_message_begin(self) -> None:
        """A request begins; so the client has all of the answers before."""
        if self.broken:
            return
        self.incoming, self._in_head, self._head_began, self._head_size = Message(), True, True, 0
        for sender in self.senders:
            sender.confirmed()
        if not self.queue:
            self.deadline = self.plane.now + HEAD_S

    def on_url(self, part: bytes) -> None:
        """A piece of the target."""
        if self.incoming is not None and not self.broken:
            self.incoming.add_target(part)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head; what comes behind the body is no part of what is checked, and is dropped."""
        if self.incoming is not None and self._in_head and not self.broken:
            self.incoming.add_field(name, value)

    def on_headers_complete(self) -> None:
        """A head is whole: check it, find who answers, and begin if it is its turn."""
        self._in_head = False
        message = self.incoming
        if message is None or self.broken:
            return
        self._before = message.head_complete(self.parser, self.routes, self._before)
        self.plane.check_crowd(self, message.fields)
        self.queue.append(message)
        if len(self.queue) > WAITING_MAX + 1:
            raise BadHead(400, "Too many requests were sent before their answers.")
        if self.queue[0] is message:
            self._its_turn(message)

    def on_body(self, data: bytes) -> None:
        """A piece of a body."""
        message = self.incoming
        if message is None or self.broken:
            return
        message.size += len(data)
        message.check_size(message.size)
        first = self.queue[0] is message
        if first and not message.held:
            self.deadline = message.began + BODY_S + message.size / SLOWEST
        if message.splice is not None:
            message.splice.feed(data)
            return
        message.body.append(data)
        if message.size > HELD_MAX and not first:
            raise BadHead(400, "A body this long is not sent before the answers to earlier requests.")
        if message.size > HELD_MAX and message.route is None:
            self._pass_on(message)

    def on_message_complete(self) -> None:
        """A request is whole."""
        message = self.incoming
        if message is None or self.broken:
            return
        message.whole, self.incoming, self._last = True, None, message
        message.keep = self.parser.should_keep_alive() and message.version == "1.1"
        if message.splice is not None:
            message.splice.fed()
        elif self.queue[0] is message:
            self._begin(message)

    # Requests

    def _its_turn(self, message: Message) -> None:
        """All requests before are answered; this one may not be whole yet."""
        if message.refusal is not None:
            self._answer_refusal(message)
        elif message.whole:
            self._begin(message)
        else:
            message.began = self.plane.now
            self.deadline = message.began + BODY_S
            if message.expects and message.length != 0:
                self._invite(message)

    def _invite(self, message: Message) -> None:
        """Ask for the body, unless the head alone is refused."""
        answering = Answering(self, message)
        check = message.route.on_head if message.route is not None else None
        refused = check(answering.request) if check is not None else None
        if refused is not None:
            answering.send(refused)
        else:
            self.transport.write(CONTINUE)

    def _begin(self, message: Message) -> None:
        self.deadline = math.inf
        if message.route is None:
            self._pass_on(message)
            return
        message.answering = answering = Answering(self, message)
        try:
            message.route.handler(answering)
        except Exception:
            log.exception("request %s", answering.request_id)
            answering.fail()

    def _pass_on(self, message: Message) -> None:
        message.splice = Splice(self, message)
        message.splice.start()

    def hold(self, message: Message) -> None:
        """Take no more of a body for now; never while an answer is made, since then the client is not seen to leave."""
        if not (message.whole or message.held or self.lost or self.lingering):
            message.held = True
            message.began -= self.plane.now
            self.deadline = self.plane.now + ANSWER_S
            self.transport.pause_reading()

    def go_on(self, message: Message) -> None:
        """Take more of a body."""
        if message.held:
            message.held = False
            message.began += self.plane.now
            if not self.lost:
                self.deadline = message.began + BODY_S + message.size / SLOWEST
                self.transport.resume_reading()

    # Answers

    def keeps(self, message: Message) -> bool:
        """Say whether the connection stays open after this answer."""
        return message.keep and message.whole and not self.closing

    def head_text(self, status: int, headers: Headers, framing: bytes) -> bytes:
        """Return a head as it is sent."""
        return b"%b%b%b\r\n" % (head_of(status, headers), framing, self.plane.date)

    def write_head(self, status: int, headers: Headers, framing: bytes) -> None:
        """Write a head."""
        self.transport.write(self.head_text(status, headers, framing))

    def sends(self, sender: FileSender) -> None:
        """Look after a file that is being sent."""
        self.senders = [one for one in self.senders if not one.told]
        self.senders.append(sender)
        self.deadline = self.plane.now + READER_S

    def answered(self, message: Message) -> None:
        """An answer is whole; go on with the next request, or end."""
        if self.lost or not self.queue or self.queue[0] is not message:
            return
        self.queue.popleft()
        message.answering = None  # what names each other would wait for the collector of garbage
        if not (message.keep and message.whole) or self.closing:
            self.hang_up()
        elif self.full:  # whoever takes no answers is not read from: the next ones would pile up here
            self._waits, self.deadline = True, self.plane.now + READER_S
            self.transport.pause_reading()
        else:
            self._go_on()

    def _go_on(self) -> None:
        if self.queue:
            asyncio.get_running_loop().call_soon(self._next)
        else:
            self.deadline = self.plane.now + (HEAD_S if self.incoming is not None else IDLE_S)

    def _next(self) -> None:
        if self.queue:
            self._its_turn(self.queue[0])

    def fail(self, message: Message, status: int, why: str) -> None:
        """Say that a request cannot be answered."""
        if not self.lost:
            Answering(self, message).send(self.plane.refusal(status, why, message.route))

    def refuse(self, status: int, why: str) -> None:
        """Refuse what comes in, once what came before is answered; nothing more of this client is read."""
        if self.broken:
            return
        self.broken = True
        message = self.incoming or Message()
        message.refusal, message.whole = (status, why), False
        if message not in self.queue:
            self.queue.append(message)
        if self.queue[0] is message:
            self._answer_refusal(message)

    def _answer_refusal(self, message: Message) -> None:
        status, why = cast(tuple[int, str], message.refusal)
        if message.begun:
            self.cut()
            return
        if message.splice is not None:
            message.splice.drop()
            message.splice = None
        if message.answering is not None:
            message.answering.leave()
        self.fail(message, status, why)

    def hang_up(self) -> None:
        """End the connection so that the other side can still read what it was sent."""
        if self.lost or self.lingering:
            return
        self.closing = self.broken = self.lingering = True
        self.deadline = self.plane.now + LINGER_S
        self._let_go()
        self.transport.write_eof()  # closing at once would reset what is on its way

    def cut(self) -> None:
        """End at once, answered or not."""
        reset(self.transport)

    def _let_go(self) -> None:
        queue, self.queue = self.queue, deque()
        for message in queue:
            if message.splice is not None:
                message.splice.drop()
            if message.answering is not None:
                message.answering.leave()

    # Time

    def sweep(self, now: float) -> None:
        """Look, once a second, whether the client goes on."""
        if now >= self.deadline and not self.lost:
            self._expire()

    def _expire(self) -> None:
        """Give up, unless the client still takes what it was sent."""
        left = self.transport.get_write_buffer_size() + unconfirmed(self.transport.get_extra_info("socket"))
        splice = self.queue[0].splice if self.queue else None
        if left and left != self._left:
            self._left, self.deadline = left, self.plane.now + READER_S
        elif self.lingering or left:
            self.cut()
        elif splice is not None and (splice.message.whole or splice.message.held):
            splice.expire()
        elif self.incoming is not None:
            self.refuse(408, "The request did not come in time.")
        else:
            self.transport.close()

    def stop(self) -> None:
        """Take no further request; an idle connection ends."""
        self.closing = True
        if not self.queue and self.incoming is None:
            self.transport.close()
