"""Stand-ins for what lies outside the portal: a small OpenAI-shaped engine that behaves as it is told."""

import json
import socket
import socketserver
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

EVENTS = {"garbage": "data: no JSON", "report": 'data: {"error": {"message": "out of memory"}}'}


class FakeEngine:
    """Serves HTTP on a Unix socket and answers completions by the word `behave`.

    `answer` writes `words`, one event each; `die` goes away after two of them, `die_first` before any, `die_late` after
    the last one but without the closing event; `stall` writes two and then waits for `go_on`; `silent` waits before
    the head; `sleep` waits after the head; a number is an error status; `garbage` is no JSON; `report` is an error
    event; `slow` writes a word each 50 ms for as long as somebody listens, and `flood` as many as they take.
    """

    def __init__(self, path: Path, models: tuple[str, ...] = ("lab/tiny",)) -> None:
        self.path = path
        self.models = models
        self.behave: str | int = "answer"
        self.words = ["once", " upon", " a", " time"]
        self.calls: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.accepted = 0
        self.live: set[socket.socket] = set()
        self.left = threading.Event()
        self.go_on = threading.Event()
        self.usage: dict[str, int] | None = {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}
        self.error: Any = {"error": {"message": "top_p is too large", "param": "top_p", "code": "bad_top_p"}}
        self.line_end = "\n"
        self._server: socketserver.ThreadingUnixStreamServer | None = None

    def start(self) -> "FakeEngine":
        self.path.unlink(missing_ok=True)
        engine = self

        class Handler(_Handler):
            fake = engine

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self._server = Server(str(self.path), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        self.go_on.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            for connection in list(self.live):
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self.path.unlink(missing_ok=True)

    @property
    def completions(self) -> list[dict[str, Any]]:
        return self.calls


class _Handler(BaseHTTPRequestHandler):
    fake: FakeEngine
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.fake.accepted += 1
        self.fake.live.add(self.connection)

    def finish(self) -> None:
        self.fake.live.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        status = 500 if self.fake.behave == 500 else 200
        data = [{"id": name} for name in self.fake.models]
        self.whole(status, {"object": "list", "data": data})

    def do_POST(self) -> None:
        fake = self.fake
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        fake.headers.append({name.lower(): value for name, value in self.headers.items()})
        fake.calls.append(body)
        if isinstance(fake.behave, int):
            self.whole(fake.behave, fake.error)
            return
        if fake.behave == "die_first":
            self.drop()
            return
        if fake.behave == "silent" and not self.wait():
            return
        try:
            (self.stream if body.get("stream") else self.unstreamed)(body)
        except OSError:  # the other side left before anything was written
            self.close_connection = True
            fake.left.set()

    def unstreamed(self, body: dict[str, Any]) -> None:
        fake = self.fake
        if fake.behave == "garbage":
            self.whole(200, "no object")
            return
        choice = {"index": 0, "text": "".join(fake.words), "finish_reason": "stop", "logprobs": None}
        value = {"id": "cmpl-1", "object": "text_completion", "model": body["model"], "choices": [choice]}
        if fake.usage is not None:
            value["usage"] = fake.usage
        if fake.behave in {"sleep", "die"}:
            data = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[:10])
            if fake.behave == "die" or not self.wait():
                self.drop()
                return
            self.wfile.write(data[10:])
            return
        self.whole(200, value)

    def stream(self, body: dict[str, Any]) -> None:
        fake = self.fake
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("X-Engine-Secret", "not for clients")
        self.end_headers()
        if fake.behave == "sleep" and not self.wait():
            return
        if isinstance(fake.behave, str) and fake.behave in EVENTS:
            self.piece(EVENTS[fake.behave])
        elif fake.behave in {"slow", "flood"}:
            self.on_and_on(body, 0.05 if fake.behave == "slow" else 0.0)
        else:
            self.words(body)

    def on_and_on(self, body: dict[str, Any], pause: float) -> None:
        with suppress(OSError):
            while not self.fake.go_on.is_set():
                self.word(body, " word")
                time.sleep(pause)
        self.fake.left.set()

    def words(self, body: dict[str, Any]) -> None:
        fake = self.fake
        for number, word in enumerate(fake.words):
            if number == 2 and (fake.behave == "die" or (fake.behave == "stall" and not self.wait())):
                self.drop()
                return
            self.word(body, word)
        if fake.usage is not None and body.get("stream_options", {}).get("include_usage"):
            self.piece("data: " + json.dumps({"model": body["model"], "choices": [], "usage": fake.usage}))
        if fake.behave != "die_late":
            self.piece(": a comment")
            self.piece("data: [DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def word(self, body: dict[str, Any], text: str) -> None:
        choice = {"index": 0, "text": text, "finish_reason": None, "logprobs": None}
        value = {"id": "cmpl-1", "object": "text_completion", "model": body["model"], "choices": [choice]}
        self.piece("data: " + json.dumps(value))

    def piece(self, event: str) -> None:
        data = (event + self.fake.line_end * 2).encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def wait(self) -> bool:
        """Wait until told to go on; False if the other side left meanwhile."""
        self.connection.settimeout(0.02)
        while not self.fake.go_on.is_set():
            try:
                if self.connection.recv(1) == b"":
                    self.fake.left.set()
                    self.close_connection = True
                    return False
            except TimeoutError:
                continue
            except OSError:
                self.fake.left.set()
                return False
        self.connection.settimeout(None)
        return True

    def drop(self) -> None:
        self.close_connection = True

    def whole(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
