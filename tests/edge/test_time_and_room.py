"""Clients that are slow, silent or many: each is given its time and its room, and no more."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.edge import plane as rules
from portal.edge.head import for_web, origin, trusts
from portal.edge.protocol import BODY_S, HEAD_S, IDLE_S, LINGER_S, READER_S
from portal.edge.routes import Answer, Exchange, FileBody
from tests.edge.plane import TEXT, BadWeb, Raw, RunningPlane, routes_of, running
from tests.running import wait_until

GET = b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n"
KNOWN = b"Authorization: Bearer good\r\n"


class Handlers:
    """Handlers that keep what they are given."""

    def __init__(self) -> None:
        self.kept: list[Exchange] = []
        self.left: list[Exchange] = []
        self.flow: list[str] = []

    def keep(self, exchange: Exchange) -> None:
        exchange.on_left = lambda: self.left.append(exchange)
        exchange.on_pause = lambda: self.flow.append("pause")
        exchange.on_resume = lambda: self.flow.append("resume")
        self.kept.append(exchange)

    def token(self, exchange: Exchange) -> None:
        good = exchange.request.headers.get("authorization") == "Bearer good"
        exchange.send(Answer(200 if good else 401, TEXT, b"x"))


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@pytest.fixture
def plane(handlers: Handlers) -> Iterator[RunningPlane]:
    with running(routes_of(keep=handlers.keep, token=handlers.token)) as made:
        yield made


def opened(plane: RunningPlane, count: int) -> None:
    wait_until(lambda: plane.do(lambda: len(plane.plane.connections)) == count)


@pytest.mark.threat("TM-33")
def test_a_head_that_does_not_come_is_not_waited_for(plane: RunningPlane) -> None:
    silent, slow = plane.connect(), plane.connect()
    slow.send(b"GET /echo HTTP/1.1\r\nX-A: ")
    wait_until(lambda: plane.do(lambda: any(c.incoming for c in plane.plane.connections)))
    plane.later(HEAD_S - 3)
    slow.send(b"b")  # a byte now and then gains no time
    opened(plane, 2)
    plane.later(4)
    assert silent.all() == b""
    assert b"HTTP/1.1 408 " in slow.all()
    silent.close()
    slow.close()


@pytest.mark.threat("TM-33")
def test_a_body_must_come_at_a_kibibyte_a_second(plane: RunningPlane) -> None:
    raw = plane.connect()
    raw.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"a" * 50_000)
    wait_until(lambda: plane.do(lambda: [c.incoming.size for c in plane.plane.connections if c.incoming] == [50_000]))
    plane.later(BODY_S + 40)
    opened(plane, 1)
    plane.later(10)
    assert b"HTTP/1.1 408 " in raw.all()
    raw.close()


def test_an_idle_connection_is_closed_without_a_word(plane: RunningPlane) -> None:
    raw = plane.connect().send(GET)
    assert raw.answer()[0] == 200
    plane.later(IDLE_S - 5)
    assert raw.send(GET).answer()[0] == 200
    # The kernel may not have heard yet that the answer arrived, and that counts as progress.
    wait_until(lambda: plane.later(IDLE_S + 1) or not plane.do(lambda: plane.plane.connections))
    assert raw.all() == b""
    raw.close()


def test_a_refused_client_that_goes_on_sending_is_cut_after_a_moment(plane: RunningPlane) -> None:
    raw = plane.connect().send(b"nonsense\r\n\r\n")
    raw.until(b"\r\n\r\n")
    opened(plane, 1)
    raw.send(b"more and more")
    plane.later(LINGER_S + 1)
    opened(plane, 0)
    raw.close()


def test_a_reader_that_takes_nothing_is_cut_and_a_slow_one_is_not(plane: RunningPlane, handlers: Handlers) -> None:
    raw = plane.connect().send(GET.replace(b"echo", b"keep"))
    exchange = wait_until(lambda: handlers.kept and handlers.kept[0])
    plane.do(lambda: exchange.begin(200, TEXT))

    def fill() -> int:
        written = 0
        while not plane.do(lambda: exchange.write(b"a" * 100_000) or exchange.paused):
            written += 100_000
        return written

    written = fill()
    assert handlers.flow == ["pause"]
    for _ in range(3):
        raw.exactly(written // 3)  # the kernels on both sides keep much, and say little of it
        plane.later(READER_S + 1)
        opened(plane, 1)
        fill()
    wait_until(lambda: plane.later(READER_S + 1) or not plane.do(lambda: plane.plane.connections))
    assert handlers.left == [exchange]
    raw.close()


def test_a_reader_that_goes_on_lets_the_writer_go_on(plane: RunningPlane, handlers: Handlers) -> None:
    raw = plane.connect().send(GET.replace(b"echo", b"keep"))
    exchange = wait_until(lambda: handlers.kept and handlers.kept[0])
    plane.do(lambda: exchange.begin(200, TEXT))
    written = 0
    while not plane.do(lambda: exchange.write(b"a" * 100_000) or exchange.paused):
        written += 100_000
    raw.until(b"\r\n\r\n")
    raw.exactly(written)
    wait_until(lambda: handlers.flow == ["pause", "resume"])
    plane.do(exchange.end)
    raw.until(b"0\r\n\r\n")
    assert raw.send(GET).answer()[0] == 200
    raw.close()


def many(plane: RunningPlane, count: int) -> list[Raw]:
    made = [plane.connect() for _ in range(count)]
    opened(plane, count)
    return made


def test_an_address_has_so_many_connections_without_an_access_token(
    plane: RunningPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "CROWD_MAX", 3)
    raws = many(plane, 4)
    status, _, body = raws[0].send(GET).answer()
    assert (status, b"access token" in body) == (503, True)
    opened(plane, 4)
    raws[0].close()
    opened(plane, 3)
    assert [raw.send(GET).answer()[0] for raw in raws[1:]] == [200] * 3
    more = [plane.connect() for _ in range(9)]
    for raw in more:  # who shows a token that is known does not count
        assert raw.send(b"GET /token HTTP/1.1\r\nHost: x\r\n" + KNOWN + b"\r\n").answer()[0] == 200
    assert [raw.send(GET).answer()[0] for raw in raws[1:]] == [200] * 3
    bad = plane.connect().send(b"GET /token HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer bad\r\n\r\n")
    assert bad.answer()[1]["connection"] == "close"
    for raw in [*raws, *more, bad]:
        raw.close()
    opened(plane, 0)
    assert plane.do(lambda: dict(plane.plane.by_address)) == {}


def test_what_nobody_looks_at_does_not_pass_for_an_access_token(
    plane: RunningPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "CROWD_MAX", 3)
    raws = many(plane, 4)
    answers = [raw.send(b"GET /echo HTTP/1.1\r\nHost: x\r\nAuthorization: junk\r\n\r\n").answer() for raw in raws]
    assert answers[0][0] == 200
    assert answers[0][1]["connection"] == "close"
    assert not any(plane.do(lambda: [c.proven for c in plane.plane.connections]))
    for raw in raws:
        raw.close()


def test_a_client_that_takes_no_answers_is_not_read_from(plane: RunningPlane, handlers: Handlers) -> None:
    raw = plane.connect()
    held = 0
    for number in range(400):
        try:
            raw.sock.settimeout(0.2)
            raw.send(GET.replace(b"echo", b"keep"))
            exchange = wait_until(lambda n=number: len(handlers.kept) > n and handlers.kept[n], 0.5)
        except AssertionError:
            break
        plane.do(lambda e=exchange: e.send(Answer(200, TEXT, b"a" * 200_000)))
    held = plane.do(lambda: [c.transport.get_write_buffer_size() for c in plane.plane.connections])
    assert held[0] < 1 << 20
    raw.sock.settimeout(10)
    for _ in handlers.kept[:]:
        assert len(raw.answer()[2]) == 200_000
    last = wait_until(lambda: handlers.kept[number:])[0]  # what waited meanwhile is answered as well
    plane.do(lambda: last.send(Answer(200, TEXT, b"done")))
    assert raw.answer()[2] == b"done"
    raw.close()


def test_silent_connections_of_one_address_and_all_together_have_an_end(
    plane: RunningPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "SILENT_MAX", 5)
    raws = many(plane, 5)
    assert b"HTTP/1.1 503 " in plane.connect().all()
    assert raws[0].send(b"GET /token HTTP/1.1\r\nHost: x\r\n" + KNOWN + b"\r\n").answer()[0] == 200
    raws.append(plane.connect())
    opened(plane, 6)
    monkeypatch.setattr(rules, "CONNECTIONS_MAX", 6)
    refused = plane.connect().all()
    assert b"HTTP/1.1 503 " in refused
    assert b"Retry-After: 5" in refused
    for raw in raws:
        raw.close()


@pytest.mark.threat("TM-29")
@pytest.mark.parametrize(
    ("peer", "fields", "expected"),
    [
        ("9.9.9.9", [(b"x-forwarded-for", b"1.2.3.4"), (b"x-forwarded-proto", b"https")], ("9.9.9.9", "")),
        ("10.0.0.1", [(b"x-forwarded-for", b"1.2.3.4"), (b"x-forwarded-proto", b"https")], ("1.2.3.4", "https")),
        ("10.0.0.1", [(b"x-forwarded-for", b"6.6.6.6, 1.2.3.4, 10.0.0.2")], ("1.2.3.4", "")),
        ("10.0.0.1", [(b"x-forwarded-for", b"6.6.6.6"), (b"x-forwarded-for", b"1.2.3.4")], ("1.2.3.4", "")),
        ("10.0.0.1", [(b"x-forwarded-for", b"6.6.6.6, <script>")], ("10.0.0.1", "")),
        ("10.0.0.1", [(b"x-forwarded-for", b"6.6.6.6, evil, 10.0.0.2")], ("10.0.0.2", "")),
        ("10.0.0.1", [(b"x-forwarded-proto", b"gopher")], ("10.0.0.1", "")),
        ("10.0.0.1", [], ("10.0.0.1", "")), ("", [(b"x-forwarded-for", b"1.2.3.4")], ("", "")),
    ],
)  # fmt: skip
def test_only_a_trusted_proxy_may_say_whose_request_it_is(
    peer: str, fields: list[tuple[bytes, bytes]], expected: tuple[str, str]
) -> None:
    from portal.core.config import Settings

    networks = Settings(trusted_proxies=("10.0.0.0/8",)).proxies
    assert origin(peer, fields, trusts(networks)) == expected
    assert origin(peer, fields, trusts(())) == (peer, "")


def test_behind_a_trusted_proxy_the_control_plane_sees_the_client(tmp_path: Path) -> None:
    from portal.core.config import Settings

    web = BadWeb(tmp_path / "web.sock", lambda sock: sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    proxies = Settings(trusted_proxies=("127.0.0.1",)).proxies
    with running(routes_of(), web.path, proxies=proxies) as plane:
        raw = plane.connect()
        raw.send(
            b"GET /page HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 9.9.9.9, 2001:db8::1\r\n"
            b"X-Forwarded-Proto: https\r\n\r\n"
        )
        assert raw.answer()[0] == 200
        assert b"\r\nx-forwarded-for: 2001:db8::1\r\nx-forwarded-proto: https\r\n" in web.got[0]
        raw.close()
    web.close()


def test_at_the_end_idle_ones_go_running_ones_finish_and_then_are_cut_and_told(handlers: Handlers) -> None:
    made = RunningPlane(routes_of(keep=handlers.keep))
    made.start()
    idle, ends, stays = (
        made.connect().send(GET),
        *(made.connect().send(GET.replace(b"echo", b"keep")) for _ in range(2)),
    )
    assert idle.answer()[0] == 200
    first, second = wait_until(lambda: handlers.kept[1:] and handlers.kept)
    if first._connection.transport.get_extra_info("peername") != ends.sock.getsockname():  # type: ignore[attr-defined]
        first, second = second, first
    for exchange in (first, second):
        made.do(lambda exchange=exchange: (exchange.begin(200, TEXT), exchange.write(b"some")))
    import asyncio

    stopping = asyncio.run_coroutine_threadsafe(made.plane.stop(30), made.loop)
    assert idle.all() == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", made.port), 1)
    made.do(lambda: first.end(b"the rest"))
    assert ends.all().endswith(b"8\r\nthe rest\r\n0\r\n\r\n")
    assert not stopping.done()
    made.do(made.plane.hurry)
    assert stays.all().endswith(b"4\r\nsome\r\n")
    stopping.result(10)
    assert handlers.left == [second]
    made.loop.call_soon_threadsafe(made.loop.stop)
    made.thread.join(10)
    for raw in (idle, ends, stays):
        raw.close()


def test_a_file_that_cannot_be_opened_is_a_500_and_told(tmp_path: Path) -> None:
    told: list[int] = []

    def gone(exchange: Exchange) -> None:
        exchange.send(Answer(200, TEXT, FileBody(tmp_path / "none", 0, 9, told.append)))

    with running(routes_of(gone=gone)) as plane:
        raw = plane.connect().send(GET.replace(b"echo", b"gone"))
        assert raw.answer()[0] == 500
        assert told == [0]
        raw.close()


def test_a_client_cannot_have_the_host_taken_out() -> None:
    fields = [(b"host", b"a"), (b"connection", b"close, host, x-hop"), (b"x-hop", b"y")]
    head = for_web("GET", b"/", fields, length=0, ours=[])
    assert head == b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
