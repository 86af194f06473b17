"""The data plane: it owns the port, counts who is connected, keeps the time, and stops in order."""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path

from portal.core.ids import public_id
from portal.edge.head import GUARD, HTTPS_ALONE, BadHead, Fields, Networks, trusts, written
from portal.edge.protocol import Connection
from portal.edge.routes import Answer, Route, Routes
from portal.edge.threads import Threads

CONNECTIONS_MAX = 4_096
CROWD_MAX = 64  # of one address, without an access token
SILENT_MAX = 1_024  # of one address, that have not said yet what they want
UPLOADS_MAX = 32  # half of the control plane's threads
BACKLOG = 4_096
SWEEP_S = 1.0
REDIRECTED = 300
log = logging.getLogger("portal.edge")


class Plane:
    """The data plane.

    Args:
        routes: who answers which address.
        web: the control plane's Unix socket, which answers the rest; None for nobody.
        proxies: addresses of proxies in front, which may say whose request they pass on.
        threads: where work is done that has to wait.
        https: people reach the portal over TLS, so browsers shall never try without.
    """

    def __init__(
        self, routes: Routes, *, web: Path | None = None, proxies: Networks = (), threads: Threads | None = None,
        https: bool = False,
    ) -> None:  # fmt: skip
        self.routes, self.web, self.inside = routes, web, Routes()
        self.trusted: Callable[[str], bool] = trusts(proxies)
        self.threads = threads or Threads()
        self.guard = GUARD + HTTPS_ALONE if https else GUARD
        self.connections: set[Connection] = set()
        self.by_address: Counter[str] = Counter()
        self.uploads = 0
        self.stopping = False
        self.now, self.date = 0.0, b""
        self._servers: list[asyncio.AbstractServer] = []
        self._timer: asyncio.TimerHandle | None = None
        self._parted = asyncio.Event()
        self._run, self._count = public_id("req", 12), 0

    async def listen(self, sock: socket.socket) -> None:
        """Answer on a bound socket."""
        loop = asyncio.get_running_loop()
        self._tick()
        server = await loop.create_server(lambda: Connection(self, self.routes), sock=sock, backlog=BACKLOG)
        self._servers.append(server)

    async def listen_inside(self, path: Path, routes: Routes) -> None:
        """Answer the portal's other processes on a Unix socket, at addresses of their own."""
        self._tick()
        self.inside = routes
        server = await asyncio.get_running_loop().create_unix_server(
            lambda: Connection(self, routes), sock=bind_inside(path)
        )
        self._servers.append(server)

    def hurry(self) -> None:
        """Cut what is still answered."""
        for connection in list(self.connections):
            connection.cut()

    async def stop(self, within: float) -> None:
        """Take nobody new; give running answers some seconds, then cut them."""
        self.stopping = True
        if not self.connections:
            self._parted.set()
        for server in self._servers:
            server.close()
        for connection in list(self.connections):
            connection.stop()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._parted.wait(), within)
        self.hurry()
        await self._parted.wait()
        if self._timer is not None:
            self._timer.cancel()
        self.threads.close()

    def _tick(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self.now = loop.time()
        self.date = f"Date: {formatdate(usegmt=True)}\r\n".encode()
        for connection in list(self.connections):
            try:
                connection.sweep(self.now)
            except Exception:  # the others' time must not stand still
                log.exception("looking at a connection")
                connection.cut()
        self._timer = loop.call_later(SWEEP_S, self._tick)

    # Who is connected

    def joined(self, connection: Connection) -> bool:
        """Count a new connection; say whether there is room for it."""
        silent = self.by_address[connection.peer] >= SILENT_MAX and not self._is_ours(connection.peer)
        if self.stopping or silent or len(self.connections) >= CONNECTIONS_MAX:
            return False
        self.connections.add(connection)
        self.by_address[connection.peer] += 1
        return True

    def parted(self, connection: Connection) -> None:
        """Count a connection no more."""
        if connection in self.connections:
            self.connections.remove(connection)
            self._prove(connection)
            if self.stopping and not self.connections:
                self._parted.set()

    def _prove(self, connection: Connection) -> None:
        if not connection.proven:
            connection.proven = True
            self.by_address[connection.peer] -= 1
            if not self.by_address[connection.peer]:
                del self.by_address[connection.peer]

    def _is_ours(self, peer: str) -> bool:
        return not peer or self.trusted(peer)

    def check_crowd(self, connection: Connection, fields: Fields) -> None:
        """Refuse who comes too often at once from one address without an access token."""
        if connection.proven or self.by_address[connection.peer] <= CROWD_MAX or self._is_ours(connection.peer):
            return
        if not any(name == b"authorization" for name, _ in fields):
            raise BadHead(503, "Too many connections from this address. Send an access token, or come back later.")

    def settled(self, connection: Connection, fields: Fields, route: Route | None, status: int) -> None:
        """Note that a connection showed an access token that is known; one that is not counts against its address.

        Anything passes for an access token where nobody looks at it.
        """
        if connection.proven or not any(name == b"authorization" for name, _ in fields):
            return
        if status < REDIRECTED and route is not None and route.knows:
            self._prove(connection)
        elif self.by_address[connection.peer] > CROWD_MAX and not self._is_ours(connection.peer):
            connection.closing = True

    def take_upload(self) -> bool:
        """Begin to pass on a long body; say whether there is room for one more."""
        if self.uploads >= UPLOADS_MAX:
            return False
        self.uploads += 1
        return True

    def give_upload(self) -> None:
        """A long body is passed on."""
        self.uploads -= 1

    # What is said without anybody's help

    def new_id(self) -> str:
        """Name a request; no two runs name one alike."""
        self._count += 1
        return f"{self._run}{self._count:06x}"

    def full(self) -> bytes:
        """Return the answer to a connection for which there is no room."""
        fields = [("Content-Length", "0"), ("Retry-After", "5"), ("Connection", "close")]
        return written(503, fields) + b"\r\n"

    def refusal(self, status: int, why: str, route: Route | None) -> Answer:
        """Return a refusal, in the words of whoever answers at that address."""
        if route is not None and route.refusal is not None:
            return route.refusal(status, why)
        fields = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Cache-Control", "no-store"),
            ("X-Error-Message", why),
        ]
        if status >= 502:  # noqa: PLR2004
            fields.append(("Retry-After", "5"))
        return Answer(status, fields, f"{why}\n".encode())


class PortInUse(Exception):
    """Another program listens where the portal should."""


def bind(host: str, port: int) -> socket.socket:
    """Take the port, or raise `PortInUse`."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(BACKLOG)
        made.setblocking(False)
    except OSError as error:
        made.close()
        raise PortInUse(
            f"{host}:{port} cannot be used ({error.strerror}): stop the program that listens there, or set PORTAL_PORT"
        ) from None
    return made


def bind_inside(path: Path) -> socket.socket:
    """Take a Unix socket for this user alone; one that an earlier process left is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.bind(str(path))
    path.chmod(0o600)
    made.listen(BACKLOG)
    made.setblocking(False)
    return made
