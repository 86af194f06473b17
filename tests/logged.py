"""A log in tests: events that go in, turns of its worker, and what somebody could do who owns the database."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.adapters.signing_key import SigningKey
from portal.audit import service as audit
from portal.audit.models import AuditEvent
from portal.audit.rules import SignedUp
from portal.core.actor import SYSTEM
from portal.proofs import service
from portal.proofs.models import Leaf

ORIGIN = "portal.example"


def record(session: Session, now: datetime, *names: str) -> list[AuditEvent]:
    rows = [audit.record(session, SignedUp(subject=f"usr_{name}"), by=SYSTEM, now=now) for name in names]
    session.flush()
    return rows


def advance(session: Session, key: SigningKey, now: datetime) -> service.Step:
    """One turn of the worker."""
    step = service.advance(session, key=key, origin=ORIGIN, kept=key.kept(), now=now)
    if step.note:
        key.keep(step.note)
    return step


def entries(session: Session) -> list[bytes]:
    query = sa.select(Leaf.commitment).where(Leaf.index.is_not(None)).order_by(Leaf.index)
    return list(session.scalars(query))


def index_of(session: Session, row: AuditEvent) -> int:
    leaf = service.leaf_of(session, event_ref=row.public_id)
    assert leaf is not None
    assert leaf.index is not None
    return leaf.index


def behind_the_back(session: Session, statement: Any) -> None:
    """Do what the database would refuse, as somebody could who owns it."""
    session.flush()
    if session.get_bind().dialect.name == "sqlite":
        for name in session.scalars(sa.text("SELECT name FROM sqlite_master WHERE name LIKE 'ao!_%' ESCAPE '!'")).all():
            session.execute(sa.text(f"DROP TRIGGER {name}"))
        session.execute(sa.text("PRAGMA defer_foreign_keys=ON"))
    else:
        session.execute(sa.text("SET LOCAL session_replication_role = replica"))
    session.execute(statement)
    if session.get_bind().dialect.name == "postgresql":
        session.execute(sa.text("SET LOCAL session_replication_role = origin"))
    session.expire_all()
