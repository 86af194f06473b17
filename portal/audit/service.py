"""Recording and reading what happened, and finding out whether the records still are what the log committed to."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import groupby
from operator import itemgetter

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.audit.models import AuditEvent, Salt
from portal.audit.rules import (
    SALT_SIZE,
    Event,
    LicenseSigned,
    LogKeyChanged,
    ReceiptMade,
    SaltErased,
    UsageSealed,
    written,
)  # fmt: skip
from portal.core.actor import Actor
from portal.core.clock import stamp
from portal.core.errors import Conflict, NotFound
from portal.core.ids import public_id
from portal.proofs import service as proofs
from portal.proofs.models import Leaf
from portal.proofs.rules import LogKey, key_id

BATCH = 1000
OVERLAP = timedelta(hours=1)
# What an event says of a row that never changes: event -> (table, column of its public id, field -> column).
BOUND: dict[str, tuple[str, str, dict[str, str]]] = {
    LicenseSigned.name: (
        "signature", "public_id", {"text_sha256": "rendition_sha256", "annex_commitment": "annex_commitment"},
    ),
    ReceiptMade.name: ("receipt", "subject_ref", {"pdf_sha256": "pdf_sha256"}),
    UsageSealed.name: ("usage_seal", "day", {"number": "number", "records": "records", "sha256": "sha256"}),
}  # fmt: skip


def record(session: Session, event: Event, *, by: Actor, now: datetime) -> AuditEvent:
    """Write one event, and the leaf that commits the log to it, in the caller's transaction.

    So it happened exactly if its cause did.
    """
    row = AuditEvent(
        public_id=public_id("evt"), name=event.name, subject=event.subject, data=event.data, actor=by.public_id, at=now
    )
    salt = secrets.token_bytes(SALT_SIZE)
    session.add_all([row, Salt(event=row, salt=salt)])
    proofs.add_leaf(session, event_ref=row.public_id, commitment=sha256(salt + body_of(row)).digest())
    return row


def body_of(row: AuditEvent) -> bytes:
    """Return the bytes of an event that the log commits to."""
    return written(
        ref=row.public_id, name=row.name, subject=row.subject, data=row.data, actor=row.actor, at=stamp(row.at)
    )


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


@dataclass(frozen=True)
class Logged:
    """An event as an outsider needs it to find it in the log; without salt, once that is erased."""

    ref: str
    body: bytes
    salt: bytes | None


def logged(session: Session, event: Event) -> Logged | None:
    """Return the first event that says exactly this, as the log committed to it."""
    query = (
        sa.select(AuditEvent, Salt.salt)
        .outerjoin(Salt, Salt.event_ref == AuditEvent.public_id)
        .where(AuditEvent.subject == event.subject, AuditEvent.name == event.name)
        .order_by(AuditEvent.id)
    )
    for row, salt in session.execute(query):
        if row.data == event.data:
            return Logged(row.public_id, body_of(row), salt)
    return None


def erase_salt(session: Session, *, event_ref: str, by: Actor, now: datetime) -> None:
    """Make an event unrecognizable in the log, which stays whole; erasing it again changes nothing.

    Raises:
        NotFound: there is no such event.
    """
    if session.scalar(sa.select(AuditEvent.id).where(AuditEvent.public_id == event_ref)) is None:
        raise NotFound("event_not_found", "There is no such event.")
    salt = session.get(Salt, event_ref)
    if salt is not None:
        session.delete(salt)
        record(session, SaltErased(subject=event_ref), by=by, now=now)
        session.flush()


def rotate_key(
    session: Session, *, key: LogKey, successor: LogKey, origin: str, kept: bytes | None, by: Actor, now: datetime
) -> bytes:
    """Hand the log over to another key and return the checkpoint that says so; done before, it is done once.

    Raises:
        Conflict: the log no longer begins with what was signed.
    """
    last = proofs.newest(session)
    if last is not None and last.successor == successor.public:
        return last.note
    ids = [key_id(origin, one.public).hex() for one in (key, successor)]
    record(session, LogKeyChanged(subject=ids[1], before=ids[0]), by=by, now=now)
    session.flush()
    return proofs.hand_over(session, key=key, successor=successor, origin=origin, kept=kept, now=now)


@dataclass(frozen=True)
class Verified:
    """What was recomputed and holds."""

    events: int
    pending: int
    entries: int
    checkpoints: int
    root: str


def verify(session: Session, *, key: LogKey, kept: bytes | None) -> Verified:
    """Recompute every leaf from its event, the tree from its leaves, and every checkpoint from the tree.

    Raises:
        Conflict: names the first thing that does not hold.
    """
    events = 0
    for event, salt, commitment in _events(session):
        events += 1
        if commitment is None:
            raise _differs("event_not_logged", f"Event {event.public_id} ({event.name}) was never put in the log.")
        if salt is None:
            _check_erased(session, event)
        elif sha256(salt + body_of(event)).digest() != commitment:
            message = (
                f"Event {event.public_id} ({event.name}) is not what the log committed to: it or its salt changed."
            )
            raise _differs("event_changed", message)
    _check_none_missing(session)
    _check_order(session)
    entries, checkpoints, root = proofs.verify_tree(session, key=key, kept=kept)
    _check_bound(session)
    pending = session.scalar(sa.select(sa.func.count()).select_from(Leaf).where(Leaf.index.is_(None))) or 0
    return Verified(events, pending, entries, checkpoints, root.hex())


def _differs(code: str, message: str) -> Conflict:
    return Conflict(code, message)


def _events(session: Session) -> Iterator[tuple[AuditEvent, bytes | None, bytes | None]]:
    last = 0
    query = (
        sa.select(AuditEvent, Salt.salt, Leaf.commitment)
        .outerjoin(Salt, Salt.event_ref == AuditEvent.public_id)
        .outerjoin(Leaf, Leaf.event_ref == AuditEvent.public_id)
        .order_by(AuditEvent.id)
        .limit(BATCH)
        .execution_options(populate_existing=True)
    )
    while rows := session.execute(query.where(AuditEvent.id > last)).all():
        for event, salt, commitment in rows:
            yield event, salt, commitment
            last = event.id


def _check_erased(session: Session, event: AuditEvent) -> None:
    told = sa.select(AuditEvent.id).where(AuditEvent.name == SaltErased.name, AuditEvent.subject == event.public_id)
    if session.scalar(told.limit(1)) is None:
        message = f"The salt of event {event.public_id} ({event.name}) is gone, and no event says that it was erased."
        raise _differs("salt_missing", message)


def _check_none_missing(session: Session) -> None:
    query = (
        sa.select(Leaf.event_ref, Leaf.index)
        .outerjoin(AuditEvent, AuditEvent.public_id == Leaf.event_ref)
        .where(AuditEvent.id.is_(None))
        .order_by(Leaf.id)
        .limit(1)
    )
    if found := session.execute(query).first():
        place = "pending" if found.index is None else f"entry {found.index}"
        raise _differs("event_missing", f"Event {found.event_ref} ({place} of the log) is no longer on record.")


def _check_order(session: Session) -> None:
    """Raise where the records tell events in another order than the log.

    Numbers of rows are drawn before a transaction ends, so transactions that overlap may cross; others may not.
    """
    query = (
        sa.select(AuditEvent.id, AuditEvent.public_id, AuditEvent.at)
        .join(Leaf, Leaf.event_ref == AuditEvent.public_id)
        .where(Leaf.index.is_not(None))
        .order_by(Leaf.index)
    )
    highest = None
    for row in session.execute(query.execution_options(yield_per=BATCH)):
        if highest is None or row.id > highest.id:
            highest = row
        elif abs(row.at - highest.at) > OVERLAP:
            message = f"Events {highest.public_id} and {row.public_id} stand in another order than in the log."
            raise _differs("events_reordered", message)


def _check_bound(session: Session) -> None:
    """Raise where a row that never changes differs from what its event said of it, or has no event."""
    for name, (table, key, columns) in BOUND.items():
        row = sa.table(table, sa.column(key), *map(sa.column, columns.values()))
        query = (
            sa.select(AuditEvent.id, AuditEvent.subject, AuditEvent.data, *(row.c[c] for c in columns.values()))
            .outerjoin(row, row.c[key] == AuditEvent.subject)
            .where(AuditEvent.name == name)
            .order_by(AuditEvent.id)
        )
        told = sa.and_(AuditEvent.subject == row.c[key], AuditEvent.name == name)
        untold = sa.select(row.c[key]).outerjoin(AuditEvent, told).where(AuditEvent.id.is_(None)).limit(1)
        if (planted := session.scalar(untold)) is not None:
            raise _differs("subject_untold", f"No event tells how the {table} {planted} came about.")
        rows = session.execute(query.execution_options(yield_per=BATCH))
        for _, found in groupby(rows, key=itemgetter(0)):
            _, subjects, said, *values = zip(*found, strict=True)
            if values[0][0] is None:
                raise _differs("subject_missing", f"The {table} {subjects[0]}, of which an event tells, is gone.")
            if [said[0].get(field) for field in columns] not in [list(one) for one in zip(*values, strict=True)]:
                raise _differs("subject_changed", f"The {table} {subjects[0]} is not what the log says of it.")
