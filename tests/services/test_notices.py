"""The queue of messages and how far each got, on both databases."""

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.notices import service
from portal.notices.models import Notice, NoticeEvent
from portal.notices.rules import LEASE_SECONDS, MAX_TRIES, Rung
from tests import conduct

REF = "license_version:conduct-license/2.0.0"


def queue(session: Session, user_id: int | None, now: datetime, ref: str = REF, secret: bool = False) -> Notice:
    return service.queue(
        session, recipient_id=user_id, address="ann@notices.example", kind="test", subject_ref=ref, subject="Hello",
        body="Text", now=now, secret=secret,
    )  # fmt: skip


def rungs(session: Session, notice: Notice) -> list[tuple[Rung, str]]:
    query = sa.select(NoticeEvent).where(NoticeEvent.notice_id == notice.id).order_by(NoticeEvent.id)
    return [(event.rung, event.channel) for event in session.scalars(query)]


def mine(session: Session, now: datetime, limit: int = 100) -> list[service.Outgoing]:
    return [o for o in service.claim_due(session, now=now, limit=limit) if o.address == "ann@notices.example"]


def test_a_message_is_taken_by_one_sent_and_done(session: Session, now: datetime) -> None:
    notice = queue(session, None, now)
    assert mine(session, now - timedelta(seconds=1)) == []
    (taken,) = mine(session, now)
    assert (taken.notice_id, taken.subject, taken.body) == (notice.id, "Hello", "Text")
    assert taken.message_id == notice.public_id
    assert mine(session, now) == []
    for _ in range(2):
        service.mark_sent(session, notice_id=notice.id, now=now)
    assert rungs(session, notice) == [(Rung.QUEUED, "mail"), (Rung.SENT, "mail")]
    assert notice.body == "Text"
    assert mine(session, now + timedelta(days=9)) == []


def test_a_message_whose_taker_vanished_is_taken_again(session: Session, now: datetime) -> None:
    queue(session, None, now)
    assert len(mine(session, now)) == 1
    assert mine(session, now + timedelta(seconds=LEASE_SECONDS - 1)) == []
    assert len(mine(session, now + timedelta(seconds=LEASE_SECONDS))) == 1


def test_messages_are_taken_oldest_first_and_a_few_at_a_time(session: Session, now: datetime) -> None:
    made = [queue(session, None, now - timedelta(days=30 - n)) for n in range(3)]
    assert [o.notice_id for o in service.claim_due(session, now=now, limit=2)] == [n.id for n in made[:2]]


def test_a_text_with_a_link_that_works_once_is_dropped_when_sent_or_given_up(session: Session, now: datetime) -> None:
    sent, bounced = queue(session, None, now, secret=True), queue(session, None, now, secret=True)
    service.mark_sent(session, notice_id=sent.id, now=now)
    service.mark_failed(session, notice_id=bounced.id, error="550 no such user", now=now, permanent=True)
    assert (sent.body, bounced.body) == (None, None)
    assert rungs(session, bounced)[-1] == (Rung.BOUNCED, "mail")


def test_sending_is_tried_again_ever_more_slowly_and_then_given_up(session: Session, now: datetime) -> None:
    notice = queue(session, None, now)
    waits = []
    for _ in range(MAX_TRIES - 1):
        service.mark_failed(session, notice_id=notice.id, error="4\0" + "x" * 900, now=now)
        assert notice.due_at is not None
        waits.append((notice.due_at - now).total_seconds())
    assert waits == [5, 10, 20, 40, 80, 160, 320]
    assert len(notice.last_error) == 500
    for _ in range(2):
        service.mark_failed(session, notice_id=notice.id, error="451 later", now=now)
    assert (notice.due_at, notice.tries, notice.last_error) == (None, MAX_TRIES, "451 later")
    assert rungs(session, notice) == [(Rung.QUEUED, "mail"), (Rung.BOUNCED, "mail")]
    service.mark_sent(session, notice_id=notice.id, now=now)
    assert len(rungs(session, notice)) == 2


def test_what_was_sent_has_not_reached_a_person_and_what_a_page_showed_has(session: Session, now: datetime) -> None:
    user, other = conduct.person(session, "ann", now), conduct.person(session, "bob", now)
    notice = queue(session, user.id, now)
    service.mark_sent(session, notice_id=notice.id, now=now)
    assert service.reached_at(session, user_id=user.id, subject_refs=[REF]) == {}
    later = now + timedelta(hours=1)
    for hours in range(2):
        service.mark_shown(session, user_id=user.id, subject_ref=REF, now=later + timedelta(hours=hours))
    assert rungs(session, notice)[2:] == [(Rung.SHOWN, "page")]
    assert service.reached_at(session, user_id=user.id, subject_refs=[REF, "else"]) == {REF: later}
    assert service.reached_at(session, user_id=other.id, subject_refs=[REF]) == {}
    assert service.reached_at(session, user_id=user.id, subject_refs=[]) == {}


def test_the_first_time_that_word_reached_a_person_counts(session: Session, now: datetime) -> None:
    user = conduct.person(session, "ann", now)
    notice = queue(session, user.id, now)
    for hours, rung in [(3, Rung.VIEWED), (1, Rung.DELIVERED), (2, Rung.SHOWN)]:
        session.add(NoticeEvent(notice_id=notice.id, rung=rung, at=now + timedelta(hours=hours)))
    session.flush()
    found = service.reached_at(session, user_id=user.id, subject_refs=[REF])
    assert found == {REF: now + timedelta(hours=1)}


def test_a_page_that_tells_something_first_leaves_its_own_record(session: Session, now: datetime) -> None:
    user = conduct.person(session, "ann", now)
    for _ in range(2):
        service.mark_shown(session, user_id=user.id, subject_ref=REF, now=now)
    (notice,) = service.of_person(session, user_id=user.id)
    assert (notice.kind, notice.due_at, notice.body, notice.address) == ("page", None, None, "")
    assert rungs(session, notice) == [(Rung.SHOWN, "page")]
    assert service.reached_at(session, user_id=user.id, subject_refs=[REF]) == {REF: now}
    assert [o for o in service.claim_due(session, now=now) if o.notice_id == notice.id] == []


def test_a_person_sees_what_they_were_told_newest_first(session: Session, now: datetime) -> None:
    user = conduct.person(session, "ann", now)
    made = [queue(session, user.id, now + timedelta(minutes=n), ref=str(n)) for n in range(3)]
    queue(session, None, now)
    assert [n.id for n in service.of_person(session, user_id=user.id, limit=2)] == [made[2].id, made[1].id]
    assert service.recent(session, user_id=user.id, kinds=["test"], since=now) == 2
    assert service.recent(session, user_id=user.id, kinds=["else"], since=now) == 0
