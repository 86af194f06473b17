"""Access tokens that somebody found in public: ended, their owners told, and shown where they were seen."""

from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.audit.models import AuditEvent
from portal.core.actor import SYSTEM
from portal.core.errors import TooMany
from portal.notices.models import Notice
from portal.tokens import service
from portal.tokens.models import LeakReport, TokenSighting
from portal.tokens.rules import LEAKS_PER_HOUR, Found, LeakSource, TokenState
from tests.factories import BASE, PEPPER, Make

NETWORK = "192.0.2.0/24"


def report(session: Session, now: datetime, *values: str, **changed: Any) -> None:
    kept: dict[str, Any] = {"source": LeakSource.PUBLIC, "network": NETWORK, "pepper": PEPPER, "now": now}
    service.report_leak(session, found=[Found(value, "https://paste.example/1") for value in values], **kept | changed)


def settle(session: Session, now: datetime, **kept: Any) -> bool:
    return service.settle_leaks(session, by=SYSTEM, base_url=BASE, now=now, **kept)


def mails(session: Session) -> list[Notice]:
    return list(session.scalars(sa.select(Notice).where(Notice.kind == "token_leaked").order_by(Notice.id)))


@pytest.mark.threat("TM-15")
def test_leaked_ones_end_and_the_rest_is_left_alone(session: Session, make: Make, now: datetime) -> None:
    user = make.person()
    (first, one), (second, two), (third, _) = (make.token(user) for _ in range(3))
    report(session, now, one, two, two, "lmp_nonsense", "", "\ud800", "x\0", one[:-1])
    assert first.state is TokenState.LIVE  # whether it is real is not looked at while somebody waits for an answer
    assert not settle(session, now)
    assert [t.state for t in (first, second, third)] == [TokenState.REVOKED, TokenState.REVOKED, TokenState.LIVE]
    assert [mail.recipient_id for mail in mails(session)] == [user.id, user.id]
    assert all(mail.subject_ref in {first.public_id, second.public_id} for mail in mails(session))
    assert [one in (mail.body or "") for mail in mails(session)] == [False, False]
    names = session.scalars(sa.select(AuditEvent.name).where(AuditEvent.subject == first.public_id)).all()
    assert {"token:access_token:revoked", "token:access_token:leaked"} <= set(names)
    row = session.scalars(sa.select(LeakReport)).one()
    assert (row.ended, row.items, row.settled_at) == (2, None, now)
    places = service.sightings(session, token_ids=[first.id, second.id, third.id])
    assert {key: [s.place for s in value] for key, value in places.items()} == {
        first.id: ["https://paste.example/1"], second.id: ["https://paste.example/1"]
    }  # fmt: skip


@pytest.mark.threat("TM-15")
def test_a_second_report_mails_nobody_and_shows_a_new_place_once(session: Session, make: Make, now: datetime) -> None:
    token, secret = make.token(make.person())
    for place in ("a", "a", "b"):
        service.report_leak(
            session, found=[Found(secret, place)], source=LeakSource.PUBLIC, network=NETWORK, pepper=PEPPER, now=now
        )
        settle(session, now)
    assert len(mails(session)) == 1
    assert [s.place for s in service.sightings(session, token_ids=[token.id])[token.id]] == ["a", "b"]


@pytest.mark.threat("TM-15")
def test_signed_bytes_count_once_however_often_they_are_sent(session: Session, make: Make, now: datetime) -> None:
    token, secret = make.token(make.person())
    for _ in range(3):
        report(session, now, secret, source=LeakSource.GITHUB, network="", body_sha256="d" * 64)
    assert session.scalar(sa.select(sa.func.count()).select_from(LeakReport)) == 1
    settle(session, now)
    assert (token.state, len(mails(session))) == (TokenState.REVOKED, 1)
    report(session, now, secret, source=LeakSource.GITHUB, network="", body_sha256="d" * 64)
    assert session.scalar(sa.select(sa.func.count()).select_from(LeakReport)) == 1


@pytest.mark.threat("TM-15")
def test_a_network_reports_so_often_an_hour_and_others_are_not_held_up(session: Session, now: datetime) -> None:
    for _ in range(LEAKS_PER_HOUR):
        report(session, now)
    with pytest.raises(TooMany):
        report(session, now)
    report(session, now, network="198.51.100.0/24")
    report(session, now + timedelta(hours=1))
    for _ in range(LEAKS_PER_HOUR + 1):
        report(session, now, source=LeakSource.GITHUB, network="")


@pytest.mark.threat("TM-15")
def test_ten_thousand_are_looked_at_in_parts(session: Session, make: Make, now: datetime) -> None:
    token, secret = make.token(make.person())
    report(session, now, *[f"lmp_{n}" for n in range(9_999)], secret, source=LeakSource.GITHUB, network="")
    settle(session, now)
    assert token.state is TokenState.REVOKED
    assert session.scalar(sa.select(sa.func.count()).select_from(TokenSighting)) == 1


def test_reports_are_taken_a_few_at_a_time_and_old_ones_of_nothing_go(session: Session, now: datetime) -> None:
    for _ in range(3):
        report(session, now)
    assert settle(session, now, limit=2)
    assert not settle(session, now, limit=2)
    report(session, now + timedelta(days=31))
    settle(session, now + timedelta(days=31))
    assert session.scalars(sa.select(LeakReport.received_at)).all() == [now + timedelta(days=31)]


def test_a_place_is_kept_as_one_line_that_every_database_holds(session: Session, make: Make, now: datetime) -> None:
    token, secret = make.token(make.person())
    found = Found(secret, "<script>\0\n\ud800\u202e" + "x" * 1000)
    service.report_leak(session, found=[found], source=LeakSource.GITHUB, pepper=PEPPER, now=now, body_sha256="e" * 64)
    settle(session, now)
    [seen] = service.sightings(session, token_ids=[token.id])[token.id]
    assert seen.place.startswith("<script><U+0000><U+000A><U+D800><U+202E>x")
    assert seen.place.isprintable()


def test_the_owner_without_an_address_is_not_mailed(session: Session, make: Make, now: datetime) -> None:
    user = make.person()
    token, secret = make.token(user)
    session.delete(user.profile)
    session.flush()
    session.expire(user)
    report(session, now, secret)
    settle(session, now)
    assert (token.state, mails(session)) == (TokenState.REVOKED, [])
