"""Whose identity elsewhere opens whose account."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.audit import service as audit
from portal.core.actor import Actor
from portal.core.errors import Conflict, NotFound
from portal.core.ids import public_id
from portal.providers.models import LinkedIdentity
from portal.providers.rules import ORCID, Claims, IdentityLinked, IdentityUnlinked, ReturnRefused


def find(session: Session, *, claims: Claims) -> LinkedIdentity | None:
    """Return the link of an identity to an account, if there is one."""
    query = sa.select(LinkedIdentity).where(
        LinkedIdentity.issuer == claims.issuer, LinkedIdentity.subject == claims.subject
    )
    return session.scalar(query)


def add(session: Session, *, user: User, claims: Claims, by: Actor, now: datetime) -> LinkedIdentity:
    """Let an identity open an account.

    Raises:
        Conflict: it opens another one.
    """
    row = LinkedIdentity(
        public_id=public_id("idn"), user_id=user.id, issuer=claims.issuer, subject=claims.subject, linked_at=now
    )
    try:
        with session.begin_nested():
            session.add(row)
            session.flush()
    except IntegrityError:
        message = "That account opens another account here. Sign in with it, or unlink it there first."
        raise Conflict("identity_taken", message, url="/settings/identities") from None
    audit.record(session, IdentityLinked(subject=user.public_id, issuer=claims.issuer), by=by, now=now)
    return row


def remove(session: Session, *, user: User, ref: str, by: Actor, now: datetime) -> None:
    """Let an identity no longer open an account."""
    query = sa.select(LinkedIdentity).where(LinkedIdentity.user_id == user.id, LinkedIdentity.public_id == ref)
    row = session.scalar(query)
    if row is None:
        raise NotFound("identity_not_found", "You have no such linked account.", url="/settings/identities")
    session.delete(row)
    session.flush()
    audit.record(session, IdentityUnlinked(subject=user.public_id, issuer=row.issuer), by=by, now=now)


def identities_of(session: Session, *, user_id: int) -> Sequence[LinkedIdentity]:
    """Return a person's identities elsewhere, the first linked first."""
    query = sa.select(LinkedIdentity).where(LinkedIdentity.user_id == user_id).order_by(LinkedIdentity.id)
    return session.scalars(query).all()


def drop(session: Session, *, user_id: int) -> None:
    """Take all identities from an account that its opener never proved to be theirs."""
    session.execute(sa.delete(LinkedIdentity).where(LinkedIdentity.user_id == user_id))


def orcid_of(session: Session, *, user_id: int) -> str:
    """Return the ORCID iD that a person proved to hold; empty where they proved none."""
    query = sa.select(LinkedIdentity.subject).where(LinkedIdentity.user_id == user_id, LinkedIdentity.issuer == ORCID)
    return session.scalars(query.order_by(LinkedIdentity.id)).first() or ""


def note_refusal(session: Session, *, by: Actor, slug: str, reason: str, now: datetime) -> None:
    """Record that an answer from a provider was not taken."""
    audit.record(session, ReturnRefused(subject=slug, reason=reason), by=by, now=now)
