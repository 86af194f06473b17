"""Heads that are the same again: they mean what the parser once found, and nothing else passes for them."""

from typing import Any

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.edge import protocol
from portal.edge.known import HEAD_MAX, known_head
from portal.edge.routes import Answer, Exchange, Route, Routes
from tests.edge.plane import TEXT, RunningPlane, running

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nAuthorization: Bearer t\r\n\r\n"


def message(body: bytes) -> bytes:
    return HEAD % len(body) + body


def test_a_head_is_known_again_with_a_body_of_any_length() -> None:
    known = known_head(message(b"four"), 4)
    assert known is not None
    for body in (b"four", b"", b"x" * 70_000, b"\r\n\r\n", message(b"inside")):
        assert known.body_of(message(body)) == body


@pytest.mark.parametrize(
    "data",
    [
        message(b"four") + b"x",
        message(b"four")[:-1],
        message(b"four") * 2,
        b"\r\n" + message(b"four"),
        (HEAD % 4).replace(b"4", b"+4") + b"four",
        (HEAD % 4).replace(b"4", b" 4") + b"four",
        (HEAD % 4).replace(b"4", b"4,4") + b"four",
        (HEAD % 4).replace(b"4", b"") + b"four",
        (HEAD % 4).replace(b"4", b"\xb2") + b"four",
        (HEAD % 4).replace(b"4", b"000000004") + b"four",
        (HEAD % 4).replace(b"4", b"4\r\nTransfer-Encoding: chunked") + b"four",
        (HEAD % 4).replace(b"\r\n\r\n", b"\r\nX: y\r\n\r\n") + b"four",
        (HEAD % 4).replace(b"Bearer t", b"Bearer u") + b"four",
        (HEAD % 4).replace(b"\r\n\r\n", b"\n\n") + b"four",
        b"",
        HEAD,
    ],
)
def test_what_differs_is_not_known(data: bytes) -> None:
    known = known_head(message(b"four"), 4)
    assert known is not None
    assert known.body_of(data) is None


@pytest.mark.parametrize(
    ("data", "length"),
    [
        (message(b"four"), 3),
        (message(b"four") + b"\r\n", 4),
        (message(b"\r\nxx") + b"\r\n", 4),
        (b"\r\n\r\n" + message(b"four"), 4),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 0),
        (b"GET / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", 0),
        (b"GET / HTTP/1.1\r\nContent-Length: 0\r\nX: " + b"y" * HEAD_MAX + b"\r\n\r\n", 0),
        (b"", 0),
    ],
)
def test_only_what_is_one_whole_message_is_learned(data: bytes, length: int) -> None:
    assert known_head(data, length) is None


PIECES = st.sampled_from([
    b"POST / HTTP/1.1\r\n", b"Host: x\r\n", b"Content-Length: 2\r\n", b"content-length:2\r\n", b"X: \r\n", b"\r\n",
    b"Content-Length: 02\r\n", b"Transfer-Encoding: chunked\r\n", b"\n", b"ab", b"2\r\nab\r\n", b"0\r\n\r\n", b"\r",
    b" folded\r\n",
])  # fmt: skip


class Parsed:
    """Takes down what the parser finds."""

    def __init__(self, data: bytes) -> None:
        self.messages: list[bytes] = []
        self.body = b""
        self.parser: Any = httptools.HttpRequestParser(self)
        try:
            self.parser.feed_data(data)
            self.good = True
        except httptools.HttpParserError:
            self.good = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.messages.append(self.body)
        self.body = b""


@settings(max_examples=100, deadline=None)
@given(st.lists(PIECES, min_size=3, max_size=8), st.lists(PIECES, max_size=4), st.binary(max_size=3))
def test_the_parser_finds_the_same(learned: list[bytes], behind: list[bytes], body: bytes) -> None:
    first = b"".join(learned)
    found = Parsed(first)
    if not found.good or len(found.messages) != 1:
        return
    known = known_head(first, len(found.messages[0]))
    for data in (first, first + b"".join(behind), first.replace(b"2\r\n", b"%d\r\n" % len(body), 1)[:-2] + body):
        taken = known.body_of(data) if known is not None else None
        if taken is not None:
            again = Parsed(data)
            assert (again.good, again.messages) == (True, [taken])


def test_a_known_client_is_not_parsed_and_everybody_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies: list[bytes] = []
    taken: list[bool] = []

    def keep(exchange: Exchange) -> None:
        bodies.append(exchange.request.body)
        exchange.send(Answer(200, TEXT, exchange.request.body))

    real = protocol.Connection._comes_again

    def watched(self: Any, *args: Any) -> bool:
        taken.append(real(self, *args))
        return taken[-1]

    monkeypatch.setattr(protocol.Connection, "_comes_again", watched)
    routes = Routes()
    routes.add("POST", "/v1/completions", Route(keep, body_limit=10, knows=True))
    with running(routes) as plane:
        assert_answers(plane, [b"one", b"three", b"", b"\r\n\r\n"])
        assert taken == [True, True, True]
        raw = plane.connect()
        assert raw.send(message(b"one")).answer()[2] == b"one"
        assert raw.send(message(b"eleven more")).answer()[0] == 413
        raw.close()
    assert bodies == [b"one", b"three", b"", b"\r\n\r\n", b"one"]
    assert taken == [True, True, True, False]


def assert_answers(plane: RunningPlane, bodies: list[bytes]) -> None:
    raw = plane.connect()
    for body in bodies:
        assert raw.send(message(body)).answer()[2] == body
    raw.close()
