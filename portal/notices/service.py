"""Telling people things: the queue of messages, how far each got, and what pages showed."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.core.db import among
from portal.core.ids import public_id
from portal.notices.models import Notice, NoticeEvent
from portal.notices.rules import LEASE_SECONDS, MAX_TRIES, REACHED, TRIED, Rung, retry_seconds

ERROR_MAX = 500
PART = 1_000
PAGE = "page"


@dataclass(frozen=True)
class Outgoing:
    """A message to hand to the mail server now.

    Args:
        message_id: names it in its header, the same at each try, so that a mailbox can drop a second copy.
    """

    notice_id: int
    address: str
    subject: str
    body: str
    message_id: str


def queue(
    session: Session,
    *,
    recipient_id: int | None,
    address: str,
    kind: str,
    subject_ref: str,
    subject: str,
    body: str,
    now: datetime,
    secret: bool = False,
) -> Notice:
    """Leave a message to be sent once the caller's work is done.

    Args:
        kind: what it is about, in one word.
        subject_ref: the record it is about, by public id.
        secret: it holds a one-time link, so the text is dropped once it is sent.
    """
    notice = Notice(
        public_id=public_id("ntc"), recipient_id=recipient_id, address=address, kind=kind, subject_ref=subject_ref,
        subject=subject, body=body, secret=secret, queued_at=now, due_at=now,
    )  # fmt: skip
    session.add(notice)
    session.flush()
    _climb(session, notice, Rung.QUEUED, now)
    return notice


def queue_all(
    session: Session,
    *,
    kind: str,
    subject_ref: str,
    subject: str,
    messages: Sequence[tuple[int, str, str]],
    now: datetime,
) -> None:
    """Leave a message to each of many people about one thing: (person, address, body)."""
    for start in range(0, len(messages), PART):
        rows = [
            {
                "public_id": public_id("ntc"), "recipient_id": recipient_id, "address": address, "kind": kind,
                "subject_ref": subject_ref, "subject": subject, "body": body, "queued_at": now, "due_at": now,
            }
            for recipient_id, address, body in messages[start : start + PART]
        ]  # fmt: skip
        made = session.scalars(sa.insert(Notice).returning(Notice.id), rows).all()
        events = [{"notice_id": notice_id, "rung": Rung.QUEUED, "at": now} for notice_id in made]
        session.execute(sa.insert(NoticeEvent), events)


def claim_due(session: Session, *, now: datetime, limit: int = 20) -> list[Outgoing]:
    """Take messages whose time has come; whoever takes one has it for a while, and sends it outside the transaction."""
    query = (
        sa.select(Notice)
        .where(Notice.due_at <= now, Notice.body.is_not(None))
        .order_by(Notice.due_at, Notice.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    taken = session.scalars(query).all()
    for notice in taken:
        notice.due_at = now + timedelta(seconds=LEASE_SECONDS)
    session.flush()
    return [Outgoing(n.id, n.address, n.subject, n.body or "", n.public_id) for n in taken]


def mark_sent(session: Session, *, notice_id: int, now: datetime) -> None:
    """Record that the mail server took a message; saying so again changes nothing."""
    notice = session.get_one(Notice, notice_id, with_for_update=True)
    if notice.due_at is None:
        return
    _finish(session, notice, Rung.SENT, now)


def mark_failed(session: Session, *, notice_id: int, error: str, now: datetime, permanent: bool = False) -> None:
    """Record that a message could not be sent, and when to try again; it has bounced once trying is no use.

    Args:
        permanent: the mail server said that trying again is no use.
    """
    notice = session.get_one(Notice, notice_id, with_for_update=True)
    if notice.due_at is None:
        return
    notice.tries += 1
    notice.last_error = error.replace("\0", "")[:ERROR_MAX]
    if permanent or notice.tries >= MAX_TRIES:
        _finish(session, notice, Rung.BOUNCED, now)
    else:
        notice.due_at = now + timedelta(seconds=retry_seconds(notice.tries))
        session.flush()


def record_report(session: Session, *, ref: str, rung: Rung, now: datetime) -> bool:
    """Record what a mail server reported of a message that it had taken; say whether that was news.

    Args:
        ref: the public id of the notice, which only its message names.
        rung: delivered, or bounced.
    """
    notice = session.scalar(sa.select(Notice).where(Notice.public_id == ref).with_for_update())
    if notice is None:
        return False
    known = sa.select(NoticeEvent.id).where(NoticeEvent.notice_id == notice.id, NoticeEvent.rung == rung)
    if session.scalar(known.limit(1)) is not None:
        return False
    _climb(session, notice, rung, now)
    return True


def mark_shown(session: Session, *, user_id: int, subject_ref: str, now: datetime) -> None:
    """Record, once, that a page told a signed-in person about something, whether or not a message was sent."""
    about = sa.and_(Notice.recipient_id == user_id, Notice.subject_ref == subject_ref)
    shown = sa.select(NoticeEvent.id).join(Notice).where(about, NoticeEvent.rung == Rung.SHOWN).limit(1)
    if session.scalar(shown) is not None:
        return
    notice = session.scalar(sa.select(Notice).where(about).order_by(Notice.id.desc()).limit(1))
    if notice is None:
        notice = Notice(
            public_id=public_id("ntc"), recipient_id=user_id, address="", kind=PAGE, subject_ref=subject_ref,
            subject="", body=None, queued_at=now, due_at=None,
        )  # fmt: skip
        session.add(notice)
        session.flush()
    _climb(session, notice, Rung.SHOWN, now, channel="page")


def reached_at(session: Session, *, user_id: int, subject_refs: Collection[str]) -> dict[str, datetime]:
    """Return when word of each subject first reached a person; what was only sent has not."""
    return reached_of(session, user_ids=[user_id], subject_refs=subject_refs).get(user_id, {})


def reached_of(
    session: Session, *, user_ids: Collection[int] | None = None, subject_refs: Collection[str]
) -> dict[int, dict[str, datetime]]:
    """Return the same for many people at once, or for everybody: person → subject → when."""
    query = (
        sa.select(Notice.recipient_id, Notice.subject_ref, sa.func.min(NoticeEvent.at, type_=NoticeEvent.at.type))
        .join(NoticeEvent, NoticeEvent.notice_id == Notice.id)
        .where(Notice.recipient_id.is_not(None), Notice.subject_ref.in_(subject_refs), NoticeEvent.rung.in_(REACHED))
        .group_by(Notice.recipient_id, Notice.subject_ref)
    )
    if user_ids is not None:
        query = query.where(among(Notice.recipient_id, user_ids))
    found: dict[int, dict[str, datetime]] = defaultdict(dict)
    for user_id, ref, at in session.execute(query):
        found[user_id or 0][ref] = at
    return dict(found)


def bounced(session: Session, *, user_ids: Collection[int] | None = None) -> set[tuple[int, str]]:
    """Return where the last message that was tried came back, of some people or of everybody: (person, address)."""
    last = (
        sa.select(Notice.recipient_id, Notice.address, sa.func.max(NoticeEvent.id).label("last"))
        .join(NoticeEvent, NoticeEvent.notice_id == Notice.id)
        .where(Notice.recipient_id.is_not(None), NoticeEvent.rung.in_(TRIED))
        .group_by(Notice.recipient_id, Notice.address)
    )
    tried = (last if user_ids is None else last.where(among(Notice.recipient_id, user_ids))).subquery()
    query = (
        sa.select(tried.c.recipient_id, tried.c.address)
        .join(NoticeEvent, NoticeEvent.id == tried.c.last)
        .where(NoticeEvent.rung == Rung.BOUNCED)
    )
    return {(user_id, address) for user_id, address in session.execute(query)}


def told(session: Session, *, user_ids: Collection[int], subject_ref: str) -> set[int]:
    """Return those for whom a message about a subject was left, sent or not."""
    about = sa.and_(Notice.subject_ref == subject_ref, Notice.kind != PAGE)
    return set(session.scalars(sa.select(Notice.recipient_id).where(among(Notice.recipient_id, user_ids), about)))


def under_way(session: Session, *, kind: str, subject_ref: str) -> int:
    """Count the messages of a kind about a subject that the mail server has neither taken nor refused for good."""
    query = sa.select(sa.func.count()).select_from(Notice)
    waits = sa.and_(Notice.kind == kind, Notice.subject_ref == subject_ref, Notice.due_at.is_not(None))
    return session.scalar(query.where(waits)) or 0


def of_person(session: Session, *, user_id: int, limit: int = 100) -> Sequence[Notice]:
    """Return what a person was told, newest first."""
    query = sa.select(Notice).where(Notice.recipient_id == user_id).order_by(Notice.id.desc()).limit(limit)
    return session.scalars(query).all()


def recent(session: Session, *, user_id: int, kinds: Collection[str], since: datetime) -> int:
    """Count the messages of some kinds that were left for a person since an instant."""
    query = sa.select(sa.func.count()).select_from(Notice).where(
        Notice.recipient_id == user_id, Notice.kind.in_(kinds), Notice.queued_at > since
    )  # fmt: skip
    return session.scalar(query) or 0


def _finish(session: Session, notice: Notice, rung: Rung, now: datetime) -> None:
    notice.due_at = None
    if notice.secret:
        notice.body = None
    _climb(session, notice, rung, now)


def _climb(session: Session, notice: Notice, rung: Rung, now: datetime, channel: str = "mail") -> None:
    session.add(NoticeEvent(notice_id=notice.id, rung=rung, channel=channel, at=now))
    session.flush()
