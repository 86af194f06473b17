"""Handlers of the data plane, mounted in Flask: the handler decides all, this only carries bytes."""

import errno
import re
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, cast

from flask import Flask, Response, g, request

from portal.web.app import request_id
from portal.web.guard import edge

CHUNK = 1 << 20
ASK_AGAIN = 1.0


class FileLike(Protocol):
    """A span of a file to send, with whom to tell how much was sent."""

    path: Path
    start: int
    length: int
    finished: Callable[[int], None]
    allowed: Callable[[], bool]


class AnswerLike(Protocol):
    """What a handler returns."""

    status: int
    headers: list[tuple[str, str]]
    body: Any


def raw_path() -> str:
    """Return the path as the client wrote it, percent-encoded; servers name it differently."""
    uri = request.environ.get("RAW_URI") or request.environ.get("REQUEST_URI") or request.path
    path = str(uri).split("?", 1)[0]
    if not path.startswith("/"):  # a client that takes the portal for its proxy names the whole address
        path = re.sub("^[^/]*//[^/]*", "", path) or "/"
    while "//" in path:
        path = path.replace("//", "/")
    return path


def hung_up() -> Callable[[], bool]:
    """Return a function that says whether the client has closed its connection."""
    connection = request.environ.get("gunicorn.socket")
    if connection is None:
        return lambda: False

    def gone() -> bool:
        try:
            readable, _, _ = select.select([connection], [], [], 0)
            return bool(readable) and connection.recv(1, socket.MSG_PEEK) == b""
        except (OSError, ValueError):
            return True

    return gone


class _Sending:
    """A span of a file on its way; whatever happens, it is told once how many bytes were handed on."""

    def __init__(self, part: FileLike) -> None:
        self.part = part
        self.sent = 0
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        asked = time.monotonic()
        with self.part.path.open("rb") as file:
            file.seek(self.part.start)
            while self.sent < self.part.length:
                if time.monotonic() - asked > ASK_AGAIN:
                    asked = time.monotonic()
                    if not self.part.allowed():
                        # Only a cut connection says that the promised length is not coming.
                        raise ConnectionResetError(errno.ECONNRESET, "the person may no longer have this file")
                data = file.read(min(CHUNK, self.part.length - self.sent))
                if not data:
                    return
                yield data
                self.sent += len(data)

    def close(self) -> None:
        """Tell how much left; called by the server at the end, also when the client never read a byte."""
        if not self.closed:
            self.closed = True
            self.part.finished(self.sent)


def mount(
    app: Flask,
    rule: str,
    methods: list[str],
    handler: Callable[[Any], AnswerLike],
    make_request: Callable[..., Any],
) -> None:
    """Serve a data-plane handler at a Flask rule."""

    @edge
    def view(**_parts: str) -> Response:
        call = make_request(
            method=request.method,
            raw_path=raw_path(),
            query={name: request.args.getlist(name) for name in request.args},
            headers={name.lower(): value for name, value in request.headers.items()},
            body=request.get_data(),
            request_id=request_id(),
            actor=g.get("actor"),
            hung_up=hung_up(),
        )
        answer = handler(call)
        body = answer.body
        if hasattr(body, "finished"):
            body = None if request.method == "HEAD" else _Sending(cast(FileLike, body))
        elif request.method == "HEAD":
            body = None
        response = Response(body, status=answer.status, direct_passthrough=True)
        response.headers.clear()
        for name, value in answer.headers:
            response.headers.add(name, value)
        return response

    app.add_url_rule(rule, f"edge:{rule}", view, methods=methods, provide_automatic_options=False)
