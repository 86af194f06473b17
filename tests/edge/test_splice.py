"""Requests that the control plane answers: passed on and back as they come, whatever happens to it."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from portal.edge.plane import UPLOADS_MAX
from portal.edge.routes import Exchange, Route, Routes
from portal.edge.splice import ANSWER_S
from tests.edge.plane import BadWeb, Raw, RunningPlane, routes_of, running
from tests.running import wait_until

GET = b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /page HTTP/1.1\r\nHost: x\r\n"
MIB = 1 << 20


@contextmanager
def behind(path: Path, behave: Callable[[socket.socket], None]) -> Iterator[tuple[RunningPlane, BadWeb]]:
    web = BadWeb(path / "web.sock", behave)
    with running(routes_of(), web.path) as plane:
        yield plane, web
    web.close()


def says(data: bytes) -> Callable[[socket.socket], None]:
    return lambda sock: sock.sendall(data)


def test_answers_of_every_kind_arrive_whole_and_the_connection_goes_on(tmp_path: Path) -> None:
    kinds = {
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nServer: web\r\nDate: then\r\nConnection: close\r\n\r\nabc": (
            200, b"abc",
        ),
        b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: a\r\n\r\n": (
            404, b"abcde",
        ),
        b"HTTP/1.0 200 OK\r\n\r\nuntil the end": (200, b"until the end"),
        b"HTTP/1.1 204 No Content\r\n\r\n": (204, b""),
        b"HTTP/1.1 304 Not Modified\r\nETag: a\r\n\r\n": (304, b""),
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n": (200, b""),
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na": (200, b"a"),
    }  # fmt: skip
    turn = iter(kinds)
    with behind(tmp_path, lambda sock: sock.sendall(next(turn))) as (plane, _):
        raw = plane.connect()
        for expected in kinds.values():
            status, fields, body = raw.send(GET).answer()
            assert (status, body) == expected
            assert fields.keys().isdisjoint({"server", "x-trailer", "connection"})
            assert fields["date"] != "then"
            assert fields["x-request-id"].startswith("req_")
        raw.close()


def test_head_has_the_length_and_nothing_else(tmp_path: Path) -> None:
    with behind(tmp_path, says(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")) as (plane, _):
        raw = plane.connect()
        for _ in range(2):
            raw.send(GET.replace(b"GET", b"HEAD"))
            assert b"Content-Length: 99\r\n" in raw.until(b"\r\n\r\n")
        raw.close()


def test_a_client_of_http_1_0_gets_no_chunks(tmp_path: Path) -> None:
    with behind(tmp_path, says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")) as (
        plane,
        _,
    ):
        said = plane.say(GET.replace(b"1.1", b"1.0"))
        assert b"chunked" not in said
        assert said.endswith(b"\r\n\r\nabc")


def test_while_the_control_plane_is_away_its_pages_are_a_503_and_the_rest_goes_on(tmp_path: Path) -> None:
    with running(routes_of(), tmp_path / "nobody.sock") as plane:
        raw = plane.connect()
        status, fields, body = raw.send(GET).answer()
        assert (status, fields["retry-after"]) == (503, "5")
        assert b"Try again" in body
        assert raw.send(b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n").answer()[0] == 200
        status, _, _ = raw.send(POST + b"Content-Length: 200000\r\n\r\n" + b"a" * 200_000).answer()
        assert status == 503
        raw.close()


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"", 502), (b"HTTP/1.1 200 OK\r\nContent-Le", 502), (b"this is not HTTP\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n", None),
    ],
)  # fmt: skip
def test_a_control_plane_that_breaks_off_is_said_before_its_head_and_a_cut_after_it(
    tmp_path: Path, said: bytes, status: int | None
) -> None:
    with behind(tmp_path, says(said)) as (plane, _):
        raw = plane.connect().send(GET)
        if status is not None:
            assert raw.answer()[0] == status
            assert raw.send(b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n").answer()[0] == 200
        else:
            got = raw.all()
            assert got.startswith(b"HTTP/1.1 200 ")
            assert got.endswith((b"\r\n\r\nabc", b"3\r\nabc\r\n")), "what is cut must not look whole"
        raw.close()


def test_a_control_plane_that_does_not_answer_is_a_504(tmp_path: Path) -> None:
    asked = threading.Event()
    with behind(tmp_path, lambda sock: (asked.set(), sock.recv(1))[0]) as (plane, _):
        raw = plane.connect().send(GET)
        assert asked.wait(10)
        plane.later(ANSWER_S + 1)
        assert raw.answer()[0] == 504
        raw.close()


def test_a_client_that_leaves_ends_the_request_behind(tmp_path: Path) -> None:
    ended = threading.Event()

    def behave(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        try:
            if sock.recv(1) == b"":
                ended.set()
        except ConnectionResetError:
            ended.set()

    with behind(tmp_path, behave) as (plane, _):
        raw = plane.connect().send(GET)
        raw.until(b"abc\r\n")
        raw.close()
        assert ended.wait(10)
        wait_until(lambda: not plane.do(lambda: plane.plane.connections))


@pytest.mark.parametrize("chunked", [False, True])
def test_a_long_body_goes_through_whole_and_an_early_answer_ends_it(tmp_path: Path, chunked: bool) -> None:
    body = bytes(range(256)) * (5 * MIB // 256)
    found: list[bytes] = []

    def behave(sock: socket.socket) -> None:
        data = plane_web.got[-1].split(b"\r\n\r\n", 1)[1]
        while not (data.endswith(b"0\r\n\r\n") if chunked else len(data) >= len(body)):
            data += sock.recv(MIB)
        found.append(data)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with behind(tmp_path, behave) as (plane, plane_web):
        raw = plane.connect()
        if chunked:
            raw.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
            for at in range(0, len(body), 100_000):
                part = body[at : at + 100_000]
                raw.send(b"%x;ext=1\r\n%b\r\n" % (len(part), part))
            raw.send(b"0\r\nAuthorization: Bearer trailer\r\n\r\n")
        else:
            raw.send(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert raw.answer()[2] == b"ok"
        if chunked:
            sent, rest = b"", found[0]
            while size := int(rest[: rest.index(b"\r\n")], 16):
                start = rest.index(b"\r\n") + 2
                sent, rest = sent + rest[start : start + size], rest[start + size + 2 :]
            assert sent == body
            assert b"trailer" not in found[0]
        else:
            assert found[0] == body
        assert raw.send(b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n").answer()[0] == 200
        assert plane.do(lambda: plane.plane.uploads) == 0
        raw.close()


def test_an_answer_before_the_body_is_whole_reaches_a_client_that_still_sends(tmp_path: Path) -> None:
    asked, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def behave(sock: socket.socket) -> None:
        asked.set()
        assert go_on.wait(10)
        sock.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
        sock.close()  # with bytes unread, as servers do
        closed.set()

    with behind(tmp_path, behave) as (plane, _):
        raw = plane.connect()
        raw.send(POST + b"Content-Length: 9000000\r\n\r\n" + b"a" * 70_000)
        assert asked.wait(10)

        def wait_before_the_next_piece() -> None:
            (connection,) = plane.plane.connections
            splice: Any = connection.queue[0].splice
            feed = splice.feed

            def late(data: bytes) -> None:
                go_on.set()
                assert closed.wait(10)
                feed(data)  # cannot be written any more, and the loop has not read the answer yet

            splice.feed = late

        plane.do(wait_before_the_next_piece)
        raw.send(b"more")
        status, fields, body = raw.answer()
        assert (status, fields["connection"], body) == (413, "close", b"big")
        assert raw.all() == b""
        raw.close()


def test_a_control_plane_that_takes_no_body_stops_the_client_not_the_memory(tmp_path: Path) -> None:
    go_on = threading.Event()
    taken = 0

    def behave(sock: socket.socket) -> None:
        nonlocal taken
        assert go_on.wait(20)
        while taken < 8 * MIB - 100_000:
            taken += len(sock.recv(MIB))
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with behind(tmp_path, behave) as (plane, _):
        raw = plane.connect()
        sender = threading.Thread(
            target=raw.send, args=(POST + b"Content-Length: %d\r\n\r\n" % (8 * MIB) + b"a" * (8 * MIB),)
        )
        sender.start()

        def held() -> int:
            found = [m.splice.transport for c in plane.plane.connections for m in c.queue if m.splice and m.held]
            return found[0].get_write_buffer_size() if found and found[0] is not None else 0

        size = wait_until(lambda: plane.do(held))
        assert size < MIB, "one read beyond the mark at most"
        go_on.set()
        assert raw.answer()[2] == b"ok"
        sender.join()
        raw.close()


def test_a_client_that_reads_nothing_stops_the_control_plane_not_the_memory(tmp_path: Path) -> None:
    sent = 0
    size = 24 * MIB

    def behave(sock: socket.socket) -> None:
        nonlocal sent
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        sock.settimeout(0.5)
        try:
            while sent < size:
                sent += sock.send(b"a" * min(MIB, size - sent))
        except TimeoutError:
            stalled.set()
        sock.settimeout(20)
        while sent < size:
            sent += sock.send(b"a" * min(MIB, size - sent))

    stalled = threading.Event()
    with behind(tmp_path, behave) as (plane, _):
        raw = plane.connect().send(GET)
        assert stalled.wait(20)
        (held,) = plane.do(lambda: [c.transport.get_write_buffer_size() for c in plane.plane.connections])
        assert held < MIB
        status, _, body = raw.answer()
        assert (status, len(body)) == (200, size)
        raw.close()


HANDED = b"HTTP/1.1 200 OK\r\nPortal-Hand-On: %b\r\nPortal-Person: 7 usr_a\r\nContent-Length: 5\r\n\r\nasked"


def test_an_answer_that_hands_on_is_given_by_an_inner_address(tmp_path: Path) -> None:
    seen: list[Exchange] = []
    left = threading.Event()

    def inner(exchange: Exchange) -> None:
        seen.append(exchange)
        exchange.on_left = left.set
        exchange.begin(200, [("Content-Type", "text/event-stream")])
        exchange.write(b"one")
        if len(seen) == 1:
            exchange.end(b"two")

    with behind(tmp_path, says(HANDED % b"/inner")) as (plane, web):
        plane.plane.inside = Routes()
        plane.plane.inside.add("POST", "/inner", Route(inner))
        raw = plane.connect().send(POST + b"Content-Length: 1\r\n\r\na")
        status, fields, body = raw.answer()
        assert (status, body, fields["content-type"]) == (200, b"onetwo", "text/event-stream")
        assert fields.keys().isdisjoint({"portal-hand-on", "portal-person"})
        request = seen[0].request
        assert (request.body, request.headers["portal-person"]) == (b"asked", "7 usr_a")
        assert fields["x-request-id"] == request.request_id
        assert f"x-request-id: {request.request_id}".encode() in web.got[0].lower()
        raw.send(GET).until(b"one")
        assert not left.is_set()
        raw.close()
        assert left.wait(20), "whoever answers is told that the client has left"


def test_an_answer_that_hands_on_to_nowhere_or_breaks_off_is_a_failure(tmp_path: Path) -> None:
    turn = iter((HANDED % b"/nowhere", (HANDED % b"/inner")[:-2]))
    with behind(tmp_path, lambda sock: sock.sendall(next(turn))) as (plane, _):
        raw = plane.connect()
        assert [raw.send(GET).answer()[0] for _ in range(2)] == [500, 502]
        raw.close()


def test_only_so_many_long_bodies_are_under_way_at_once(tmp_path: Path) -> None:
    gone = threading.Event()
    with behind(tmp_path, lambda _sock: gone.wait(20) and None) as (plane, web):
        raws: list[Raw] = [
            plane.connect().send(POST + b"Content-Length: 900000\r\n\r\n" + b"a" * 70_000) for _ in range(UPLOADS_MAX)
        ]
        wait_until(lambda: len(web.got) == UPLOADS_MAX)
        late = plane.connect().send(POST + b"Content-Length: 900000\r\n\r\n" + b"a" * 70_000)
        assert late.answer()[0] == 503
        late.close()
        short = plane.connect().send(GET)
        wait_until(lambda: len(web.got) == UPLOADS_MAX + 1)
        for raw in raws:
            raw.close()
        wait_until(lambda: plane.do(lambda: plane.plane.uploads) == 0)
        gone.set()
        short.close()
