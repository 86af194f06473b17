"""Keeping strikes, and what they add up to."""

from collections import Counter
from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.audit import service as audit
from portal.core.actor import Actor
from portal.strikes import rules
from portal.strikes.models import Strike
from portal.strikes.rules import Intent, StrikeFact


def strike(
    session: Session,
    *,
    user_id: int,
    decision_ref: str,
    clause_keys: Collection[str],
    intent: Intent,
    by: Actor,
    now: datetime,
) -> Strike | None:
    """Count a broken clause against a person for a year; None where there was no fault in it."""
    weight = rules.weight(clause_keys, intent)
    if weight == 0:
        return None
    row = Strike(decision_ref=decision_ref, user_id=user_id, weight=weight, at=now)
    session.add(row)
    session.flush()
    user = session.get_one(User, user_id)
    audit.record(session, rules.StrikeSet(decision_ref, user=user.public_id, weight=weight), by=by, now=now)
    return row


def overrule(session: Session, *, decision_ref: str, by: Actor, now: datetime) -> None:
    """Let the strike of a case decision count no more; doing so again changes nothing."""
    row = session.scalar(sa.select(Strike).where(Strike.decision_ref == decision_ref, Strike.overruled_at.is_(None)))
    if row is not None:
        row.overruled_at = now
        session.flush()
        user = session.get_one(User, row.user_id)
        audit.record(session, rules.StrikeOverruled(decision_ref, user=user.public_id), by=by, now=now)


def facts_of(session: Session, *, user_id: int) -> list[StrikeFact]:
    """Return a person's strikes, oldest first."""
    rows = session.scalars(sa.select(Strike).where(Strike.user_id == user_id).order_by(Strike.id))
    return [StrikeFact(row.weight, row.at, row.overruled_at is not None) for row in rows]


def score(session: Session, *, user_id: int, now: datetime) -> int:
    """Return what a person's strikes add up to at an instant."""
    return rules.score(facts_of(session, user_id=user_id), now)


def histogram(session: Session, *, now: datetime) -> list[tuple[str, int]]:
    """Return how many people stand on each rung of the ladder now."""
    query = (
        sa.select(sa.func.sum(Strike.weight))
        .where(Strike.overruled_at.is_(None), Strike.at > now - rules.WINDOW, Strike.at <= now)
        .group_by(Strike.user_id)
    )
    scores = [int(points) for points in session.scalars(query)]
    counted = Counter(rung.score for rung in map(rules.suggested, scores) if rung is not None)
    return [(rung.words, counted[rung.score]) for rung in rules.LADDER]
