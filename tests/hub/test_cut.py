"""A download that is on its way when its person is suspended."""

import socket
import threading
from datetime import timedelta

import httpx
import pytest

from portal.core.clock import utcnow
from tests import member
from tests.hub.conftest import LARGE, LARGE_BYTES, Hub

PATH = f"/{LARGE}/resolve/main/weights.safetensors"
CLAUSE = "restriction.unlawful_use"


class Reader(threading.Thread):
    """Reads a download steadily but slowly, so that it is always on its way; as fast as it can once told."""

    def __init__(self, line: socket.socket) -> None:
        super().__init__(daemon=True)
        self.line = line
        self.got = 0
        self.hurry = threading.Event()

    def run(self) -> None:
        try:
            while data := self.line.recv(1 << 20 if self.hurry.is_set() else 4096):
                self.got += len(data)
                self.hurry.wait(0.005)
        except OSError:
            pass


@pytest.mark.threat("TM-14")
def test_a_running_download_is_cut_by_the_suspension(hub: Hub) -> None:
    email = "stopped@example.org"
    token = member.signed_member(hub.portal, email, model=LARGE)
    with socket.create_connection(("127.0.0.1", hub.portal.port), timeout=10) as line:
        head = f"GET {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        line.sendall(head.encode())
        reader = Reader(line)
        reader.start()
        until = f"{utcnow() + timedelta(days=30):%Y-%m-%d}"
        hub.portal.cli("members", "suspend", email, "--clause", CLAUSE, "--facts", "A test.", "--until", until)
        reader.join(20)
        reader.hurry.set()  # what comes now had left before the cut
        reader.join(10)
        assert not reader.is_alive()
    assert 0 < reader.got < LARGE_BYTES
    rest = {"Authorization": f"Bearer {token}", "Range": f"bytes={reader.got}-"}
    answer = httpx.get(hub.url + PATH, headers=rest)
    assert (answer.status_code, answer.headers["X-Error-Code"]) == (403, "GatedRepo")
    assert "suspended" in answer.headers["X-Error-Message"]
