"""The shipped license with dates around an instant, and people who sign it, for tests of texts and signatures."""

from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.adapters.texts import LicenseDocument, VersionDocument, read_license
from portal.core.actor import SYSTEM, Actor
from portal.drafting import service as drafting
from portal.licensing import service as licensing
from portal.licensing.models import LicenseVersion, Signature
from portal.publishing import service as publishing
from portal.signing import service as signing
from portal.signing.rules import Context, Sitting
from tests import conduct

SLUG = "bloom-rail"
FOLDER = Path(__file__).resolve().parent.parent / "licenses" / SLUG
CONTEXT = Context("127.0.0.1", "Firefox", "en", "req_test")


@cache
def shipped() -> LicenseDocument:
    """The license as it is shipped."""
    return read_license(FOLDER)


def dated(number: str, now: datetime, **changed: Any) -> VersionDocument:
    """A shipped version, in force since long before an instant."""
    version = next(v for v in shipped().versions if v.number == number)
    days = {"1.0.0": 100, "1.1.0": 10}[number]
    at = now - timedelta(days=days)
    return replace(version, **{"effective_at": at, "required_by": at + timedelta(days=60), **changed})


def publish(session: Session, now: datetime, *numbers: str, **changed: Any) -> LicenseVersion:
    """Publish shipped versions one after the other; returns the last."""
    row = None
    for number in numbers or ("1.0.0", "1.1.0"):
        version = dated(number, now, **changed)
        drafting.sync_version(session, document=shipped(), version=version, by=SYSTEM, now=now)
        row = publishing.publish(
            session, slug=SLUG, number=number, materiality=version.materiality, effective_at=version.effective_at,
            required_by=version.required_by, by=SYSTEM, now=now,
        )  # fmt: skip
    assert row is not None
    return row


def browsing(user: User) -> Actor:
    """A person at a browser."""
    return replace(conduct.acting(user), login_session_id=1)


def sitting(session: Session, by: Actor, version: LicenseVersion, now: datetime, language: str = "en") -> Sitting:
    """Open a license and fill in everything."""
    ceremony = signing.open_ceremony(session, by=by, version_id=version.id, language=language, now=now)
    shown = licensing.rendition(version, language)
    keys = frozenset(part.key for _, part in signing.restrictions(session, sha256=shown.text_sha256))
    return Sitting(ceremony.nonce, shown.text_sha256, keys, consent_electronic=True, typed_name="Ann Müller-李")


def sign(session: Session, by: Actor, version: LicenseVersion, now: datetime, language: str = "en") -> Signature:
    """Open a license, fill in everything, and sign."""
    filled = sitting(session, by, version, now, language)
    return signing.sign(session, by=by, version_id=version.id, sitting=filled, context=CONTEXT, now=now)
