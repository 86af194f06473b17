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

NAME, ROOT = "Test Timestamps", "Test Root"


def _named(text: str) -> certificates.Name:
    return certificates.Name([certificates.NameAttribute(certificates.NameOID.COMMON_NAME, text)])


@cache
def secret() -> Any:
    """The key of the authority."""
    return rsa.generate_private_key(65537, 2048)


@cache
def above() -> tuple[Any, Any]:
    """Key and certificate of the root above it."""
    key, now = rsa.generate_private_key(65537, 2048), datetime.now(UTC)  # noqa: TID251
    root = certificates.BasicConstraints(ca=True, path_length=0)
    usage = certificates.KeyUsage(*[False] * 5, True, True, False, False)
    made = (
        certificates.CertificateBuilder().subject_name(_named(ROOT)).issuer_name(_named(ROOT))
        .public_key(key.public_key()).serial_number(1).not_valid_before(now - timedelta(days=9))
        .not_valid_after(now + timedelta(days=30)).add_extension(root, critical=True)
        .add_extension(usage, critical=True).sign(key, hashes.SHA256())
    )  # fmt: skip
    return key, made


@cache
def identity(revoked_at: str = "") -> tuple[Any, Any]:
    """Key and certificate of the authority; with an address of revoked certificates, it lies below the root."""
    now, issuer = datetime.now(UTC), _named(ROOT if revoked_at else NAME)  # noqa: TID251
    usage = certificates.ExtendedKeyUsage([certificates.ExtendedKeyUsageOID.TIME_STAMPING])
    builder = (
        certificates.CertificateBuilder().subject_name(_named(NAME)).issuer_name(issuer)
        .public_key(secret().public_key()).serial_number(7).not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30)).add_extension(usage, critical=True)
    )  # fmt: skip
    if revoked_at:
        point = certificates.DistributionPoint([certificates.UniformResourceIdentifier(revoked_at)], None, None, None)
        builder = builder.add_extension(certificates.CRLDistributionPoints([point]), critical=False)
    made = builder.sign(above()[0] if revoked_at else secret(), hashes.SHA256())
    private = secret().private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = made.public_bytes(serialization.Encoding.DER)
    return keys.PrivateKeyInfo.load(private), x509.Certificate.load(public)


def revoked(*numbers: int) -> bytes:
    """The list of certificates that the root revoked."""
    now = datetime.now(UTC)  # noqa: TID251
    builder = certificates.CertificateRevocationListBuilder().issuer_name(_named(ROOT))
    builder = builder.last_update(now - timedelta(hours=1)).next_update(now + timedelta(days=1))
    for number in numbers:
        one = certificates.RevokedCertificateBuilder().serial_number(number).revocation_date(now - timedelta(hours=2))
        builder = builder.add_revoked_certificate(one.build())
    return builder.sign(above()[0], hashes.SHA256()).public_bytes(serialization.Encoding.DER)


class Stamps:
    """The authority.

    Attributes:
        url: where it answers.
        mood: ``well``, ``error``, ``garbage``, ``slow``, ``endless``, ``other`` (a stamp of something else),
            ``yesterday``, ``refusal`` or ``forged`` (a broken signature).
        asked: how often it was asked.
        revoked_at: where the list of revoked certificates is, if the authority lies below a root.
        revoked: numbers on that list.
    """

    def __init__(self) -> None:
        self.url = self.revoked_at = ""
        self.revoked: tuple[int, ...] = ()
        self.mood = "well"
        self.asked = 0

    def answer(self, question: bytes) -> bytes:
        """Answer a request in the present mood."""
        key, certificate = identity(self.revoked_at)
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
def running(*, chained: bool = False) -> Iterator[Stamps]:
    """Run an authority; `chained`: one that lies below a root, which says whom it revoked."""
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

        def do_GET(self) -> None:
            body = revoked(*stamps.revoked)
            self.send_response(200)
            self.send_header("Content-Type", "application/pkix-crl")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    stamps.url = f"http://127.0.0.1:{server.server_port}/tsa"
    stamps.revoked_at = f"http://127.0.0.1:{server.server_port}/crl" if chained else ""
    try:
        yield stamps
    finally:
        server.shutdown()
        server.server_close()
