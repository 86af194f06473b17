"""How soon things stop: answers and downloads whose access token is revoked, the engine, and all processes."""

import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from portal.accounts.models import User
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.tokens import service as tokens
from portal.tokens.models import AccessToken
from tests import member
from tests.bench import download
from tests.bench.stage import stage
from tests.conduct import acting
from tests.running import ROOT, RunningPortal, wait_until

ROUNDS, RUNNING_S = 5, 0.5
MODEL, FOLDER = "demo/bloom-tiny", ROOT / "gated_inference" / "demo" / "model"
FIELDS = {"model": MODEL, "prompt": "Article", "max_tokens": 1500, "stream": True, "ignore_eos": True}
BARS = {"cut_stream_s": "<= 2", "cut_download_s": "<= 2", "engine_stop_s": "<= 2", "all_stop_s": "<= 5"}


class Reader(threading.Thread):
    """Reads an answer, slowly where it is to last, and knows when it ended."""

    def __init__(self, line: socket.socket, request: str, *, pause: float = 0.0) -> None:
        super().__init__(daemon=True)
        self.line, self.pause, self.last, self.ended_at = line, pause, b"", 0.0
        line.sendall(request.encode())
        self.start()

    def run(self) -> None:
        with suppress(OSError):
            while data := self.line.recv(1 << 12):
                self.last = data
                time.sleep(self.pause)
        self.ended_at = time.monotonic()

    def is_under_way(self) -> None:
        """Wait until the answer is under way."""
        wait_until(lambda: self.last)
        time.sleep(RUNNING_S)
        if not self.is_alive():
            raise SystemExit(f"the answer ended by itself: {self.last[-300:]!r}")


def _call(port: int) -> socket.socket:
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    line.connect(("127.0.0.1", port))
    return line


def _completion(secret: str = "") -> str:
    body = json.dumps(FIELDS)
    return (
        f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {secret}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    )


def _revoke_newest(settings: Settings) -> None:
    """Revoke the access token that was made last, as its owner."""
    engine = make_engine(settings.database_url)
    with transaction(engine) as session:
        token = session.scalars(sa.select(AccessToken).order_by(AccessToken.id.desc()).limit(1)).one()
        owner = session.get_one(User, token.user_id)
        tokens.revoke(session, by=acting(owner), ref=token.public_id, now=utcnow())
    engine.dispose()


def _cut(reader: Reader, settings: Settings) -> float:
    """Revoke the access token of a running answer, and return how long the answer still went on."""
    reader.is_under_way()
    _revoke_newest(settings)
    began = time.monotonic()
    reader.join(60)
    return reader.ended_at - began


def _streams_and_all() -> dict[str, float]:
    cuts, stops = [], []
    with tempfile.TemporaryDirectory(prefix="portal-bench-") as folder, RunningPortal.start(Path(folder)) as portal:
        settings = Settings.from_env(portal.environ)
        for number in range(ROUNDS):
            secret = member.signed_member(portal, f"stop{number}@bench.example", "inference")
            cuts.append(_cut(Reader(_call(portal.port), _completion(secret)), settings))
        for _ in range(ROUNDS):
            stops.append(portal.stop())
            portal.serve()
    return {"cut_stream_s": max(cuts), "all_stop_s": max(stops)}


def _downloads() -> dict[str, float]:
    cuts = []
    with stage() as made:
        _, secret = download.publish(made)
        made.start("web", "work", "edge")
        for number in range(ROUNDS):
            if number:
                secret = download.issue(made, f"reader{number}")
            request = f"GET {download.PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n\r\n"
            cuts.append(_cut(Reader(_call(made.port), request, pause=0.002), made.settings))
    return {"cut_download_s": max(cuts)}


def _engine() -> dict[str, float]:
    stops = []
    with tempfile.TemporaryDirectory(prefix="portal-bench-") as folder:
        for _ in range(ROUNDS):
            path = Path(folder) / "engine.sock"
            command = [sys.executable, "-m", "gated_inference.engine.server", "--model", FOLDER, "--name", MODEL]
            process: Any = subprocess.Popen([*command, "--uds", path], cwd=ROOT, stdout=subprocess.PIPE)
            assert process.stdout is not None
            process.stdout.readline()
            line = socket.socket(socket.AF_UNIX)
            line.connect(str(path))
            Reader(line, _completion()).is_under_way()
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            stops.append(time.monotonic() - began)
    return {"engine_stop_s": max(stops)}


def measure() -> dict[str, float]:
    """Revoke or stop, and look at the clock; of several rounds the longest counts."""
    return _streams_and_all() | _downloads() | _engine()
