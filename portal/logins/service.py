"""Login sessions from their beginning to their end, attempts that failed, and mail about an account."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts import service as accounts
from portal.accounts.models import User
from portal.accounts.rules import Standing
from portal.audit import service as audit
from portal.audit.rules import SignedIn, SignedOut
from portal.core.actor import ANONYMOUS, Actor, Level
from portal.core.errors import NotFound
from portal.logins import rules
from portal.logins.models import LoginFailure, LoginSession
from portal.logins.rules import Mail, ProvedAgain, Secret, new_secret, sealed
from portal.notices import service as notices


def open_session(
    session: Session, *, user_id: int, means: str, user_agent: str, pepper: bytes, now: datetime,
    level: Level = Level.ONE, reference: str | None = None,
) -> str:  # fmt: skip
    """Open a login session and return its reference, the value of the cookie; sessions that ended long ago are dropped.

    Args:
        means: how the person proved who they are.
        level: how firmly; `Level.NONE` waits for the second factor, and nobody is signed in until then.
    """
    value = reference or new_secret()
    old = LoginSession.last_used_at < now - rules.KEPT
    session.execute(sa.delete(LoginSession).where(LoginSession.user_id == user_id, old))
    row = LoginSession(
        user_id=user_id, reference_hmac=sealed(Secret.SESSION, value, pepper), means=means, level=level,
        created_at=now, proved_at=now, last_used_at=now, user_agent=user_agent.replace("\0", "")[: rules.AGENT_MAX],
    )  # fmt: skip
    session.add(row)
    session.flush()
    if level is not Level.NONE:
        user = session.get_one(User, user_id)
        audit.record(session, SignedIn(subject=user.public_id, means=means), by=accounts.acting(user), now=now)
    return value


def waiting(session: Session, *, reference: str, pepper: bytes, now: datetime) -> LoginSession | None:
    """Return the login session behind a cookie if it still waits for its second factor."""
    query = sa.select(LoginSession).where(
        LoginSession.reference_hmac == sealed(Secret.SESSION, reference, pepper), LoginSession.level == Level.NONE
    )
    login = session.scalar(query)
    return login if login is not None and _alive(login, is_staff=False, now=now) else None


def prove(session: Session, *, login: LoginSession, means: str, level: Level, pepper: bytes, now: datetime) -> str:
    """Record that a person proved who they are in a login session, and return its new reference; the old one is dead.

    Args:
        means: by what, beside what opened the session.
        level: how firmly; from now on this is the session's.
    """
    user = session.get_one(User, login.user_id)
    by = accounts.acting(user)
    if login.level == Level.NONE:
        login.means, login.created_at = f"{login.means}, {means}", now
        audit.record(session, SignedIn(subject=user.public_id, means=login.means), by=by, now=now)
    else:
        audit.record(session, ProvedAgain(subject=user.public_id, means=means), by=by, now=now)
    login.level, login.proved_at, login.last_used_at = level, now, now
    return renew(session, login=login, pepper=pepper)


def renew(session: Session, *, login: LoginSession, pepper: bytes) -> str:
    """Give a login session a new reference and return it; the old one is dead."""
    value = new_secret()
    login.reference_hmac = sealed(Secret.SESSION, value, pepper)
    session.flush()
    return value


def current(session: Session, *, by: Actor) -> LoginSession:
    """Return the login session through which a person acts."""
    return session.get_one(LoginSession, by.login_session_id)


def actor_for_session(
    session: Session, *, reference: str, pepper: bytes, now: datetime, staff_level: Level = Level.ONE
) -> Actor:
    """Return the person behind a cookie with the powers of their roles, or nobody.

    Args:
        staff_level: how firmly staff must have proved who they are; below it, the powers of their roles are withheld.
    """
    query = (
        sa.select(LoginSession, User)
        .join(User, User.id == LoginSession.user_id)
        .where(LoginSession.reference_hmac == sealed(Secret.SESSION, reference, pepper))
    )
    row = session.execute(query).unique().one_or_none()
    if row is None:
        return ANONYMOUS
    login, user = row
    held = accounts.permissions(session, user_id=user.id, now=now)
    if login.level == Level.NONE or _closed(user) or not _alive(login, is_staff=bool(held), now=now):
        return ANONYMOUS
    firm = login.level >= staff_level
    return Actor(
        user_id=user.id, public_id=user.public_id, name=user.profile.name if user.profile else "",
        permissions=held if firm else frozenset(), withheld=frozenset() if firm else held,
        login_session_id=login.id, touch_due=now - login.last_used_at >= rules.TOUCH_AFTER,
        proved_at=login.proved_at, level=Level(login.level),
    )  # fmt: skip


def touch(session: Session, *, login_session_id: int, now: datetime) -> None:
    """Remember that a login session was used."""
    older = sa.and_(LoginSession.id == login_session_id, LoginSession.last_used_at < now)
    session.execute(sa.update(LoginSession).where(older).values(last_used_at=now))


def sessions_of(session: Session, *, user_id: int, now: datetime) -> Sequence[LoginSession]:
    """Return the login sessions of a person that still count, latest used first."""
    query = (
        sa.select(LoginSession)
        .where(LoginSession.user_id == user_id, LoginSession.ended_at.is_(None), LoginSession.level > Level.NONE)
        .order_by(LoginSession.last_used_at.desc(), LoginSession.id.desc())
    )
    is_staff = bool(accounts.permissions(session, user_id=user_id, now=now))
    return [row for row in session.scalars(query) if _alive(row, is_staff=is_staff, now=now)]


def sign_out(session: Session, *, by: Actor, now: datetime) -> None:
    """End the login session through which the actor acts; without one nothing happens."""
    if by.login_session_id is not None:
        _end(session, by.id, LoginSession.id == by.login_session_id, reason="signed_out", by=by, now=now)


def end_one(session: Session, *, by: Actor, ref: str, now: datetime) -> None:
    """End one of the actor's login sessions, named by the beginning of its digest; doing so again changes nothing."""
    named = sa.func.substr(LoginSession.reference_hmac, 1, rules.REF_LENGTH) == ref
    found = session.scalar(sa.select(LoginSession.id).where(LoginSession.user_id == by.id, named))
    if found is None:
        raise NotFound("login_session_not_found", "You have no such login session.")
    _end(session, by.id, LoginSession.id == found, reason="ended_by_owner", by=by, now=now)


def end_others(session: Session, *, by: Actor, now: datetime, reason: str = "ended_by_owner") -> int:
    """End the actor's login sessions except the one through which they act, and return how many that were."""
    return _end(session, by.id, LoginSession.id != by.login_session_id, reason=reason, by=by, now=now)


def end_sessions(session: Session, *, user_id: int, reason: str, by: Actor, now: datetime) -> int:
    """End all login sessions of a person and return how many that were."""
    return _end(session, user_id, sa.true(), reason=reason, by=by, now=now)


def check_attempts(session: Session, *, attempt: str, now: datetime) -> None:
    """Raise `TooMany` while an attempt has to wait, since others like it failed lately."""
    query = sa.select(sa.func.count(), sa.func.max(LoginFailure.at)).where(
        LoginFailure.attempt_hmac == attempt, LoginFailure.at > now - rules.FAILURE_WINDOW
    )
    failures, last_at = session.execute(query).one()
    rules.check_delay(failures, last_at, now)


def count_failure(session: Session, *, attempt: str, now: datetime) -> None:
    """Remember an attempt that failed; those of long ago are dropped."""
    session.execute(sa.delete(LoginFailure).where(LoginFailure.at <= now - rules.FAILURE_WINDOW))
    session.add(LoginFailure(attempt_hmac=attempt, at=now))
    session.flush()


def forget_failures(session: Session, *, attempt: str) -> None:
    """Forget the attempts that failed, since one succeeded."""
    session.execute(sa.delete(LoginFailure).where(LoginFailure.attempt_hmac == attempt))


def tell(session: Session, *, user: User, mail: Mail, now: datetime) -> None:
    """Queue a mail about an account."""
    notices.queue(
        session, recipient_id=user.id, address=user.profile.email, kind=mail.kind, subject_ref=user.public_id,
        subject=mail.subject, body=mail.body, secret=mail.secret, now=now,
    )  # fmt: skip


def _closed(user: User) -> bool:
    return user.standing is Standing.CLOSED


def _alive(login: LoginSession, *, is_staff: bool, now: datetime) -> bool:
    return login.ended_at is None and rules.session_alive(
        created_at=login.created_at, last_used_at=login.last_used_at, level=Level(login.level), is_staff=is_staff,
        now=now,
    )  # fmt: skip


def _end(
    session: Session, user_id: int, which: sa.ColumnElement[bool], *, reason: str, by: Actor, now: datetime
) -> int:
    live = sa.and_(LoginSession.user_id == user_id, LoginSession.ended_at.is_(None), which)
    ended = session.scalars(sa.update(LoginSession).where(live).values(ended_at=now).returning(LoginSession.id)).all()
    if ended:
        user = session.get_one(User, user_id)
        event = SignedOut(subject=user.public_id, reason=reason, count=len(ended))
        audit.record(session, event, by=by, now=now)
    return len(ended)
