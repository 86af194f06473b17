"""Which file is the receipt of what, on both databases."""

from datetime import datetime

import pytest
from sqlalchemy.orm import Session

from portal.core.errors import Conflict
from portal.proofs import service

FILE = {"statement_sha256": "s" * 64, "pdf_sha256": "p" * 64}


def test_a_receipt_is_kept_once(session: Session, now: datetime) -> None:
    first = service.store_receipt(session, subject_ref="sig_a", now=now, **FILE)
    assert service.store_receipt(session, subject_ref="sig_a", now=now, **FILE) is first
    assert service.store_receipt(session, subject_ref="sig_b", now=now, **FILE) is not first
    assert first.number == 1
    assert service.receipt_of(session, subject_ref="sig_a") is first
    assert service.receipt_of(session, subject_ref="sig_c") is None


def test_a_further_file_is_numbered_and_supersedes_the_one_before(session: Session, now: datetime) -> None:
    service.store_receipt(session, subject_ref="sig_a", now=now, pending=True, **FILE)
    copy = service.store_receipt(session, subject_ref="sig_a", now=now, **{**FILE, "pdf_sha256": "q" * 64})
    assert copy.number == 2
    assert service.receipt_of(session, subject_ref="sig_a") is copy


def test_receipts_never_change(session: Session, now: datetime) -> None:
    first = service.store_receipt(session, subject_ref="sig_a", now=now, **FILE)
    first.pdf_sha256 = "x"
    with pytest.raises(Conflict):
        session.flush()
