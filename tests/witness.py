"""A witness of logs (c2sp.org/tlog-witness) on a free port of this machine, which can also be wrong or away."""

import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from portal.adapters.witnesses import Witness
from portal.proofs import rules
from portal.witnesses.rules import COSIGNATURE, cosigned_bytes, cosigner_id


@dataclass
class Wit:
    """The witness.

    Attributes:
        mood: ``well``, ``error``, ``garbage``, ``forged`` (a signature of something else), ``yesterday``, ``stranger``
            (only the word of somebody else) or ``ahead`` (it claims to have seen more).
        seen: size and root of what it saw last.
        asked: the old sizes that it was asked from.
    """

    name: str = "witness.example/w1"
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    url: str = ""
    mood: str = "well"
    seen: tuple[int, bytes] = (0, rules.EMPTY_ROOT)
    asked: list[int] = field(default_factory=list)

    @property
    def public(self) -> bytes:
        """Its key."""
        return self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def vkey(self) -> str:
        """Its key as verifiers read it."""
        kind = rules.base64(COSIGNATURE + self.public)
        return f"{self.name}+{cosigner_id(self.name, self.public).hex()}+{kind}"

    def door(self) -> Witness:
        """How a portal asks it."""
        return Witness(self.name, self.public, self.url)

    def cosign(self, body: bytes, seconds: int | None = None) -> bytes:
        """Its word about a checkpoint: a line."""
        at = int(time.time()) if seconds is None else seconds
        signature = self.key.sign(cosigned_bytes(body, at))
        data = cosigner_id(self.name, self.public) + at.to_bytes(8, "big") + signature
        return f"{rules.DASH} {self.name} {rules.base64(data)}\n".encode()

    def answer(self, question: bytes) -> tuple[int, bytes]:
        """Answer a question: status and body."""
        head_, note = question.split(b"\n\n", 1)
        old_line, *path = head_.decode().split("\n")
        old = int(old_line.removeprefix("old "))
        self.asked.append(old)
        if self.mood in {"error", "garbage"}:
            return (500, b"away\n") if self.mood == "error" else (200, b"<html>\xff\n")
        if self.mood == "ahead":
            return 409, b"1000000\n"
        if old != self.seen[0]:
            return 409, b"%d\n" % self.seen[0]
        head = rules.read_checkpoint(note)
        proof = [b64decode(line) for line in path]
        same = old == head.size and self.seen[1] == head.root and not proof
        if not same and not rules.is_consistent(old, head.size, self.seen[1], head.root, proof):
            return 422, b"not consistent\n"
        self.seen = head.size, head.root
        other = f"{rules.DASH} other.example AAAAAAAA\n".encode()
        if self.mood == "stranger":
            return 200, other
        body = head.body + b"x" * (self.mood == "forged")
        return 200, other + self.cosign(body, int(time.time()) - 86_400 * (self.mood == "yesterday"))


@contextmanager
def running() -> Iterator[Wit]:
    """Run a witness."""
    witness = Wit()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = self.rfile.read(int(self.headers["Content-Length"]))
            status, body = witness.answer(question) if self.path == "/w/add-checkpoint" else (404, b"")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    witness.url = f"http://127.0.0.1:{server.server_port}/w"
    try:
        yield witness
    finally:
        server.shutdown()
        server.server_close()
