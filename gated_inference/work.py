"""One admitted request, from the engine that is asked to its one end, whoever leaves, dies or is cut off."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import orjson

from gated_inference.answers import answer, cut_off, due_comment, engine_lost, event, fail, refusal, refused_by, terms
from gated_inference.journal import Entry
from gated_inference.lookout import Lookout, Stopped
from gated_inference.meter import WHOLE_MAX, Lost, parse
from gated_inference.pool import NoEngine, Pool, Running
from gated_inference.schemas import Ask, Refusal
from gated_inference.stream import Stream
from portal.access.edge import Admission, Door
from portal.access.rules import Decision
from portal.core.errors import PortalError, Unavailable
from portal.edge.durable import Durable
from portal.edge.routes import Alike, Answer, Exchange
from portal.usage.rules import Outcome, plain

COMMENT_S = 15.0
OK = 200
CODE_MAX = 60
MESSAGE_MAX = 1_000
JSON = ("Content-Type", "application/json")
EVENTS = [("Content-Type", "text/event-stream; charset=utf-8"), ("X-Accel-Buffering", "no")]
log = logging.getLogger("portal.gate")


class Owner(Protocol):
    """The gate, as far as work needs it."""

    door: Door
    pool: Pool
    journal: Durable
    lookout: Lookout
    running: set["Work"]


class Work:
    """A request that an engine works on; it ends exactly once."""

    __slots__ = (
        "_began", "_gate", "_parts", "_quiet", "_running", "_seen", "_size", "_status", "_stop_looking", "_stream",
        "admission", "ask", "count", "ended", "entry", "exchange",
    )  # fmt: skip

    def __init__(self, gate: Owner, exchange: Exchange, ask: Ask, admission: Admission, entry: Entry) -> None:
        self._gate, self.exchange, self.ask, self.admission, self.entry = gate, exchange, ask, admission, entry
        self.count = gate.lookout.meter(ask, admission, entry)
        self.ended = self._began = False
        self._status = self._size = self._seen = 0
        self._quiet = 0.0
        self._parts: list[bytes] = []
        self._stream: Stream | None = None
        self._running: Running | None = None
        self._stop_looking: Callable[[], Any] = gate.door.look_after(admission, self._cut)

    def start(self) -> None:
        """Ask an engine."""
        self.exchange.on_left = self._left
        try:
            running = self._gate.pool.ask(self, self.ask.model, self.ask.fields)
        except Exception as error:  # noqa: BLE001 - what was set aside for it is given back
            self._crash(error)
            return
        self._running = None if self.ended else running

    def has_more(self) -> bool:
        """Say whether more was written since this was asked last."""
        more, self._seen = self.count.completion_tokens != self._seen, self.count.completion_tokens
        return more

    def look(self, passed: float) -> None:
        """Say a word when the engine has long said nothing, so that what lies between keeps the line."""
        stream = self._stream
        if stream is None or not self._began or self.ended:
            return
        if stream.pieces:
            stream.pieces, self._quiet = 0, 0.0
            return
        self._quiet += passed
        if self._quiet >= COMMENT_S and stream.at_rest:
            self._quiet = 0.0
            self.exchange.write(stream.say(b": the engine is at work\n\n"))

    # What the pool says

    def begun(self, status: int, fields: dict[bytes, bytes]) -> bool:
        """An engine begins to answer."""
        self._status = status
        if not self.ask.stream or status != OK or self.ended or self._running is None:
            return False
        renamed = self._running.renamed
        in_chunks = fields.get(b"transfer-encoding", b"").lower() == b"chunked"
        self._stream = Stream(
            self.exchange.write, self.count,
            chunked=in_chunks and self.exchange.chunks and not renamed and not self.count.reads,
            include_usage=self.ask.include_usage, model=self.ask.model if renamed else "",
        )  # fmt: skip
        return self._stream.chunked

    def data(self, data: bytes) -> None:
        """A piece of the answer."""
        if self.ended:
            return
        stream = self._stream
        try:
            if stream is None:
                self._size += len(data)
                if self._size > WHOLE_MAX:
                    raise Lost("an answer without end")
                self._parts.append(data)
                return
            if not self._began:
                self._begin(stream)
            stream.feed(data)
            if stream.done:
                self._finish_stream(stream)
        except Stopped as stopped:
            self._stop(stopped.refused)
        except Lost as error:
            self.lost(str(error))
        except Exception as error:  # noqa: BLE001
            self._crash(error)

    def whole(self, status: int, body: bytes) -> None:
        """A whole answer."""
        if self.ended:
            return
        if self.ask.stream:  # events that somebody on the way has collected
            self.begun(status, {})
            self.data(body)
            self.done()
            return
        self._status, self._parts = status, [body]
        self.done()

    def done(self) -> None:
        """The answer is whole."""
        if self.ended:
            return
        if self._stream is not None:
            self.lost("the stream ended without its last event")
            return
        try:
            if self._status == OK:
                self._finish_whole()
            else:
                self._pass_on_refusal()
        except Stopped as stopped:
            self._stop(stopped.refused)
        except Lost as error:
            self.lost(str(error))
        except Exception as error:  # noqa: BLE001
            self._crash(error)

    def lost(self, why: str) -> None:
        """The engine went away, fell silent or wrote nonsense, in the middle of its answer."""
        if self.ended:
            return
        log.warning("request %s: the engine was lost: %s", self.exchange.request.request_id, why)
        self._end_with(engine_lost(), Outcome.ENGINE_LOST, "engine_lost")

    def nobody(self, error: NoEngine) -> None:
        """No engine answers."""
        if not self.ended:
            outcome = Outcome.OVERLOADED if error.overloaded else Outcome.ENGINE_LOST
            refused = Refusal(error.status, error.code, error.message, retry_after=error.retry_after)
            self._end_with(refused, outcome, error.code)

    # Ends

    def _begin(self, stream: Stream) -> None:
        self._began = True
        exchange, running = self.exchange, self._running
        exchange.begin(OK, _fields(self.admission, stream=True), raw=stream.chunked)
        if running is not None:
            exchange.on_pause, exchange.on_resume = running.pause, running.resume
            if exchange.paused:
                running.pause()

    def _finish_stream(self, stream: Stream) -> None:
        running = self._running
        last = stream.ending(due_comment(self.admission.decision) + b"data: [DONE]\n\n")
        try:
            self._end(Outcome.FINISHED, then=partial(self.exchange.end, last))
        finally:  # the engine has done its part in any case
            if running is not None and stream.chunked:
                running.end(stream.rest)

    def _finish_whole(self) -> None:
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        value = parse(body)
        self.count.see(value)
        self.count.end()
        if self._running is not None and self._running.renamed:
            value["model"] = self.ask.model
            body = orjson.dumps(value)
        whole = Answer(OK, _fields(self.admission), body)
        self._end(Outcome.FINISHED, then=partial(self.exchange.send, whole))

    def _pass_on_refusal(self) -> None:
        """Pass on what an engine says about the request; it costs nothing."""
        value = parse(b"".join(self._parts))
        found = value.get("error")
        error = found if isinstance(found, dict) else value
        message, param, code = error.get("message"), error.get("param"), error.get("code")
        refused = Refusal(
            self._status,
            code if isinstance(code, str) and code else "invalid_request",
            message[:MESSAGE_MAX] if isinstance(message, str) else "The engine cannot answer this request.",
            param=param if isinstance(param, str) else None,
            model=self.ask.model,
        )
        self._end(Outcome.INVALID, plain(refused.code)[:CODE_MAX])
        answer(self.exchange, refused)

    def _left(self) -> None:
        """The client has left."""
        self._let_go()
        try:
            self._end(Outcome.CANCELED)
        except Unavailable:
            log.warning("request %s: canceled, and not written down", self.exchange.request.request_id)

    def _cut(self, decision: Decision | None) -> None:
        """The caller may no longer; None says that nobody can tell any more."""
        if self.ended:
            return
        if decision is None:
            self._crash(RuntimeError("nobody can say whether this may go on"))
            return
        refused = refusal(decision, self.ask.model)
        self._end_with(refused, Outcome.CUT, refused.code, cut_off(self.ask.model))

    def _stop(self, refused: Refusal) -> None:
        """What the engine writes may not be passed on; what it wrote until then is used."""
        self._end_with(refused, Outcome.CUT, refused.code, cut_off(self.ask.model))

    def _crash(self, error: BaseException) -> None:
        refused = refused_by(error, self.exchange.request.request_id)
        self._end_with(refused, Outcome.CRASHED, "internal_error")

    def _unsafe(self, error: BaseException) -> None:
        """What was recorded did not reach the disk: the answer is not finished."""
        if self._began:
            self._say_last(refused_by(error, self.exchange.request.request_id))
        else:
            fail(self.exchange, error)

    def _end_with(self, refused: Refusal, outcome: Outcome, code: str, before: bytes = b"") -> None:
        """End in a refusal: as an answer if none was begun, else as the last event."""
        self._let_go()
        try:
            self._end(outcome, code)
        except PortalError as error:
            refused, before = refused_by(error, self.exchange.request.request_id), b""
        if self._began:
            self._say_last(refused, before)
        else:
            answer(self.exchange, refused)

    def _say_last(self, refused: Refusal, before: bytes = b"") -> None:
        stream = self._stream
        if stream is not None and not self.exchange.left:
            self.exchange.end(stream.ending(before + event(refused.body)))

    def _let_go(self) -> None:
        if self._running is not None:
            self._running.cancel()

    def _end(self, outcome: Outcome, code: str = "", then: Callable[[], None] | None = None) -> None:
        """Write how it ended, with what was counted: before this returns, or soon, and then do what depends on it."""
        if self.ended:
            return
        self.ended = True
        self._stop_looking()
        self._gate.running.discard(self)
        engine = self._running.engine if self._running is not None else None
        # What names each other would wait for the collector of garbage.
        self._running = None
        del self.exchange.on_left
        count = self.count
        line = self.entry.end(
            outcome, reason_code=code, prompt_tokens=count.prompt_tokens, completion_tokens=count.completion_tokens,
            server=engine.server.title if engine else "", lab=engine.server.lab if engine else "",
        )  # fmt: skip
        if line is not None and then is not None:
            self._gate.journal.put_soon(line, then, self._unsafe)
        elif line is not None:
            self._gate.journal.put(line)


def _fields(admission: Admission, *, stream: bool = False) -> Alike:
    """Return the fields of answers under an admission."""
    found: Alike | None = admission.memo.get(stream)
    if found is None:
        found = admission.memo[stream] = Alike([*(EVENTS if stream else [JSON]), *terms(admission)])
    return found
