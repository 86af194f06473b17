"""The door to a timestamp authority (RFC 3161): times that somebody else confirms, of seals and of checkpoints."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from asn1crypto import cms, pem, tsp, x509
from pyhanko.sign.timestamps import TimeStamper
from pyhanko.sign.validation.generic_cms import validate_tst_signed_data
from pyhanko_certvalidator.context import ValidationContext
from pyhanko_certvalidator.fetchers.aiohttp_fetchers import AIOHttpFetcherBackend

from portal.adapters.outside import PATIENCE, Server
from portal.adapters.seal_key import named
from portal.core.config import SettingError, Settings

CLOCK_SLACK = timedelta(minutes=10)
OK = 200
ASK = {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"}


class TimestampError(Exception):
    """The timestamp authority answers what is no timestamp of what it was asked."""


@dataclass(frozen=True)
class Stamped:
    """A timestamp over bytes.

    Args:
        token: as it is kept and handed out (DER).
        at: the time that it confirms.
        authority: who confirms it.
        pinned: whether the authority leads up to a root that the operators chose.
    """

    token: bytes
    at: datetime
    authority: str
    pinned: bool


class Authority(TimeStamper):
    """A timestamp authority, asked over HTTP.

    Args:
        url: where it answers.
        roots: certificates to one of which it has to lead up; without any, the reader of a timestamp is the judge.
        patience: seconds that a whole answer may take.
    """

    def __init__(self, url: str, *, roots: Sequence[x509.Certificate] = (), patience: float = PATIENCE) -> None:
        super().__init__(include_nonce=True)  # type: ignore[no-untyped-call] # the library is only partly typed
        self.server = Server(url, patience=patience)
        self.roots = tuple(roots)

    async def async_request_tsa_response(self, req: tsp.TimeStampReq) -> tsp.TimeStampResp:
        """Ask for a timestamp; the caller checks the token that comes back."""
        answer = self.server.post(req.dump(), ASK)
        if answer.status != OK:
            raise TimestampError(f"it answers {answer.status}")
        return tsp.TimeStampResp.load(answer.body, strict=True)

    @asynccontextmanager
    async def context(self, *own: x509.Certificate) -> AsyncIterator[ValidationContext | None]:
        """Give what gathers all that a seal needs for the long term; None without roots to lead up to."""
        if not self.roots:
            yield None
            return
        patience = max(1, round(self.server.patience))
        async with AIOHttpFetcherBackend(per_request_timeout=patience) as fetchers:
            yield ValidationContext(
                trust_roots=[*own, *self.roots], allow_fetching=True, revocation_mode="soft-fail", fetchers=fetchers
            )

    def stamp(self, body: bytes, *, now: datetime) -> Stamped:
        """Get a timestamp over bytes, and take it only if it is one.

        Raises:
            Exception: of many kinds; whatever goes wrong outside, there is no timestamp now.
        """
        digest = sha256(body).digest()
        given = asyncio.run(self.async_timestamp(digest, "sha256"))
        stamped = read_token(given.dump(), body, self.roots)
        self.check(stamped.at, stamped.pinned, now)
        return stamped

    def check(self, at: datetime | None, pinned: bool, now: datetime) -> None:
        """Raise unless a timestamp is of now, and by an authority that leads up to a root, where roots are named."""
        if at is None or abs(at - now) > CLOCK_SLACK:
            raise TimestampError("its time is not ours")
        if self.roots and not pinned:
            raise TimestampError("it does not lead up to the root in PORTAL_TIMESTAMP_ROOT")


def read_token(token: bytes, body: bytes, roots: Sequence[x509.Certificate]) -> Stamped:
    """Read a timestamp over bytes.

    Raises:
        TimestampError: it is not one of these bytes, or does not hold.
    """
    data = cms.ContentInfo.load(token, strict=True)["content"]
    moment = data["encap_content_info"]["content"].parsed["gen_time"].native
    for pinned in (True, False) if roots else (False,):
        context = offline(list(roots) if pinned else carried(data), moment, carried(data))
        imprint = lambda name: _only_sha256(name, body)  # noqa: E731 # the library wants a function of the name
        found = asyncio.run(validate_tst_signed_data(data, context, imprint))
        if not (found["intact"] and found["valid"]):
            raise TimestampError("its timestamp is not one of this")
        if found["trust_problem_indic"] is None and found["validation_path"] is not None:
            return Stamped(token, moment.astimezone(UTC), named(found["signing_cert"]), pinned)
    raise TimestampError("the certificate in its timestamp is not fit for it")


def _only_sha256(name: str, body: bytes) -> bytes:
    if name != "sha256":
        raise TimestampError(f"it hashes with {name}")
    return sha256(body).digest()


def carried(token: Any) -> list[x509.Certificate]:
    """Return the certificates in a timestamp."""
    return [c.chosen for c in token["certificates"]]


def offline(
    roots: Sequence[x509.Certificate], moment: datetime, others: Sequence[x509.Certificate] = ()
) -> ValidationContext:
    """Return how certificates are checked as of a moment, without asking anybody."""
    return ValidationContext(
        trust_roots=list(roots), other_certs=list(others), moment=moment, best_signature_time=moment,
        allow_fetching=False, revocation_mode="soft-fail",
    )  # fmt: skip


def read_roots(file: str) -> tuple[x509.Certificate, ...]:
    """Read the certificates to which a timestamp authority has to lead up, from a PEM file; none without a file.

    Raises:
        SettingError: the file cannot be read, or holds no certificate.
    """
    if not file:
        return ()

    def bad(why: str) -> SettingError:
        return SettingError(f"PORTAL_TIMESTAMP_ROOT: {file} {why}")

    try:
        body = Path(file).expanduser().read_bytes()
    except OSError as error:
        raise bad(f"cannot be read: {error.strerror}") from None
    try:
        found = [x509.Certificate.load(der, strict=True) for _, _, der in pem.unarmor(body, multiple=True)]
        named_ = [named(certificate) for certificate in found]
    except (ValueError, TypeError):
        raise bad("holds no certificates in PEM form") from None
    if not named_:
        raise bad("holds no certificates in PEM form")
    return tuple(found)


def open_authority(settings: Settings) -> Authority | None:
    """Open the timestamp authority, if there is one."""
    roots = read_roots(settings.timestamp_root)
    return Authority(settings.timestamp_url, roots=roots) if settings.timestamp_url else None
