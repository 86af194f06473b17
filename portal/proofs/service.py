"""Keeping which file is the receipt of what, by digest."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.proofs.models import Receipt


def store_receipt(
    session: Session, *, subject_ref: str, statement_sha256: str, pdf_sha256: str, now: datetime
) -> Receipt:
    """Record the file that states something about a subject; a further file for it is a numbered copy.

    Recording the same file again returns the same receipt.
    """
    mine = sa.select(Receipt).where(Receipt.subject_ref == subject_ref)
    known = session.scalar(mine.where(Receipt.pdf_sha256 == pdf_sha256).limit(1))
    if known is not None:
        return known
    last = session.scalar(sa.select(sa.func.max(Receipt.number)).where(Receipt.subject_ref == subject_ref)) or 0
    receipt = Receipt(
        subject_ref=subject_ref, number=last + 1, statement_sha256=statement_sha256, pdf_sha256=pdf_sha256, made_at=now
    )
    session.add(receipt)
    session.flush()
    return receipt


def receipt_of(session: Session, *, subject_ref: str) -> Receipt | None:
    """Return the receipt of a subject, its first file, once there is one."""
    query = sa.select(Receipt).where(Receipt.subject_ref == subject_ref).order_by(Receipt.number).limit(1)
    return session.scalar(query)
