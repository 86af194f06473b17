"""Making accounts, finding them, what people say about themselves, their standing and their roles."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts import rules
from portal.accounts.models import Profile, Proposal, RoleHolding, User
from portal.accounts.rules import STANDING, About, Permission, ProposalFact, Role, Standing, StandingAction
from portal.audit import service as audit
from portal.audit.rules import (
    AddressVerified,
    ProfileChanged,
    ProposalConfirmed,
    ProposalMade,
    RoleEnded,
    RoleGranted,
    SignedUp,
    StandingChanged,
)
from portal.core.actor import Actor
from portal.core.errors import Conflict, NotFound, Refused
from portal.core.ids import public_id
from portal.proofs.rules import canonical, digest


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


def require_permission(session: Session, *, actor: Actor, permission: Permission, now: datetime) -> None:
    """Raise unless the person behind an access token is staff in good standing whose role carries a permission."""
    user = session.get_one(User, actor.id)
    if rules.held(user.standing, user.standing_until, now) is not Standing.ACTIVE:
        raise Refused("standing_suspended", "Your account is suspended.")
    if permission not in permissions(session, user_id=user.id, now=now):
        message = f"Your role does not include {permission}. Ask an admin of the portal for it."
        raise Refused("permission_missing", message)


def _holding(session: Session, user_id: int, role: Role) -> RoleHolding | None:
    query = sa.select(RoleHolding).where(
        RoleHolding.user_id == user_id, RoleHolding.role == role, RoleHolding.ended_at.is_(None)
    )
    return session.scalar(query)


def able(session: Session, *, permission: Permission, now: datetime) -> Sequence[User]:
    """Return the people in good standing whose roles carry a permission."""
    roles = [role for role, held in rules.ROLE_PERMISSIONS.items() if permission in held]
    suspended = sa.and_(User.standing == Standing.SUSPENDED, User.standing_until > now)
    holders = sa.select(RoleHolding.user_id).where(
        RoleHolding.role.in_(roles), sa.or_(RoleHolding.ended_at.is_(None), RoleHolding.ended_at > now)
    )
    query = sa.select(User).where(User.id.in_(holders), User.standing != Standing.CLOSED, sa.not_(suspended))
    return session.scalars(query.order_by(User.id)).unique().all()


def names(session: Session, *, refs: Iterable[str]) -> dict[str, str]:
    """Return the names of people by their public ids, for staff; who was erased, or is no person, is left out."""
    query = sa.select(User.public_id, Profile.name).join(Profile, Profile.user_id == User.id)
    return {row.public_id: row.name for row in session.execute(query.where(User.public_id.in_(set(refs))))}


def propose(
    session: Session,
    *,
    action: str,
    subject_ref: str,
    payload: Mapping[str, Any],
    page: str,
    permission: Permission,
    by: Actor,
    now: datetime,
) -> Proposal:
    """Propose a grave act that somebody else has to confirm within a day; proposing the same again returns the same.

    Args:
        subject_ref: what it is about; the newest proposal about it is the one that counts.
        payload: everything that the act depends on, its subject's state included.
        page: where it is shown and confirmed.
        permission: what both people need.

    Raises:
        Refused: fewer than two people could ever do this.
    """
    if len(able(session, permission=permission, now=now)) < rules.TWO:
        message = "This takes two members of staff, and fewer have the permission. An admin has to appoint one first."
        raise Refused("two_people_needed", message)
    body = canonical(payload)
    known = open_proposal(session, action=action, subject_ref=subject_ref, now=now)
    if known is not None and (known.payload_sha256, known.proposed_by) == (digest(body), by.public_id):
        return known
    proposal = Proposal(
        public_id=public_id("prp"), action=action, subject_ref=subject_ref, page=page, payload=body,
        payload_sha256=digest(body), proposed_by=by.public_id, proposed_at=now, expires_at=now + rules.PROPOSAL_LIFE,
    )  # fmt: skip
    session.add(proposal)
    session.flush()
    event = ProposalMade(subject=proposal.public_id, action=action, about=subject_ref, payload=digest(body))
    audit.record(session, event, by=by, now=now)
    return proposal


def open_proposal(session: Session, *, action: str, subject_ref: str, now: datetime) -> Proposal | None:
    """Return the newest proposal of an act about something, if it still waits for a second person."""
    query = sa.select(Proposal).where(Proposal.action == action, Proposal.subject_ref == subject_ref)
    newest = session.scalar(query.order_by(Proposal.id.desc()).limit(1))
    waits = newest is not None and newest.confirmed_by is None and now < newest.expires_at
    return newest if waits else None


def confirm(
    session: Session,
    *,
    action: str,
    subject_ref: str,
    shown_sha256: str,
    payload: Mapping[str, Any],
    by: Actor,
    now: datetime,
) -> Proposal:
    """Confirm, as a second person, the newest proposal of an act; the caller then does it in the same transaction.

    Args:
        shown_sha256: digest of what the confirming person was shown.
        payload: what the act would be now, built anew from what it is about.

    Raises:
        Conflict: there is none, it expired, was confirmed, or what it is about changed meanwhile.
        Refused: the person proposed it themselves.
    """
    query = sa.select(Proposal).where(Proposal.action == action, Proposal.subject_ref == subject_ref)
    proposal = session.scalar(query.order_by(Proposal.id.desc()).limit(1))
    if proposal is None:
        raise Conflict("proposal_missing", "Nobody proposed this. Propose it first.")
    fact = ProposalFact(
        proposal.payload_sha256, proposal.proposed_by, proposal.confirmed_by, proposal.expires_at
    )  # fmt: skip
    current = digest(canonical(payload))
    rules.check_confirm(fact, by=by.public_id, shown_sha256=shown_sha256, current_sha256=current, now=now)
    moved = session.scalar(
        sa.update(Proposal)
        .where(Proposal.id == proposal.id, Proposal.confirmed_by.is_(None))
        .values(confirmed_by=by.public_id, confirmed_at=now)
        .returning(Proposal.id)
        .execution_options(synchronize_session=False)
    )
    session.refresh(proposal)
    if moved is None:
        raise Conflict("proposal_confirmed", "This was confirmed already.")
    event = ProposalConfirmed(subject=proposal.public_id, action=action, about=subject_ref)
    audit.record(session, event, by=by, now=now)
    return proposal


def proposals(session: Session, *, limit: int = 200) -> Sequence[Proposal]:
    """Return what was proposed, newest first."""
    return session.scalars(sa.select(Proposal).order_by(Proposal.id.desc()).limit(limit)).all()
