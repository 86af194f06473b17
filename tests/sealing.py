"""Receipts as the background work makes them: drawn, sealed and recorded, with a key made for the tests."""

import tempfile
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from portal.adapters import pades, pdf, seal_key
from portal.adapters.seal_key import Seal
from portal.core.clock import utcnow
from portal.receipts import service
from portal.receipts.rules import Finding


@cache
def seal() -> Seal:
    """A seal."""
    folder = Path(tempfile.mkdtemp(prefix="portal-tests-"))
    return seal_key.load_seal(folder=folder, file="", passphrase="", name="Portal", now=utcnow())


def draw(order: service.Order) -> bytes:
    """Draw and seal the file of an order."""
    drawn = pdf.receipt(order.evidence, seal=seal(), base_url="https://portal.example", **order.values)
    return pades.seal_pdf(drawn, seal=seal())


def issue(session: Session, order: service.Order, **given: Any) -> bytes:
    """Draw, seal and record the file of an order."""
    body = draw(order)
    service.store(session, order=order, pdf_sha256=sha256(body).hexdigest(), now=utcnow(), **given)
    return body


def verify(session: Session, body: bytes, **changed: Any) -> Finding:
    """Check a file against the records."""
    given = {"check_seal": lambda pdf: pades.verify(pdf, seal().trusted), "read_attachment": pdf.attachment}
    return service.verify(session, pdf=body, **{**given, **changed})
