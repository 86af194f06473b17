"""Letting terminals in, on both databases: one approval, one access token, and nothing for anybody else."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.accounts.rules import StandingAction
from portal.accounts.service import set_standing
from portal.audit.models import AuditEvent
from portal.catalog.models import GatedModel
from portal.catalog.rules import ModelState
from portal.core.actor import SYSTEM
from portal.core.db import make_engine, transaction
from portal.core.errors import Conflict, Refused, TooMany
from portal.licensing.models import SignatureSetItem
from portal.migrations import upgrade
from portal.oauth import rules, service
from portal.oauth.models import DeviceCode, DeviceMistake
from portal.oauth.rules import DeviceState, OAuthError
from portal.oauth.service import Begun, Exchange
from portal.tokens import service as tokens
from portal.tokens.models import AccessToken
from portal.tokens.rules import MAX_LIVE, TokenFacts
from tests import conduct
from tests.factories import BASE, PEPPER, Make

HF = "26be6b09-91c5-47da-9861-d2d2bb7a7e36"
SECOND = timedelta(seconds=1)


def begin(session: Session, now: datetime, **changed: Any) -> Begun:
    asked = {"client_id": HF, "scope": "", "network": "192.0.2.0/24", "user_agent": "hf_hub/2.4.0", "pepper": PEPPER}
    return service.begin(session, now=now, **{**asked, **changed})


def row_of(session: Session, begun: Begun) -> DeviceCode:
    code = rules.read_user_code(begun.user_code)
    return session.scalars(sa.select(DeviceCode).where(DeviceCode.user_code == code)).one()


def ask(session: Session, begun: Begun, now: datetime, client_id: str = HF) -> Exchange:
    return service.exchange(
        session, device_code=begun.device_code, client_id=client_id, pepper=PEPPER, base_url=BASE, now=now
    )


def look(session: Session, user: User, code: str, now: datetime) -> DeviceCode | None:
    return service.look(session, by=conduct.acting(user), user_code=code, now=now)


def approve(session: Session, user: User, begun: Begun, now: datetime) -> DeviceCode:
    ref = row_of(session, begun).public_id
    return service.approve(session, by=conduct.acting(user), ref=ref, base_url=BASE, now=now)


def deny(session: Session, user: User, begun: Begun, now: datetime) -> DeviceCode:
    return service.deny(session, by=conduct.acting(user), ref=row_of(session, begun).public_id, now=now)


def suspend(session: Session, user: User, now: datetime) -> None:
    end = now + timedelta(days=1)
    set_standing(session, user_id=user.id, action=StandingAction.SUSPEND, until=end, ref="san_x", by=SYSTEM, now=now)


def events(session: Session, begun: Begun) -> list[tuple[str, str, dict[str, Any]]]:
    query = sa.select(AuditEvent).where(AuditEvent.subject == row_of(session, begun).public_id).order_by(AuditEvent.id)
    return [(e.name.rpartition(":")[2], e.actor, e.data) for e in session.scalars(query)]


@pytest.fixture
def signer(make: Make) -> User:
    """Somebody who signed, and something to open."""
    make.release(make.model("lab/gated"))
    user = make.person()
    make.sign(user)
    return user


def test_a_terminal_that_is_let_in_gets_one_ordinary_access_token(
    session: Session, now: datetime, signer: User
) -> None:
    begun = begin(session, now)
    assert ask(session, begun, now).error == "authorization_pending"
    assert look(session, signer, begun.user_code.lower(), now) is row_of(session, begun)
    assert approve(session, signer, begun, now).state is DeviceState.APPROVED
    answer = ask(session, begun, now + SECOND)
    assert (answer.error, answer.scopes) == ("", "inference weights:read")
    facts = tokens.authenticate(session, value=answer.secret, pepper=PEPPER, now=now)
    assert isinstance(facts, TokenFacts)
    assert (facts.user_id, facts.scopes) == (signer.id, {"inference", "weights:read"})
    assert facts.expires_at == now + SECOND + timedelta(days=30)
    (token,) = tokens.of_person(session, user_id=signer.id)
    assert (token.name, token.model_rows) == (f"hf auth login, {now:%Y-%m-%d}", [])
    assert row_of(session, begun).access_token_id == token.id
    assert row_of(session, begun).access_token is token


def test_what_happened_names_how_the_access_token_came(session: Session, now: datetime, signer: User) -> None:
    begun = begin(session, now, scope="inference")
    approve(session, signer, begun, now)
    ask(session, begun, now)
    (token,) = tokens.of_person(session, user_id=signer.id)
    assert events(session, begun) == [
        ("approved", signer.public_id, {"client": HF, "scopes": "inference"}),
        ("consumed", signer.public_id, {"client": HF, "access_token": token.public_id}),
    ]
    made = session.scalars(sa.select(AuditEvent).where(AuditEvent.subject == token.public_id)).one()
    assert (made.actor, made.data["means"]) == (signer.public_id, "device_login")
    assert made.data["owner"] == signer.public_id


def test_an_access_token_names_the_signatures_that_it_came_with(session: Session, make: Make, now: datetime) -> None:
    make.release(make.model("lab/gated"))
    user = make.person()
    signature = make.sign(user)
    begun = begin(session, now)
    approve(session, user, begun, now)
    ask(session, begun, now)
    (token,) = tokens.of_person(session, user_id=user.id)
    named = sa.select(SignatureSetItem.signature_id).where(SignatureSetItem.sha256 == token.signature_set)
    assert session.scalars(named).all() == [signature.id]


@pytest.mark.threat("TM-26")
def test_a_code_that_was_used_yields_no_second_access_token(session: Session, now: datetime, signer: User) -> None:
    begun = begin(session, now)
    approve(session, signer, begun, now)
    assert ask(session, begun, now).secret
    for later in (now, now + SECOND, now + timedelta(minutes=11)):
        assert ask(session, begun, later) == Exchange("invalid_grant", "This device_code was used already.")
    assert approve(session, signer, begun, now).state is DeviceState.CONSUMED
    assert len(tokens.of_person(session, user_id=signer.id)) == 1


@pytest.mark.threat("TM-26")
def test_only_the_client_that_asked_gets_the_answer(session: Session, now: datetime, signer: User) -> None:
    begun = begin(session, now)
    approve(session, signer, begun, now)
    assert ask(session, begun, now, client_id="portal-cli").error == "invalid_grant"
    with pytest.raises(OAuthError):
        ask(session, begun, now, client_id="other")
    for wrong in ("", begun.user_code, begun.device_code + "x", "🌸" * 100, row_of(session, begun).hmac):
        assert ask(session, Begun(wrong, ""), now).error == "invalid_grant"
    assert tokens.of_person(session, user_id=signer.id) == []
    assert ask(session, begun, now).secret


@pytest.mark.threat("TM-19")
def test_the_terminals_own_code_is_not_stored(session: Session, now: datetime) -> None:
    begun = begin(session, now)
    row = row_of(session, begun)
    stored = [str(getattr(row, column.key)) for column in sa.inspect(DeviceCode).columns]
    assert not [value for value in stored if begun.device_code in value]


def test_asking_too_often_makes_a_terminal_wait_longer(session: Session, now: datetime, signer: User) -> None:
    begun = begin(session, now)
    said = [ask(session, begun, now + seconds * SECOND).error for seconds in (0, 5, 9, 15, 30, 45)]
    pending, slow = "authorization_pending", "slow_down"
    assert said == [pending, pending, slow, slow, pending, pending]
    assert row_of(session, begun).interval == 15
    approve(session, signer, begun, now)
    assert ask(session, begun, now + 46 * SECOND).secret


@pytest.mark.parametrize("approved", [False, True])
def test_a_code_lasts_ten_minutes_approved_or_not(
    session: Session, now: datetime, signer: User, approved: bool
) -> None:
    begun, late = begin(session, now), now + timedelta(minutes=10)
    if approved:
        approve(session, signer, begun, late - SECOND)
    else:
        assert look(session, signer, begun.user_code, late) is None
        with pytest.raises(Conflict):
            approve(session, signer, begun, late)
        with pytest.raises(Conflict):
            deny(session, signer, begun, late)
    assert ask(session, begun, late).error == ask(session, begun, late + SECOND).error == "expired_token"
    assert row_of(session, begun).state is DeviceState.EXPIRED
    assert tokens.of_person(session, user_id=signer.id) == []


def test_who_is_turned_away_gets_nothing_ever(session: Session, now: datetime, signer: User) -> None:
    begun = begin(session, now)
    deny(session, signer, begun, now)
    assert deny(session, signer, begun, now).state is DeviceState.DENIED
    with pytest.raises(Conflict):
        approve(session, signer, begun, now)
    for later in (now, now + timedelta(hours=1)):
        assert ask(session, begun, later).error == "access_denied"
    assert events(session, begun) == [("denied", signer.public_id, {"client": HF, "reason": "by_person"})]
    assert tokens.of_person(session, user_id=signer.id) == []


def test_nobody_else_sees_or_moves_what_was_decided(session: Session, make: Make, now: datetime, signer: User) -> None:
    begun, other = begin(session, now), make.person()
    make.sign(other)
    approve(session, signer, begun, now)
    assert approve(session, signer, begun, now).decided_by_id == signer.id
    assert look(session, signer, begun.user_code, now) is not None
    assert look(session, other, begun.user_code, now) is None
    with pytest.raises(Conflict):
        approve(session, other, begun, now)
    with pytest.raises(Conflict):
        deny(session, other, begun, now)
    ask(session, begun, now)
    assert tokens.of_person(session, user_id=other.id) == []
    assert [name for name, _, _ in events(session, begun)] == ["approved", "consumed"]


def test_who_did_not_sign_cannot_let_a_terminal_in_before_they_do(session: Session, make: Make, now: datetime) -> None:
    make.release(make.model("lab/gated"))
    begun, user = begin(session, now), make.person()
    by = conduct.acting(user)
    asked: dict[str, Any] = {"scopes": "inference weights:read", "now": now, "base_url": BASE}
    assert [reason.code for reason in service.missing(session, by=by, **asked)] == ["signature_missing"]
    with pytest.raises(Refused) as caught:
        approve(session, user, begun, now)
    assert caught.value.reasons[0].url.endswith("/sign")
    assert ask(session, begun, now).error == "authorization_pending"
    make.sign(user)
    assert service.missing(session, by=by, **asked) == ()
    approve(session, user, begun, now)
    assert ask(session, begun, now).secret


@pytest.mark.parametrize("scope", ["", "usage:read"])
def test_a_suspended_person_lets_nobody_in(session: Session, now: datetime, signer: User, scope: str) -> None:
    begun, earlier = begin(session, now, scope=scope), begin(session, now, scope=scope)
    approve(session, signer, earlier, now)
    suspend(session, signer, now)
    with pytest.raises(Refused) as caught:
        approve(session, signer, begun, now)
    assert caught.value.code == "standing_suspended"
    assert caught.value.url == f"{BASE}/appeal/san_x"
    answer = ask(session, earlier, now)
    assert (answer.error, answer.secret) == ("access_denied", "")
    assert events(session, earlier)[-1][2]["reason"] == "standing_suspended"
    assert ask(session, earlier, now).error == "access_denied"
    assert tokens.of_person(session, user_id=signer.id) == []


def test_a_suspension_that_ended_is_no_bar_and_usage_needs_no_signature(
    session: Session, make: Make, now: datetime
) -> None:
    user, later = make.person(), now + timedelta(days=1)
    suspend(session, user, now)
    begun = begin(session, later, scope="usage:read")
    approve(session, user, begun, later)
    assert ask(session, begun, later).scopes == "usage:read"
    (token,) = tokens.of_person(session, user_id=user.id)
    assert token.signature_set is None


def test_who_has_too_many_access_tokens_is_told_so(session: Session, now: datetime, signer: User) -> None:
    begun = begin(session, now)
    approve(session, signer, begun, now)
    kept: dict[str, Any] = {"user_id": signer.id, "name": "x", "last4": "x", "created_at": now}
    session.add_all(
        AccessToken(public_id=f"tok_{n}", hmac=f"{n}", expires_at=now + SECOND, **kept) for n in range(MAX_LIVE)
    )
    session.flush()
    answer = ask(session, begun, now)
    assert (answer.error, answer.description) == ("access_denied", "You have 100 access tokens. Revoke one first.")


def test_without_any_model_there_is_nothing_to_let_in_for(session: Session, now: datetime, signer: User) -> None:
    session.execute(sa.update(GatedModel).values(state=ModelState.DRAFT))
    with pytest.raises(Refused) as caught:
        approve(session, signer, begin(session, now), now)
    assert (caught.value.code, caught.value.url) == ("models_none", None)


def test_guessing_codes_grows_slower_for_each_person_alone(
    session: Session, make: Make, now: datetime, signer: User
) -> None:
    begun, other = begin(session, now), make.person()
    for typed in ("", "BCDF-GHJK", "nonsense", *["x"] * 7):
        assert look(session, signer, typed, now) is None
    with pytest.raises(TooMany) as caught:
        look(session, signer, begun.user_code, now)
    assert caught.value.retry_after == 30
    assert look(session, other, begun.user_code, now) is not None
    assert look(session, signer, begun.user_code, now + 30 * SECOND) is not None
    assert look(session, signer, "x", now + 30 * SECOND) is None
    with pytest.raises(TooMany) as caught:
        look(session, signer, begun.user_code, now + 60 * SECOND)
    assert caught.value.retry_after == 30
    hour = timedelta(hours=1, minutes=1)
    assert look(session, signer, "x", now + hour) is None
    left = sa.select(sa.func.count()).select_from(DeviceMistake)
    assert session.scalar(left.where(DeviceMistake.user_id == signer.id)) == 1


def test_only_so_many_terminals_of_a_network_wait(
    session: Session, now: datetime, signer: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "MOST_WAITING", 2)
    first = begin(session, now)
    begin(session, now)
    with pytest.raises(TooMany) as caught:
        begin(session, now)
    assert caught.value.retry_after == 300
    begin(session, now, network="198.51.100.0/24")
    approve(session, signer, first, now)
    begin(session, now)
    begin(session, now + timedelta(minutes=10))


def test_terminals_are_forgotten_a_day_after_their_code_expired(session: Session, now: datetime) -> None:
    begun = begin(session, now)
    begin(session, now + timedelta(days=1, minutes=10))
    assert ask(session, begun, now + timedelta(days=1)).error == "expired_token"
    begin(session, now + timedelta(days=1, minutes=10, seconds=1))
    assert ask(session, begun, now + timedelta(days=1)).error == "invalid_grant"


def test_two_terminals_never_show_the_same_code(
    session: Session, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = iter(["BCDFGHJK", "BCDFGHJK", "CDFGHJKL"])
    monkeypatch.setattr(rules, "new_user_code", lambda: next(codes))
    assert [begin(session, now).user_code for _ in range(2)] == ["BCDF-GHJK", "CDFG-HJKL"]


def test_what_a_terminal_says_of_itself_is_stored_within_bounds(session: Session, now: datetime) -> None:
    row = row_of(session, begin(session, now, user_agent="a\0" + "é" * 999, network=""))
    assert (row.user_agent, row.network) == ("a" + "é" * 299, "")
    for changed, word in (({"client_id": "x"}, "invalid_client"), ({"scope": "all"}, "invalid_scope")):
        with pytest.raises(OAuthError) as caught:
            begin(session, now, **changed)
        assert caught.value.code == word


@pytest.fixture
def shared(postgres_url: str) -> Iterator[sa.Engine]:
    """A PostgreSQL database in which work is committed; SQLite lets nobody in between."""
    server = make_engine(postgres_url)
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("CREATE DATABASE terminals"))
    engine = make_engine(server.url.set(database="terminals").render_as_string(hide_password=False))
    upgrade(engine)
    yield engine
    engine.dispose()
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("DROP DATABASE terminals WITH (FORCE)"))
    server.dispose()


@pytest.mark.threat("TM-26")
def test_of_two_at_once_one_counts(shared: sa.Engine, now: datetime) -> None:
    with transaction(shared) as session:
        make = Make(session, now)
        make.release(make.model("lab/gated"))
        ann, bob = make.person("ann"), make.person("bob")
        make.sign(ann)
        make.sign(bob)
        begun = begin(session, now)
    with transaction(shared) as late:
        seen = look(late, bob, begun.user_code, now)  # what a page holds that looked before the other
        with transaction(shared) as first:
            approve(first, ann, begun, now)
        with pytest.raises(Conflict):
            approve(late, bob, begun, now)
        assert seen is not None
        assert seen.decided_by_id == ann.id
    with transaction(shared) as late:
        seen = row_of(late, begun)
        assert seen.state is DeviceState.APPROVED
        with transaction(shared) as first:
            assert ask(first, begun, now).secret
        assert ask(late, begun, now).error == "invalid_grant"
        assert seen.access_token_id is not None
    with transaction(shared, write=False) as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(AccessToken)) == 1
