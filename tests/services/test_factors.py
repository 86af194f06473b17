"""Second factors, on both databases: setting up, proving, removing, and what a stolen database gives."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts import service as accounts
from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.adapters.vault import Vault
from portal.core.actor import ANONYMOUS, SYSTEM, Actor, Level
from portal.core.db import Base
from portal.core.errors import Conflict, Invalid, NotFound, Refused, StepUp, TooMany
from portal.factors import rules, service
from portal.identity import service as identity
from portal.logins import service as logins
from portal.logins.models import LoginSession
from tests.services.entrance import BASE, EMAIL, HOME, MINUTE, OTHER, PASSWORD, PEPPER, Spy, mails, names, sign_in

VAULT = Vault(PEPPER, "factors")
STEP = timedelta(seconds=30)


@dataclass
class Phone:
    """A person's authenticator app, and the browser that they set it up in."""

    session: Session
    by: Actor
    seed: bytes = b""
    reference: str = ""
    codes: list[str] = field(default_factory=list)

    def code(self, now: datetime) -> str:
        return rules.code_at(self.seed, rules.step_at(now))

    def wrong(self, now: datetime) -> str:
        shown = {rules.code_at(self.seed, rules.step_at(now) + drift) for drift in (-1, 0, 1)}
        return next(code for code in ("100000", "100001", "100002", "100003") if code not in shown)

    def set_up(self, now: datetime) -> "Phone":
        self.seed = service.seed_for(self.session, by=self.by, locking=VAULT, now=now)
        self.reference, self.codes = service.confirm_app(
            self.session, by=self.by, code=self.code(now), locking=VAULT, pepper=PEPPER, base_url=BASE, now=now
        )
        return self


def actor(session: Session, reference: str, now: datetime, staff_level: Level = Level.TWO) -> Actor:
    return logins.actor_for_session(session, reference=reference, pepper=PEPPER, now=now, staff_level=staff_level)


def first_step(session: Session, now: datetime, email: str = EMAIL) -> tuple[str, LoginSession | None]:
    """Sign in by password alone and return the cookie with what waits behind it."""
    from portal.adapters.hashing import Hasher
    from portal.logins.rules import new_secret

    proof = identity.prove(
        session, email=email, password=PASSWORD, network=HOME, hasher=Hasher(), pepper=PEPPER, now=now
    )
    reference = new_secret()
    identity.sign_in(session, proof=proof, reference=reference, user_agent="tests", pepper=PEPPER, now=now)
    return reference, logins.waiting(session, reference=reference, pepper=PEPPER, now=now)


def prove(session: Session, login: LoginSession | None, code: str, now: datetime) -> str:
    assert login is not None
    return service.prove_by_code(session, login=login, code=code, locking=VAULT, pepper=PEPPER, base_url=BASE, now=now)


@pytest.fixture
def phone(session: Session, hasher: Spy, ann: User, now: datetime) -> Phone:
    return Phone(session, sign_in(session, hasher, now)).set_up(now)


def test_an_app_counts_once_its_first_code_was_taken(session: Session, hasher: Spy, ann: User, now: datetime) -> None:
    by, other = (sign_in(session, hasher, now) for _ in range(2))
    seed = service.seed_for(session, by=by, locking=VAULT, now=now)
    assert seed == service.seed_for(session, by=by, locking=VAULT, now=now)
    assert not service.has_any(session, user_id=ann.id)
    with pytest.raises(Invalid):
        service.confirm_app(
            session,
            by=by,
            code=Phone(session, by, seed).wrong(now),
            locking=VAULT,
            pepper=PEPPER,
            base_url=BASE,
            now=now,
        )
    phone = Phone(session, by).set_up(now)
    assert phone.seed == seed
    assert service.factors_of(session, user_id=ann.id) == rules.Factors(app=True, passkeys=0, codes=10)
    assert len(set(phone.codes)) == 10
    with pytest.raises(Conflict):
        service.seed_for(session, by=by, locking=VAULT, now=now)
    # The other browser is signed out; this one has proved two factors and a new reference.
    assert [login.id for login in logins.sessions_of(session, user_id=ann.id, now=now)] == [by.login_session_id]
    assert other.login_session_id != by.login_session_id
    assert actor(session, phone.reference, now).level is Level.TWO
    assert mails(session, ann)[-1][0] == "factor_added"
    assert {"identity:factor:added", "identity:recovery_codes:made"} <= set(names(session, ann))


def test_a_password_alone_signs_nobody_in_any_more(session: Session, phone: Phone, ann: User, now: datetime) -> None:
    before = len(names(session, ann))
    later = now + MINUTE
    reference, login = first_step(session, later)
    assert actor(session, reference, later) == ANONYMOUS
    assert len(names(session, ann)) == before
    assert reference not in str([row.reference_hmac for row in logins.sessions_of(session, user_id=ann.id, now=later)])
    assert logins.waiting(session, reference=reference, pepper=PEPPER, now=later + 10 * MINUTE) is None
    entered = prove(session, login, f" {phone.code(later)[:3]} {phone.code(later)[3:]} ", later)
    found = actor(session, entered, later)
    assert (found.user_id, found.level, found.proved_at) == (ann.id, Level.TWO, later)
    assert actor(session, reference, later) == ANONYMOUS  # the cookie from before is dead
    assert logins.waiting(session, reference=entered, pepper=PEPPER, now=later) is None
    assert names(session, ann)[before:] == ["identity:login_session:created"]


def test_no_code_is_taken_twice_nor_one_from_before(session: Session, phone: Phone, ann: User, now: datetime) -> None:
    later = now + MINUTE
    code, before = phone.code(later), phone.code(later - STEP)
    prove(session, first_step(session, later)[1], code, later)
    for again in (code, before, phone.code(now)):
        with pytest.raises(Invalid):
            prove(session, first_step(session, later)[1], again, later)
    ahead = later + STEP
    prove(session, first_step(session, ahead)[1], phone.code(ahead), ahead)


def test_of_two_at_once_with_one_code_one_gets_in(
    session: Session, phone: Phone, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = now + MINUTE
    logins_ = [first_step(session, later)[1] for _ in range(2)]
    prove(session, logins_[0], phone.code(later), later)
    # The second one looked before the first one was done.
    monkeypatch.setattr(rules, "matching_step", lambda *_args, **_kept: rules.step_at(later))
    with pytest.raises(Invalid):
        prove(session, logins_[1], phone.code(later), later)


@pytest.mark.threat("TM-28")
def test_wrong_codes_cost_ever_more_time_wherever_they_come_from_and_never_lock_out(
    session: Session, phone: Phone, ann: User, now: datetime
) -> None:
    later = now + MINUTE
    for _ in range(5):
        with pytest.raises(Invalid):
            prove(session, first_step(session, later)[1], phone.wrong(later), later)
    login = first_step(session, later)[1]
    with pytest.raises(TooMany) as caught:
        prove(session, login, phone.code(later), later)
    assert caught.value.retry_after == 1
    after = later + timedelta(seconds=1)
    assert actor(session, prove(session, login, phone.code(after), after), after).user_id == ann.id


def test_each_recovery_code_gets_in_once(session: Session, phone: Phone, ann: User, now: datetime) -> None:
    first, second = phone.codes[:2]
    for typed in (first, second.upper().replace("-", " ")):
        found = actor(session, prove(session, first_step(session, now)[1], typed, now), now)
        assert (found.user_id, found.level) == (ann.id, Level.TWO)
    assert service.factors_of(session, user_id=ann.id).codes == 8
    assert [kind for kind, _ in mails(session, ann)][-2:] == ["recovery_code_used"] * 2
    with pytest.raises(Invalid):
        prove(session, first_step(session, now)[1], first, now)
    made = service.make_codes(session, by=phone.by, pepper=PEPPER, now=now)
    with pytest.raises(Invalid):
        prove(session, first_step(session, now)[1], phone.codes[2], now)
    prove(session, first_step(session, now)[1], made[0], now)


def test_nobody_gets_in_by_anothers_codes(
    session: Session, hasher: Spy, phone: Phone, ann: User, now: datetime
) -> None:
    eve = identity.add_verified(
        session, email="eve@identity.example", password=PASSWORD, name="Eve", affiliation="Lab", country="NL",
        hasher=hasher, by=SYSTEM, now=now,
    )  # fmt: skip
    hers = Phone(session, sign_in(session, hasher, now, email="eve@identity.example")).set_up(now)
    later = now + MINUTE
    login = first_step(session, later, "eve@identity.example")[1]
    for stolen in (phone.code(later), phone.codes[0]):
        with pytest.raises(Invalid):
            prove(session, login, stolen, later)
    assert actor(session, prove(session, login, hers.code(later), later), later).user_id == eve.id


@pytest.mark.threat("TM-19")
def test_a_stolen_database_gives_no_second_factor(session: Session, phone: Phone, now: datetime) -> None:
    stored = [
        str(value)
        for table in Base.metadata.sorted_tables
        for row in session.execute(sa.select(table))
        for value in row
    ]
    whole = "\n".join(stored)
    for planted in (phone.seed.hex(), str(phone.seed), rules.seed_text(phone.seed).replace(" ", ""), phone.reference):
        assert planted not in whole
    for code in phone.codes:
        assert code not in whole
        assert rules.tidy_code(code) not in whole
    locked = session.get_one(service.TotpSecret, phone.by.id).locked
    assert VAULT.unlock(locked, about=phone.by.public_id) == phone.seed
    for vault, about in ((Vault(b"q" * 32, "factors"), phone.by.public_id), (VAULT, "usr_other")):
        with pytest.raises(ValueError, match="does not open"):
            vault.unlock(locked, about=about)
    with pytest.raises(ValueError, match="does not open"):
        VAULT.unlock(locked[:-1] + bytes([locked[-1] ^ 1]), about=phone.by.public_id)


def test_staff_carry_no_power_before_they_proved_two_factors(
    session: Session, hasher: Spy, ann: User, now: datetime
) -> None:
    accounts.grant_role(session, user_id=ann.id, role=Role.ADMIN, by=SYSTEM, now=now)
    by = sign_in(session, hasher, now)
    reference, _ = first_step(session, now)
    held = actor(session, reference, now)
    assert (held.is_staff, held.permissions, held.level) == (False, frozenset(), Level.ONE)
    assert held.withheld == accounts.permissions(session, user_id=ann.id, now=now)
    free = actor(session, reference, now, staff_level=Level.ONE)
    assert (free.withheld, free.permissions) == (frozenset(), held.withheld)
    phone = Phone(session, by).set_up(now)
    assert actor(session, phone.reference, now).permissions == held.withheld
    # With the last factor goes the power, in the same browser.
    left = service.remove(
        session, by=actor(session, phone.reference, now), ref="app", pepper=PEPPER, base_url=BASE, now=now
    )
    assert actor(session, left, now).withheld == held.withheld


def test_a_factor_is_removed_with_its_codes_and_other_browsers(
    session: Session, phone: Phone, ann: User, now: datetime
) -> None:
    later = now + MINUTE
    prove(session, first_step(session, later)[1], phone.code(later), later)
    with pytest.raises(NotFound):
        service.name_of(session, user_id=ann.id, ref="pky_none")
    value = service.remove(session, by=phone.by, ref="app", pepper=PEPPER, base_url=BASE, now=later)
    assert actor(session, value, later).level is Level.ONE
    assert service.factors_of(session, user_id=ann.id) == rules.Factors()
    assert [login.id for login in logins.sessions_of(session, user_id=ann.id, now=later)] == [phone.by.login_session_id]
    assert mails(session, ann)[-1][0] == "factor_removed"
    with pytest.raises(NotFound):
        service.remove(session, by=phone.by, ref="app", pepper=PEPPER, base_url=BASE, now=later)
    reference, login = first_step(session, later)
    assert (login, actor(session, reference, later).user_id) == (None, ann.id)


def test_whoever_lost_all_is_let_in_anew_by_an_operator(
    session: Session, phone: Phone, ann: User, now: datetime
) -> None:
    assert service.remove_all(session, user=ann, by=SYSTEM, base_url=BASE, now=now)
    assert not service.remove_all(session, user=ann, by=SYSTEM, base_url=BASE, now=now)
    assert logins.sessions_of(session, user_id=ann.id, now=now) == []
    assert mails(session, ann)[-1][0] == "factor_removed"
    assert actor(session, first_step(session, now)[0], now).user_id == ann.id


def test_what_an_intruder_set_up_before_the_address_was_proved_opens_no_staff_account(
    session: Session, hasher: Spy, ann: User, now: datetime
) -> None:
    ann.profile.verified_at = None
    Phone(session, sign_in(session, hasher, now)).set_up(now)
    _, secret = identity.invite_staff(session, email=EMAIL, name="", role=Role.ADMIN, pepper=PEPPER, by=SYSTEM, now=now)
    assert not service.has_any(session, user_id=ann.id)
    _, reference = identity.accept_invite(session, secret=secret, user_agent="", pepper=PEPPER, now=now)
    assert actor(session, reference, now).withheld


def test_an_invitation_is_one_factor_beside_others(session: Session, phone: Phone, now: datetime) -> None:
    _, secret = identity.invite_staff(session, email=EMAIL, name="", role=Role.ADMIN, pepper=PEPPER, by=SYSTEM, now=now)
    _, reference = identity.accept_invite(session, secret=secret, user_agent="", pepper=PEPPER, now=now)
    assert actor(session, reference, now) == ANONYMOUS
    login, later = logins.waiting(session, reference=reference, pepper=PEPPER, now=now), now + MINUTE
    assert actor(session, prove(session, login, phone.code(later), later), later).is_staff


def test_somebody_proves_anew_with_the_most_that_they_have(
    session: Session, hasher: Spy, ann: User, now: datetime
) -> None:
    by, kept = sign_in(session, hasher, now), {"network": HOME, "hasher": hasher, "pepper": PEPPER}
    later = now + 15 * MINUTE
    assert by.is_fresh(later - timedelta(seconds=1))
    assert not by.is_fresh(later)
    with pytest.raises(Invalid):
        identity.prove_by_password(session, by=by, password=OTHER, **kept, now=later)  # type: ignore[arg-type]
    value = identity.prove_by_password(session, by=by, password=PASSWORD, **kept, now=later)  # type: ignore[arg-type]
    fresh = actor(session, value, later)
    assert (fresh.is_fresh(later), fresh.level) == (True, Level.ONE)
    phone = Phone(session, fresh).set_up(later)
    with pytest.raises(Refused):
        identity.prove_by_password(session, by=fresh, password=PASSWORD, **kept, now=later)  # type: ignore[arg-type]
    again = later + 20 * MINUTE
    value = prove(session, logins.current(session, by=fresh), phone.code(again), again)
    assert actor(session, value, again).is_fresh(again)
    assert actor(session, phone.reference, again) == ANONYMOUS
    assert names(session, ann)[-1] == "identity:login_session:proved"


def test_a_first_password_is_set_only_by_whoever_lately_proved_themselves(
    session: Session, hasher: Spy, now: datetime
) -> None:
    user, secret = identity.invite_staff(
        session, email="mo@identity.example", name="Mo", role=Role.MODERATOR, pepper=PEPPER, by=SYSTEM, now=now
    )
    _, reference = identity.accept_invite(session, secret=secret, user_agent="", pepper=PEPPER, now=now)
    change: dict[str, Any] = {
        "current": "", "password": PASSWORD, "network": "", "hasher": hasher, "pepper": PEPPER, "base_url": BASE,
    }  # fmt: skip
    late = now + 16 * MINUTE
    with pytest.raises(StepUp):
        identity.change_password(session, by=actor(session, reference, late), now=late, **change)
    identity.change_password(session, by=actor(session, reference, now), now=now, **change)
    assert identity.has_password(session, user_id=user.id)


def test_a_password_may_be_shorter_beside_a_second_factor(
    session: Session, hasher: Spy, phone: Phone, now: datetime
) -> None:
    change: dict[str, Any] = {
        "current": PASSWORD, "network": HOME, "hasher": hasher, "pepper": PEPPER, "base_url": BASE, "now": now,
    }  # fmt: skip
    with pytest.raises(Invalid, match="12 characters"):
        identity.change_password(session, by=phone.by, password="zebra-kilt7", **change)
    value = identity.change_password(session, by=phone.by, password="zebra-kilt7x", **change)
    assert actor(session, value, now).level is Level.TWO
