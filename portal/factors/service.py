"""Setting up second factors, proving oneself by them, and removing them."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts import service as accounts
from portal.accounts.models import User
from portal.audit import service as audit
from portal.core.actor import Actor, Level
from portal.core.errors import Conflict, NotFound
from portal.factors import rules
from portal.factors.models import RecoveryCode, TotpSecret
from portal.factors.rules import APP, Factors, Locking
from portal.logins import service as logins
from portal.logins.models import LoginSession
from portal.logins.rules import Mail, Secret, sealed
from portal.passkeys import service as passkeys
from portal.passkeys.rules import Authenticators, Purpose


def factors_of(session: Session, *, user_id: int) -> Factors:
    """Return what second factors a person has."""
    codes = sa.select(sa.func.count()).select_from(RecoveryCode).where(_usable(user_id))
    count = session.scalar(codes) or 0
    return Factors(_app(session, user_id) is not None, len(passkeys.passkeys_of(session, user_id=user_id)), count)


def has_any(session: Session, *, user_id: int) -> bool:
    """Say whether signing in takes more than one factor of a person."""
    return _app(session, user_id) is not None or passkeys.has_any(session, user_id=user_id)


def seed_for(session: Session, *, by: Actor, locking: Locking, now: datetime) -> bytes:
    """Return the seed of an app that the actor is about to set up; asked again before it is confirmed, the same one.

    Raises:
        Conflict: the actor has an app already.
    """
    row = session.get(TotpSecret, by.id)
    if row is not None and row.confirmed_at is not None:
        raise Conflict("app_known", "You have an authenticator app. Remove it first.", url="/settings/security")
    if row is None:
        row = TotpSecret(user_id=by.id, locked=locking.lock(rules.new_seed(), about=by.public_id), made_at=now)
        session.add(row)
        session.flush()
    return locking.unlock(row.locked, about=by.public_id)


def confirm_app(
    session: Session, *, by: Actor, code: str, locking: Locking, pepper: bytes, base_url: str, now: datetime
) -> tuple[str, list[str]]:
    """Take the first code of the actor's app, from which on it counts.

    Returns:
        The new reference of their login session, and recovery codes where they had none.

    Raises:
        Invalid: the code is not the app's; nothing has changed but that it is counted.
    """
    seed = seed_for(session, by=by, locking=locking, now=now)
    _check_attempts(session, by.public_id, pepper, now)
    step = rules.matching_step(seed, rules.tidy_code(code), now=now, after=0)
    if step is None:
        _count_failure(session, by.public_id, pepper, now)
        raise rules.wrong_code()
    row = session.get_one(TotpSecret, by.id)
    row.confirmed_at, row.last_step = now, step
    return _added(session, by=by, kind=APP, what=rules.APP_WORDS, pepper=pepper, base_url=base_url, now=now)


def add_passkey(
    session: Session, *, by: Actor, credential: str, name: str, doors: Authenticators, pepper: bytes, base_url: str,
    now: datetime,
) -> tuple[str, list[str]]:  # fmt: skip
    """Keep a passkey that the actor's browser made; returns as `confirm_app` does."""
    user = session.get_one(User, by.id)
    made = passkeys.add(session, user=user, credential=credential, name=name, doors=doors, pepper=pepper, now=now)
    what = f"The passkey “{made.name}”"
    return _added(session, by=by, kind="passkey", what=what, pepper=pepper, base_url=base_url, now=now)


def _added(
    session: Session, *, by: Actor, kind: str, what: str, pepper: bytes, base_url: str, now: datetime
) -> tuple[str, list[str]]:
    audit.record(session, rules.FactorAdded(subject=by.public_id, kind=kind), by=by, now=now)
    _tell(session, by.id, rules.compose_added(base_url=base_url, what=what), now)
    left = factors_of(session, user_id=by.id).codes
    codes = [] if left else make_codes(session, by=by, pepper=pepper, now=now)
    return _changed(session, by=by, means=kind, level=Level.TWO, pepper=pepper, now=now), codes


def _changed(session: Session, *, by: Actor, means: str, level: Level, pepper: bytes, now: datetime) -> str:
    """End the actor's other login sessions, and give this one a new reference."""
    logins.end_others(session, by=by, now=now, reason="factor_changed")
    login = logins.current(session, by=by)
    return logins.prove(session, login=login, means=means, level=level, pepper=pepper, now=now)


def make_codes(session: Session, *, by: Actor, pepper: bytes, now: datetime) -> list[str]:
    """Make recovery codes for the actor in place of those before, and return them; only digests are kept."""
    session.execute(sa.delete(RecoveryCode).where(RecoveryCode.user_id == by.id))
    codes = rules.new_codes()
    session.add_all(RecoveryCode(user_id=by.id, code_hmac=_code(by.id, one, pepper), made_at=now) for one in codes)
    session.flush()
    audit.record(session, rules.RecoveryCodesMade(subject=by.public_id), by=by, now=now)
    return codes


def remove(session: Session, *, by: Actor, ref: str, pepper: bytes, base_url: str, now: datetime) -> str:
    """Remove one of the actor's second factors and return the new reference of their login session.

    With the last one go the recovery codes, which stand in for one.

    Args:
        ref: ``app``, or the public id of a passkey.
    """
    what = name_of(session, user_id=by.id, ref=ref)
    if ref == APP:
        session.execute(sa.delete(TotpSecret).where(TotpSecret.user_id == by.id))
    else:
        passkeys.remove(session, user_id=by.id, ref=ref)
    level = Level.TWO if has_any(session, user_id=by.id) else Level.ONE
    if level is Level.ONE:
        session.execute(sa.delete(RecoveryCode).where(RecoveryCode.user_id == by.id))
    kind = APP if ref == APP else "passkey"
    audit.record(session, rules.FactorRemoved(subject=by.public_id, kind=kind), by=by, now=now)
    _tell(session, by.id, rules.compose_removed(base_url=base_url, what=what), now)
    return _changed(session, by=by, means="factor removed", level=level, pepper=pepper, now=now)


def name_of(session: Session, *, user_id: int, ref: str) -> str:
    """Return what a second factor of a person is called."""
    if ref != APP:
        return f"The passkey “{passkeys.find(session, user_id=user_id, ref=ref).name}”"
    if _app(session, user_id) is None:
        raise NotFound("app_not_found", "You have no authenticator app.")
    return rules.APP_WORDS


def remove_all(session: Session, *, user: User, by: Actor, base_url: str, now: datetime) -> bool:
    """Remove all second factors of somebody who lost them, sign them out everywhere, and say whether there were any."""
    had = has_any(session, user_id=user.id)
    drop(session, user_id=user.id)
    logins.end_sessions(session, user_id=user.id, reason="factor_changed", by=by, now=now)
    if had:
        audit.record(session, rules.FactorRemoved(subject=user.public_id, kind="all"), by=by, now=now)
        _tell(session, user.id, rules.compose_removed(base_url=base_url, what="Your second factor"), now)
    return had


def drop(session: Session, *, user_id: int) -> None:
    """Forget all second factors of a person, without a word."""
    session.execute(sa.delete(TotpSecret).where(TotpSecret.user_id == user_id))
    session.execute(sa.delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
    passkeys.remove_all(session, user_id=user_id)


def prove_by_code(
    session: Session, *, login: LoginSession, code: str, locking: Locking, pepper: bytes, base_url: str, now: datetime
) -> str:
    """Prove a person in a login session by a code of their app or a recovery code, and return its new reference.

    Failures are counted by the person, wherever they come from: whoever gets here knows the password, and may not
    guess codes from many networks at once. A passkey is never held up by that.

    Raises:
        TooMany: too many codes were wrong lately.
        Invalid: the code is wrong, too old, or was used already; it is counted.
    """
    user = session.get_one(User, login.user_id)
    _check_attempts(session, user.public_id, pepper, now)
    typed = rules.tidy_code(code)
    if rules.is_app_code(typed):
        taken, means = _take_app_code(session, user, typed, locking, now), APP
    else:
        taken = _take_recovery_code(session, user, typed, pepper=pepper, base_url=base_url, now=now)
        means = "recovery code"
    if not taken:
        _count_failure(session, user.public_id, pepper, now)
        raise rules.wrong_code()
    logins.forget_failures(session, attempt=_attempt(user.public_id, pepper))
    return logins.prove(session, login=login, means=means, level=Level.TWO, pepper=pepper, now=now)


def prove_by_passkey(
    session: Session, *, login: LoginSession, credential: str, doors: Authenticators, pepper: bytes, now: datetime
) -> str:
    """Prove a person in a login session by one of their passkeys, and return its new reference."""
    user = session.get_one(User, login.user_id)
    passkeys.use(session, credential=credential, user=user, purpose=Purpose.PROVE, doors=doors, pepper=pepper, now=now)
    return logins.prove(session, login=login, means="passkey", level=Level.TWO, pepper=pepper, now=now)


def _take_app_code(session: Session, user: User, code: str, locking: Locking, now: datetime) -> bool:
    row = _app(session, user.id)
    if row is None:
        return False
    seed = locking.unlock(row.locked, about=user.public_id)
    step = rules.matching_step(seed, code, now=now, after=row.last_step)
    if step is None:
        return False
    fresh = sa.and_(TotpSecret.user_id == user.id, TotpSecret.last_step < step)
    taken = sa.update(TotpSecret).where(fresh).values(last_step=step).returning(TotpSecret.user_id)
    return session.scalar(taken.execution_options(synchronize_session=False)) is not None


def _take_recovery_code(
    session: Session, user: User, code: str, *, pepper: bytes, base_url: str, now: datetime
) -> bool:  # fmt: skip
    mine = sa.and_(_usable(user.id), RecoveryCode.code_hmac == _code(user.id, code, pepper))
    taken = sa.update(RecoveryCode).where(mine).values(used_at=now).returning(RecoveryCode.id)
    if session.scalar(taken) is None:
        return False
    left = factors_of(session, user_id=user.id).codes
    by = accounts.acting(user)
    audit.record(session, rules.RecoveryCodeUsed(subject=user.public_id, left=left), by=by, now=now)
    _tell(session, user.id, rules.compose_used(base_url=base_url, left=left), now)
    return True


def _app(session: Session, user_id: int) -> TotpSecret | None:
    row = session.get(TotpSecret, user_id, populate_existing=True)
    return row if row is not None and row.confirmed_at is not None else None


def _usable(user_id: int) -> sa.ColumnElement[bool]:
    return sa.and_(RecoveryCode.user_id == user_id, RecoveryCode.used_at.is_(None))


def _code(user_id: int, code: str, pepper: bytes) -> str:
    return sealed(Secret.RECOVERY, f"{user_id}\0{rules.tidy_code(code)}", pepper)


def _attempt(public_id: str, pepper: bytes) -> str:
    return sealed(Secret.ATTEMPT, f"second factor\0{public_id}", pepper)


def _check_attempts(session: Session, public_id: str, pepper: bytes, now: datetime) -> None:
    logins.check_attempts(session, attempt=_attempt(public_id, pepper), now=now)


def _count_failure(session: Session, public_id: str, pepper: bytes, now: datetime) -> None:
    logins.count_failure(session, attempt=_attempt(public_id, pepper), now=now)


def _tell(session: Session, user_id: int, mail: Mail, now: datetime) -> None:
    user = session.get_one(User, user_id)
    if user.profile is not None:
        logins.tell(session, user=user, mail=mail, now=now)
