"""What a program decides for the time being: it ends by itself within 72 hours unless a named person confirms it."""

from collections.abc import Collection, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.audit import service as audit
from portal.cases import service as cases
from portal.cases.models import Case
from portal.core.actor import SYSTEM, Actor
from portal.core.errors import Conflict
from portal.moderation import rules
from portal.moderation import service as moderation
from portal.moderation.models import CaseDecision
from portal.moderation.rules import PROGRAM, DecisionState, Finding, Order
from portal.sanctions import service as sanctions
from portal.sanctions.rules import INTERIM, Measure
from portal.statements import service as statements
from portal.statements.rules import Automation

BATCH = 100
A_PROGRAM = Actor(public_id=PROGRAM, name="a detection rule")


def interim(
    session: Session,
    *,
    case: Case,
    clause_keys: Collection[str],
    facts: str,
    measures: Sequence[Measure],
    rule_ref: str,
    base_url: str,
    now: datetime,
) -> CaseDecision | None:
    """Take an interim decision because a detection rule says so; the person is told, and a case waits for a person.

    A second one in the same case while the first holds changes nothing. None where no program may: nobody is known
    behind the case, nothing is signed, or every clause is about intent, which only people find.
    """
    keys = sorted(clause_keys)
    if case.user_id is None or not statements.about_conduct(session, user_id=case.user_id, clause_keys=keys):
        return None
    user = moderation.lock(session, case.user_id)
    if (earlier := waiting(session, case=case, now=now)) is not None:
        return earlier
    cases.wake(session, case=case, by=A_PROGRAM, now=now)
    order = Order(Finding.VIOLATION, clause_keys=tuple(keys), facts=facts, measures=tuple(measures))
    lapses_at = now + INTERIM
    notice = moderation.preview(
        session, user_id=user.id, order=order, base_url=base_url, now=now, automation=Automation.DECIDED,
        lapses_at=lapses_at,
    )  # fmt: skip
    return moderation.take(
        session, case=case, user=user, order=order, notice=notice, by=A_PROGRAM, now=now, lapses_at=lapses_at,
        rule_ref=rule_ref,
    )  # fmt: skip


def waiting(session: Session, *, case: Case, now: datetime) -> CaseDecision | None:
    """Return the interim decision in a case that waits for a person."""
    found = session.scalars(moderation.interims_of(case).where(CaseDecision.lapses_at > now))
    return found.unique().first()


def confirm(session: Session, *, by: Actor, case_ref: str, base_url: str, now: datetime) -> CaseDecision:
    """Stand behind the interim decision in a case that one holds, so that it lasts until its own end."""
    case = cases.held(session, ref=case_ref, by=by, now=now)
    user = moderation.lock(session, moderation.concerned(session, case=case).id)
    moderation.check_may_order(session, by=by, user=user, now=now)
    decision = waiting(session, case=case, now=now)
    if decision is None:
        raise Conflict("interim_over", "Nothing waits to be confirmed in this case (any more).")
    decision.confirmed_by, decision.confirmed_at = by.public_id, now
    sanctions.confirm(session, decision_ref=decision.public_id, now=now)
    session.expire(decision, ["sanctions"])
    audit.record(session, rules.DecisionConfirmed(decision.public_id, case=case.public_id), by=by, now=now)
    sanctions.recompute(session, user_id=user.id, by=by, now=now)
    body = rules.compose_confirmed(ref=decision.public_id, base_url=base_url, until=decision.statement.until)
    subject = "A person confirmed a decision about your account"
    moderation.tell(
        session, user, kind="decision_confirmed", ref=decision.public_id, subject=subject, body=body, now=now
    )
    cases.decided(session, case=case, by=by, now=now)
    return decision


def lapse(session: Session, *, base_url: str, now: datetime) -> int:
    """Record, and tell, that interim decisions ended unconfirmed; whoever decides ignored them from that instant."""
    over = sa.select(CaseDecision).where(
        CaseDecision.lapses_at <= now, CaseDecision.confirmed_at.is_(None), CaseDecision.lapsed_at.is_(None),
        CaseDecision.state == DecisionState.IN_FORCE,
    )  # fmt: skip
    rows = session.scalars(over.order_by(CaseDecision.id).limit(BATCH)).unique().all()
    for decision in rows:
        decision.lapsed_at = now
        session.flush()
        case, user = session.get_one(Case, decision.case_id), session.get_one(User, decision.user_id)
        audit.record(session, rules.DecisionLapsed(decision.public_id, case=case.public_id), by=SYSTEM, now=now)
        body = rules.compose_lapsed(ref=decision.public_id, base_url=base_url)
        subject = "A decision about your account ended by itself"
        moderation.tell(
            session, user, kind="decision_lapsed", ref=decision.public_id, subject=subject, body=body, now=now
        )
    return len(rows)
