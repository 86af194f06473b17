"""Ways in: signing up, passwords, passkeys, one-time links and invitations."""

from collections.abc import Callable, Iterator
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
from portal.audit.rules import Invited, PasswordChanged
from portal.core.actor import Actor, Level
from portal.core.errors import Conflict, Invalid, Refused, StepUp
from portal.core.ids import public_id
from portal.factors import service as factors
from portal.identity import rules
from portal.identity.models import OneTimeLink, Password
from portal.identity.rules import Applicant, Hashing, LinkPurpose, Proof
from portal.logins import service as logins
from portal.logins.rules import KEPT, Secret, new_secret, sealed
from portal.notices import service as notices
from portal.passkeys import service as passkeys
from portal.passkeys.rules import Authenticators, Purpose, refused
from portal.providers import service as providers

HOUR = timedelta(hours=1)


def sign_up(
    session: Session, *, who: Applicant, pepper: bytes, base_url: str, now: datetime,
    also: Callable[[User], None] = lambda _: None,
) -> None:  # fmt: skip
    """Open an account and mail its confirmation, or only tell the owner where there is one; no answer tells which.

    Args:
        also: what else belongs to an account that is opened.
    """
    known = accounts.find_by_email(session, email=who.email)
    # Where there is one, another is opened and undone, so that it takes as long.
    new = who if known is None else replace(who, email=f"{public_id('again')}@portal.invalid")
    try:
        with _undone_unless(session, meant=known is None):
            user = _open_account(session, new, by=None, verified=False, now=now)
            also(user)
            secret = _make_link(session, user, LinkPurpose.VERIFY, pepper=pepper, by=accounts.acting(user), now=now)
    except IntegrityError:
        return  # somebody signed up with this address at the same moment and is sent the mail
    mail = rules.compose_verify(base_url=base_url, secret=secret)
    if known is not None:
        user, mail = known, rules.compose_exists(base_url=base_url, closed=_closed(known))
    with _undone_unless(session, meant=not _mailed_enough(session, user, mail.kind, now)):
        logins.tell(session, user=user, mail=mail, now=now)


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
    if who.digest:
        session.add(Password(user_id=user.id, digest=who.digest, changed_at=now))
    return user


def send_verification(session: Session, *, user: User, pepper: bytes, base_url: str, now: datetime) -> bool:
    """Mail somebody a link that confirms their address, unless it is confirmed or enough were sent; say whether."""
    if user.profile.verified_at is not None or _mailed_enough(session, user, "verify", now):
        return False
    secret = _make_link(session, user, LinkPurpose.VERIFY, pepper=pepper, by=accounts.acting(user), now=now)
    logins.tell(session, user=user, mail=rules.compose_verify(base_url=base_url, secret=secret), now=now)
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
    logins.check_attempts(session, attempt=attempt, now=now)
    user = accounts.find_by_email(session, email=email)
    stored = session.get(Password, user.id) if user is not None and not _closed(user) else None
    if user is None or stored is None:
        hasher.verify_nobody(password)
        return Proof(attempt)
    if not hasher.verify(stored.digest, password):
        return Proof(attempt)
    rehashed = hasher.hash(password) if hasher.needs_rehash(stored.digest) else ""
    return Proof(attempt, user.id, stored.digest, rehashed, factors.has_any(session, user_id=user.id))


def sign_in(session: Session, *, proof: Proof, reference: str, user_agent: str, pepper: bytes, now: datetime) -> None:
    """Open a login session under a new reference for whoever proved a password; count the attempt where nobody did.

    Where the person has a second factor, the session waits for it.
    """
    if proof.user_id is None:
        logins.count_failure(session, attempt=proof.attempt, now=now)
        return
    stored = session.get(Password, proof.user_id, with_for_update=True)
    if stored is None or stored.digest != proof.digest:
        raise Conflict("password_changed", "The password was changed at this moment. Sign in with the new one.")
    if proof.rehashed:
        stored.digest = proof.rehashed
    logins.forget_failures(session, attempt=proof.attempt)
    _open(session, proof.user_id, "password", user_agent=user_agent, pepper=pepper, now=now, reference=reference)


def _open(
    session: Session, user_id: int, means: str, *, user_agent: str, pepper: bytes, now: datetime,
    reference: str | None = None,
) -> str:  # fmt: skip
    """Open a login session for somebody who proved one factor."""
    level = Level.NONE if factors.has_any(session, user_id=user_id) else Level.ONE
    return logins.open_session(
        session, user_id=user_id, means=means, level=level, user_agent=user_agent, pepper=pepper, now=now,
        reference=reference,
    )  # fmt: skip


def sign_in_by_passkey(
    session: Session, *, credential: str, doors: Authenticators, user_agent: str, pepper: bytes, now: datetime
) -> str:
    """Open a login session for whoever's passkey answered, and return its reference.

    Raises:
        Invalid: the answer does not hold, or the passkey is nobody's who may come in.
    """
    passkey = passkeys.use(
        session, credential=credential, user=None, purpose=Purpose.SIGN_IN, doors=doors, pepper=pepper, now=now
    )
    if _closed(session.get_one(User, passkey.user_id)):
        raise refused()
    return logins.open_session(
        session, user_id=passkey.user_id, means="passkey", level=Level.TWO, user_agent=user_agent, pepper=pepper,
        now=now,
    )  # fmt: skip


def prove_by_password(
    session: Session, *, by: Actor, password: str, network: str, hasher: Hashing, pepper: bytes, now: datetime
) -> str:
    """Prove the actor once more by their password, if that is all they have, and return the new reference.

    Raises:
        Refused: the actor has a second factor, which a password cannot stand in for.
        Invalid: the password is not theirs; it is counted.
    """
    if factors.has_any(session, user_id=by.id):
        raise Refused("second_factor_needed", "Use your second factor.", url="/login/prove")
    _check_own(session, by, password, network=network, hasher=hasher, pepper=pepper, now=now, field="password")
    login = logins.current(session, by=by)
    return logins.prove(session, login=login, means="password", level=Level.ONE, pepper=pepper, now=now)


def _check_own(
    session: Session, by: Actor, password: str, *, network: str, hasher: Hashing, pepper: bytes, now: datetime,
    field: str,
) -> None:  # fmt: skip
    """Raise unless this is the actor's password; a wrong one is counted."""
    user = session.get_one(User, by.id)
    stored = session.get(Password, by.id, with_for_update=True)
    attempt = sealed(Secret.ATTEMPT, f"{user.profile.email}\0{network}", pepper)
    logins.check_attempts(session, attempt=attempt, now=now)
    if stored is None or not hasher.verify(stored.digest, password):
        logins.count_failure(session, attempt=attempt, now=now)
        raise Invalid("password_wrong", "This is not your current password.", field=field)


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
        logins.tell(session, user=user, mail=rules.compose_reset(base_url=base_url, secret=secret), now=now)


def reset_password(
    session: Session, *, secret: str, password: str, hasher: Hashing, pepper: bytes, base_url: str, now: datetime
) -> User:
    """Set a new password by a mailed link, which proves the address as well; the person is signed out everywhere."""
    user = whose_link(session, secret=secret, purpose=LinkPurpose.RESET, pepper=pepper, now=now)
    _check_new(session, user, password, hasher)
    if not _use_up(session, user, LinkPurpose.RESET, now):
        raise rules.dead_link(LinkPurpose.RESET)
    if user.profile.verified_at is None:
        _forget_ways_in(session, user)
    by = accounts.acting(user)
    accounts.verify(session, user=user, by=by, now=now)
    logins.end_sessions(session, user_id=user.id, reason="password_changed", by=by, now=now)
    _set_password(session, user, hasher.hash(password), base_url=base_url, by=by, now=now)
    return user


def has_password(session: Session, *, user_id: int) -> bool:
    """Say whether a person can sign in with a password."""
    return session.get(Password, user_id) is not None


def change_password(
    session: Session, *, by: Actor, current: str, password: str, network: str, hasher: Hashing, pepper: bytes,
    base_url: str, now: datetime,
) -> str:  # fmt: skip
    """Set the actor's password, given the current one where there is one; they are signed out of other browsers.

    Returns:
        The new reference of the login session through which they act.

    Raises:
        StepUp: the actor has no password yet, and proved too long ago who they are.
    """
    user = session.get_one(User, by.id)
    _check_new(session, user, password, hasher)
    if has_password(session, user_id=by.id):
        _check_own(session, by, current, network=network, hasher=hasher, pepper=pepper, now=now, field="current")
    elif not by.is_fresh(now):
        raise StepUp("proof_old", "Prove once more that it is you, then set the password.", url="/login/prove")
    logins.end_others(session, by=by, now=now, reason="password_changed")
    _set_password(session, user, hasher.hash(password), base_url=base_url, by=by, now=now)
    return logins.renew(session, login=logins.current(session, by=by), pepper=pepper)


def _check_new(session: Session, user: User, password: str, hasher: Hashing) -> None:
    least = rules.least(has_second=factors.has_any(session, user_id=user.id))
    rules.check_password(password, email=user.profile.email, least=least, weakness=hasher.weakness)


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
        _forget_ways_in(session, user)
        logins.end_sessions(session, user_id=user.id, reason="invited", by=by, now=now)
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
    return user, _open(session, user.id, "invitation", user_agent=user_agent, pepper=pepper, now=now)


def _forget_ways_in(session: Session, user: User) -> None:
    """Take all that opens an account: whoever opened it never proved the address of the person who comes now."""
    session.execute(sa.delete(Password).where(Password.user_id == user.id))
    factors.drop(session, user_id=user.id)
    providers.drop(session, user_id=user.id)


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


def _make_link(session: Session, user: User, purpose: LinkPurpose, *, pepper: bytes, by: Actor, now: datetime) -> str:
    secret = new_secret()
    old = sa.and_(OneTimeLink.user_id == user.id, OneTimeLink.expires_at < now - KEPT)
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
    logins.tell(session, user=user, mail=rules.compose_changed(base_url=base_url), now=now)


def _mailed_enough(session: Session, user: User, kind: str, now: datetime) -> bool:
    return notices.recent(session, user_id=user.id, kinds=[kind], since=now - HOUR) >= rules.MAILS_PER_HOUR
