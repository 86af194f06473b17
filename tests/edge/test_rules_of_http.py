"""Where a request begins and ends, and what is refused, byte by byte over raw sockets."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.edge.routes import Answer, Exchange, Request, Route
from tests.edge.plane import TEXT, BadWeb, RunningPlane, routes_of, running
from tests.running import wait_until

GET = b"GET /echo HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: x\r\n"
EVIL = b"GET /evil HTTP/1.1\r\nHost: x\r\n\r\n"
KEPT: list[Exchange] = []


def keep(exchange: Exchange) -> None:
    KEPT.append(exchange)


def only_small(request: Request) -> Answer | None:
    return Answer(401, TEXT, b"no\n") if request.headers.get("authorization") != "Bearer good" else None


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BadWeb]:
    made = BadWeb(
        tmp_path_factory.mktemp("web") / "web.sock",
        lambda sock: sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage"),
    )
    yield made
    made.close()


@pytest.fixture(scope="module")
def plane(web: BadWeb) -> Iterator[RunningPlane]:
    routes = routes_of(keep=keep)
    routes.add("POST", "/guarded", Route(lambda exchange: exchange.send(Answer(200, TEXT, b"in")), on_head=only_small))
    with running(routes, web.path) as made:
        yield made


def statuses(said: bytes) -> list[int]:
    """Return the statuses of all answers in what a plane said."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]


REFUSED = {
    "a length and chunks": (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunks and a length": (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
    "two equal lengths": (POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    "a length with a sign": (POST + b"Content-Length: +3\r\n\r\nabc", 400),
    "a list of lengths": (POST + b"Content-Length: 3, 3\r\n\r\nabc", 400),
    "a length that overflows": (POST + b"Content-Length: 99999999999999999999\r\n\r\nabc", 400),
    "a length in hex": (POST + b"Content-Length: 0x3\r\n\r\nabc", 400),
    "an empty length": (POST + b"Content-Length:\r\n\r\nabc", 400),
    "an odd coding": (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    "chunks, then identity": (POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    "gzip, then chunks": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "identity": (POST + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400),
    "two codings": (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunks in HTTP/1.0": (b"POST /echo HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "a space before the colon": (POST + b"Content-Length : 3\r\n\r\nabc", 400),
    "a tab before the colon": (POST + b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", 400),
    "a folded line": (POST + b"X-A: b\r\n Content-Length: 3\r\n\r\nabc", 400),
    "a bare line feed": (GET + b"X-A: b\n\r\n", 400),
    "a bare carriage return": (GET + b"X-A: b\rX-B: c\r\n\r\n", 400),
    "a NUL in a field": (GET + b"X-A: b\0c\r\n\r\n", 400),
    "a NUL in a name": (GET + b"X\0A: b\r\n\r\n", 400),
    "a chunk without its end": (POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", 400),
    "a chunk with a bad size": (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n", 400),
    "a chunk with a sign": (POST + b"Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n", 400),
    "a chunk that overflows": (POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc", 400),
    "a chunk ended by a line feed": (POST + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n", 400),
    "HTTP/1.2": (b"GET /echo HTTP/1.2\r\nHost: x\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /echo\r\n\r\n", 400),
    "raw UTF-8 in the target": ("GET /é HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 400),
    "a control character in the target": (b"GET /a\x01b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a space in the target": (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a fragment in the target": (b"GET /echo#a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a whole address as target": (b"GET http://x/echo HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "an asterisk as target": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "no host": (b"GET /echo HTTP/1.1\r\n\r\n", 400),
    "no host in HTTP/1.0": (b"GET /echo HTTP/1.0\r\n\r\n", 400),
    "two hosts": (GET + b"Host: y\r\n\r\n", 400),
    "a host with a path": (b"GET /echo HTTP/1.1\r\nHost: x/y\r\n\r\n", 400),
    "a host with a comma": (b"GET /echo HTTP/1.1\r\nHost: x,y\r\n\r\n", 400),
    "two authorizations": (GET + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", 400),
    "an unknown method": (b"FROB /echo HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a method in small letters": (b"get /echo HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "an upgrade": (GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 501),
    "an upgrade to HTTP/2": (GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n", 501),
    "a tunnel": (b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    "an odd expectation": (POST + b"Expect: 200-maybe\r\nContent-Length: 3\r\n\r\n", 417),
    "a target that is too long": (b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "a field that is too long": (GET + b"X-A: " + b"a" * (40 << 10) + b"\r\n\r\n", 431),
    "a head of a megabyte": (GET + b"X-A: " + b"a" * (1 << 20) + b"\r\n\r\n", 431),
    "a head that never ends": (GET + b"X-A: " + b"a" * (1 << 20), 431),
    "a name that never ends": (GET + b"a" * (1 << 20), 431),
    "many fields": (GET + b"X-A: b\r\n" * 120 + b"\r\n", 431),
    "ten thousand fields": (GET + b"X-A: b\r\n" * 10_000 + b"\r\n", 431),
    "a body that is too long": (POST + b"Content-Length: 1048577\r\n\r\n", 413),
    "chunks that are too long": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n40000\r\n" + b"a" * 0x40000 + b"\r\nc0001\r\n" + b"a" * 0xC0001, 413,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("path", [b"/echo", b"/page"])
def test_what_is_not_http_is_refused_once_and_the_connection_ends(
    plane: RunningPlane, web: BadWeb, name: str, path: bytes
) -> None:
    request, status = REFUSED[name]
    if status == 413 and path == b"/page":
        return  # the control plane has a limit of its own
    web.got.clear()
    said = plane.say(request.replace(b"/echo", path) + EVIL)
    assert statuses(said) == [status], said
    assert b"connection: close" in said.lower()
    assert b"X-Request-Id: req_" in said
    assert web.got == [], "nothing of it may reach the control plane"


@pytest.mark.parametrize("step", [1, 7, 64])
@pytest.mark.parametrize("name", ["a length and chunks", "a folded line", "two hosts", "chunks in HTTP/1.0"])
def test_it_makes_no_difference_in_which_pieces_it_comes(plane: RunningPlane, name: str, step: int) -> None:
    request, status = REFUSED[name]
    raw = plane.connect()
    try:
        for at in range(0, len(request), step):
            raw.send(request[at : at + step])
    except (BrokenPipeError, ConnectionResetError):
        pass  # it was refused before it was whole
    assert statuses(raw.all()) == [status]
    raw.close()


def test_a_long_head_in_many_pieces_is_still_within_its_limit(plane: RunningPlane) -> None:
    raw = plane.connect()
    for _ in range(60):
        raw.send(b"GET /echo HTTP/1.1\r\nHost: x\r\nX-A: " if not _ else b"a" * 512)
    raw.send(b"\r\n\r\n")
    assert raw.answer()[0] == 200
    raw.close()


def test_trailer_fields_are_dropped_and_chunk_extensions_too(plane: RunningPlane, web: BadWeb) -> None:
    body = b"3;a=b\r\nabc\r\n2 ; c\r\nde\r\n0\r\nX-Say: trailer\r\nAuthorization: Bearer other\r\n\r\n"
    head = b"X-Say: head\r\nTransfer-Encoding: chunked\r\n\r\n"
    raw = plane.connect()
    status, _, said = raw.send(POST + head + body.replace(b"2 ; c", b"2;c")).answer()
    assert (status, said) == (200, b"POST /echo [] head abcde")
    web.got.clear()
    raw.send(POST.replace(b"/echo", b"/page") + head + body.replace(b"2 ; c", b"2;c"))
    assert raw.answer()[0] == 200
    (passed,) = web.got
    assert b"trailer" not in passed
    assert raw.send(POST + head + b"0\r\n" + b"X-Say: trailer\r\n" * 150 + b"\r\n").answer()[0] == 200
    assert b"other" not in passed
    assert passed.endswith(b"content-length: 5\r\n\r\nabcde")
    raw.close()


def test_a_body_with_a_get_is_read_and_is_no_next_request(plane: RunningPlane) -> None:
    raw = plane.connect()
    raw.send(GET + b"Content-Length: %d\r\n\r\n" % len(EVIL) + EVIL)
    assert raw.answer()[0] == 200
    raw.send(GET + b"X-Say: next\r\n\r\n")
    assert raw.answer()[2] == b"GET /echo [] next "
    raw.close()


def test_nothing_is_passed_on_that_only_the_plane_may_say(plane: RunningPlane, web: BadWeb) -> None:
    web.got.clear()
    raw = plane.connect()
    raw.send(
        b"GET //page//x%2Fy?a=//b HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\n"
        b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n"
        b"X-Request-Id: mine\r\nConnection: keep-alive, X-Secret\r\nX-Secret: a\r\nKeep-Alive: 5\r\nTE: trailers\r\n"
        b"Proxy-Authorization: b\r\nCookie: a=b\r\nCookie: c=d\r\nAccept: text/html\r\n\r\n"
    )
    status, fields, _ = raw.answer()
    assert status == 200
    assert web.got == [
        b"GET /page/x%2Fy?a=//b HTTP/1.1\r\nhost: x\r\ncookie: a=b\r\ncookie: c=d\r\naccept: text/html\r\n"
        b"x-request-id: " + fields["x-request-id"].encode() + b"\r\nx-forwarded-for: 127.0.0.1\r\n"
        b"connection: close\r\n\r\n"
    ]
    raw.close()


def test_requests_sent_ahead_are_answered_in_order(plane: RunningPlane) -> None:
    raw = plane.connect()
    raw.send(
        b"".join(GET.replace(b"/echo", b"/page" if n == 2 else b"/echo") + b"X-Say: %d\r\n\r\n" % n for n in range(5))
    )
    found = [raw.answer()[2] for _ in range(5)]
    assert found == [b"GET /echo [] 0 ", b"GET /echo [] 1 ", b"page", b"GET /echo [] 3 ", b"GET /echo [] 4 "]
    raw.close()


def test_four_may_wait_and_a_fifth_is_refused_after_the_others_are_answered(plane: RunningPlane) -> None:
    KEPT.clear()
    raw = plane.connect()
    raw.send(GET.replace(b"/echo", b"/keep") + b"\r\n" + b"".join(GET + b"X-Say: %d\r\n\r\n" % n for n in range(5)))
    exchange = wait_until(lambda: KEPT and KEPT[0])
    plane.do(lambda: exchange.send(Answer(200, TEXT, b"kept")))
    said = raw.all()
    assert statuses(said) == [200] * 5 + [400]
    raw.close()


def test_a_long_body_is_not_kept_for_later(plane: RunningPlane) -> None:
    KEPT.clear()
    raw = plane.connect()
    raw.send(GET.replace(b"/echo", b"/keep") + b"\r\n" + POST + b"Content-Length: 200000\r\n\r\n" + b"a" * 200_000)
    exchange = wait_until(lambda: KEPT and KEPT[0])
    plane.do(lambda: exchange.send(Answer(200, TEXT, b"kept")))
    assert statuses(raw.all()) == [200, 400]
    raw.close()


def test_a_client_that_asks_first_is_invited_or_refused_on_its_head_alone(plane: RunningPlane) -> None:
    head = b"POST /guarded HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n"
    raw = plane.connect()
    raw.send(head + b"Authorization: Bearer good\r\n\r\n")
    assert raw.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert raw.send(b"abc").answer()[2] == b"in"
    raw.close()
    raw = plane.connect()
    assert statuses(raw.send(head + b"\r\n").all()) == [401]
    raw.close()
    raw = plane.connect()
    raw.send(head.replace(b"/guarded", b"/page") + b"\r\n")
    assert raw.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert raw.send(b"abc").answer()[2] == b"page"
    raw.close()


@pytest.mark.parametrize("path", [b"/echo", b"/page"])
def test_a_connection_ends_when_the_client_says_so_and_with_http_1_0(plane: RunningPlane, path: bytes) -> None:
    said = plane.say(GET.replace(b"/echo", path) + b"Connection: close\r\n\r\n")
    assert statuses(said) == [200]
    assert b"Connection: close" in said
    for more in (b"", b"Connection: keep-alive\r\n"):
        said = plane.say(b"GET " + path + b" HTTP/1.0\r\nHost: x\r\n" + more + b"\r\n")
        assert statuses(said) == [200]
        assert b"Connection: close" in said
    raw = plane.connect()
    for _ in range(3):
        status, fields, _ = raw.send(GET.replace(b"/echo", path) + b"\r\n").answer()
        assert (status, "connection" in fields) == (200, False)
    raw.close()


def test_a_half_closed_client_counts_as_gone(plane: RunningPlane) -> None:
    import socket

    KEPT.clear()
    raw = plane.connect()
    raw.send(GET.replace(b"/echo", b"/keep") + b"\r\n")
    exchange = wait_until(lambda: KEPT and KEPT[0])
    left: list[bool] = []
    plane.do(lambda: setattr(exchange, "on_left", lambda: left.append(True)))
    raw.sock.shutdown(socket.SHUT_WR)
    wait_until(lambda: left)
    assert exchange.left
    plane.do(lambda: exchange.send(Answer(200, TEXT, b"late")))
    assert raw.all() == b""
    raw.close()


def test_head_gets_the_head_alone(plane: RunningPlane) -> None:
    raw = plane.connect()
    raw.send(b"HEAD /echo HTTP/1.1\r\nHost: x\r\n\r\n")
    head = raw.until(b"\r\n\r\n")
    assert b"Content-Length: 15\r\n" in head
    assert raw.send(GET + b"\r\n").answer()[0] == 200
    raw.close()


def test_a_handler_that_breaks_is_a_500_and_a_field_with_a_line_break_too(plane: RunningPlane, tmp_path: Path) -> None:
    def breaks(_exchange: Exchange) -> None:
        raise RuntimeError("broken")

    def splits(exchange: Exchange) -> None:
        exchange.send(Answer(200, [("X-A", "b\r\nX-Evil: c")], b"x"))

    def late(exchange: Exchange) -> None:
        exchange.begin(200, TEXT)
        exchange.write(b"some")
        raise RuntimeError("broken")

    with running(routes_of(breaks=breaks, splits=splits, late=late)) as made:
        for path in (b"/breaks", b"/splits"):
            said = made.say(GET.replace(b"/echo", path) + b"Connection: close\r\n\r\n")
            assert statuses(said) == [500]
            assert b"X-Evil" not in said
        said = made.say(GET.replace(b"/echo", b"/late") + b"\r\n")
        assert said.endswith(b"4\r\nsome\r\n"), "an answer that was begun is cut"
        assert made.say(b"GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 404 ")
