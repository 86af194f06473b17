"""A portal of its own, which a test may kill or deprive, and a member of staff who uploads to it."""

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from socket import create_connection, socket
from typing import Any

import httpx

from tests.hub.serving import ROOT
from tests.hub.staff import staff_token
from tests.running import RunningPortal, free_port, wait_until

BODY = Random(3).randbytes(8 << 20)
DIGEST = hashlib.sha256(BODY).hexdigest()


class Stage:
    """A portal of its own, which a test may kill, and a member of staff who uploads to it."""

    def __init__(self, home: Path, **environ: str) -> None:
        self.portal = RunningPortal(home=home, port=free_port(), extra=environ)
        self.portal.cli("init", "--no-demo")
        self.portal.cli("licenses", "publish", "bloom-rail", "1.0.0")
        self.token = staff_token(self.portal, "kay@example.org")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, limit: int = 0) -> None:
        """Start both planes.

        Args:
            limit: the control plane finds the disk full when a file reaches so many bytes; 0 for no limit.
        """
        with (self.portal.home / "serve.log").open("ab") as log:
            portal = f"{shlex.quote(sys.executable)} -m portal.cli"
            small = f"ulimit -f {limit // 512}; " if limit else ""
            both = f"({small}exec {portal} web) & exec {portal} edge"
            self.process = subprocess.Popen(
                ["sh", "-c", both], env=self.portal.environ, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(lambda: answers(self.portal.base_url), seconds=60)

    def kill(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)

    def send(self, method: str, path: str, **kept: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.request(method, self.portal.base_url + path, headers=headers, timeout=60, **kept)

    def address(self, model: str) -> str:
        """Make a model and the address at which to send it the body."""
        self.send("POST", "/api/repos/create", json={"name": model})
        batch = {"operation": "upload", "objects": [{"oid": DIGEST, "size": len(BODY)}]}
        answer = self.send("POST", f"/{model}.git/info/lfs/objects/batch", json=batch).json()
        return str(answer["objects"][0]["actions"]["upload"]["href"])

    def commit(self, model: str, *operations: tuple[str, dict[str, Any]], **header: Any) -> httpx.Response:
        lines = [("header", {"summary": "Change", **header}), *operations]
        body = b"".join(json.dumps({"key": key, "value": value}).encode() + b"\n" for key, value in lines)
        return self.send("POST", f"/api/models/{model}/commit/main", content=body)

    @property
    def stored(self) -> dict[str, int]:
        return {p.name: p.stat().st_ino for p in (self.portal.home / "blobs" / "sha256").glob("*/*")}

    @property
    def drafts(self) -> list[Path]:
        return list((self.portal.home / "blobs" / "tmp").glob("*"))


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/login", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def half_sent(stage: Stage, address: str) -> Iterator[socket]:
    """Send half of the body to an address, and wait until the portal has it in a draft; then hang up."""
    path = address.removeprefix(stage.portal.base_url)
    with create_connection(("127.0.0.1", stage.portal.port), timeout=60) as line:
        line.sendall(f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n".encode())
        line.sendall(BODY[: len(BODY) // 2])
        wait_until(lambda: any(path.stat().st_size >= 1 << 20 for path in stage.drafts), seconds=60)
        yield line
