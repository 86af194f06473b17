"""The data plane and the control plane never disagree about where a request ends, whatever bytes are sent."""

import asyncio
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from portal.core.config import Settings
from portal.edge.plane import Plane
from portal.edge.protocol import Connection
from portal.edge.routes import Route, Routes
from portal.processes import web_command
from tests.edge.looping import Looping
from tests.edge.plane import echo
from tests.running import ROOT, wait_until

EVERY = "GET POST PUT PATCH DELETE OPTIONS"


class Line(asyncio.Transport):
    """A connection that exists in memory only, so that all bytes are there at once and nothing is left to time."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection, self.said, self.ended = connection, b"", False

    def write(self, data: Any) -> None:
        self.said += bytes(data)

    def write_eof(self) -> None:
        self.close()

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self.ended:
            self.ended = True
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else default

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Both:
    """A data plane that answers ``/pagE`` itself, and before a real server that answers ``/page`` alike."""

    def __init__(self, home: Path) -> None:
        self.web = Settings(home=home).web_socket
        command = [part if part != "app:app" else "tests.edge.echoing:app" for part in web_command(Settings(home=home))]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.DEVNULL)
        self.looping = Looping()
        routes = Routes()
        route = Route(echo, body_limit=1 << 20)
        routes.add_where(EVERY, "/pagE", lambda path: re.fullmatch("/pagE(/.*)?", path) is not None, route)
        self.plane = self.looping.do(lambda: Plane(routes, web=self.web))
        wait_until(lambda: self.say(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n")[0].startswith(b"200"), 30)

    def say(self, data: bytes, step: int = 1 << 20) -> list[bytes]:
        """Send bytes in pieces; return status and body of every answer, and how the connection was left."""

        async def run() -> bytes:
            connection = Connection(self.plane, self.plane.routes)
            line = Line(connection)
            connection.connection_made(line)
            for at in range(0, len(data), step):
                if not line.ended:
                    connection.data_received(data[at : at + step])
            for _ in range(5000):
                if line.ended or not connection.queue or not connection.queue[0].whole:
                    break
                await asyncio.sleep(0.002)
            else:
                raise AssertionError("no answer")
            left = b"ended" if line.ended else b"waits" if connection.queue or connection.incoming else b"idle"
            line.abort()
            return line.said + b"\0" + left

        return answers(self.looping.loop.run_until_complete(run()))

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.looping.close()


def answers(said: bytes) -> list[bytes]:
    """Take answers apart."""
    said, left = said.rsplit(b"\0", 1)
    found = []
    while said:
        head, _, rest = said.partition(b"\r\n\r\n")
        status = head.split(b" ", 2)[1]
        if status == b"100":
            said = rest
            continue
        lengths = re.findall(rb"(?i)\r\ncontent-length: (\d+)", head)
        assert len(lengths) == 1, head
        size = int(lengths[0])
        assert len(rest) >= size, "an answer that was cut"
        # Each joins fields that stand twice in its own way.
        found.append(status + b" " + re.sub(b", *", b",", rest[:size]).replace(b"/pagE", b"/page"))
        said = rest[size:]
    return [*found, left]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    made = Both(tmp_path_factory.mktemp("both"))
    yield made
    made.close()


BODIES = st.sampled_from([b"", b"a", b"abc", b"0\r\n\r\n", b"GET /page/evil HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n\r\n"])
SPOILED = st.sampled_from(
    [
        b"", b"\n", b"\r", b" ", b"\t", b"\0", b"\r\n", b"\r\n ", b"Content-Length: 3\r\n", b"Content-Length: 0\r\n",
        b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding:\x0bchunked\r\n",
        b"Transfer_Encoding: chunked\r\n", b"Content_Length: 9\r\n", b"Expect: 100-continue\r\n", b";a=b", b"0",
        b"Connection: content-length\r\n", b"Connection: close\r\n", b"Connection: transfer-encoding\r\n", b"X: y\r\n",
        b"Content-Length: 00\r\n", b"Content-Length: 1,1\r\n", b"X-Say: \xe9\r\n", b"Host: y\r\n", b"//", b"?a=b&a=c",
        b"%2f", b"\xff",
    ]
)  # fmt: skip


def chunks(body: bytes, extension: bytes, trailer: bytes) -> bytes:
    half = len(body) // 2
    parts = b"".join(b"%x%b\r\n%b\r\n" % (len(p), extension, p) for p in (body[:half], body[half:]) if p)
    return parts + b"0" + extension + b"\r\n" + trailer + b"\r\n"


@st.composite
def requests(draw: Any) -> bytes:
    """Requests as clients send them, several in a row, spoiled in a few places."""
    found = b""
    for number in range(draw(st.integers(1, 3))):
        body = draw(BODIES)
        target = draw(st.sampled_from([b"/page", b"/page/a%2Fb", b"/page?a=1&b=", b"//page//x", b"/page/%E9"]))
        head = draw(st.sampled_from(EVERY.split())).encode() + b" " + target + b" HTTP/1.1\r\nHost: x\r\n"
        head += b"X-Say: %d\r\n" % number
        framing = draw(st.sampled_from(["none", "length", "chunks"]))
        if framing == "length":
            head, sent = head + b"Content-Length: %d\r\n" % len(body), body
        elif framing == "chunks":
            extension, trailer = (
                draw(st.sampled_from([b"", b";a=b"])),
                draw(st.sampled_from([b"", b"X-Say: trailer\r\n"])),
            )
            head, sent = head + b"Transfer-Encoding: chunked\r\n", chunks(body, extension, trailer)
        else:
            sent = b""
        found += head + b"\r\n" + sent
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(found)))
        breaks = [m.end() for m in re.finditer(b"\r\n", found)]
        at = draw(st.sampled_from(breaks)) if draw(st.booleans()) else at
        found = found[:at] + draw(SPOILED) + found[at + draw(st.sampled_from([0, 0, 0, 1, 2])) :]
    return found


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=requests(), step=st.sampled_from([1 << 20, 1, 5]))
def test_both_planes_see_the_same_requests(both: Both, data: bytes, step: int) -> None:
    passed_on = both.say(data)
    answered = both.say(data.replace(b"/page", b"/pagE"), step)
    assert passed_on == answered
    event(" ".join(answer[:3].decode() for answer in passed_on))


def test_the_check_sees_a_disagreement(both: Both) -> None:
    """A control plane that is sent the client's own bytes would take the second request out of the first one's body."""
    from portal.edge import splice

    smuggled = b"POST /page HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde"
    with pytest.MonkeyPatch.context() as patch:
        written = splice.for_web
        patch.setattr(splice, "for_web", lambda *args, **kept: written(*args, **{**kept, "length": 3}))
        assert both.say(smuggled) != both.say(smuggled.replace(b"/page", b"/pagE"))
