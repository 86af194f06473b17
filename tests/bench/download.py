"""How fast a large file comes through the portal, and through a bare ``sendfile`` beside it."""

import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from tests import member
from tests.hub.serving import running

SIZE = 256 << 20
MODEL = "bigscience/bloom-1b1"
ROUNDS = 5


def _fetch(port: int, path: str, token: str) -> float:
    """Fetch a file, throw its bytes away, and return MB a second."""
    buffer = bytearray(1 << 20)
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as line:
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        line.sendall(head.encode())
        got = 0
        while amount := line.recv_into(buffer):
            got += amount
    if got < SIZE:
        raise RuntimeError(f"only {got} bytes of {SIZE} came")
    return SIZE / 1e6 / (time.perf_counter() - began)


def _bare(path: Path) -> tuple[int, Callable[[], None]]:
    """Serve one file by ``socket.sendfile`` and nothing else; return the port and what ends it."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                line, _ = server.accept()
            except OSError:
                return
            with line, path.open("rb") as file:
                line.recv(65536)
                line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
                line.sendfile(file)

    threading.Thread(target=serve, daemon=True).start()
    return server.getsockname()[1], server.close


def measure() -> dict[str, float]:
    """Return MB a second through the portal, and its share of what a bare ``sendfile`` reaches in the same run."""
    with tempfile.TemporaryDirectory(prefix="portal-bench-") as folder, running(Path(folder) / "home") as portal:
        source = Path(folder) / "source"
        source.mkdir()
        (source / "weights.safetensors").write_bytes(Random(1).randbytes(1 << 20) * (SIZE >> 20))
        portal.cli("models", "publish", str(source), MODEL, "--license", "bloom-rail", "--message", "Bench")
        token = member.signed_member(portal, "bench@example.org", model=MODEL)
        bare, close = _bare(source / "weights.safetensors")
        port = urlsplit(portal.base_url).port or 0
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(_fetch(port, f"/{MODEL}/resolve/main/weights.safetensors", token))
            theirs.append(_fetch(bare, "/", token))
        close()
    return {"download_MB_s": max(ours), "download_ratio_sendfile": max(ours) / max(theirs)}
