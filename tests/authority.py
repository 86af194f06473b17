"""A timestamp authority (RFC 3161) on a free port of this machine, which can also be slow, wrong or away."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from asn1crypto import keys, tsp, x509
from cryptography import x509 as certificates
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pyhanko.sign.timestamps.dummy_client import DummyTimeStamper

NAME = "Test Timestamps"


@cache
def identity() -> tuple[Any, Any]:
    """Key and certificate of the authority."""
    key = rsa.generate_private_key(65537, 2048)
    name = certificates.Name([certificates.NameAttribute(certificates.NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)  # noqa: TID251
    usage = certificates.ExtendedKeyUsage([certificates.ExtendedKeyUsageOID.TIME_STAMPING])
    made = (
        certificates.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(7).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=30))
        .add_extension(usage, critical=True).sign(key, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = made.public_bytes(serialization.Encoding.DER)
    return keys.PrivateKeyInfo.load(private), x509.Certificate.load(public)


class Stamps:
    """The authority.

    Attributes:
        url: where it answers.
        mood: ``well``, ``error``, ``garbage``, ``slow``, ``endless``, ``other`` (a stamp of something else),
            ``yesterday``, ``refusal`` or ``forged`` (a broken signature).
        asked: how often it was asked.
    """

    def __init__(self) -> None:
        self.url = ""
        self.mood = "well"
        self.asked = 0

    def answer(self, question: bytes) -> bytes:
        """Answer a request in the present mood."""
        key, certificate = identity()
        moment = datetime.now(UTC) - timedelta(days=self.mood == "yesterday")  # noqa: TID251
        asked = tsp.TimeStampReq.load(question)
        if self.mood == "other":
            asked["message_imprint"]["hashed_message"] = b"\x01" * 32
        if self.mood == "refusal":
            return bytes.fromhex("30053003020102")  # status: rejection
        stamper = DummyTimeStamper(certificate, key, certs_to_embed=[certificate], fixed_dt=moment)
        given = asyncio.run(stamper.async_request_tsa_response(asked))
        if self.mood == "forged":
            info = given["time_stamp_token"]["content"]["signer_infos"][0]
            info["signature"] = bytes(256)
        return bytes(given.dump(force=True))


@contextmanager
def running() -> Iterator[Stamps]:
    """Run an authority."""
    stamps = Stamps()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            stamps.asked += 1
            question = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(500 if stamps.mood == "error" else 200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.end_headers()
            try:
                if stamps.mood == "garbage":
                    self.wfile.write(b"<html>not a timestamp</html>")
                elif stamps.mood in {"slow", "endless"}:
                    for _ in range(40):
                        self.wfile.write(b"0" * (1 if stamps.mood == "slow" else 1 << 16))
                        time.sleep(0.05 if stamps.mood == "slow" else 0)
                else:
                    self.wfile.write(stamps.answer(question))
            except OSError:
                pass  # the client had enough

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    stamps.url = f"http://127.0.0.1:{server.server_port}/tsa"
    try:
        yield stamps
    finally:
        server.shutdown()
        server.server_close()
