"""Signing in and out, and login sessions, on both databases."""

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher
from sqlalchemy.orm import Session

from portal.accounts import service as accounts
from portal.accounts.models import User
from portal.accounts.rules import Permission, Role, Standing, StandingAction
from portal.audit.models import AuditEvent
from portal.core.actor import ANONYMOUS, SYSTEM, Actor
from portal.core.errors import Conflict, NotFound, TooMany
from portal.identity import service
from portal.identity.models import Password
from portal.identity.rules import LinkPurpose
from portal.logins import rules
from portal.logins import service as logins
from portal.logins.models import LoginFailure, LoginSession
from portal.logins.rules import ABSOLUTE, IDLE
from tests import conduct
from tests.services.entrance import EMAIL, MINUTE, OTHER, PASSWORD, PEPPER, Spy, close, sign_in


@pytest.mark.threat("TM-28")
def test_unknown_addresses_and_wrong_passwords_take_one_check_each(
    session: Session, hasher: Spy, ann: User, now: datetime
) -> None:
    invited, _ = service.invite_staff(
        session, email="staff@identity.example", name="", role=Role.ADMIN, pepper=PEPPER, by=SYSTEM, now=now
    )
    assert not service.has_password(session, user_id=invited.id)
    assert sign_in(session, hasher, now).user_id == ann.id
    assert hasher.seen() == ["verify"]
    for email in (EMAIL, "nobody@identity.example", "staff@identity.example", "", "\ud800", "\0", "x" * 100_000):
        assert sign_in(session, hasher, now, email=email, password=OTHER) == ANONYMOUS
        assert hasher.seen() == ["verify"]
    close(session, ann, now)
    assert sign_in(session, hasher, now) == ANONYMOUS
    assert hasher.seen() == ["verify"]


@pytest.mark.threat("TM-28")
def test_failures_slow_the_next_attempt_from_there_whoever_is_meant(
    session: Session, hasher: Spy, ann: User, now: datetime
) -> None:
    for email in (EMAIL, "nobody@identity.example"):
        for _ in range(5):
            sign_in(session, hasher, now, email=email, password=OTHER)
        hasher.seen()
        with pytest.raises(TooMany) as caught:
            sign_in(session, hasher, now, email=email.upper(), password=PASSWORD)
        assert caught.value.retry_after == 1
        assert hasher.seen() == []
    # Somebody elsewhere, such as the owner, is not held up; and nobody is for long.
    assert sign_in(session, hasher, now, network="198.51.100.0/24").user_id == ann.id
    assert sign_in(session, hasher, now + timedelta(seconds=1)).user_id == ann.id
    # Success forgets the failures of that address and place.
    assert not sign_in(session, hasher, now + timedelta(seconds=1), password=OTHER).is_signed_in
    assert sign_in(session, hasher, now + timedelta(seconds=1)).user_id == ann.id


def test_failures_are_forgotten_after_a_while(session: Session, hasher: Spy, ann: User, now: datetime) -> None:
    for _ in range(6):
        sign_in(session, hasher, now, password=OTHER, network="")
        now += timedelta(seconds=10)
    later = now + rules.FAILURE_WINDOW
    assert not sign_in(session, hasher, later, email="nobody@identity.example").is_signed_in
    assert session.scalar(sa.select(sa.func.count()).select_from(LoginFailure)) == 1


def test_a_digest_with_other_costs_is_made_anew_at_sign_in(
    session: Session, hasher: Spy, ann: User, now: datetime
) -> None:
    stored = session.get_one(Password, ann.id)
    stored.digest = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    session.flush()
    assert sign_in(session, hasher, now).user_id == ann.id
    assert hasher.seen() == ["verify", "hash"]
    session.refresh(stored)
    assert "m=19456,t=2,p=1" in stored.digest
    assert sign_in(session, hasher, now).user_id == ann.id
    assert hasher.seen() == ["verify"]


def test_a_password_that_changes_during_a_sign_in_opens_nothing(
    session: Session, hasher: Spy, ann: User, now: datetime
) -> None:
    proof = service.prove(session, email=EMAIL, password=PASSWORD, network="", hasher=hasher, pepper=PEPPER, now=now)
    stored = session.get_one(Password, ann.id)
    for change in ("changed", None):
        if change:
            stored.digest = hasher.hash(OTHER)
        else:
            session.delete(stored)
        session.flush()
        with pytest.raises(Conflict):
            service.sign_in(session, proof=proof, reference="r" * 43, user_agent="", pepper=PEPPER, now=now)
    assert logins.sessions_of(session, user_id=ann.id, now=now) == []


def test_a_login_session_carries_the_powers_of_roles_and_ends_when_unused_or_old(
    session: Session, hasher: Spy, ann: User, now: datetime
) -> None:
    def seen(reference: str, at: datetime) -> Actor:
        return logins.actor_for_session(session, reference=reference, pepper=PEPPER, now=at)

    mo = conduct.person(session, "mo", now, Role.MODERATOR)
    for user in (ann, mo):
        is_staff = user is mo
        reference = logins.open_session(
            session, user_id=user.id, means="password", user_agent="a\0" + "x" * 900, pepper=PEPPER, now=now
        )
        actor = seen(reference, now)
        assert (actor.user_id, actor.public_id, actor.name) == (user.id, user.public_id, user.profile.name)
        assert (actor.is_staff, actor.proved_at, actor.touch_due) == (is_staff, now, False)
        assert (Permission.PEOPLE_SANCTION in actor.permissions) is is_staff
        assert seen(reference, now + MINUTE).touch_due
        assert seen(reference, now + IDLE[is_staff] - MINUTE).is_signed_in
        assert seen(reference, now + IDLE[is_staff]) == ANONYMOUS
        login = session.get_one(LoginSession, actor.login_session_id)
        assert len(login.user_agent) == rules.AGENT_MAX
        end = now + ABSOLUTE[is_staff]
        logins.touch(session, login_session_id=login.id, now=end - MINUTE)
        logins.touch(session, login_session_id=login.id, now=now)
        session.refresh(login)
        assert login.last_used_at == end - MINUTE
        assert seen(reference, end - MINUTE).is_signed_in
        assert seen(reference, end) == ANONYMOUS
        assert logins.actor_for_session(session, reference=reference, pepper=b"q" * 32, now=now) == ANONYMOUS
        assert reference not in str(session.scalars(sa.select(LoginSession.reference_hmac)).all())
    for reference in ("", "x", "\ud800", "x" * 10_000):
        assert seen(reference, now) == ANONYMOUS


def test_a_closed_account_is_nobody_and_a_suspended_person_can_sign_in(
    session: Session, hasher: Spy, ann: User, now: datetime
) -> None:
    accounts.set_standing(
        session, user_id=ann.id, action=StandingAction.SUSPEND, until=now + timedelta(days=1), ref="san_1", by=SYSTEM,
        now=now,
    )  # fmt: skip
    assert ann.standing is Standing.SUSPENDED
    reference = logins.open_session(session, user_id=ann.id, means="password", user_agent="", pepper=PEPPER, now=now)
    assert sign_in(session, hasher, now).user_id == ann.id
    close(session, ann, now)
    assert logins.actor_for_session(session, reference=reference, pepper=PEPPER, now=now) == ANONYMOUS


def test_an_erased_person_has_no_name(session: Session, now: datetime) -> None:
    user = User(public_id="usr_erased", created_at=now)
    session.add(user)
    session.flush()
    reference = logins.open_session(session, user_id=user.id, means="password", user_agent="", pepper=PEPPER, now=now)
    assert logins.actor_for_session(session, reference=reference, pepper=PEPPER, now=now).name == ""
    secret = service._make_link(session, user, LinkPurpose.RESET, pepper=PEPPER, by=SYSTEM, now=now)
    with pytest.raises(NotFound):
        service.whose_link(session, secret=secret, purpose=LinkPurpose.RESET, pepper=PEPPER, now=now)


def test_login_sessions_are_listed_and_ended_one_by_one_or_all(
    session: Session, hasher: Spy, ann: User, now: datetime
) -> None:
    def live(at: datetime = now) -> list[int]:
        return [login.id for login in logins.sessions_of(session, user_id=ann.id, now=at)]

    stranger = conduct.person(session, "stranger", now)
    logins.open_session(session, user_id=stranger.id, means="password", user_agent="", pepper=PEPPER, now=now)
    (theirs,) = logins.sessions_of(session, user_id=stranger.id, now=now)
    actors = [sign_in(session, hasher, now + n * MINUTE) for n in range(4)]
    ids = [actor.login_session_id for actor in actors]
    assert live() == ids[::-1]
    logins.sign_out(session, by=actors[0], now=now)
    logins.sign_out(session, by=actors[0], now=now)
    logins.sign_out(session, by=Actor(user_id=ann.id, public_id=ann.public_id), now=now)
    assert live() == ids[:0:-1]
    ref = session.get_one(LoginSession, ids[1]).reference_hmac[: rules.REF_LENGTH]
    for _ in range(2):
        logins.end_one(session, by=actors[3], ref=ref, now=now)
    for bad in ("", "%", ref[:8], ref + "0", "\ud800".encode("utf-8", "replace").decode(), theirs.reference_hmac[:16]):
        with pytest.raises(NotFound):
            logins.end_one(session, by=actors[3], ref=bad, now=now)
    assert live() == [ids[3], ids[2]]
    assert logins.end_others(session, by=actors[3], now=now) == 1
    assert logins.end_others(session, by=actors[3], now=now) == 0
    assert live() == [ids[3]]
    assert live(now + timedelta(days=2)) == []
    assert logins.end_sessions(session, user_id=ann.id, reason="suspended", by=SYSTEM, now=now) == 1
    assert logins.end_sessions(session, user_id=ann.id, reason="suspended", by=SYSTEM, now=now) == 0
    assert live() == []
    ended = [
        (event.data["reason"], event.data["count"], event.actor)
        for event in session.scalars(
            sa.select(AuditEvent)
            .where(AuditEvent.name == "identity:login_session:ended", AuditEvent.subject == ann.public_id)
            .order_by(AuditEvent.id)
        )
    ]
    me = ann.public_id
    assert ended == [
        ("signed_out", 1, me), ("ended_by_owner", 1, me), ("ended_by_owner", 1, me), ("suspended", 1, "system"),
    ]  # fmt: skip
    assert theirs.ended_at is None


def test_login_sessions_long_past_are_dropped_at_the_next_one(
    session: Session, hasher: Spy, ann: User, now: datetime
) -> None:
    sign_in(session, hasher, now)
    sign_in(session, hasher, now + rules.KEPT)
    mine = sa.select(sa.func.count()).select_from(LoginSession).where(LoginSession.user_id == ann.id)
    assert session.scalar(mine) == 2
    sign_in(session, hasher, now + rules.KEPT + MINUTE)
    assert session.scalar(mine) == 2
