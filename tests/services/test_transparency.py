"""The monthly report: counted from what happened in its month, published once it is over, and named by the log."""

import json
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.audit import service as audit
from portal.audit.models import AuditEvent
from portal.audit.rules import SignedUp
from portal.core.actor import SYSTEM
from portal.core.errors import Conflict, NotFound
from portal.proofs.models import Leaf
from portal.proofs.rules import digest
from portal.tokens import service as tokens
from portal.tokens.rules import Found, LeakSource
from portal.transparency import rules, service
from portal.transparency.models import MonthlyReport
from tests.factories import BASE, PEPPER, Make


def start(session: Session, at: datetime) -> str:
    """Let the portal's first event be at an instant; earlier ones of the fixtures are no part of these tests."""
    audit.record(session, SignedUp(subject="usr_first"), by=SYSTEM, now=at)
    first = session.scalar(sa.select(AuditEvent.at).order_by(AuditEvent.id).limit(1)) or at
    return rules.month_of(first)


def publish_until(session: Session, now: datetime) -> list[MonthlyReport]:
    found = []
    while (row := service.publish(session, by=SYSTEM, now=now)) is not None:
        found.append(row)
    return found


def test_a_month_is_published_once_it_is_over_and_its_digest_is_in_the_log(session: Session, now: datetime) -> None:
    first = start(session, now)
    start_of, end = rules.bounds(first)
    assert service.publish(session, by=SYSTEM, now=end - timedelta(microseconds=1)) is None
    row = service.publish(session, by=SYSTEM, now=end)
    assert row is not None
    assert (row.month, row.sha256) == (first, digest(row.body))
    assert service.publish(session, by=SYSTEM, now=end) is None
    event = session.scalars(sa.select(AuditEvent).where(AuditEvent.name == rules.MonthPublished.name)).one()
    assert (event.subject, event.data) == (first, {"sha256": row.sha256})
    assert session.scalar(sa.select(Leaf.id).where(Leaf.event_ref == event.public_id)) is not None
    assert service.read(service.find(session, month=first)) == json.loads(row.body)
    assert start_of < end


def test_months_that_were_missed_are_published_one_after_the_other(session: Session, now: datetime) -> None:
    first = start(session, now)
    rows = publish_until(session, rules.bounds(first)[0] + timedelta(days=100))
    assert [row.month for row in rows] == [first, rules.following(first), rules.following(rules.following(first))]
    assert [row.month for row in service.published(session)] == [row.month for row in reversed(rows)]
    with pytest.raises(NotFound):
        service.find(session, month="1999-01")


def test_what_was_published_never_changes(session: Session, now: datetime) -> None:
    row = publish_until(session, rules.bounds(start(session, now))[1])[0]
    row.body = b"{}"
    with pytest.raises(Conflict):
        session.flush()


def test_leaked_access_tokens_count_in_the_month_in_which_they_were_ended(
    session: Session, make: Make, now: datetime
) -> None:
    secrets = [make.token(make.person())[1] for _ in range(7)]
    tokens.report_leak(
        session, found=[Found(s) for s in secrets], source=LeakSource.PUBLIC, network="n", pepper=PEPPER, now=now
    )
    tokens.settle_leaks(session, by=SYSTEM, base_url=BASE, now=now)
    month = rules.month_of(now)
    found = service.happened(session, month=month)
    assert dict(found.leaked) == {"public": 7, "github": 0}
    assert dict(service.happened(session, month=rules.following(month)).leaked)["public"] == 0
    assert rules.compose(month, found)["leaked_access_tokens"] == {"github": 0, "public": 7}
