"""Files over real connections: exact bytes, to readers of every kind, and what is known of their end."""

import os
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.edge.protocol import READER_S
from portal.edge.routes import Answer, Exchange, FileBody
from portal.edge.sendfile import FileSender
from tests.edge.plane import TEXT, Raw, RunningPlane, routes_of, running
from tests.running import wait_until

MIB = 1 << 20
GET = b"GET /file HTTP/1.1\r\nHost: x\r\n"


class Shelf:
    """A file, a handler that sends spans of it, and what the handler was told."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.body = random.Random(1).randbytes(size)
        path.write_bytes(self.body)
        self.told: list[int] = []
        self.exchanges: list[Exchange] = []

    def file(self, exchange: Exchange) -> None:
        first, last = exchange.request.headers.get("range", f"0-{len(self.body) - 1}").split("-")
        body = FileBody(self.path, int(first), int(last) + 1 - int(first), self.told.append)
        self.exchanges.append(exchange)
        exchange.send(Answer(200, TEXT, body))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("files") / "big.bin", 12 * MIB + 12_345)


@pytest.fixture
def plane(shelf: Shelf) -> Iterator[RunningPlane]:
    shelf.told.clear()
    shelf.exchanges.clear()
    with running(routes_of(file=shelf.file)) as made:
        yield made


def test_a_file_for_which_there_is_no_descriptor_is_refused_and_told(
    plane: RunningPlane, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise OSError(24, "Too many open files")

    raw = plane.connect()
    with monkeypatch.context() as patch:
        patch.setattr("portal.edge.sendfile.os.dup", broken)
        assert raw.send(GET + b"\r\n").answer()[0] == 500
    with monkeypatch.context() as patch:
        patch.setattr("portal.edge.sendfile.os.open", broken)
        assert raw.send(GET + b"\r\n").answer()[0] == 500
    assert shelf.told == [0, 0]
    raw.close()


@pytest.fixture(params=["warm", "cold", "unknown"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether the file lies in memory; on some file systems nobody can say."""
    kind = str(request.param)
    if kind != "warm":
        error = BlockingIOError if kind == "cold" else OSError

        def probe(*_args: object) -> int:
            raise error

        monkeypatch.setattr(os, "preadv", probe)
    return kind


def test_a_file_and_its_spans_arrive_exactly_and_the_connection_goes_on(
    plane: RunningPlane, shelf: Shelf, memory: str
) -> None:
    del memory
    raw = plane.connect()
    assert raw.send(GET + b"\r\n").answer()[2] == shelf.body
    for first, last in ((0, 0), (5, 4 * MIB), (len(shelf.body) - 1, len(shelf.body) - 1), (7, 6)):
        status, fields, body = raw.send(GET + b"Range: %d-%d\r\n\r\n" % (first, last)).answer()
        assert (status, fields["content-length"], body) == (200, str(last + 1 - first), shelf.body[first : last + 1])
    assert raw.send(b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n").answer()[0] == 200
    wait_until(lambda: len(shelf.told) == 5)
    assert shelf.told == [len(shelf.body), 1, 4 * MIB - 4, 1, 0]
    raw.send(GET.replace(b"GET", b"HEAD") + b"\r\n")
    assert b"Content-Length: %d\r\n" % len(shelf.body) in raw.until(b"\r\n\r\n")
    raw.close()
    assert len(shelf.told) == 5, "for a head alone nothing is told"


def test_heads_and_files_asked_for_ahead_keep_their_order(plane: RunningPlane, shelf: Shelf) -> None:
    raw = plane.connect()
    echo = b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n"
    raw.send(echo + GET + b"Range: 3-2000000\r\n\r\n" + echo + GET + b"Range: 9-99\r\n\r\n")
    assert raw.answer()[2].startswith(b"GET /echo")
    assert raw.answer()[2] == shelf.body[3:2000001]
    assert raw.answer()[2].startswith(b"GET /echo")
    assert raw.answer()[2] == shelf.body[9:100]
    raw.close()
    wait_until(lambda: sorted(shelf.told) == [91, 1999998])


def test_a_file_waits_for_the_answer_before_it(shelf: Shelf) -> None:
    def big(exchange: Exchange) -> None:
        exchange.send(Answer(200, TEXT, b"b" * (16 * MIB)))

    with running(routes_of(file=shelf.file, big=big)) as plane:
        raw = plane.connect()
        raw.send(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n" + GET + b"Range: 5-99\r\n\r\n")
        wait_until(lambda: plane.do(lambda: any(c.senders for c in plane.plane.connections)))
        assert raw.answer()[2] == b"b" * (16 * MIB)
        assert raw.answer()[2] == shelf.body[5:100]
        raw.close()


def test_http_1_0_gets_the_file_and_the_end(plane: RunningPlane, shelf: Shelf) -> None:
    said = plane.say(GET.replace(b"1.1", b"1.0") + b"\r\n")
    assert said.endswith(shelf.body)
    wait_until(lambda: shelf.told == [len(shelf.body)])


def small(plane: RunningPlane) -> Raw:
    """Ask for the file over a connection that takes little, and read a mebibyte of it."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    made.connect(("127.0.0.1", plane.port))
    raw = Raw(made).send(GET + b"\r\n")
    raw.until(b"\r\n\r\n")
    raw.exactly(1 * MIB)

    def stuck() -> bool:
        (connection,) = plane.plane.connections
        (sender,) = connection.senders
        return bool(sender._writing) and sender.handed > MIB

    wait_until(lambda: plane.do(stuck))
    return raw


def test_a_cut_takes_back_what_the_kernel_holds(plane: RunningPlane, shelf: Shelf) -> None:
    raw = small(plane)
    (exchange,) = shelf.exchanges
    plane.do(exchange.abort)
    (told,) = wait_until(lambda: shelf.told)
    assert 2 * len(raw.all()) <= MIB, "what the reader's own small buffer held, and not what waited on our side"
    assert told <= MIB + (1 << 19)
    raw.close()


@pytest.mark.parametrize("end", ["close", "reset", "sleep"])
def test_what_is_told_is_what_arrived_and_not_what_the_kernel_holds(
    plane: RunningPlane, shelf: Shelf, memory: str, end: str
) -> None:
    del memory
    raw = small(plane)
    if end == "sleep":
        wait_until(lambda: plane.later(READER_S + 1) or not plane.do(lambda: plane.plane.connections))
    else:
        if end == "reset":
            raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        raw.close()
    (told,) = wait_until(lambda: shelf.told)
    assert MIB <= told <= MIB + (1 << 20), "what was read, and what one small buffer may hold"
    assert told < len(shelf.body) - 2 * MIB
    raw.close()


def test_a_file_that_is_shorter_than_promised_is_cut(plane: RunningPlane, shelf: Shelf, memory: str) -> None:
    del memory
    raw = plane.connect().send(GET + b"Range: 100-99999999\r\n\r\n")
    raw.until(b"\r\n\r\n")
    assert shelf.body[100:].startswith(raw.all())
    (told,) = wait_until(lambda: shelf.told)
    assert told <= len(shelf.body) - 100
    raw.close()


def test_a_sending_that_is_aborted_is_cut_and_told(plane: RunningPlane, shelf: Shelf, memory: str) -> None:
    del memory
    raw = plane.connect().send(GET + b"\r\n")
    raw.until(b"\r\n\r\n")
    (exchange,) = shelf.exchanges
    wait_until(lambda: plane.do(lambda: any(s.handed for c in plane.plane.connections for s in c.senders)))
    plane.do(exchange.abort)
    assert len(raw.all()) < len(shelf.body)
    (told,) = wait_until(lambda: shelf.told)
    assert told < len(shelf.body)
    raw.close()


def test_many_slow_readers_are_all_served_while_others_are_answered_at_once(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "slow.bin", 9 * MIB)
    with running(routes_of(file=shelf.file)) as plane:
        raws = [plane.connect().send(GET + b"Authorization: Bearer x\r\n\r\n") for _ in range(256)]
        for raw in raws:
            raw.until(b"\r\n\r\n")
        assert threading.active_count() < 30, "a slow reader takes no thread"
        other = plane.connect()
        assert other.send(b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n").answer()[0] == 200
        for raw in raws[:32]:
            assert raw.exactly(len(shelf.body)) == shelf.body
        for raw in [*raws, other]:
            raw.close()
        wait_until(lambda: len(shelf.told) == 256)
        assert shelf.told.count(len(shelf.body)) >= 32
        assert plane.do(lambda: (len(plane.plane.connections), FileSender.active)) == (0, 0)


def test_nothing_stays_open_behind_a_file(plane: RunningPlane, shelf: Shelf) -> None:
    raw = plane.connect()
    raw.send(GET + b"Range: 0-9\r\n\r\n").answer()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        raw.send(GET + b"Range: 0-999999\r\n\r\n").answer()
    wait_until(lambda: len(shelf.told) == 21)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
    raw.close()


def test_who_asks_for_more_without_reading_has_not_got_all(tmp_path: Path) -> None:
    shelf, seen = Shelf(tmp_path / "small.bin", 60_000), threading.Event()

    def see(exchange: Exchange) -> None:
        seen.set()
        exchange.send(Answer(200, TEXT, b""))

    with running(routes_of(file=shelf.file, seen=see)) as plane:
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        line.connect(("127.0.0.1", plane.port))
        line.sendall(GET + b"\r\n")
        wait_until(lambda: plane.do(lambda: [s for c in plane.plane.connections for s in c.senders if not s.sending]))
        line.sendall(b"GET /seen HTTP/1.1\r\nHost: x\r\n\r\n")
        assert seen.wait(10)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        line.close()
        wait_until(lambda: shelf.told)
    assert shelf.told[0] < len(shelf.body)
