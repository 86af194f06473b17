"""Connections to servers: kept and used again, given up when they misbehave, closed when nobody needs them."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from portal.edge import upstream
from portal.edge.address import Address
from portal.edge.upstream import Call, Connection, Connections
from tests.edge.looping import Looping

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Taken(Call):
    """Keeps what comes of a request."""

    def __init__(self, *, raw: bool = False) -> None:
        super().__init__()
        self.raw, self.status, self.body, self.end = raw, 0, b"", ""
        self.pieces = 0

    def head(self, status: int, _fields: dict[bytes, bytes]) -> bool:
        self.status = status
        return self.raw

    def data(self, data: bytes) -> None:
        self.body += data
        self.pieces += 1

    def done(self) -> None:
        self.end = "done"

    def lost(self, why: str) -> None:
        self.end = why


class Peer:
    """A server of which each accepted connection, and each request on it, is answered as told."""

    def __init__(self, answer: Callable[[int, int], bytes | None]) -> None:
        self.answer, self.accepted, self.asked = answer, 0, 0
        self.open: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = Address("127.0.0.1", self.listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                made, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            self.open.append(made)
            threading.Thread(target=self._serve, args=(made, self.accepted), daemon=True).start()

    def _serve(self, made: socket.socket, number: int) -> None:
        count = 0
        with made:
            while made.recv(65536):
                count += 1
                self.asked += 1
                said = self.answer(number, count)
                if said is None:
                    return
                made.sendall(said)

    def close(self) -> None:
        self.listener.close()


@pytest.fixture
def looping() -> Iterator[Looping]:
    made = Looping()
    yield made
    made.close()


@contextmanager
def server(looping: Looping, answer: Callable[[int, int], bytes | None]) -> Iterator[tuple[Peer, Connections]]:
    peer = Peer(answer)
    connections = Connections(peer.address)
    yield peer, connections
    looping.do(connections.close)
    peer.close()


def ask(looping: Looping, connections: Connections, *, raw: bool = False) -> Taken:
    taken = Taken(raw=raw)
    looping.do(connections.ask, taken, connections.address.request("GET", "/x") + b"\r\n")
    return taken


def answered(looping: Looping, connections: Connections) -> Taken:
    taken = ask(looping, connections)
    looping.until(lambda: taken.end)
    return taken


def test_a_connection_is_used_again_and_again(looping: Looping) -> None:
    with server(looping, lambda _number, _count: WHOLE) as (peer, connections):
        for _ in range(20):
            taken = answered(looping, connections)
            assert (taken.status, taken.body, taken.end) == (200, b"ok", "done")
        assert (peer.accepted, peer.asked) == (1, 20)
        several = [Taken() for _ in range(5)]
        request = connections.address.request("GET", "/x") + b"\r\n"
        looping.do(lambda: [connections.ask(taken, request) for taken in several])
        looping.until(lambda: all(taken.end for taken in several))
        assert peer.accepted == 5
        for _ in range(20):
            answered(looping, connections)
        assert peer.accepted == 5


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n",
    ],
)
def test_a_connection_that_is_not_to_be_used_again_is_not(looping: Looping, said: bytes) -> None:
    with server(looping, lambda _number, _count: said) as (peer, connections):
        assert [answered(looping, connections).body for _ in range(3)] == [b"ok"] * 3
        assert peer.accepted == 3


def test_a_kept_connection_that_was_closed_meanwhile_costs_one_more_try(looping: Looping) -> None:
    with server(looping, lambda _number, count: WHOLE if count == 1 else None) as (peer, connections):
        for _ in range(3):
            assert answered(looping, connections).end == "done"
        assert (peer.accepted, peer.asked) == (3, 5)


def test_a_fresh_connection_that_is_closed_is_a_loss(looping: Looping) -> None:
    with server(looping, lambda _number, _count: None) as (peer, connections):
        assert "closed" in answered(looping, connections).end
        assert peer.asked == 1


def test_bytes_on_a_connection_that_nobody_asked_for_close_it(looping: Looping) -> None:
    with server(looping, lambda _number, _count: WHOLE) as (peer, connections):
        answered(looping, connections)
        peer.open[0].sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother")
        looping.until(lambda: not connections._idle)
        assert answered(looping, connections).body == b"ok"
        assert peer.accepted == 2


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"SSH-2.0\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "closed"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, "without end"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "no HTTP"),
    ],
)
def test_what_is_no_whole_answer_is_a_loss(looping: Looping, said: bytes, why: str) -> None:
    with server(looping, lambda _number, _count: said) as (peer, connections):
        taken = ask(looping, connections)
        looping.until(lambda: taken.end or taken.body)
        if not taken.end:
            peer.open[0].shutdown(socket.SHUT_RDWR)
        looping.until(lambda: taken.end)
        assert why in taken.end
        assert connections.calls == set()


def test_a_word_before_the_answer_is_not_the_answer(looping: Looping) -> None:
    with server(looping, lambda _number, _count: b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" + WHOLE) as (
        _,
        connections,
    ):
        taken = answered(looping, connections)
        assert (taken.status, taken.body) == (200, b"ok")


def test_a_body_that_only_closing_ends_is_whole_then(looping: Looping) -> None:
    with server(looping, lambda _number, _count: b"HTTP/1.1 200 OK\r\n\r\nall of it") as (peer, connections):
        taken = ask(looping, connections)
        looping.until(lambda: taken.body)
        assert taken.end == ""
        peer.open[0].shutdown(socket.SHUT_RDWR)
        looping.until(lambda: taken.end)
        assert (taken.body, taken.end) == (b"all of it", "done")


def test_chunks_come_as_they_are_where_they_are_wanted(looping: Looping) -> None:
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    with server(looping, lambda _number, _count: said) as (peer, connections):
        assert answered(looping, connections).body == b"ok"
        taken = ask(looping, connections, raw=True)
        looping.until(lambda: taken.body)
        assert (taken.body, taken.end) == (b"2\r\nok\r\n0\r\n\r\n", "")
        looping.do(taken.over, keep=True)
        taken = ask(looping, connections, raw=True)
        looping.until(lambda: taken.body)
        looping.do(taken.over, keep=False)
        looping.do(taken.over, keep=False)
        answered(looping, connections)
        assert peer.accepted == 2


def test_nobody_there_is_a_loss(looping: Looping) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        for address in (
            Address("127.0.0.1", probe.getsockname()[1]),
            Address("no such host.invalid"),
            Address("x" * 300 + ".example"),
        ):  # fmt: skip
            assert "cannot be reached" in answered(looping, Connections(address)).end


def test_a_server_that_cannot_speak_tls_cannot_be_reached(looping: Looping) -> None:
    with server(looping, lambda _number, _count: b"plain") as (peer, _):
        address = Address("127.0.0.1", peer.address.port, tls=True)
        assert "cannot be reached" in answered(looping, Connections(address)).end


def test_silence_is_given_up(looping: Looping) -> None:
    for said, times in ((b"", (1.0, 9.0)), (b"HTTP/1.1 200 OK\r\n\r\nx", (9.0, 1.0))):
        with server(looping, lambda _number, _count, said=said: said) as (_, connections):
            connections.first_byte_s, connections.silence_s = times
            taken = ask(looping, connections)
            looping.until(lambda peer=taken, said=said: peer.body if said else connections._open)
            connections.sweep(0.6)
            assert taken.end == ""
            looping.do(connections.sweep, 0.6)
            assert taken.end.startswith("silent")


def test_connections_that_nobody_needs_are_closed(looping: Looping, monkeypatch: pytest.MonkeyPatch) -> None:
    with server(looping, lambda _number, _count: WHOLE) as (_, connections):
        answered(looping, connections)
        looping.do(connections.sweep, 1.0)
        assert len(connections._idle) == 1
        monkeypatch.setattr(upstream, "IDLE_S", -1.0)
        looping.do(connections.sweep, 1.0)
        looping.until(lambda: not connections._open)


def test_letting_go_closes_the_connection_also_while_it_is_being_made(looping: Looping) -> None:
    with server(looping, lambda _number, _count: b"HTTP/1.1 200 OK\r\n\r\nx") as (peer, connections):
        request = connections.address.request("GET", "/x") + b"\r\n"
        taken = Taken()
        looping.do(lambda: (connections.ask(taken, request), taken.cancel()))
        looping.until(lambda: peer.accepted == 1 and not connections._open)
        assert peer.asked == 0
        taken = ask(looping, connections)
        looping.until(lambda: taken.body)
        looping.do(taken.cancel)
        looping.until(lambda: not connections._open)
        assert (taken.end, connections.calls) == ("", set())


def test_what_is_not_taken_stays_with_the_server(looping: Looping) -> None:
    with server(looping, lambda _number, _count: b"HTTP/1.1 200 OK\r\n\r\nx") as (peer, connections):
        taken = ask(looping, connections)
        looping.until(lambda: taken.body)
        looping.do(taken.pause)
        peer.open[0].sendall(b"y")
        looping.turn(0.05)
        assert taken.body == b"x"
        looping.do(taken.resume)
        looping.until(lambda: taken.body == b"xy")


@pytest.mark.parametrize("url", ["gpu.example", "ftp://x", "http://", "http://x/?q", "http://x:port"])
def test_addresses_are_http(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Address.parse(url)


def test_a_connection_that_ends_as_soon_as_it_is_made_is_lost_at_once(
    looping: Looping, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Connection.connection_made

    def made_and_lost(self: Connection, transport: Any) -> None:
        made(self, transport)
        self.connection_lost(None)

    monkeypatch.setattr(Connection, "connection_made", made_and_lost)
    with server(looping, lambda _number, _count: WHOLE) as (_, connections):
        assert answered(looping, connections).end == "closed its connection"
        assert not connections.calls
        assert not connections._open


def test_an_answer_with_the_head_of_an_earlier_one_is_not_parsed(
    looping: Looping, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, parsed = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX: y\r\n\r\n", []
    bodies = [b"one", b"three", b"", b"\r\n\r\n", b"late"]
    awaits = Connection._await_head

    def await_head(self: Connection) -> None:
        parsed.append(self)
        awaits(self)

    monkeypatch.setattr(Connection, "_await_head", await_head)
    answers = [head % len(body) + body for body in bodies]
    with server(looping, lambda _number, count: answers[count - 1]) as (peer, connections):
        for body in bodies:
            taken = answered(looping, connections)
            assert (taken.status, taken.body, taken.end) == (200, body, "done")
        assert (peer.accepted, len(parsed)) == (1, 1)
