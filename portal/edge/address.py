"""Where servers behind the portal listen."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


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

    def request(self, method: str, path: str, headers: Sequence[tuple[str, str]] = ()) -> bytes:
        """Return the head of a request as far as it is the same each time; its length and body follow."""
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers)
        return f"{method} {self.prefix}{path} HTTP/1.1\r\nHost: {self.authority}\r\n{fields}".encode("latin-1")
