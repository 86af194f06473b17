"""What staff see of a person: who they are, what they signed, what they used and what was decided."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import Profile, RoleHolding, User
from portal.accounts.rules import Standing, standing_at
from portal.core.errors import NotFound
from portal.licensing.models import Signature
from portal.moderation import service as moderation
from portal.moderation.models import CaseDecision
from portal.tokens import service as tokens
from portal.tokens.models import AccessToken
from portal.tokens.rules import unusable
from portal.usage.models import UsageRecord
from portal.usage.rules import day_of

PAGE = 50
USAGE_DAYS = 30


@dataclass(frozen=True)
class Use:
    """How often a person did one thing with one model in the last days, and how it ended."""

    model: str
    action: str
    outcome: str
    calls: int
    text_tokens: int
    bytes_sent: int


@dataclass(frozen=True)
class Person:
    """Everything the console shows about one person.

    Args:
        standing: what holds now; a suspension whose end has passed no longer does.
    """

    user: User
    standing: Standing
    roles: tuple[str, ...]
    signatures: Sequence[Signature]
    tokens: tuple[tuple[AccessToken, str], ...]
    use: tuple[Use, ...]
    decisions: Sequence[CaseDecision]


def effective_standing(user: User, *, now: datetime) -> Standing:
    """Return the standing that counts now."""
    return standing_at(user.standing, user.standing_until is not None and user.standing_until <= now)


def search(
    session: Session, *, query: str = "", standing: str = "", after_id: int = 0, now: datetime, limit: int = PAGE
) -> Sequence[User]:
    """Return people by part of their address or name, or by public id, and by standing, oldest first.

    The list goes on after the person `after_id`; one row more than `limit` says that there are more.
    """
    found = sa.select(User).join(Profile, Profile.user_id == User.id, isouter=True).where(User.id > after_id)
    if query:
        found = found.where(
            sa.or_(
                User.public_id == query,
                Profile.email.icontains(query, autoescape=True),
                Profile.name.icontains(query, autoescape=True),
            )
        )
    suspended = sa.and_(User.standing == Standing.SUSPENDED, User.standing_until > now)
    if standing == Standing.SUSPENDED:
        found = found.where(suspended)
    elif standing == Standing.ACTIVE:
        found = found.where(User.standing != Standing.CLOSED, sa.not_(suspended))
    elif standing == Standing.CLOSED:
        found = found.where(User.standing == Standing.CLOSED)
    return session.scalars(found.order_by(User.id).limit(limit + 1)).unique().all()


def find(session: Session, *, ref: str) -> User:
    """Find a person by public id."""
    user = session.scalars(sa.select(User).where(User.public_id == ref)).unique().one_or_none()
    if user is None:
        raise NotFound("person_not_found", "There is no such person.")
    return user


def person(session: Session, *, ref: str, now: datetime) -> Person:
    """Return what the console shows about a person."""
    return _person(session, find(session, ref=ref), now)


def _person(session: Session, user: User, now: datetime) -> Person:
    holdings = sa.select(RoleHolding.role).where(
        RoleHolding.user_id == user.id, sa.or_(RoleHolding.ended_at.is_(None), RoleHolding.ended_at > now)
    )
    signed = sa.select(Signature).where(Signature.user_id == user.id).order_by(Signature.id.desc())
    owned = tokens.of_person(session, user_id=user.id)
    return Person(
        user=user,
        standing=effective_standing(user, now=now),
        roles=tuple(sorted(role.value for role in session.scalars(holdings))),
        signatures=session.scalars(signed).all(),
        tokens=tuple((token, _token_state(token, now)) for token in owned),
        use=_use(session, user.id, now),
        decisions=moderation.decisions_about(session, user_id=user.id),
    )


def _token_state(token: AccessToken, now: datetime) -> str:
    code = unusable(token.state, token.expires_at, now)
    return "live" if code is None else code.removeprefix("access_token_")


def _use(session: Session, user_id: int, now: datetime) -> tuple[Use, ...]:
    record = UsageRecord
    query = (
        sa.select(
            record.model_name, record.action, record.outcome, sa.func.count(),
            sa.func.sum(record.prompt_tokens + record.completion_tokens), sa.func.sum(record.bytes_sent),
        )
        .where(record.user_id == user_id, record.day > day_of(now - timedelta(days=USAGE_DAYS)))
        .group_by(record.model_name, record.action, record.outcome)
        .order_by(record.model_name, record.action, record.outcome)
    )  # fmt: skip
    rows = session.execute(query)
    return tuple(Use(name, action, end.value, n, int(text), int(size)) for name, action, end, n, text, size in rows)


def member_summary(session: Session, *, email: str, now: datetime) -> dict[str, Any]:
    """Return a person's standing, signatures, access tokens and use as plain values, for the command line."""
    query = sa.select(User).join(Profile, Profile.user_id == User.id).where(Profile.email == email.strip().casefold())
    user = session.scalars(query).unique().one_or_none()
    if user is None:
        raise NotFound("person_not_found", f"{email} has no account here.")
    seen = _person(session, user, now)
    suspended = seen.standing is Standing.SUSPENDED
    verified = user.profile.verified_at
    return {
        "id": user.public_id,
        "email": user.profile.email,
        "name": user.profile.name,
        "affiliation": user.profile.affiliation,
        "country": user.profile.country,
        "verified_at": verified.isoformat() if verified else None,
        "standing": seen.standing.value,
        "suspended_until": user.standing_until.isoformat() if suspended and user.standing_until else None,
        "sanction": user.standing_ref if suspended else None,
        "roles": list(seen.roles),
        "signatures": [
            f"{s.version.license.slug}/{s.version.number} {s.public_id} {s.signed_at.isoformat()}"
            for s in seen.signatures
        ],
        "access_tokens": [f"{token.name} …{token.last4} {state}" for token, state in seen.tokens],
        "use_30_days": [f"{u.model} {u.action} {u.outcome} {u.calls}" for u in seen.use],
    }
