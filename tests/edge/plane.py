"""A data plane on a loop of its own, in a thread, for tests with raw sockets; and control planes that behave badly."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from portal.edge.plane import Plane, bind
from portal.edge.routes import Answer, Exchange, Route, Routes

TEXT = [("Content-Type", "text/plain")]


@dataclass
class RunningPlane:
    """A started plane.

    Args:
        routes: its handlers.
        web: where the control plane listens.
    """

    routes: Routes
    web: Path | None = None
    more: dict[str, Any] = field(default_factory=dict)
    plane: Plane = field(init=False)
    loop: asyncio.AbstractEventLoop = field(init=False)
    port: int = 0

    def start(self) -> None:
        self.loop = uvloop.new_event_loop()
        sock = bind("127.0.0.1", 0)
        self.port = sock.getsockname()[1]
        self.thread = threading.Thread(target=self._run, args=(sock,))
        self.started = threading.Event()
        self.thread.start()
        assert self.started.wait(10)

    def _run(self, sock: socket.socket) -> None:
        asyncio.set_event_loop(self.loop)

        async def begin() -> None:
            self.plane = Plane(self.routes, web=self.web, **self.more)
            await self.plane.listen(sock)
            self.started.set()

        self.loop.run_until_complete(begin())
        self.loop.run_forever()
        self.loop.close()

    def do(self, work: Callable[[], Any]) -> Any:
        """Do something on the loop and return what it returned."""

        async def run() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def later(self, seconds: float) -> None:
        """Let the plane believe that time has passed, and look at all its connections."""

        def look() -> None:
            for connection in list(self.plane.connections):
                connection.deadline -= seconds
                connection.sweep(self.plane.now)

        self.do(look)

    def stop(self, within: float = 0.0) -> None:
        asyncio.run_coroutine_threadsafe(self.plane.stop(within), self.loop).result(60)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    def connect(self) -> "Raw":
        return Raw(socket.create_connection(("127.0.0.1", self.port), 10))

    def say(self, data: bytes) -> bytes:
        """Send bytes over a fresh connection and return all that comes until the plane ends it."""
        raw = self.connect()
        raw.send(data)
        try:
            return raw.all()
        finally:
            raw.close()


class Raw:
    """A bare connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(10)
        self.held = b""

    def send(self, data: bytes) -> "Raw":
        self.sock.sendall(data)
        return self

    def all(self) -> bytes:
        """Read until the other side ends; a reset ends it as well."""
        found = [self.held]
        self.held = b""
        while True:
            try:
                data = self.sock.recv(1 << 20)
            except ConnectionResetError:
                break
            if not data:
                break
            found.append(data)
        return b"".join(found)

    def until(self, mark: bytes) -> bytes:
        """Read up to and with a mark."""
        while mark not in self.held:
            data = self.sock.recv(1 << 16)
            assert data, self.held
            self.held += data
        at = self.held.index(mark) + len(mark)
        found, self.held = self.held[:at], self.held[at:]
        return found

    def exactly(self, count: int) -> bytes:
        while len(self.held) < count:
            data = self.sock.recv(1 << 20)
            assert data, "ended early"
            self.held += data
        found, self.held = self.held[:count], self.held[count:]
        return found

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one answer with a length or chunks."""
        head = self.until(b"\r\n\r\n").decode("latin-1")
        first, *lines = head.split("\r\n")[:-2]
        fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        if fields.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.until(b"\r\n")[:-2], 16):
                body += self.exactly(size)
                self.until(b"\r\n")
            self.until(b"\r\n")
        else:
            body = self.exactly(int(fields.get("content-length", 0)))
        return int(first.split()[1]), fields, body

    def close(self) -> None:
        self.sock.close()


def echo(exchange: Exchange) -> None:
    """Answer with what was asked."""
    request = exchange.request
    said = f"{request.method} {request.raw_path} {sorted(request.query.items())} {request.headers.get('x-say', '')} "
    exchange.send(Answer(200, TEXT, said.encode() + request.body))


def routes_of(**handlers: Callable[[Exchange], None]) -> Routes:
    """Routes ``/name`` for handlers by name, and ``/echo``; bodies of a mebibyte at most."""
    made = Routes()
    for name, handler in {"echo": echo, **handlers}.items():
        made.add("GET HEAD POST", f"/{name}", Route(handler, body_limit=1 << 20, knows=name in {"token", "file"}))
    return made


@contextmanager
def running(routes: Routes, web: Path | None = None, **more: Any) -> Iterator[RunningPlane]:
    """Run a plane."""
    made = RunningPlane(routes, web, more)
    made.start()
    try:
        yield made
    finally:
        made.stop()


class BadWeb:
    """A control plane on a Unix socket that does with each connection what a test says; keeps what it was sent."""

    def __init__(self, path: Path, behave: Callable[[socket.socket], None]) -> None:
        self.path, self.behave = path, behave
        self.sock = socket.socket(socket.AF_UNIX)
        path.unlink(missing_ok=True)
        self.sock.bind(str(path))
        self.sock.listen(128)
        self.got: list[bytes] = []
        self.left = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                made, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(made,), daemon=True).start()

    def _serve(self, made: socket.socket) -> None:
        made.settimeout(10)
        with made:
            data = b""
            while b"\r\n\r\n" not in data:
                more = made.recv(1 << 16)
                if not more:
                    return
                data += more
            self.got.append(data)
            try:
                self.behave(made)
            except OSError:
                self.left.set()

    def close(self) -> None:
        self.sock.close()
        self.path.unlink(missing_ok=True)
