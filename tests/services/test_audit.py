"""Recording and reading what happened, on both databases."""

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.audit import service
from portal.audit.models import AuditEvent
from portal.audit.rules import CardDrafted, QuotaChanged, SignedUp
from portal.core.actor import SYSTEM, Actor

ANN, BOB = Actor(user_id=1, public_id="usr_ann"), Actor(user_id=2, public_id="usr_bob")


def test_an_event_holds_its_fields_and_who_acted(session: Session, now: datetime) -> None:
    row = service.record(session, QuotaChanged(subject="usr_x", calls=1, text_tokens=2**40), by=ANN, now=now)
    session.flush()
    session.expire(row)
    assert (row.name, row.subject, row.actor, row.at) == ("usage:quota:changed", "usr_x", "usr_ann", now)
    assert row.data == {"calls": 1, "text_tokens": 2**40}
    assert row.public_id.startswith("evt_")
    empty = service.record(session, SignedUp(subject="usr_x"), by=SYSTEM, now=now)
    session.flush()
    assert (empty.data, empty.actor) == ({}, "system")


def test_an_event_is_gone_with_its_cause(session: Session, now: datetime) -> None:
    def count() -> int:
        return session.scalar(sa.select(sa.func.count()).select_from(AuditEvent)) or 0

    before = count()
    cause = session.begin_nested()
    service.record(session, SignedUp(subject="usr_x"), by=ANN, now=now)
    session.flush()
    assert count() == before + 1
    cause.rollback()
    assert count() == before


def test_events_are_read_newest_first_by_name_and_by_subject_or_actor(session: Session, now: datetime) -> None:
    made = [
        service.record(session, CardDrafted(subject="mod_a", number=1), by=ANN, now=now),
        service.record(session, SignedUp(subject="usr_ann"), by=SYSTEM, now=now + timedelta(hours=1)),
        service.record(session, CardDrafted(subject="mod_b", number=1), by=BOB, now=now - timedelta(hours=1)),
    ]
    session.flush()
    first, second, third = (row.id for row in made)

    def found(**how: object) -> list[int]:
        rows = service.recent(session, **how)  # type: ignore[arg-type]
        return [row.id for row in rows if row.id >= first]

    assert found() == [third, second, first]
    assert found(name="model:card:drafted") == [third, first]
    assert found(subject="usr_ann") == [second, first]
    assert found(subject="mod_b") == [third]
    assert found(name="model:card:drafted", subject="usr_ann") == [first]
    assert found(before_id=third) == [second, first]
    assert found(limit=1) == [third]
    assert found(subject="nobody") == found(name="no such") == []
