"""The second look at what two people put in force at once: by whom, by when, and what happens when nobody looks."""

from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from portal.accounts.rules import Role
from portal.audit.models import AuditEvent
from portal.core.actor import Actor
from portal.core.errors import Conflict, Invalid, NotFound, PortalError
from portal.licensing import service as licensing
from portal.licensing.models import AfterReview
from portal.licensing.rules import Materiality, ReviewFinding, ReviewState, VersionState, review_state_at
from portal.notices.models import Notice
from portal.publishing import service as publishing
from portal.reviews import rules, service
from tests import conduct, licensed
from tests.editing import BASE, DAY, code, settled, steps
from tests.licensed import SLUG

ASKED, LATE = "version_review", "version_review_overdue"


@pytest.fixture
def look(session: Session, now: datetime, editors: dict[str, Actor]) -> AfterReview:
    """What is due once ed wrote a version, flo approved and proposed, and hal put it in force; gus only saw it."""
    editors["hal"] = conduct.acting(
        conduct.person(session, "hal", now, Role.ADMIN, domain="staff.example"), Role.ADMIN
    )  # fmt: skip
    row = settled(session, editors, now, weight=Materiality.MATERIAL_IMMEDIATE)
    proposed = publishing.propose_now(session, **steps(), reason="It is abused.", by=editors["flo"], now=now)
    publishing.publish_now(
        session, **steps(), payload_sha256=proposed.payload_sha256, by=editors["hal"], now=now, base_url=BASE
    )
    found = licensing.second_look(session, version=row)
    assert found is not None
    return found


def take(session: Session, by: Actor, now: datetime, **changed: Any) -> AfterReview:
    given: dict[str, Any] = {"finding": ReviewFinding.STANDS, "words": "I read it against 1.1.0.\r\n"}
    return service.review(session, **steps(), **{**given, **changed}, by=by, now=now)


def told(session: Session, kind: str) -> list[str]:
    query = sa.select(Notice.address).where(Notice.kind == kind).order_by(Notice.address)
    return [address.partition("@")[0] for address in session.scalars(query)]


def events(session: Session) -> list[tuple[str, str, dict[str, Any]]]:
    query = sa.select(AuditEvent.name, AuditEvent.actor, AuditEvent.data)
    query = query.where(AuditEvent.name.like("license:version:review%")).order_by(AuditEvent.id)
    return [tuple(row) for row in session.execute(query)]


def test_it_is_due_within_a_week_and_everybody_who_may_look_is_asked(
    session: Session, now: datetime, look: AfterReview
) -> None:
    assert look.due_at == now + timedelta(days=7)
    assert told(session, ASKED) == ["gus"]
    body = session.scalars(sa.select(Notice.body).where(Notice.kind == ASKED)).one()
    assert "It is abused." in body
    assert f"{BASE}/staff/licenses/bloom-rail/1.2.0/review" in body
    assert "9 November 2026, 12:00 UTC" in body
    assert licensing.second_looks(session) == [look]


@pytest.mark.parametrize("name", ["ed", "flo", "hal"])
def test_who_had_a_hand_in_it_does_not_look(
    session: Session, now: datetime, editors: dict[str, Actor], look: AfterReview, name: str
) -> None:
    with pytest.raises(PortalError) as caught:
        take(session, editors[name], now)
    assert code(caught) == "reviewer_involved"
    assert look.reviewed_at is None


def test_what_was_found_is_kept_once_and_for_good(
    session: Session, now: datetime, editors: dict[str, Actor], look: AfterReview
) -> None:
    soon = now + DAY
    for words, error in ((" ", "review_unsaid"), ("x" * 5_000, "review_long"), ("a\0b", "review_letters")):
        with pytest.raises(Invalid) as caught:
            take(session, editors["gus"], soon, words=words)
        assert code(caught) == error
    row = take(session, editors["gus"], soon, finding=ReviewFinding.REPLACE)
    assert (row.reviewed_by, row.reviewed_at, row.finding, row.words) == (
        editors["gus"].public_id, soon, ReviewFinding.REPLACE, "I read it against 1.1.0.",
    )  # fmt: skip
    with pytest.raises(Conflict) as again:
        take(session, editors["gus"], soon)
    assert code(again) == "reviewed_already"
    for values in ({"words": "Other."}, {"finding": "stands"}, {"due_at": now}, {"reviewed_by": None}):
        statement: Any = sa.update(AfterReview.__table__).values(**values)  # type: ignore[arg-type]
        with pytest.raises(IntegrityError, match="append-only"), session.begin_nested():
            session.execute(statement)
    assert events(session) == [
        ("license:version:reviewed", editors["gus"].public_id, {"number": "1.2.0", "finding": "replace"})
    ]
    assert row.version.state is VersionState.IN_FORCE, "a finding never changes what binds; a new version does"


def test_half_a_finding_is_no_finding(session: Session, look: AfterReview) -> None:
    statement: Any = sa.update(AfterReview.__table__).values(reviewed_by="usr_x")  # type: ignore[arg-type]
    with pytest.raises(IntegrityError), session.begin_nested():
        session.execute(statement)


def test_when_nobody_looks_in_time_staff_are_told_once_and_it_can_still_be_done(
    session: Session, now: datetime, editors: dict[str, Actor], look: AfterReview
) -> None:
    assert service.remind(session, now=look.due_at - timedelta(seconds=1), base_url=BASE) == 0
    late = look.due_at
    assert service.remind(session, now=late, base_url=BASE) == 1
    assert service.remind(session, now=late + DAY, base_url=BASE) == 0
    assert look.overdue_at == late
    assert told(session, LATE) == ["gus"]
    assert events(session) == [("license:version:review_overdue", "system", {"number": "1.2.0"})]
    row = take(session, editors["gus"], late + DAY)
    assert row.finding is ReviewFinding.STANDS


def test_a_look_that_was_taken_is_never_overdue(
    session: Session, now: datetime, editors: dict[str, Actor], look: AfterReview
) -> None:
    take(session, editors["gus"], now + DAY)
    assert service.remind(session, now=look.due_at + DAY, base_url=BASE) == 0


def test_where_it_stands_follows_the_clock_alone(now: datetime) -> None:
    due = now + rules.REVIEW_TIME
    assert review_state_at(due, None, due - timedelta(seconds=1)) is ReviewState.OPEN
    assert review_state_at(due, None, due) is ReviewState.OVERDUE
    assert review_state_at(due, due + DAY, due + 2 * DAY) is ReviewState.DONE


def test_a_version_that_came_with_notice_needs_none(session: Session, now: datetime) -> None:
    row = licensed.publish(session, now)
    assert licensing.second_look(session, version=row) is None
    with pytest.raises(NotFound) as caught:
        service.find(session, slug=SLUG, number="1.1.0")
    assert code(caught) == "review_not_found"
