"""Signing up, one-time links, passwords and invitations, on both databases."""

from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts import service as accounts
from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.adapters.hashing import Hasher
from portal.audit.models import AuditEvent
from portal.core.actor import SYSTEM
from portal.core.errors import Conflict, Invalid, NotFound, TooMany, Unavailable
from portal.identity import rules, service
from portal.identity.models import OneTimeLink
from portal.identity.rules import LINK_LIFE, LinkPurpose
from portal.logins import service as logins
from portal.logins.rules import KEPT
from tests.services.entrance import (
    BASE,
    EMAIL,
    HOME,
    MINUTE,
    OTHER,
    PASSWORD,
    PEPPER,
    Spy,
    close,
    mails,
    names,
    secret_in,
    sign_in,
    sign_up,
)


def test_somebody_signs_up_confirms_the_address_and_signs_in(session: Session, hasher: Spy, now: datetime) -> None:
    user = sign_up(session, hasher, now)
    ((kind, body),) = mails(session, user)
    assert kind == "verify"
    secret = secret_in(body)
    assert sign_in(session, hasher, now).user_id == user.id
    assert user.profile.verified_at is None
    found = service.whose_link(session, secret=secret, purpose=LinkPurpose.VERIFY, pepper=PEPPER, now=now)
    assert found is user
    assert user.profile.verified_at is None
    later = now + timedelta(days=1)
    for at in (now, now, later):  # a second click, even a late one, finds it done
        assert service.verify_address(session, secret=secret, pepper=PEPPER, now=at) is user
    assert user.profile.verified_at == now
    assert names(session, user) == [
        "account:user:created", "identity:link:created", "identity:login_session:created", "account:address:verified",
    ]  # fmt: skip
    assert "secret" not in str(session.scalars(sa.select(AuditEvent.data)).all())


def test_a_known_address_gets_another_mail_and_nothing_else_happens(
    session: Session, hasher: Spy, ann: User, now: datetime
) -> None:
    before = names(session, ann)
    sign_up(session, hasher, now, password=OTHER)
    assert hasher.seen() == ["hash"]
    sign_up(session, hasher, now, email="new@identity.example", password=OTHER)
    assert hasher.seen() == ["hash"]
    assert [kind for kind, _ in mails(session, ann)] == ["signup_known"]
    assert names(session, ann) == before
    assert not sign_in(session, hasher, now, password=OTHER).is_signed_in
    assert sign_in(session, hasher, now).user_id == ann.id


def test_a_closed_account_is_told_so_by_mail_alone(session: Session, hasher: Spy, ann: User, now: datetime) -> None:
    close(session, ann, now)
    sign_up(session, hasher, now)
    service.request_reset(session, email=EMAIL, pepper=PEPPER, base_url=BASE, now=now)
    ((kind, body),) = mails(session, ann)
    assert kind == "signup_known"
    assert "closed" in body


def test_mail_to_one_person_is_limited(session: Session, hasher: Spy, ann: User, now: datetime) -> None:
    for _ in range(7):
        sign_up(session, hasher, now)
        service.request_reset(session, email=EMAIL, pepper=PEPPER, base_url=BASE, now=now)
    kinds = [kind for kind, _ in mails(session, ann)]
    assert (kinds.count("signup_known"), kinds.count("reset")) == (5, 5)
    service.request_reset(session, email=EMAIL, pepper=PEPPER, base_url=BASE, now=now + timedelta(hours=1))
    assert len(mails(session, ann)) == 11
    new = sign_up(session, hasher, now, email="new@identity.example")
    sent = [
        service.send_verification(session, user=new, pepper=PEPPER, base_url=BASE, now=now + MINUTE) for _ in range(6)
    ]
    assert sent == [True] * 4 + [False] * 2
    assert not service.send_verification(session, user=ann, pepper=PEPPER, base_url=BASE, now=now)


def test_of_two_sign_ups_at_once_the_second_tells_nothing(
    session: Session, hasher: Spy, ann: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(accounts, "find_by_email", lambda *_args, **_kept: None)
        who = rules.applicant(email=EMAIL, password=OTHER, name="Eve", affiliation="Lab", country="NL", hasher=hasher)
        service.sign_up(session, who=who, pepper=PEPPER, base_url=BASE, now=now)
    assert sign_in(session, hasher, now).user_id == ann.id
    assert mails(session, ann) == []


def test_an_operator_answers_for_an_address_once(session: Session, hasher: Spy, ann: User, now: datetime) -> None:
    assert (ann.profile.email, ann.profile.country, ann.profile.verified_at) == (EMAIL, "NL", now)
    with pytest.raises(Conflict):
        service.add_verified(
            session, email=EMAIL, password=PASSWORD, name="Ann", affiliation="Lab", country="NL", hasher=hasher,
            by=SYSTEM, now=now,
        )  # fmt: skip


def test_a_lost_password_is_replaced_by_a_mailed_link_that_works_once(
    session: Session, hasher: Spy, now: datetime
) -> None:
    user = sign_up(session, hasher, now)
    sign_in(session, hasher, now)
    for email in (EMAIL.upper(), EMAIL, "nobody@identity.example"):
        service.request_reset(session, email=email, pepper=PEPPER, base_url=BASE, now=now)
    found = mails(session, user)
    assert [kind for kind, _ in found] == ["verify", "reset", "reset"]
    first, second = (secret_in(body) for _, body in found[1:])
    new: dict[str, Any] = {"password": OTHER, "hasher": hasher, "pepper": PEPPER, "base_url": BASE, "now": now}
    with pytest.raises(Invalid):
        service.reset_password(session, secret=first, **{**new, "password": "short"})
    with pytest.raises(NotFound):
        service.reset_password(session, secret=secret_in(found[0][1]), **new)
    assert service.reset_password(session, secret=first, **new) is user
    for secret in (first, second):
        with pytest.raises(NotFound):
            service.reset_password(session, secret=secret, **new)
    assert user.profile.verified_at == now
    assert logins.sessions_of(session, user_id=user.id, now=now) == []
    assert not sign_in(session, hasher, now).is_signed_in
    assert sign_in(session, hasher, now, password=OTHER).user_id == user.id
    assert mails(session, user)[-1][0] == "password_changed"
    assert "identity:password:changed" in names(session, user)


def test_of_two_uses_of_a_link_at_once_one_is_refused(
    session: Session, hasher: Spy, ann: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.request_reset(session, email=EMAIL, pepper=PEPPER, base_url=BASE, now=now)
    secret = secret_in(mails(session, ann)[-1][1])
    new: dict[str, Any] = {"password": OTHER, "hasher": hasher, "pepper": PEPPER, "base_url": BASE, "now": now}
    service.reset_password(session, secret=secret, **new)
    # The second one looked at the link before the first one used it up.
    monkeypatch.setattr(service, "whose_link", lambda *_args, **_kept: ann)
    with pytest.raises(NotFound):
        service.reset_password(session, secret=secret, **new)
    with pytest.raises(NotFound):
        service.accept_invite(session, secret=secret, user_agent="", pepper=PEPPER, now=now)


def test_links_expire_and_serve_one_purpose_only(session: Session, hasher: Spy, now: datetime) -> None:
    user = sign_up(session, hasher, now)
    secret = secret_in(mails(session, user)[0][1])
    end = now + LINK_LIFE[LinkPurpose.VERIFY]

    def whose(purpose: LinkPurpose, at: datetime, value: str = secret, pepper: bytes = PEPPER) -> User:
        return service.whose_link(session, secret=value, purpose=purpose, pepper=pepper, now=at)

    assert whose(LinkPurpose.VERIFY, end - MINUTE) is user
    with pytest.raises(NotFound):
        whose(LinkPurpose.VERIFY, end)
    with pytest.raises(NotFound):
        whose(LinkPurpose.RESET, now)
    with pytest.raises(NotFound):
        whose(LinkPurpose.VERIFY, now, pepper=b"q" * 32)
    for bad in ("", "x", "\ud800", secret + "x"):
        with pytest.raises(NotFound):
            whose(LinkPurpose.VERIFY, now, bad)
    assert secret not in str(session.scalars(sa.select(OneTimeLink.hmac)).all())
    mine = sa.select(sa.func.count()).select_from(OneTimeLink).where(OneTimeLink.user_id == user.id)
    service.send_verification(session, user=user, pepper=PEPPER, base_url=BASE, now=end + KEPT + MINUTE)
    assert session.scalar(mine) == 1


def test_a_password_is_changed_by_whoever_knows_it_and_ends_every_other_login_session(
    session: Session, hasher: Spy, ann: User, now: datetime
) -> None:
    by, other = (sign_in(session, hasher, now) for _ in range(2))
    service.request_reset(session, email=EMAIL, pepper=PEPPER, base_url=BASE, now=now)
    stale = secret_in(mails(session, ann)[-1][1])
    change: dict[str, Any] = {
        "by": by, "network": HOME, "hasher": hasher, "pepper": PEPPER, "base_url": BASE, "now": now,
    }  # fmt: skip
    with pytest.raises(Invalid) as caught:
        service.change_password(session, current=PASSWORD, password="short", **change)
    assert caught.value.field == "password"
    for _ in range(5):
        with pytest.raises(Invalid) as caught:
            service.change_password(session, current="wrong", password=OTHER, **change)
        assert caught.value.field == "current"
    with pytest.raises(TooMany):
        service.change_password(session, current=PASSWORD, password=OTHER, **change)
    change["now"] = now + MINUTE
    reference = service.change_password(session, current=PASSWORD, password=OTHER, **change)
    left = [login.id for login in logins.sessions_of(session, user_id=ann.id, now=now)]
    assert (left, other.login_session_id in left) == ([by.login_session_id], False)
    assert logins.actor_for_session(session, reference=reference, pepper=PEPPER, now=now).user_id == ann.id
    assert mails(session, ann)[-1][0] == "password_changed"
    assert sign_in(session, hasher, now + MINUTE, password=OTHER).user_id == ann.id
    with pytest.raises(NotFound):
        service.whose_link(session, secret=stale, purpose=LinkPurpose.RESET, pepper=PEPPER, now=now)


def test_an_invitation_signs_somebody_in_once_and_they_set_a_password(
    session: Session, hasher: Spy, now: datetime
) -> None:
    user, secret = service.invite_staff(
        session, email="Mo@identity.example", name=" Mo ", role=Role.MODERATOR, pepper=PEPPER, by=SYSTEM, now=now
    )
    assert (user.profile.email, user.profile.name, user.profile.verified_at) == ("mo@identity.example", "Mo", None)
    assert mails(session, user) == []
    assert service.whose_link(session, secret=secret, purpose=LinkPurpose.STAFF, pepper=PEPPER, now=now) is user
    found, reference = service.accept_invite(session, secret=secret, user_agent="tests", pepper=PEPPER, now=now)
    actor = logins.actor_for_session(session, reference=reference, pepper=PEPPER, now=now)
    assert (found, actor.user_id, actor.is_staff) == (user, user.id, True)
    assert user.profile.verified_at == now
    with pytest.raises(NotFound):
        service.accept_invite(session, secret=secret, user_agent="tests", pepper=PEPPER, now=now)
    assert not service.has_password(session, user_id=user.id)
    service.change_password(
        session, by=actor, current="", password=PASSWORD, network="", hasher=hasher, pepper=PEPPER, base_url=BASE,
        now=now,
    )  # fmt: skip
    assert service.has_password(session, user_id=user.id)
    assert sign_in(session, hasher, now, email="mo@identity.example").is_staff


def test_inviting_again_gives_another_link_and_one_role(
    session: Session, hasher: Spy, ann: User, now: datetime
) -> None:
    made = [
        service.invite_staff(session, email=EMAIL, name="", role=Role.ADMIN, pepper=PEPPER, by=SYSTEM, now=now)
        for _ in range(2)
    ]
    assert {user for user, _ in made} == {ann}
    assert accounts.roles_of(session, user_id=ann.id, now=now) == [Role.ADMIN]
    assert ann.profile.name == "Ann"
    assert sign_in(session, hasher, now).user_id == ann.id
    service.accept_invite(session, secret=made[1][1], user_agent="", pepper=PEPPER, now=now)
    with pytest.raises(NotFound):
        service.accept_invite(session, secret=made[0][1], user_agent="", pepper=PEPPER, now=now)
    with pytest.raises(Invalid):
        service.invite_staff(session, email="no", name="", role=Role.ADMIN, pepper=PEPPER, by=SYSTEM, now=now)
    close(session, ann, now)
    with pytest.raises(Conflict):
        service.invite_staff(session, email=EMAIL, name="", role=Role.ADMIN, pepper=PEPPER, by=SYSTEM, now=now)


def test_whoever_opened_an_account_without_proving_the_address_gains_nothing_by_its_invitation(
    session: Session, hasher: Spy, now: datetime
) -> None:
    user = sign_up(session, hasher, now)
    intruder = sign_in(session, hasher, now)
    assert intruder.user_id == user.id
    service.invite_staff(session, email=EMAIL, name="", role=Role.ADMIN, pepper=PEPPER, by=SYSTEM, now=now)
    assert not sign_in(session, hasher, now).is_signed_in
    assert logins.sessions_of(session, user_id=user.id, now=now) == []


def test_passwords_are_hashed_as_decided_one_at_a_time_for_each_core() -> None:
    hasher = Hasher(at_once=1, wait=0.01)
    digest = hasher.hash("caf\u00e9 au lait, please")
    assert digest.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert hasher.verify(digest, "cafe\u0301 au lait, please")
    assert not hasher.verify(digest, "cafe au lait, please")
    assert not hasher.verify("no digest", "x")
    assert not hasher.verify(digest, "\ud800")
    assert not hasher.verify_nobody("x")
    assert not hasher.needs_rehash(digest)
    assert hasher.needs_rehash("no digest")
    with hasher._turn(), pytest.raises(Unavailable):
        hasher.verify(digest, "x")
    assert hasher.hash("x") != hasher.hash("x")
