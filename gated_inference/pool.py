"""Which engine answers: several servers and labs, the healthy ones, the least busy first; always over HTTP."""

import json
import logging
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gated_inference.meter import WHOLE_MAX
from portal.core.config import SettingError, Settings
from portal.core.errors import Unavailable
from portal.edge.upstream import Address, Exchange, Lost, Unreachable

FAILURES = 2
TRIES = 2
CHECK_S = 5.0
CHECK_NEAR_S = 1.0
CHECK_ANSWER_S = 5.0
BACK_OFF_S = 60.0
BACK_OFF_NEAR_S = 1.0
RETRY_AFTER_S = 5
FIELDS = {"model": str, "url": str, "key": str, "weight": (int, float), "lab": str, "name": str}
log = logging.getLogger("portal.engines")


class NoEngine(Unavailable):
    """No engine could answer; `overloaded` says that the engines work and have too much to do."""

    def __init__(self, code: str, message: str, *, status: int = 503, overloaded: bool = False) -> None:
        super().__init__(code, message)
        self.status = status
        self.overloaded = overloaded
        self.retry_after = RETRY_AFTER_S


@dataclass(frozen=True)
class Server:
    """An OpenAI-compatible server for one model, or, where `model` is empty, for whatever it says it has.

    `name` is what the server calls the model, `lab` whose it is, and `weight` how much it can do beside the others.
    """

    address: Address
    model: str = ""
    name: str = ""
    key: str = ""
    weight: float = 1.0
    lab: str = ""

    @property
    def headers(self) -> list[tuple[str, str]]:
        """What each request to it carries."""
        return [("Authorization", f"Bearer {self.key}")] if self.key else []


class Engine:
    """A server with what is known of it now."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.running = 0
        self.failures = 0
        self.problem = ""
        self.models: frozenset[str] | None = None
        self.next_check = 0.0
        self._lock = threading.Lock()

    @property
    def healthy(self) -> bool:
        """Say whether requests are sent to it: one failure alone does not take it out."""
        return self.failures < FAILURES

    def serves(self, model: str) -> bool:
        """Say whether it has a model, as far as it is known."""
        return self.server.model == model or (not self.server.model and (self.models is None or model in self.models))

    def busy(self, by: int) -> None:
        """Count a request that begins or ends there."""
        with self._lock:
            self.running += by

    def failed(self, why: str) -> None:
        """Remember a failure; after two in a row it is left alone, longer each time, until it answers again."""
        with self._lock:
            self.failures += 1
            longest = BACK_OFF_NEAR_S if self.server.address.uds else BACK_OFF_S
            wait = min(longest, 2.0 ** min(self.failures - FAILURES, 6)) if self.failures >= FAILURES else 0.0
            self.next_check = time.monotonic() + wait
            self.problem = why
            self.models = None

    def worked(self) -> None:
        """Remember that it answered."""
        with self._lock:
            self.failures, self.problem = 0, ""
            self.next_check = time.monotonic() + (CHECK_NEAR_S if self.server.address.uds else CHECK_S)

    def check(self) -> None:
        """Ask it whether it is well; where it serves whatever it has, ask what that is."""
        path = "/health" if self.server.model else "/v1/models"
        try:
            status, body = _get(self.server, path)
            if status >= 500:  # noqa: PLR2004
                raise Lost(f"answered {status}")
            if not self.server.model:
                names = frozenset(str(entry["id"]) for entry in json.loads(body)["data"])
        except (Unreachable, Lost, ValueError, KeyError, TypeError) as error:
            self.failed(str(error) or type(error).__name__)
            return
        if not self.server.model:
            self.models = names
        self.worked()


def _get(server: Server, path: str) -> tuple[int, bytes]:
    exchange = Exchange(server.address, first_byte_s=CHECK_ANSWER_S, silence_s=CHECK_ANSWER_S)
    try:
        exchange.send("GET", path, headers=server.headers)
        status = exchange.head()
        return status, whole(exchange.pieces())
    finally:
        exchange.close()


def whole(pieces: Iterator[bytes]) -> bytes:
    """Put an answer together, up to a size that no honest engine reaches."""
    parts: list[bytes] = []
    size = 0
    for piece in pieces:
        parts.append(piece)
        size += len(piece)
        if size > WHOLE_MAX:
            raise Lost("an answer without end")
    return b"".join(parts)


class Running:
    """An answer that an engine began; leaving it tells the engine to stop."""

    def __init__(self, engine: Engine, exchange: Exchange, pieces: Iterator[bytes], first: bytes) -> None:
        self.server = engine.server
        self.status = exchange.status
        self._engine, self._exchange, self._pieces, self._first = engine, exchange, pieces, first
        self._open = True

    def pieces(self) -> Iterator[bytes]:
        """Give the body as it comes, with empty pieces in moments of silence."""
        yield self._first
        yield from self._pieces

    def close(self) -> None:
        """Let go of the engine, whether it was done or not."""
        if self._open:
            self._open = False
            self._exchange.close()
            self._engine.busy(-1)


class Pool:
    """The engines of a portal."""

    def __init__(self, servers: Sequence[Server], *, first_byte_s: float = 120.0, silence_s: float = 60.0) -> None:
        self.engines = [Engine(server) for server in servers]
        self.first_byte_s, self.silence_s = first_byte_s, silence_s
        self._turn = 0
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None
        self._lock = threading.Lock()

    def open(self, model: str, fields: dict[str, Any], idle: Callable[[], None]) -> Running:
        """Have the least busy healthy engine begin an answer; fails over to another one before its first byte only.

        `idle` is called again and again while nothing comes; what it raises ends the request at the engine.

        Raises:
            NoEngine: none is there, or none could answer.
        """
        self._watch()
        error = NoEngine("engine_unavailable", f"No engine for {model} answers just now. Try again in a moment.")
        tried: list[Engine] = []
        for _ in range(TRIES):
            engine = self._choose(model, tried)
            if engine is None:
                break
            tried.append(engine)
            try:
                running = self._begin(engine, model, fields, idle)
            except (Unreachable, Lost) as failure:
                engine.failed(str(failure) or type(failure).__name__)
                log.warning("engine %s for %s failed: %s", engine.server.address.authority, model, failure)
                continue
            except NoEngine as failure:
                error = failure
                continue
            engine.worked()
            return running
        raise error

    def trouble(self) -> str:
        """Say what is wrong: which models no engine answers for; empty when each has one."""
        self._watch()
        for engine in self.engines:
            if engine.failures or not engine.next_check:
                engine.check()
        models = {engine.server.model for engine in self.engines}
        down = {m for m in models if not any(e.healthy and not e.failures for e in self.engines if e.server.model == m)}
        found = [f"{e.server.model or 'embedded'}: {e.problem}" for e in self.engines if e.server.model in down]
        return "; ".join(found)

    def close(self) -> None:
        """Stop looking after the engines."""
        self._stop.set()

    def _choose(self, model: str, tried: list[Engine]) -> Engine | None:
        with self._lock:
            self._turn += 1
            free = [e for e in self.engines if e.serves(model) and e not in tried]
            ready = [e for e in free if e.healthy or e.next_check <= time.monotonic()]
            offset = self._turn % len(ready) if ready else 0
            ordered = ready[offset:] + ready[:offset]
            return min(ordered, key=lambda e: (not e.healthy, e.running / e.server.weight), default=None)

    def _begin(self, engine: Engine, model: str, fields: dict[str, Any], idle: Callable[[], None]) -> Running:
        server = engine.server
        body = json.dumps({**fields, "model": server.name or model}, separators=(",", ":")).encode("ascii")
        engine.busy(1)
        with _undone(lambda: engine.busy(-1)):
            exchange = Exchange(server.address, first_byte_s=self.first_byte_s, silence_s=self.silence_s)
            with _undone(exchange.close):
                headers = [("Content-Type", "application/json"), *server.headers]
                exchange.send("POST", "/v1/completions", body=body, headers=headers)
                status = exchange.head(idle)
                _judge(status, model)
                pieces = exchange.pieces()
                first = _first(pieces, idle)
                return Running(engine, exchange, pieces, first)

    def _watch(self) -> None:
        with self._lock:
            if self._watcher is None and self.engines:
                self._watcher = threading.Thread(target=self._look_after, name="engines", daemon=True)
                self._watcher.start()

    def _look_after(self) -> None:
        while not self._stop.wait(0.5):
            for engine in self.engines:
                if engine.next_check <= time.monotonic():
                    engine.check()


@contextmanager
def _undone(undo: Callable[[], None]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):
            undo()
        raise


def _judge(status: int, model: str) -> None:
    """Raise for what an engine says about itself, not about the request."""
    if status in {429, 503}:
        message = f"The engines for {model} have too much to do. Try again in a moment."
        raise NoEngine("engine_overloaded", message, status=status, overloaded=True)
    if status == 404:  # noqa: PLR2004
        raise NoEngine("engine_unavailable", f"No engine has {model} loaded just now. Try again in a moment.")
    if status >= 500 or status in {401, 403} or 200 < status < 400:  # noqa: PLR2004
        raise Lost(f"answered {status}")


def _first(pieces: Iterator[bytes], idle: Callable[[], None]) -> bytes:
    for piece in pieces:
        if piece:
            return piece
        idle()
    raise Lost("an empty answer")


def make_pool(settings: Settings) -> Pool:
    """Return the engines that the settings name."""
    if settings.engines == "embedded":
        return Pool([Server(Address(uds=settings.engine_socket))])
    return Pool(read_servers(Path(settings.engines)))


def read_servers(path: Path) -> list[Server]:
    """Read a file of ``[[servers]]``, or raise `SettingError` that names what is wrong in it."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingError(f"PORTAL_ENGINES: cannot read {path}: {error}") from None
    entries = table.get("servers")
    if set(table) != {"servers"} or not isinstance(entries, list) or not entries:
        raise SettingError(f"PORTAL_ENGINES: {path} holds one [[servers]] for each server, and nothing else")
    return [_server(entry, f"PORTAL_ENGINES: {path}, server {number}") for number, entry in enumerate(entries, 1)]


def _server(entry: dict[str, Any], where: str) -> Server:
    for name, value in entry.items():
        if name not in FIELDS or isinstance(value, bool) or not isinstance(value, FIELDS[name]):  # type: ignore[arg-type]
            raise SettingError(f"{where}: {name} is not known, or not of its kind")
    if not entry.get("model") or not entry.get("url"):
        raise SettingError(f"{where}: needs model and url")
    weight = float(entry.get("weight", 1.0))
    if not 0 < weight <= 1_000:  # noqa: PLR2004
        raise SettingError(f"{where}: weight is greater than 0 and at most 1000")
    try:
        address = Address.parse(entry["url"])
    except ValueError as error:
        raise SettingError(f"{where}: url: {error}") from None
    kept = {name: entry[name] for name in ("model", "key", "lab") if name in entry}
    return Server(address, name=entry.get("name", entry["model"]), weight=weight, **kept)
