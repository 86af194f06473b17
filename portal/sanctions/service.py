"""Keeping sanctions: ordering, confirming and ending them, and writing down the standing they amount to."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts import service as accounts
from portal.accounts.models import User
from portal.accounts.rules import Standing, StandingAction
from portal.audit import service as audit
from portal.core.actor import SYSTEM, Actor
from portal.core.ids import public_id
from portal.sanctions import rules
from portal.sanctions.models import Sanction
from portal.sanctions.rules import Effects, Measure, SanctionFact

LAPSE_BATCH = 100


def order(
    session: Session,
    *,
    user_id: int,
    decision_ref: str,
    measures: Sequence[Measure],
    lapses_at: datetime | None,
    now: datetime,
) -> list[Sanction]:
    """Put measures in force as sanctions of a case decision.

    Args:
        lapses_at: when they end unless a person confirms them; None where a person ordered them.
    """
    rows = [
        Sanction(
            public_id=public_id("san"), decision_ref=decision_ref, user_id=user_id, kind=m.kind, target=m.target,
            action=m.action, calls=m.calls, text_tokens=m.text_tokens, starts_at=now, until=m.until,
            lapses_at=lapses_at,
        )
        for m in measures
    ]  # fmt: skip
    session.add_all(rows)
    session.flush()
    return rows


def fact(row: Sanction) -> SanctionFact:
    """Return what the effects of a sanction depend on."""
    return SanctionFact(
        row.public_id, row.kind, row.starts_at, row.until, row.target, row.action, row.calls, row.text_tokens,
        row.lapses_at if row.confirmed_at is None else None, row.ended_at,
    )  # fmt: skip


def of_people(session: Session, *, user_ids: Collection[int]) -> dict[int, tuple[SanctionFact, ...]]:
    """Return the sanctions of people that were not ended before their day, those over by the clock included."""
    found: dict[int, list[SanctionFact]] = defaultdict(list)
    if user_ids:
        query = sa.select(Sanction).where(Sanction.user_id.in_(user_ids), Sanction.ended_at.is_(None))
        for row in session.scalars(query.order_by(Sanction.id)):
            found[row.user_id].append(fact(row))
    return {user_id: tuple(facts) for user_id, facts in found.items()}


def of_person(session: Session, *, user_id: int) -> tuple[SanctionFact, ...]:
    """Return the sanctions of one person that were not ended before their day."""
    return of_people(session, user_ids=[user_id]).get(user_id, ())


def of_decision(session: Session, *, ref: str) -> Sequence[Sanction]:
    """Return the sanctions of a case decision, ended ones included."""
    return session.scalars(sa.select(Sanction).where(Sanction.decision_ref == ref).order_by(Sanction.id)).all()


def confirm(session: Session, *, decision_ref: str, now: datetime) -> None:
    """Let interim sanctions last until their own end, since a person stands behind them now."""
    for row in of_decision(session, ref=decision_ref):
        if row.lapses_at is not None and row.confirmed_at is None:
            row.confirmed_at = now
    session.flush()


def end(session: Session, *, decision_ref: str, because: str, by: Actor, now: datetime) -> list[Sanction]:
    """End the sanctions of a case decision at once; returns those that were not over by the clock."""
    rows = [row for row in of_decision(session, ref=decision_ref) if row.ended_at is None]
    live = [row for row in rows if fact(row).holds(now)]
    for row in rows:
        row.ended_at = now
    session.flush()
    for row in rows:
        event = rules.SanctionEnded(row.public_id, case_decision=decision_ref, because=because)
        audit.record(session, event, by=by, now=now)
    return live


def measure_of(row: Sanction) -> Measure:
    """Return what a sanction orders."""
    return Measure(row.kind, row.until, row.target, row.action, row.calls, row.text_tokens)


def recompute(session: Session, *, user_id: int, by: Actor, now: datetime) -> Effects:
    """Write down what a person's sanctions in force amount to now, as their standing.

    An account that something else than a sanction closed stays closed.
    """
    found = rules.effects(of_person(session, user_id=user_id), now)
    user = session.get_one(User, user_id)
    wanted = Standing.CLOSED if found.closed_by else Standing.SUSPENDED if found.suspended_by else Standing.ACTIVE
    until = found.suspended_until if wanted is Standing.SUSPENDED else None
    foreign = user.standing is Standing.CLOSED and not (user.standing_ref or "").startswith("san_")
    if foreign or (user.standing, user.standing_until, user.standing_ref) == (wanted, until, found.ref):
        return found
    if user.standing is Standing.CLOSED:
        _set(session, user_id, StandingAction.REOPEN, None, None, by, now)
    if wanted is Standing.CLOSED:
        _set(session, user_id, StandingAction.CLOSE, None, found.ref, by, now)
    elif wanted is Standing.SUSPENDED:
        _set(session, user_id, StandingAction.SUSPEND, until, found.ref, by, now)
    elif user.standing is Standing.SUSPENDED:
        _set(session, user_id, StandingAction.REINSTATE, None, None, by, now)
    return found


def _set(  # noqa: PLR0917 - one call on, in its order
    session: Session, user_id: int, action: StandingAction, until: datetime | None, ref: str | None, by: Actor,
    now: datetime,
) -> None:  # fmt: skip
    accounts.set_standing(session, user_id=user_id, action=action, until=until, ref=ref, by=by, now=now)


def lapse(session: Session, *, now: datetime) -> int:
    """Record as active the people whose suspension the clock has ended; the decision ignored it from that instant."""
    ended = sa.select(User.id).where(User.standing == Standing.SUSPENDED, User.standing_until <= now).limit(LAPSE_BATCH)
    ids = session.scalars(ended).all()
    for user_id in ids:
        recompute(session, user_id=user_id, by=SYSTEM, now=now)
    return len(ids)
