"""Which engine answers: several servers and labs, the healthy ones, the least busy first; always over HTTP."""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from gated_inference.engines import FAILURES, Engine
from gated_inference.servers import Server, servers_of
from portal.core.config import Settings
from portal.core.errors import Unavailable
from portal.edge.upstream import Call

TRIES = 2
SWEEP_S = 0.25
RETRY_AFTER_S = 5
WAITING_MAX = 256
WAIT_S = 30.0
UNWELL = 1e9  # worse than any load: only where no engine is well
END = b"0\r\n\r\n"
log = logging.getLogger("portal.engines")


class NoEngine(Unavailable):
    """No engine could answer; `overloaded` says that the engines work and have too much to do."""

    def __init__(self, code: str, message: str, *, status: int = 503, overloaded: bool = False) -> None:
        super().__init__(code, message)
        self.status = status
        self.overloaded = overloaded
        self.retry_after = RETRY_AFTER_S


class Asker(Protocol):
    """Whoever an engine writes for; told one of `whole`, `done`, `lost` and `nobody` at the end."""

    def begun(self, status: int, fields: dict[bytes, bytes]) -> bool:
        """Hear that an answer begins; return whether it is wanted as it comes, framing included."""

    def data(self, data: bytes) -> None:
        """Take a piece of it."""

    def whole(self, status: int, body: bytes) -> None:
        """Take an answer that came all at once."""

    def done(self) -> None:
        """Hear that it is whole."""

    def lost(self, why: str) -> None:
        """Hear that the engine went away in the middle."""

    def nobody(self, error: NoEngine) -> None:
        """Hear that no engine answers."""


class Running(Call):
    """A request that engines are asked one after the other, until the first byte of an answer comes."""

    __slots__ = ("_asker", "_busy", "_ending", "_error", "_fields", "_first", "_pool", "_status", "_tried", "engine",
                 "model", "renamed")  # fmt: skip

    def __init__(self, pool: "Pool", asker: Asker, model: str, fields: dict[str, Any]) -> None:
        super().__init__()
        self._pool, self._asker, self.model, self._fields = pool, asker, model, fields
        self._tried: tuple[Engine, ...] = ()
        self._error: NoEngine | None = None
        self._ending: bytes | None = None
        self._first, self._busy = True, False
        self._status = 0
        self.engine: Engine | None = None
        self.renamed = False

    def next(self) -> None:
        """Ask the next engine, if there is one and it is not one too many."""
        if self._busy:
            self._leave()
        engine = None
        if len(self._tried) < TRIES:
            engine = self._pool.choose(self.model, self._tried)
            if engine is None and self._pool.has_full(self.model, self._tried):
                if self._pool.wait(self):
                    return
                self._error = overloaded(self.model, 429)
        if engine is None:
            message = f"No engine for {self.model} answers just now. Try again in a moment."
            self._asker.nobody(self._error or NoEngine("engine_unavailable", message))
            return
        self._tried = (*self._tried, engine)
        name = engine.server.name or self.model
        fields = self._fields
        body = orjson.dumps(fields if fields.get("model") == name else {**fields, "model": name})
        engine.running += 1
        self.engine, self._first, self._busy, self.renamed = engine, True, True, name != self.model
        engine.connections.ask(self, b"%bContent-Length: %d\r\n\r\n%b" % (engine.head, len(body), body))

    def take_turn(self, engine: Engine) -> bool:
        """Ask an engine that has a place now, if it is one to ask; say whether it was."""
        if engine in self._tried or not engine.serves(self.model):
            return False
        self._pool.waiting.pop(self, None)
        self.next()
        return True

    def waited(self, *, too_long: bool) -> None:
        """Look again while no engine had a place: ask one, wait on, or give up."""
        if too_long:
            self._pool.waiting.pop(self, None)
            self._asker.nobody(overloaded(self.model, 503))
        elif self._pool.choose(self.model, self._tried) or not self._pool.has_full(self.model, self._tried):
            self._pool.waiting.pop(self, None)
            self.next()

    def cancel(self) -> None:
        """Let go of the engine; that tells it to stop."""
        self._pool.waiting.pop(self, None)
        self._leave()
        super().cancel()

    def end(self, rest: bytes) -> None:
        """End an answer in ready made chunks whose last event the asker has seen; `rest` is what came behind it.

        The connection is kept for others once nothing but the chunk that ends the answer has come.
        """
        self._leave()
        self._ending, self.sink = b"", self._read_rest
        self._read_rest(rest)

    # What a connection says

    def head(self, status: int, fields: dict[bytes, bytes]) -> bool:
        """Take a head: pass it on, or ask elsewhere what this engine cannot answer."""
        if status == 200 or (400 <= status < 500 and status not in ELSEWHERE):  # noqa: PLR2004
            self._status = 0
            return self._asker.begun(status, fields)
        self._status = status
        return False

    def data(self, data: bytes) -> None:
        """Take the first piece of an answer: from here on it is the asker's alone."""
        if self._status:
            return
        self._first = False
        engine = self.engine
        if engine is not None and engine.failures:
            engine.worked()
        self.sink = self._asker.data
        self.sink(data)

    def whole(self, status: int, fields: dict[bytes, bytes], body: bytes) -> None:
        """Take an answer that came all at once."""
        engine = self.engine
        if status != 200 or not body or engine is None:  # noqa: PLR2004
            super().whole(status, fields, body)
            return
        self._first = False
        if engine.failures:
            engine.worked()
        if self._busy:
            self._leave()
        self._asker.whole(status, body)

    def done(self) -> None:
        """Take the end of an answer."""
        status, self._status = self._status, 0
        if not status and not self._first:
            self._leave()
            self._asker.done()
        elif status in {429, 503}:
            self._error = overloaded(self.model, status)
            self.next()
        elif status == 404:  # noqa: PLR2004
            message = f"No engine has {self.model} loaded just now. Try again in a moment."
            self._error = NoEngine("engine_unavailable", message)
            self.next()
        else:
            self._failed(f"answered {status}" if status else "an empty answer")

    def lost(self, why: str) -> None:
        """Take a loss: before the first byte another engine is asked."""
        self._status = 0
        if self._ending is not None:
            return
        if self._first:
            self._failed(why)
        else:
            self._leave()
            self._asker.lost(why)

    def _failed(self, why: str) -> None:
        engine = self.engine
        if engine is not None:
            engine.failed(why)
            log.warning("engine %s for %s failed: %s", engine.server.title, self.model, why)
        self.next()

    def _read_rest(self, data: bytes) -> None:
        self._ending = (self._ending or b"") + data
        if self._ending == END or not END.startswith(self._ending):
            self.over(keep=self._ending == END)

    def _leave(self) -> None:
        if self._busy and self.engine is not None:
            self._busy = False
            self.engine.running -= 1
            if self._pool.waiting:
                self._pool.freed(self.engine)


ELSEWHERE = frozenset({401, 403, 404, 429})


def overloaded(model: str, status: int) -> NoEngine:
    """Say that the engines have too much to do."""
    message = f"The engines for {model} have too much to do. Try again in a moment."
    return NoEngine("engine_overloaded", message, status=status, overloaded=True)


class Pool:
    """The engines of a portal, and who waits for a place at one. It looks after them from `start` on."""

    def __init__(self, servers: Sequence[Server], *, first_byte_s: float = 120.0, silence_s: float = 60.0) -> None:
        self.first_byte_s, self.silence_s = first_byte_s, silence_s
        self.engines = [self._engine(server) for server in servers]
        self.waiting: dict[Running, float] = {}  # since when, in the order in which they came
        self._turn = 0
        self._timer: asyncio.TimerHandle | None = None
        self._swept = 0.0

    def start(self) -> None:
        """Begin to look after the engines."""
        self._swept = time.monotonic()
        self._sweep()

    def ask(self, asker: Asker, model: str, fields: dict[str, Any]) -> Running:
        """Have the least busy healthy engine answer; what comes of it comes to the asker, after this has returned."""
        running = Running(self, asker, model, fields)
        running.next()
        return running

    def trouble(self) -> str:
        """Say what is wrong: which models no engine answers for; empty when each has one."""
        models = {engine.server.model for engine in self.engines}
        down = {m for m in models if all(e.problem for e in self.engines if e.server.model == m)}
        found = [f"{e.server.model or 'embedded'}: {e.problem}" for e in self.engines if e.server.model in down]
        return "; ".join(found)

    def answers(self, model: str) -> bool:
        """Say whether an engine answers for a model, as far as is known."""
        return any(engine.serves(model) and engine.healthy for engine in self.engines)

    def state(self) -> dict[str, Any]:
        """Say of every server how it does, and of every model how many requests wait for a place."""
        waiting = Counter(running.model for running in self.waiting)
        return {"servers": [engine.state() for engine in self.engines], "waiting": dict(waiting)}

    def close(self) -> None:
        """Let go of all engines."""
        if self._timer is not None:
            self._timer.cancel()
        self.waiting.clear()
        for engine in self.engines:
            engine.close()

    def replace(self, servers: Sequence[Server]) -> None:
        """Take other servers; those that are gone finish what they work on and are asked no more."""
        known = {engine.server: engine for engine in self.engines}
        stay = [known.pop(server) if server in known else self._engine(server) for server in servers]
        for engine in stay:
            engine.leaving = False
        for engine in known.values():
            engine.leaving = True
        self.engines = [*stay, *known.values()]

    def choose(self, model: str, tried: Sequence[Engine]) -> Engine | None:
        """Return the engine with a place and the least to do for its weight, a healthy one if there is any."""
        self._turn += 1
        turn = self._turn % (len(self.engines) or 1)
        best, least = None, math.inf
        for engine in (*self.engines[turn:], *self.engines[:turn]):
            server = engine.server
            if (server.model != model and not engine.serves(model)) or engine.leaving or engine in tried:
                continue
            if engine.running >= server.limit:
                continue
            busy = engine.running / server.weight
            if engine.failures >= FAILURES:
                if engine.next_check > time.monotonic():
                    continue
                busy += UNWELL
            if busy < least:
                best, least = engine, busy
        return best

    def has_full(self, model: str, tried: Sequence[Engine]) -> bool:
        """Say whether a healthy engine would be asked if it did not have as much to do as it may be given."""
        return any(
            engine.running >= engine.server.limit and engine.healthy and engine not in tried and not engine.leaving
            for engine in self.engines
            if engine.serves(model)
        )

    def wait(self, running: Running) -> bool:
        """Have a request wait until an engine has a place for it; say whether it may."""
        if len(self.waiting) >= WAITING_MAX:
            return False
        self.waiting[running] = time.monotonic()
        return True

    def freed(self, engine: Engine) -> None:
        """Give a place that is free again to whoever has waited longest for it."""
        if engine.leaving or not engine.healthy or engine.running >= engine.server.limit:
            return
        for running in list(self.waiting):
            if running.take_turn(engine):
                return

    def _engine(self, server: Server) -> Engine:
        return Engine(server, first_byte_s=self.first_byte_s, silence_s=self.silence_s)

    def _sweep(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)  # whatever goes wrong meanwhile
        now = time.monotonic()
        passed, self._swept = now - self._swept, now
        for engine in self.engines:
            try:
                engine.look(now, passed)
            except Exception:  # the others are looked after all the same
                log.exception("looking after engine %s", engine.server.title)
        self.engines = [e for e in self.engines if e.running or not e.leaving]
        for running, since in list(self.waiting.items()):
            if running in self.waiting:
                running.waited(too_long=now - since > WAIT_S)


def make_pool(settings: Settings) -> Pool:
    """Return the engines that the settings name."""
    return Pool(servers_of(settings))
