"""Recording and reading what happened."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.audit.models import AuditEvent
from portal.audit.rules import Event
from portal.core.actor import Actor
from portal.core.ids import public_id


def record(session: Session, event: Event, *, by: Actor, now: datetime) -> AuditEvent:
    """Write one event in the caller's transaction, so that it happened exactly if its cause did."""
    row = AuditEvent(
        public_id=public_id("evt"), name=event.name, subject=event.subject, data=event.data, actor=by.public_id, at=now
    )
    session.add(row)
    return row


def recent(
    session: Session, *, name: str = "", subject: str = "", before_id: int | None = None, limit: int = 100
) -> Sequence[AuditEvent]:
    """Return events, newest first, of one name and about or by one subject where given."""
    query = sa.select(AuditEvent).order_by(AuditEvent.id.desc()).limit(limit)
    if name:
        query = query.where(AuditEvent.name == name)
    if subject:
        query = query.where(sa.or_(AuditEvent.subject == subject, AuditEvent.actor == subject))
    if before_id is not None:
        query = query.where(AuditEvent.id < before_id)
    return session.scalars(query).all()
