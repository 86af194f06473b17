"""Proving who somebody is: signing up, in and out, one-time links, passwords and login sessions."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from portal.accounts import rules as people
from portal.accounts import service as accounts
from portal.accounts.models import User
from portal.accounts.rules import About, Role, Standing
from portal.audit import service as audit
from portal.audit.rules import Invited, PasswordChanged, SignedIn, SignedOut
from portal.core.actor import ANONYMOUS, Actor
from portal.core.errors import Conflict, Invalid, NotFound
from portal.core.ids import public_id
from portal.identity import rules
from portal.identity.models import LoginFailure, LoginSession, OneTimeLink, Password
from portal.identity.rules import Applicant, Hashing, LinkPurpose, Mail, Proof, Secret, new_secret, sealed
from portal.notices import service as notices

HOUR = timedelta(hours=1)


def sign_up(session: Session, *, who: Applicant, pepper: bytes, base_url: str, now: datetime) -> None:
    """Open an account and mail its confirmation, or only tell the owner where there is one; no answer tells which."""
    known = accounts.find_by_email(session, email=who.email)
    # Where there is one, another is opened and undone, so that it takes as long.
    new = who if known is None else replace(who, email=f"{public_id('again')}@portal.invalid")
    try:
        with _undone_unless(session, meant=known is None):
            user = _open_account(session, new, by=None, verified=False, now=now)
            secret = _make_link(session, user, LinkPurpose.VERIFY, pepper=pepper, by=accounts.acting(user), now=now)
    except IntegrityError:
        return  # somebody signed up with this address at the same moment and is sent the mail
    mail = rules.compose_verify(base_url=base_url, secret=secret)
    if known is not None:
        user, mail = known, rules.compose_exists(base_url=base_url, closed=_closed(known))
    with _undone_unless(session, meant=not _mailed_enough(session, user, mail.kind, now)):
        _tell(session, user, mail, now)


def add_verified(
    session: Session, *, email: str, password: str, name: str, affiliation: str, country: str, hasher: Hashing,
    by: Actor, now: datetime,
) -> User:  # fmt: skip
    """Open an account for somebody whose address the caller answers for."""
    who = rules.applicant(
        email=email, password=password, name=name, affiliation=affiliation, country=country, hasher=hasher
    )
    if accounts.find_by_email(session, email=who.email) is not None:
        raise Conflict("email_taken", f"{who.email} has an account already.", field="email")
    return _open_account(session, who, by=by, verified=True, now=now)


def _open_account(session: Session, who: Applicant, *, by: Actor | None, verified: bool, now: datetime) -> User:
    user = accounts.create(session, email=who.email, about=who.about, by=by, verified=verified, now=now)
    session.add(Password(user_id=user.id, digest=who.digest, changed_at=now))
    return user


def send_verification(session: Session, *, user: User, pepper: bytes, base_url: str, now: datetime) -> bool:
    """Mail somebody a link that confirms their address, unless it is confirmed or enough were sent; say whether."""
    if user.profile.verified_at is not None or _mailed_enough(session, user, "verify", now):
        return False
    secret = _make_link(session, user, LinkPurpose.VERIFY, pepper=pepper, by=accounts.acting(user), now=now)
    _tell(session, user, rules.compose_verify(base_url=base_url, secret=secret), now)
    return True


def whose_link(session: Session, *, secret: str, purpose: LinkPurpose, pepper: bytes, now: datetime) -> User:
    """Return whose one-time link this is, without using it up; a confirmed address keeps its used link readable.

    Raises:
        NotFound: unknown, used or expired.
    """
    link = _find_link(session, secret, purpose, pepper)
    user = session.get_one(User, link.user_id) if link else None
    if link is None or user is None or user.profile is None or _closed(user):
        raise rules.dead_link(purpose)
    confirmed = purpose is LinkPurpose.VERIFY and user.profile.verified_at is not None
    if not confirmed and (link.used_at is not None or link.expires_at <= now):
        raise rules.dead_link(purpose)
    return user


def verify_address(session: Session, *, secret: str, pepper: bytes, now: datetime) -> User:
    """Confirm an address by the link mailed to it; confirming again changes nothing."""
    user = whose_link(session, secret=secret, purpose=LinkPurpose.VERIFY, pepper=pepper, now=now)
    _use_up(session, user, LinkPurpose.VERIFY, now)
    accounts.verify(session, user=user, by=accounts.acting(user), now=now)
    return user


def prove(
    session: Session, *, email: str, password: str, network: str, hasher: Hashing, pepper: bytes, now: datetime
) -> Proof:
    """Compare a password, writing nothing, so that no lock is held meanwhile; unknown addresses take as long.

    Args:
        network: where the attempt comes from; failures elsewhere do not slow it, so nobody can be locked out.

    Raises:
        TooMany: too many failures lately; the delay is the same for known and unknown addresses.
    """
    attempt = sealed(Secret.ATTEMPT, f"{people.fold_email(email)}\0{network}", pepper)
    _check_delay(session, attempt, now)
    user = accounts.find_by_email(session, email=email)
    stored = session.get(Password, user.id) if user is not None and not _closed(user) else None
    if user is None or stored is None:
        hasher.verify_nobody(password)
        return Proof(attempt)
    if not hasher.verify(stored.digest, password):
        return Proof(attempt)
    rehashed = hasher.hash(password) if hasher.needs_rehash(stored.digest) else ""
    return Proof(attempt, user.id, stored.digest, rehashed)


def sign_in(session: Session, *, proof: Proof, reference: str, user_agent: str, pepper: bytes, now: datetime) -> None:
    """Open a login session under a new reference for whoever proved a password; count the attempt where nobody did."""
    if proof.user_id is None:
        _count_failure(session, proof.attempt, now)
        return
    stored = session.get(Password, proof.user_id, with_for_update=True)
    if stored is None or stored.digest != proof.digest:
        raise Conflict("password_changed", "The password was changed at this moment. Sign in with the new one.")
    if proof.rehashed:
        stored.digest = proof.rehashed
    session.execute(sa.delete(LoginFailure).where(LoginFailure.address_hmac == proof.attempt))
    open_session(
        session, user_id=proof.user_id, means="password", user_agent=user_agent, pepper=pepper, now=now,
        reference=reference,
    )  # fmt: skip


def open_session(
    session: Session, *, user_id: int, means: str, user_agent: str, pepper: bytes, now: datetime,
    reference: str | None = None,
) -> str:  # fmt: skip
    """Open a login session and return its reference, the value of the cookie; sessions that ended long ago are dropped.

    Args:
        means: how the person proved who they are.
    """
    value = reference or new_secret()
    old = LoginSession.last_used_at < now - rules.KEPT
    session.execute(sa.delete(LoginSession).where(LoginSession.user_id == user_id, old))
    row = LoginSession(
        user_id=user_id, reference_hmac=sealed(Secret.SESSION, value, pepper), means=means, created_at=now,
        proved_at=now, last_used_at=now, user_agent=user_agent.replace("\0", "")[: rules.AGENT_MAX],
    )  # fmt: skip
    session.add(row)
    session.flush()
    user = session.get_one(User, user_id)
    audit.record(session, SignedIn(subject=user.public_id, means=means), by=accounts.acting(user), now=now)
    return value


def actor_for_session(session: Session, *, reference: str, pepper: bytes, now: datetime) -> Actor:
    """Return the person behind a cookie with the powers of their roles, or nobody."""
    query = (
        sa.select(LoginSession, User)
        .join(User, User.id == LoginSession.user_id)
        .where(LoginSession.reference_hmac == sealed(Secret.SESSION, reference, pepper))
    )
    row = session.execute(query).unique().one_or_none()
    if row is None:
        return ANONYMOUS
    login, user = row
    permissions = accounts.permissions(session, user_id=user.id, now=now)
    if _closed(user) or not _alive(login, is_staff=bool(permissions), now=now):
        return ANONYMOUS
    return Actor(
        user_id=user.id, public_id=user.public_id, name=user.profile.name if user.profile else "",
        permissions=permissions, login_session_id=login.id, touch_due=now - login.last_used_at >= rules.TOUCH_AFTER,
        proved_at=login.proved_at,
    )  # fmt: skip


def touch(session: Session, *, login_session_id: int, now: datetime) -> None:
    """Remember that a login session was used."""
    older = sa.and_(LoginSession.id == login_session_id, LoginSession.last_used_at < now)
    session.execute(sa.update(LoginSession).where(older).values(last_used_at=now))


def sessions_of(session: Session, *, user_id: int, now: datetime) -> Sequence[LoginSession]:
    """Return the login sessions of a person that still count, latest used first."""
    query = (
        sa.select(LoginSession)
        .where(LoginSession.user_id == user_id, LoginSession.ended_at.is_(None))
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


def end_others(session: Session, *, by: Actor, now: datetime) -> int:
    """End the actor's login sessions except the one through which they act, and return how many that were."""
    return _end(session, by.id, LoginSession.id != by.login_session_id, reason="ended_by_owner", by=by, now=now)


def end_sessions(session: Session, *, user_id: int, reason: str, by: Actor, now: datetime) -> int:
    """End all login sessions of a person and return how many that were."""
    return _end(session, user_id, sa.true(), reason=reason, by=by, now=now)


def request_reset(session: Session, *, email: str, pepper: bytes, base_url: str, now: datetime) -> None:
    """Mail a link for choosing a new password to whoever has an account; nothing tells the caller whether one has."""
    known = accounts.find_by_email(session, email=email)
    anybody = sa.select(User).join(User.profile).order_by(User.id).limit(1)
    user = known or session.scalars(anybody).unique().one_or_none()
    if user is None:
        return
    wanted = known is not None and not _mailed_enough(session, user, "reset", now) and not _closed(user)
    # For an address without an account all is done for somebody else and undone, so that it takes as long.
    with _undone_unless(session, meant=wanted):
        secret = _make_link(session, user, LinkPurpose.RESET, pepper=pepper, by=accounts.acting(user), now=now)
        _tell(session, user, rules.compose_reset(base_url=base_url, secret=secret), now)


def reset_password(
    session: Session, *, secret: str, password: str, hasher: Hashing, pepper: bytes, base_url: str, now: datetime
) -> User:
    """Set a new password by a mailed link, which proves the address as well; the person is signed out everywhere."""
    user = whose_link(session, secret=secret, purpose=LinkPurpose.RESET, pepper=pepper, now=now)
    rules.check_password(password, email=user.profile.email)
    if not _use_up(session, user, LinkPurpose.RESET, now):
        raise rules.dead_link(LinkPurpose.RESET)
    by = accounts.acting(user)
    accounts.verify(session, user=user, by=by, now=now)
    _set_password(session, user, hasher.hash(password), base_url=base_url, by=by, now=now)
    return user


def has_password(session: Session, *, user_id: int) -> bool:
    """Say whether a person can sign in with a password."""
    return session.get(Password, user_id) is not None


def change_password(
    session: Session, *, by: Actor, current: str, password: str, network: str, hasher: Hashing, pepper: bytes,
    base_url: str, now: datetime,
) -> None:  # fmt: skip
    """Set the actor's password, given the current one where there is one; they are signed out everywhere."""
    user = session.get_one(User, by.id)
    rules.check_password(password, email=user.profile.email)
    stored = session.get(Password, by.id, with_for_update=True)
    attempt = sealed(Secret.ATTEMPT, f"{user.profile.email}\0{network}", pepper)
    if stored is not None:
        _check_delay(session, attempt, now)
        if not hasher.verify(stored.digest, current):
            _count_failure(session, attempt, now)
            raise Invalid("password_wrong", "This is not your current password.", field="current")
    _set_password(session, user, hasher.hash(password), base_url=base_url, by=by, now=now)


def invite_staff(
    session: Session, *, email: str, name: str, role: Role, pepper: bytes, by: Actor, now: datetime
) -> tuple[User, str]:
    """Give somebody a staff role, with an account if they have none, and return the secret of a one-time link."""
    address = people.check_email(email)
    about = About(people.check_text(name, field="name", what="name", required=False), "", "")
    user = accounts.find_by_email(session, email=address)
    if user is None:
        user = accounts.create(session, email=address, about=about, by=by, now=now)
    elif _closed(user):
        raise Conflict("account_closed", f"The account of {address} is closed.", field="email")
    elif user.profile.verified_at is None:
        # Whoever opened it never proved the address, so what they set must not open a staff account.
        session.execute(sa.delete(Password).where(Password.user_id == user.id))
        end_sessions(session, user_id=user.id, reason="invited", by=by, now=now)
    accounts.grant_role(session, user_id=user.id, role=role, by=by, now=now)
    return user, _make_link(session, user, LinkPurpose.STAFF, pepper=pepper, by=by, now=now)


def accept_invite(session: Session, *, secret: str, user_agent: str, pepper: bytes, now: datetime) -> tuple[User, str]:
    """Sign somebody in by an invitation, once, and return the login session's reference as well.

    Whoever invited them answers for the address.
    """
    user = whose_link(session, secret=secret, purpose=LinkPurpose.STAFF, pepper=pepper, now=now)
    if not _use_up(session, user, LinkPurpose.STAFF, now):
        raise rules.dead_link(LinkPurpose.STAFF)
    accounts.verify(session, user=user, by=accounts.acting(user), now=now)
    reference = open_session(
        session, user_id=user.id, means="invitation", user_agent=user_agent, pepper=pepper, now=now
    )
    return user, reference


@contextmanager
def _undone_unless(session: Session, *, meant: bool) -> Iterator[None]:
    """Do some work, and undo it unless it is meant."""
    with session.begin_nested() as step:
        yield
        session.flush()
        if not meant:
            step.rollback()


def _closed(user: User) -> bool:
    """Say whether nobody signs in to an account any more; one that a decision closed still opens, to contest that."""
    return user.standing is Standing.CLOSED and not (user.standing_ref or "").startswith("san_")


def _alive(login: LoginSession, *, is_staff: bool, now: datetime) -> bool:
    return login.ended_at is None and rules.session_alive(
        created_at=login.created_at, last_used_at=login.last_used_at, is_staff=is_staff, now=now
    )


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


def _make_link(session: Session, user: User, purpose: LinkPurpose, *, pepper: bytes, by: Actor, now: datetime) -> str:
    secret = new_secret()
    old = sa.and_(OneTimeLink.user_id == user.id, OneTimeLink.expires_at < now - rules.KEPT)
    session.execute(sa.delete(OneTimeLink).where(old))
    link = OneTimeLink(
        user_id=user.id, purpose=purpose, hmac=sealed(Secret.LINK, secret, pepper), created_at=now,
        expires_at=now + rules.LINK_LIFE[purpose],
    )  # fmt: skip
    session.add(link)
    session.flush()
    audit.record(session, Invited(subject=user.public_id, purpose=purpose.value), by=by, now=now)
    return secret


def _find_link(session: Session, secret: str, purpose: LinkPurpose, pepper: bytes) -> OneTimeLink | None:
    query = sa.select(OneTimeLink).where(
        OneTimeLink.hmac == sealed(Secret.LINK, secret, pepper), OneTimeLink.purpose == purpose
    )
    return session.scalar(query)


def _use_up(session: Session, user: User, purpose: LinkPurpose, now: datetime) -> bool:
    """Use up all of a person's links for a purpose, and say whether any was left: of two at once, one finds none."""
    left = sa.and_(OneTimeLink.user_id == user.id, OneTimeLink.purpose == purpose, OneTimeLink.used_at.is_(None))
    used = sa.update(OneTimeLink).where(left).values(used_at=now).returning(OneTimeLink.id)
    return bool(session.scalars(used).all())


def _set_password(session: Session, user: User, digest: str, *, base_url: str, by: Actor, now: datetime) -> None:
    session.merge(Password(user_id=user.id, digest=digest, changed_at=now))
    _use_up(session, user, LinkPurpose.RESET, now)
    audit.record(session, PasswordChanged(subject=user.public_id), by=by, now=now)
    end_sessions(session, user_id=user.id, reason="password_changed", by=by, now=now)
    _tell(session, user, rules.compose_changed(base_url=base_url), now)


def _check_delay(session: Session, attempt: str, now: datetime) -> None:
    query = sa.select(sa.func.count(), sa.func.max(LoginFailure.at)).where(
        LoginFailure.address_hmac == attempt, LoginFailure.at > now - rules.FAILURE_WINDOW
    )
    failures, last_at = session.execute(query).one()
    rules.check_delay(failures, last_at, now)


def _count_failure(session: Session, attempt: str, now: datetime) -> None:
    session.execute(sa.delete(LoginFailure).where(LoginFailure.at <= now - rules.FAILURE_WINDOW))
    session.add(LoginFailure(address_hmac=attempt, at=now))


def _mailed_enough(session: Session, user: User, kind: str, now: datetime) -> bool:
    return notices.recent(session, user_id=user.id, kinds=[kind], since=now - HOUR) >= rules.MAILS_PER_HOUR


def _tell(session: Session, user: User, mail: Mail, now: datetime) -> None:
    notices.queue(
        session, recipient_id=user.id, address=user.profile.email, kind=mail.kind, subject_ref=user.public_id,
        subject=mail.subject, body=mail.body, secret=mail.secret, now=now,
    )  # fmt: skip
