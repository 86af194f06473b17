"""Permissions of programs on both databases: one use of each code and refresh token, whoever comes at the same time."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.audit.models import AuditEvent
from portal.core.actor import SYSTEM
from portal.core.db import transaction
from portal.core.errors import Conflict, Invalid, NotFound, Refused
from portal.grants import service
from portal.grants.models import Grant, RefreshToken
from portal.grants.rules import REFRESH_LIFE, SCOPES, Ending, GrantState
from portal.grants.service import Desk
from portal.licensing.models import SignatureSetItem
from portal.programs import service as programs
from portal.programs.models import Program
from portal.tokens import service as tokens
from portal.tokens.models import AccessToken
from portal.tokens.rules import MAX_LIVE, TokenFacts
from tests import conduct
from tests.factories import BASE, PEPPER, Make

BACK = "https://notebook.example/back"


class Signing:
    """Signs nothing that anybody looks at here."""

    def sign(self, _claims: Any, **_: Any) -> str:
        return ""


def register(session: Session, now: datetime, **changed: Any) -> tuple[Program, str]:
    fields: dict[str, Any] = {
        "name": "Notebook", "homepage": "https://notebook.example", "redirect_uris": BACK, "scopes": SCOPES,
        "known": SCOPES, "keeps_secret": True,
    }  # fmt: skip
    return programs.register(session, by=SYSTEM, pepper=PEPPER, now=now, **{**fields, **changed})


def desk(session: Session, now: datetime, user: User | None = None) -> Desk:
    by = conduct.acting(user) if user else SYSTEM
    return Desk(session, pepper=PEPPER, base_url=BASE, now=now, by=by, keys=Signing())


def code(session: Session, now: datetime, user: User, program: Program, scopes: str = "weights:read") -> str:
    keep = desk(session, now, user).keep_code
    return keep(program, redirect_uri=BACK, scopes=scopes, challenge="c" * 43, nonce="")


def exchange(session: Session, now: datetime, value: str, scopes: str = "weights:read") -> dict[str, Any]:
    at = desk(session, now)
    held = at.take_code(value)
    assert held is not None
    return at.issue(held, scopes)


def renew(session: Session, now: datetime, value: str) -> dict[str, Any] | None:
    at = desk(session, now)
    held = at.take_refresh(value)
    return at.issue(held, held.scopes) if held else None


def authenticate(session: Session, now: datetime, told: dict[str, Any]) -> TokenFacts | str:
    return tokens.authenticate(session, value=told["access_token"], pepper=PEPPER, now=now)


@pytest.fixture
def signer(make: Make) -> User:
    """Somebody who signed, and something to open."""
    make.release(make.model("lab/gated"))
    user = make.person()
    make.sign(user)
    make.noise()
    return user


def test_what_happens_is_recorded_and_names_the_signature(session: Session, now: datetime, signer: User) -> None:
    program, _ = register(session, now)
    told = exchange(session, now, code(session, now, signer, program))
    grant = session.scalars(sa.select(Grant)).one()
    token = session.scalars(sa.select(AccessToken).where(AccessToken.grant_id == grant.id)).one()
    assert session.scalars(sa.select(SignatureSetItem).where(SignatureSetItem.sha256 == token.signature_set)).all()
    facts = authenticate(session, now, told)
    assert isinstance(facts, TokenFacts)
    assert (facts.user_id, facts.scopes) == (signer.id, {"weights:read"})
    service.end(session, grant=grant, why=Ending.BY_PERSON, by=conduct.acting(signer), now=now)
    service.end(session, grant=grant, why=Ending.BY_PROGRAM, by=SYSTEM, now=now)
    query = sa.select(AuditEvent.name).where(AuditEvent.subject.in_([grant.public_id, program.public_id]))
    events = list(session.scalars(query.order_by(AuditEvent.id)))
    assert events == ["oauth:program:registered", "oauth:grant:given", "oauth:grant:ended"]
    assert authenticate(session, now, told) == "access_token_revoked"


def test_access_tokens_last_an_hour_and_permissions_thirty_days(session: Session, now: datetime, signer: User) -> None:
    program, _ = register(session, now)
    told = exchange(session, now, code(session, now, signer, program))
    assert authenticate(session, now + timedelta(minutes=59), told) != "access_token_expired"
    assert authenticate(session, now + timedelta(hours=1), told) == "access_token_expired"
    later = now + REFRESH_LIFE - timedelta(seconds=1)
    again = renew(session, later, told["refresh_token"])
    assert again is not None
    assert renew(session, later + REFRESH_LIFE, again["refresh_token"]) is None
    assert session.scalars(sa.select(Grant)).one().state is GrantState.LIVE


def test_used_refresh_tokens_are_forgotten_once_they_would_be_refused_anyway(
    session: Session, now: datetime, signer: User
) -> None:
    program, _ = register(session, now)
    told = exchange(session, now, code(session, now, signer, program))
    for days in (10, 20, 35, 50):
        found = renew(session, now + timedelta(days=days), told["refresh_token"])
        assert found is not None
        told = found
    assert session.scalar(sa.select(sa.func.count()).select_from(RefreshToken)) == 2


def test_programs_do_not_use_up_the_access_tokens_that_a_person_may_make(
    session: Session, now: datetime, signer: User, make: Make
) -> None:
    program, _ = register(session, now)
    made = [make.token(signer) for _ in range(MAX_LIVE)]
    exchange(session, now, code(session, now, signer, program))
    with pytest.raises(Conflict):
        make.token(signer)
    owned = tokens.of_person(session, user_id=signer.id)
    assert {token.id for token in owned} == {token.id for token, _ in made}


def test_a_person_who_may_not_lets_nobody_act(session: Session, now: datetime, make: Make, signer: User) -> None:
    program, _ = register(session, now)
    with pytest.raises(Refused) as caught:
        code(session, now, make.person(), program)
    assert caught.value.reasons[0].code == "signature_missing"
    assert session.scalar(sa.select(Grant.id)) is None
    assert code(session, now, signer, program)


def test_a_program_ends_for_everybody(session: Session, now: datetime, make: Make, signer: User) -> None:
    program, secret = register(session, now)
    other = make.person()
    make.sign(other)
    told = [exchange(session, now, code(session, now, user, program)) for user in (signer, other)]
    spare, _ = register(session, now, name="Spare")
    kept = exchange(session, now, code(session, now, signer, spare))
    assert service.people_of(session, program_ids=[program.id, spare.id], now=now) == {program.id: 2, spare.id: 1}
    for _ in range(2):
        service.end_program(session, ref=program.public_id, by=SYSTEM, now=now)
    assert {authenticate(session, now, one) for one in told} == {"access_token_revoked"}
    assert isinstance(authenticate(session, now, kept), TokenFacts)
    assert programs.find_live(session, client_id=program.public_id) is None
    assert programs.secret_holds(program, secret, PEPPER)
    assert list(service.given_by(session, user_id=signer.id, now=now)) == [spare]
    with pytest.raises(Conflict):
        programs.change_secret(session, ref=program.public_id, by=SYSTEM, pepper=PEPPER, now=now)
    with pytest.raises(NotFound):
        service.end_for_person(session, by=conduct.acting(make.person()), ref=spare.public_id, now=now)


def test_a_secret_holds_until_another_is_given(session: Session, now: datetime) -> None:
    program, old = register(session, now)
    _, new = programs.change_secret(session, ref=program.public_id, by=SYSTEM, pepper=PEPPER, now=now)
    holds = [programs.secret_holds(program, one, PEPPER) for one in (old, new, "", new[:-1], new + "x")]
    assert holds == [False, True, False, False, False]
    assert not programs.secret_holds(program, new, b"q" * 32)
    public, none = register(session, now, name="Shell", keeps_secret=False)
    assert (none, public.is_public, programs.secret_holds(public, "", PEPPER)) == ("", True, False)
    with pytest.raises(Invalid):
        register(session, now, name="NOTEBOOK")


@pytest.fixture
def ready(own: sa.Engine, now: datetime) -> tuple[sa.Engine, str]:
    """A database with somebody's code."""
    with transaction(own) as session:
        make = Make(session, now)
        make.release(make.model("lab/gated"))
        user = make.person()
        make.sign(user)
        value = code(session, now, user, register(session, now)[0])
    return own, value


@pytest.mark.threat("TM-26")
def test_of_two_exchanges_at_once_one_wins_and_both_lose(ready: tuple[sa.Engine, str], now: datetime) -> None:
    engine, value = ready

    def race(_: int) -> bool:
        with transaction(engine) as session:
            at = desk(session, now)
            held = at.take_code(value)
            return held is not None and bool(at.issue(held, "weights:read"))

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(race, range(4))) == [False, False, False, True]
    with transaction(engine) as session:
        assert session.scalars(sa.select(Grant.ending)).one() is Ending.CODE_REPLAYED
        query = sa.select(sa.func.count()).select_from(AccessToken).where(AccessToken.revoked_at.is_(None))
        assert session.scalar(query.where(AccessToken.grant_id.is_not(None))) == 0
