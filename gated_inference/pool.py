"""Which engine answers: several servers and labs, the healthy ones, the least busy first; always over HTTP."""

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from gated_inference.meter import WHOLE_MAX
from gated_inference.servers import Server, servers_of
from portal.core.config import Settings
from portal.core.errors import Unavailable
from portal.edge.upstream import Call, Connections

FAILURES = 2
TRIES = 2
SWEEP_S = 0.25
CHECK_S = 5.0
CHECK_NEAR_S = 1.0
CHECK_ANSWER_S = 5.0
BACK_OFF_S = 60.0
BACK_OFF_NEAR_S = 1.0
RETRY_AFTER_S = 5
UNWELL = 1e9  # worse than any load: only where no engine is well
END = b"0\r\n\r\n"
COMPLETIONS = "/v1/completions"
JSON_BODY = ("Content-Type", "application/json")
log = logging.getLogger("portal.engines")


class NoEngine(Unavailable):
    """No engine could answer; `overloaded` says that the engines work and have too much to do."""

    def __init__(self, code: str, message: str, *, status: int = 503, overloaded: bool = False) -> None:
        super().__init__(code, message)
        self.status = status
        self.overloaded = overloaded
        self.retry_after = RETRY_AFTER_S


class Engine:
    """A server with what is known of it now."""

    def __init__(self, server: Server, *, first_byte_s: float = 120.0, silence_s: float = 60.0) -> None:
        self.server = server
        self.connections = Connections(server.address, first_byte_s=first_byte_s, silence_s=silence_s)
        self.checks = Connections(server.address, first_byte_s=CHECK_ANSWER_S, silence_s=CHECK_ANSWER_S)
        self.head = server.address.request("POST", COMPLETIONS, [JSON_BODY, *server.headers])
        self.running = 0
        self.failures = 0
        self.problem = "not asked yet"
        self.models: frozenset[str] | None = None
        self.next_check = 0.0
        self.leaving = False
        self._checking = False

    @property
    def healthy(self) -> bool:
        """Say whether requests are sent to it: one failure alone does not take it out."""
        return self.failures < FAILURES

    def serves(self, model: str) -> bool:
        """Say whether it has a model, as far as it is known."""
        return self.server.model == model or (not self.server.model and (self.models is None or model in self.models))

    def failed(self, why: str) -> None:
        """Remember a failure; after two in a row it is left alone, longer each time, until it answers again."""
        self.failures += 1
        longest = BACK_OFF_NEAR_S if self.server.address.uds else BACK_OFF_S
        wait = min(longest, 2.0 ** min(self.failures - FAILURES, 6)) if self.failures >= FAILURES else 0.0
        self.next_check = time.monotonic() + wait
        self.problem = why
        self.models = None

    def worked(self) -> None:
        """Remember that it answered."""
        self.failures, self.problem = 0, ""
        self.next_check = time.monotonic() + (CHECK_NEAR_S if self.server.address.uds else CHECK_S)

    def check(self) -> None:
        """Ask it whether it is well; where it serves whatever it has, ask what that is."""
        if self._checking:
            return
        self._checking = True
        path = "/health" if self.server.model else "/v1/models"
        request = self.server.address.request("GET", path, self.server.headers) + b"\r\n"
        self.checks.ask(_Check(self), request)

    def checked(self, status: int, body: bytes) -> None:
        """Learn from its answer."""
        self._checking = False
        try:
            if status >= 500:  # noqa: PLR2004
                raise ValueError(f"answered {status}")
            if not self.server.model:
                self.models = frozenset(str(entry["id"]) for entry in orjson.loads(body)["data"])
        except (ValueError, KeyError, TypeError) as error:
            self.unchecked(str(error) or type(error).__name__)
            return
        self.worked()

    def look(self, now: float, passed: float) -> None:
        """Give up on what does not come, ask how it is when that is due, and let go of it when it is to leave."""
        self.connections.sweep(passed)
        self.checks.sweep(passed)
        if self.next_check <= now and not self.leaving:
            self.check()
        if self.leaving and not self.running:
            self.close()

    def close(self) -> None:
        """Let go of it."""
        self.connections.close()
        self.checks.close()

    def unchecked(self, why: str) -> None:
        """Learn that it did not answer."""
        self._checking = False
        self.failed(why)


class _Check(Call):
    """A question about an engine's health."""

    __slots__ = ("body", "engine", "status")

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine, self.status, self.body = engine, 0, b""

    def head(self, status: int, _fields: dict[bytes, bytes]) -> bool:
        self.status = status
        return False

    def data(self, data: bytes) -> None:
        if len(self.body) < WHOLE_MAX:
            self.body += data

    def done(self) -> None:
        self.engine.checked(self.status, self.body)

    def lost(self, why: str) -> None:
        self.engine.unchecked(why)


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
        engine = self._pool.choose(self.model, self._tried) if len(self._tried) < TRIES else None
        if engine is None:
            message = f"No engine for {self.model} answers just now. Try again in a moment."
            self._asker.nobody(self._error or NoEngine("engine_unavailable", message))
            return
        self._tried = (*self._tried, engine)
        connections = engine.connections
        if len(connections.calls) >= connections.most:
            self._error = overloaded(self.model, 429)
            self.next()
            return
        name = engine.server.name or self.model
        fields = self._fields
        body = orjson.dumps(fields if fields.get("model") == name else {**fields, "model": name})
        engine.running += 1
        self.engine, self._first, self._busy, self.renamed = engine, True, True, name != self.model
        connections.ask(self, b"%bContent-Length: %d\r\n\r\n%b" % (engine.head, len(body), body))

    def cancel(self) -> None:
        """Let go of the engine; that tells it to stop."""
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


ELSEWHERE = frozenset({401, 403, 404, 429})


def overloaded(model: str, status: int) -> NoEngine:
    """Say that the engines have too much to do."""
    message = f"The engines for {model} have too much to do. Try again in a moment."
    return NoEngine("engine_overloaded", message, status=status, overloaded=True)


class Pool:
    """The engines of a portal. It looks after them from `start` on."""

    def __init__(self, servers: Sequence[Server], *, first_byte_s: float = 120.0, silence_s: float = 60.0) -> None:
        self.first_byte_s, self.silence_s = first_byte_s, silence_s
        self.engines = [self._engine(server) for server in servers]
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

    def close(self) -> None:
        """Let go of all engines."""
        if self._timer is not None:
            self._timer.cancel()
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
        """Return the engine with the least to do for its weight, among the healthy ones where there are any."""
        self._turn += 1
        turn = self._turn % (len(self.engines) or 1)
        best, least = None, math.inf
        for engine in (*self.engines[turn:], *self.engines[:turn]):
            server = engine.server
            if (server.model != model and not engine.serves(model)) or engine.leaving or engine in tried:
                continue
            busy = engine.running / server.weight
            if engine.failures >= FAILURES:
                if engine.next_check > time.monotonic():
                    continue
                busy += UNWELL
            if busy < least:
                best, least = engine, busy
        return best

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


def make_pool(settings: Settings) -> Pool:
    """Return the engines that the settings name."""
    return Pool(servers_of(settings))
