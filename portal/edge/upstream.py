"""One request to a server behind the portal: sent, awaited and read in turns short enough to look around in between."""

import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import h11

TICK_S = 0.25
CONNECT_S = 2.0
SEND_S = 30.0
FIRST_BYTE_S = 120.0
SILENCE_S = 60.0
PIECE = 64 << 10


class Unreachable(Exception):
    """Nobody answers at an address."""


class Lost(Exception):
    """A server went away, fell silent or spoke no HTTP before its answer was whole."""


@dataclass(frozen=True)
class Address:
    """Where a server listens: a host and port, with or without TLS, or a Unix socket; `prefix` precedes each path."""

    host: str = "localhost"
    port: int = 80
    tls: bool = False
    uds: Path | None = None
    prefix: str = ""

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Read ``http(s)://host[:port][/prefix]``; raises ValueError for anything else."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{url!r} is not http(s)://host[:port]")
        tls = parts.scheme == "https"
        prefix = parts.path.rstrip("/").removesuffix("/v1")
        return cls(parts.hostname, parts.port or (443 if tls else 80), tls, prefix=prefix)

    @property
    def authority(self) -> str:
        """What the Host field says."""
        if self.uds is not None:
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    def connect(self) -> socket.socket:
        """Open a connection, or raise `Unreachable`."""
        try:
            if self.uds is not None:
                made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                made.settimeout(CONNECT_S)
                made.connect(str(self.uds))
                return made
            plain = socket.create_connection((self.host, self.port), CONNECT_S)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return _tls().wrap_socket(plain, server_hostname=self.host) if self.tls else plain
        except (OSError, ValueError) as error:  # a name that no host can have is a ValueError
            raise Unreachable(str(error)) from error


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _nothing() -> None:
    pass


class Exchange:
    """A request and its answer over a connection of their own; closing it tells the server to stop."""

    def __init__(self, address: Address, *, first_byte_s: float = FIRST_BYTE_S, silence_s: float = SILENCE_S) -> None:
        self.address = address
        self.first_byte_s, self.silence_s = first_byte_s, silence_s
        self.status = 0
        self.headers: dict[str, str] = {}
        self._http = h11.Connection(h11.CLIENT)
        self._socket = address.connect()

    def send(self, method: str, path: str, *, body: bytes = b"", headers: Sequence[tuple[str, str]] = ()) -> None:
        """Send the request; raises `Lost` when the server does not take it."""
        fields = [
            ("Host", self.address.authority),
            ("Connection", "close"),
            ("Content-Length", str(len(body))),
            *headers,
        ]
        request = h11.Request(method=method, target=self.address.prefix + path, headers=fields)
        parts = (self._http.send(event) for event in (request, h11.Data(data=body), h11.EndOfMessage()))
        try:
            self._socket.settimeout(SEND_S)
            self._socket.sendall(b"".join(part or b"" for part in parts))
            self._socket.settimeout(TICK_S)
        except OSError as error:
            raise Lost(str(error)) from error

    def head(self, idle: Callable[[], None] = _nothing) -> int:
        """Wait for the head of the answer and return its status; `idle` is called in between and may raise."""
        deadline = time.monotonic() + self.first_byte_s
        while True:
            event = self._next()
            if isinstance(event, h11.Response):
                self.status = event.status_code
                self.headers = {name.decode("ascii"): value.decode("latin-1") for name, value in event.headers}
                return self.status
            if isinstance(event, h11.ConnectionClosed | h11.EndOfMessage):
                raise Lost("closed before it answered")
            if event is None:
                idle()
                if time.monotonic() > deadline:
                    raise Lost(f"no answer in {self.first_byte_s:.0f} s")

    def pieces(self) -> Iterator[bytes]:
        """Give the body as it comes, and an empty piece whenever a moment passes without any."""
        heard = time.monotonic()
        while True:
            event = self._next()
            if isinstance(event, h11.EndOfMessage):
                return
            if isinstance(event, h11.ConnectionClosed):
                raise Lost("closed in the middle of its answer")
            if isinstance(event, h11.Data):
                heard = time.monotonic()
                yield bytes(event.data)
            elif event is None:
                if time.monotonic() - heard > self.silence_s:
                    raise Lost(f"silent for {self.silence_s:.0f} s")
                yield b""

    def close(self) -> None:
        """End the exchange, whole or not."""
        self._socket.close()

    def _next(self) -> h11.Event | type[h11.PAUSED] | None:
        """Return the next part of the answer, or None after a moment in which nothing came."""
        try:
            event = self._http.next_event()
            while event is h11.NEED_DATA:
                self._http.receive_data(self._socket.recv(PIECE))
                event = self._http.next_event()
        except TimeoutError:
            return None
        except (OSError, h11.RemoteProtocolError) as error:
            raise Lost(str(error)) from error
        return event  # type: ignore[return-value]
