"""Making, checking and ending access tokens, on both databases."""

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.rules import Role
from portal.audit.models import AuditEvent
from portal.core.actor import ANONYMOUS, Actor
from portal.core.errors import Conflict, Invalid, NotFound
from portal.tokens import service
from portal.tokens.models import AccessToken
from portal.tokens.rules import MAX_LIVE, TokenFacts, TokenState
from tests import conduct
from tests.factories import PEPPER, Make


def events(session: Session, name: str, subject: str) -> int:
    query = sa.select(sa.func.count()).where(AuditEvent.name == name, AuditEvent.subject == subject)
    return session.scalar(query.select_from(AuditEvent)) or 0


def test_an_access_token_is_found_by_its_secret_alone(session: Session, make: Make, now: datetime) -> None:
    user, model = make.person(), make.model()
    token, secret = make.token(user, "inference", "usage:read", models=(model, model))
    facts = service.authenticate(session, value=secret, pepper=PEPPER, now=now)
    assert facts == TokenFacts(
        token.id, token.public_id, user.id, frozenset({"inference", "usage:read"}), now + timedelta(days=30)
    )
    assert [row.model_id for row in token.model_rows] == [model.id]
    assert token.last4 == secret[-4:]
    row = session.execute(sa.select(AccessToken.__table__).where(AccessToken.id == token.id)).one()
    assert secret not in repr(row)
    assert events(session, "token:access_token:created", token.public_id) == 1


def test_the_same_secret_under_another_pepper_is_unknown(session: Session, make: Make, now: datetime) -> None:
    _, secret = make.token(make.person())
    assert service.authenticate(session, value=secret, pepper=b"q" * 32, now=now) == "access_token_invalid"


@pytest.mark.parametrize("value", ["", "lmp_", "lmp_" + "0" * 49, "hf_abc", "\0", "lmp_" + "é" * 49])
def test_what_is_no_access_token_is_invalid(session: Session, now: datetime, value: str) -> None:
    assert service.authenticate(session, value=value, pepper=PEPPER, now=now) == "access_token_invalid"


def test_an_access_token_ends_at_its_instant(session: Session, make: Make, now: datetime) -> None:
    _, secret = make.token(make.person())
    end = now + timedelta(days=30)
    before = end - timedelta(microseconds=1)
    assert isinstance(service.authenticate(session, value=secret, pepper=PEPPER, now=before), TokenFacts)
    assert service.authenticate(session, value=secret, pepper=PEPPER, now=end) == "access_token_expired"


def test_a_bad_access_token_is_not_made(session: Session, make: Make, now: datetime) -> None:
    user = make.person()
    with pytest.raises(Invalid):
        service.issue(
            session, by=conduct.acting(user), owner_id=user.id, name="x", scopes=["all"], model_ids=[], days=1,
            pepper=PEPPER, now=now,
        )  # fmt: skip
    assert service.of_person(session, user_id=user.id) == []


def test_a_person_has_a_limit_of_live_ones(session: Session, make: Make, now: datetime) -> None:
    user = make.person()
    made = [make.token(user)[0] for _ in range(MAX_LIVE)]
    with pytest.raises(Conflict, match="Revoke one first"):
        make.token(user)
    service.revoke(session, by=conduct.acting(user), ref=made[0].public_id, now=now)
    make.token(user)
    later = Make(session, now + timedelta(days=31), make.numbers)
    later.token(user)


def test_the_header_names_the_person_and_nothing_more(session: Session, make: Make, now: datetime) -> None:
    user = make.person("terry", Role.ADMIN)
    token, secret = make.token(user, "inference")
    for header in (f"Bearer {secret}", f"  bearer   {secret}  ", f"BEARER {secret}"):
        actor = service.actor_of(session, authorization=header, pepper=PEPPER, now=now)
        assert (actor.user_id, actor.public_id, actor.name) == (user.id, user.public_id, "Terry")
        assert actor.access_token_id == token.id
        assert actor.scopes == frozenset({"inference"})
        assert actor.permissions == frozenset()
        assert actor.token_error is None


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic dXNlcjpwdw==", "lmp_x", "Bearer lmp_x", "Bearer a b"]
)
def test_a_header_that_cannot_be_used_is_never_taken_for_nobody(session: Session, now: datetime, header: str) -> None:
    actor = service.actor_of(session, authorization=header, pepper=PEPPER, now=now)
    assert actor.token_error == "access_token_invalid"
    assert not actor.is_signed_in


def test_the_header_says_why_it_cannot_be_used(session: Session, make: Make, now: datetime) -> None:
    user = make.person()
    token, secret = make.token(user)
    header = f"Bearer {secret}"
    late = service.actor_of(session, authorization=header, pepper=PEPPER, now=now + timedelta(days=30))
    assert late.token_error == "access_token_expired"
    service.revoke(session, by=conduct.acting(user), ref=token.public_id, now=now)
    ended = service.actor_of(session, authorization=header, pepper=PEPPER, now=now)
    assert ended.token_error == "access_token_revoked"


def test_an_actor_is_looked_at_again(session: Session, make: Make, now: datetime) -> None:
    user = make.person()
    token, secret = make.token(user)
    actor = service.actor_of(session, authorization=f"Bearer {secret}", pepper=PEPPER, now=now)
    assert service.refresh_actor(session, actor=actor, now=now) == actor
    late = service.refresh_actor(session, actor=actor, now=now + timedelta(days=30))
    assert late.token_error == "access_token_expired"
    service.revoke(session, by=conduct.acting(user), ref=token.public_id, now=now)
    assert service.refresh_actor(session, actor=actor, now=now).token_error == "access_token_revoked"
    page = conduct.acting(user)
    assert service.refresh_actor(session, actor=page, now=now) is page


def test_revoking_twice_ends_it_once(session: Session, make: Make, now: datetime) -> None:
    user = make.person()
    token, _ = make.token(user)
    other, _ = make.token(user)
    for minutes in (0, 5):
        service.revoke(session, by=conduct.acting(user), ref=token.public_id, now=now + timedelta(minutes=minutes))
    assert (token.state, token.revoked_at) == (TokenState.REVOKED, now)
    assert other.state is TokenState.LIVE
    assert events(session, "token:access_token:revoked", token.public_id) == 1
    assert [t.id for t in service.of_person(session, user_id=user.id)] == [other.id, token.id]


def test_only_the_owner_and_who_may_sanction_can_end_one(session: Session, make: Make, now: datetime) -> None:
    token, _ = make.token(make.person())
    stranger, editor = make.person(), make.person("ed", Role.LICENSE_EDITOR)
    for actor in (conduct.acting(stranger), conduct.acting(editor, Role.LICENSE_EDITOR), ANONYMOUS, Actor()):
        with pytest.raises(NotFound):
            service.revoke(session, by=actor, ref=token.public_id, now=now)
    with pytest.raises(NotFound):
        service.find(session, by=conduct.acting(stranger), ref="tok_nothing")
    moderator = make.person("mo", Role.MODERATOR)
    service.revoke(session, by=conduct.acting(moderator, Role.MODERATOR), ref=token.public_id, now=now)
    assert token.state is TokenState.REVOKED


def test_the_last_use_is_kept_by_the_minute_and_never_goes_back(session: Session, make: Make, now: datetime) -> None:
    token, _ = make.token(make.person())
    other, _ = make.token(make.person())
    for seconds, minute in ((70, 1), (61, 1), (5, 1), (125, 2)):
        service.touch_used(session, token_id=token.id, at=now + timedelta(seconds=seconds))
        session.refresh(token)
        assert token.last_used_at == now + timedelta(minutes=minute)
    session.refresh(other)
    assert other.last_used_at is None
    service.touch_used(session, token_id=2**31 - 1, at=now)
