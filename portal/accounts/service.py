"""Making accounts, finding them, what people say about themselves, their standing and their roles."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts import rules
from portal.accounts.models import Profile, RoleHolding, User
from portal.accounts.rules import STANDING, About, Role, StandingAction
from portal.audit import service as audit
from portal.audit.rules import AddressVerified, ProfileChanged, RoleEnded, RoleGranted, SignedUp, StandingChanged
from portal.core.actor import Actor
from portal.core.errors import Conflict, NotFound
from portal.core.ids import public_id


def acting(user: User) -> Actor:
    """Return a person as the one who acts, for what they do before they are signed in."""
    return Actor(user_id=user.id, public_id=user.public_id, name=user.profile.name if user.profile else "")


def find_by_email(session: Session, *, email: str) -> User | None:
    """Find a person by address, in whatever case it is written."""
    if not rules.storable(email):
        return None
    query = sa.select(User).join(Profile, Profile.user_id == User.id).where(Profile.email == rules.fold_email(email))
    return session.scalars(query).unique().one_or_none()


def find(session: Session, *, ref: str) -> User:
    """Find a person by public id."""
    user = session.scalars(sa.select(User).where(User.public_id == ref)).unique().one_or_none()
    if user is None:
        raise NotFound("person_not_found", "There is no such person.")
    return user


def create(
    session: Session, *, email: str, about: About, by: Actor | None = None, verified: bool = False, now: datetime
) -> User:
    """Open an account for an address that has none.

    Args:
        by: who opens it; by default the person themselves.
        verified: somebody answers for the address, so no mail has to prove it.
    """
    user = User(public_id=public_id("usr"), created_at=now)
    user.profile = Profile(email=email, verified_at=now if verified else None, **asdict(about))
    session.add(user)
    session.flush()
    audit.record(session, SignedUp(subject=user.public_id), by=by or acting(user), now=now)
    return user


def verify(session: Session, *, user: User, by: Actor, now: datetime) -> None:
    """Record that a person reads mail at their address; doing so again changes nothing."""
    if user.profile.verified_at is None:
        user.profile.verified_at = now
        session.flush()
        audit.record(session, AddressVerified(subject=user.public_id), by=by, now=now)


def update_profile(session: Session, *, by: Actor, name: str, affiliation: str, country: str, now: datetime) -> Profile:
    """Change what the portal knows about the actor; the event names the fields that differ and nothing else."""
    profile = session.get_one(User, by.id).profile
    new = rules.check_about(name=name, affiliation=affiliation, country=country)
    names = rules.changed(About(profile.name, profile.affiliation, profile.country), new)
    if names:
        profile.name, profile.affiliation, profile.country = new.name, new.affiliation, new.country
        session.flush()
        audit.record(session, ProfileChanged(subject=by.public_id, names=" ".join(names)), by=by, now=now)
    return profile


def set_standing(
    session: Session,
    *,
    user_id: int,
    action: StandingAction,
    until: datetime | None,
    ref: str | None,
    by: Actor,
    now: datetime,
) -> User:
    """Move a person's standing, because of the sanction or decision `ref`; saying the same again changes nothing.

    Args:
        until: when a suspension ends.

    Raises:
        Conflict: the standing does not allow the move, or somebody moved it at the same moment.
    """
    user = session.get_one(User, user_id)
    state = STANDING.next(user.standing, action)
    if (user.standing, user.standing_until, user.standing_ref) == (state, until, ref):
        return user
    moved = session.execute(
        sa.update(User)
        .where(User.id == user_id, User.standing == user.standing)
        .values(standing=state, standing_until=until, standing_ref=ref)
        .execution_options(synchronize_session=False)
        .returning(User.id)
    ).all()
    session.refresh(user)
    if not moved:
        raise Conflict("standing_changed", "Somebody changed this person's standing at the same moment. Look again.")
    event = StandingChanged(subject=user.public_id, standing=state.value, ref=ref or "")
    audit.record(session, event, by=by, now=now)
    return user


def grant_role(session: Session, *, user_id: int, role: Role, by: Actor, now: datetime) -> RoleHolding:
    """Give a person a staff role; giving it again changes nothing."""
    if held := _holding(session, user_id, role):
        return held
    holding = RoleHolding(user_id=user_id, role=role, granted_by=by.public_id, granted_at=now)
    session.add(holding)
    session.flush()
    user = session.get_one(User, user_id)
    audit.record(session, RoleGranted(subject=user.public_id, role=role.value), by=by, now=now)
    return holding


def end_role(session: Session, *, user_id: int, role: Role, by: Actor, now: datetime) -> None:
    """Take a staff role from a person at once; doing so again changes nothing."""
    holding = _holding(session, user_id, role)
    if holding is None:
        return
    holding.ended_at = now
    session.flush()
    user = session.get_one(User, user_id)
    audit.record(session, RoleEnded(subject=user.public_id, role=role.value), by=by, now=now)


def roles_of(session: Session, *, user_id: int, now: datetime) -> Sequence[Role]:
    """Return the staff roles that a person holds."""
    live = sa.or_(RoleHolding.ended_at.is_(None), RoleHolding.ended_at > now)
    query = sa.select(RoleHolding.role).where(RoleHolding.user_id == user_id, live).order_by(RoleHolding.id)
    return session.scalars(query).all()


def permissions(session: Session, *, user_id: int, now: datetime) -> frozenset[str]:
    """Return what a person's staff roles let them do."""
    return rules.permissions_of(list(roles_of(session, user_id=user_id, now=now)))


def _holding(session: Session, user_id: int, role: Role) -> RoleHolding | None:
    query = sa.select(RoleHolding).where(
        RoleHolding.user_id == user_id, RoleHolding.role == role, RoleHolding.ended_at.is_(None)
    )
    return session.scalar(query)
