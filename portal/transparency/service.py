"""Publishing the report of each month that is over, once and for good."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.appeals.models import Appeal
from portal.audit import service as audit
from portal.audit.models import AuditEvent
from portal.cases.models import Case
from portal.clauses.models import Clause
from portal.core.actor import Actor
from portal.core.errors import NotFound
from portal.licensing import service as licensing
from portal.moderation.models import CaseDecision
from portal.proofs.rules import canonical, digest
from portal.reports.models import Report
from portal.reports.rules import ReportOutcome
from portal.sanctions.models import Sanction
from portal.statements.models import StatementClause, StatementOfReasons
from portal.tokens.models import LeakReport
from portal.tokens.rules import LeakSource
from portal.transparency import rules
from portal.transparency.models import MonthlyReport
from portal.transparency.rules import Answered, Counted, Happened, SecondLooks


def publish(session: Session, *, by: Actor, now: datetime) -> MonthlyReport | None:
    """Publish the report of the first month that is over and has none yet; None where there is no such month."""
    newest = session.scalar(sa.select(sa.func.max(MonthlyReport.month)))
    first = session.scalar(sa.select(AuditEvent.at).order_by(AuditEvent.id).limit(1))
    if newest is None and first is None:
        return None
    month = rules.following(newest) if newest else rules.month_of(first or now)
    if month >= rules.month_of(now):
        return None
    body = canonical(rules.compose(month, happened(session, month=month)))
    row = MonthlyReport(month=month, body=body, sha256=digest(body), published_at=now)
    session.add(row)
    session.flush()
    audit.record(session, rules.MonthPublished(subject=month, sha256=row.sha256), by=by, now=now)
    return row


def happened(session: Session, *, month: str) -> Happened:
    """Gather what happened in a month."""
    start, end = rules.bounds(month)

    def within(column: Any) -> sa.ColumnElement[bool]:
        return sa.and_(column >= start, column < end)

    def count(model: Any, *which: sa.ColumnElement[bool]) -> int:
        return session.scalar(sa.select(sa.func.count()).select_from(model).where(*which)) or 0

    acted = sa.select(Case.opened_at, Case.first_action_at).where(within(Case.first_action_at))
    answered = sa.select(Appeal.filed_at, Appeal.due_at, Appeal.decided_at, Appeal.outcome)
    ended = sa.select(sa.func.sum(LeakReport.ended)).where(within(LeakReport.settled_at))
    return Happened(
        sanctions=_sanctions(session, within(Sanction.starts_at)),
        first_actions=[acted_at - opened_at for opened_at, acted_at in session.execute(acted) if acted_at],
        appeals_filed=count(Appeal, within(Appeal.filed_at)),
        answered=[
            Answered(filed_at, due_at, decided_at, outcome.value)
            for filed_at, due_at, decided_at, outcome in session.execute(answered.where(within(Appeal.decided_at)))
            if decided_at and outcome
        ],
        reports=count(Report, within(Report.filed_at), Report.case_ref.is_not(None)),
        reports_answered=count(Report, within(Report.answered_at)),
        reports_borne_out=count(Report, within(Report.answered_at), Report.outcome == ReportOutcome.BREACH),
        leaked=[(s.value, int(session.scalar(ended.where(LeakReport.source == s)) or 0)) for s in LeakSource],
    )


def _sanctions(session: Session, within: sa.ColumnElement[bool]) -> list[Counted]:
    query = (
        sa.select(Clause.stable_key, Sanction.kind, Case.origin, StatementOfReasons.automation)
        .select_from(Sanction)
        .join(CaseDecision, CaseDecision.public_id == Sanction.decision_ref)
        .join(Case, Case.id == CaseDecision.case_id)
        .join(StatementOfReasons, StatementOfReasons.id == CaseDecision.statement_id)
        .join(StatementClause, StatementClause.statement_id == StatementOfReasons.id)
        .join(Clause, Clause.id == StatementClause.clause_id)
        .where(within)
    )
    return [Counted(key, kind.value, origin.value, how.value) for key, kind, origin, how in session.execute(query)]


def published(session: Session) -> Sequence[MonthlyReport]:
    """Return the monthly reports, newest first."""
    return session.scalars(sa.select(MonthlyReport).order_by(MonthlyReport.month.desc())).all()


def find(session: Session, *, month: str) -> MonthlyReport:
    """Find the report of a month, or raise `NotFound`."""
    row = session.scalar(sa.select(MonthlyReport).where(MonthlyReport.month == month))
    if row is None:
        raise NotFound("month_not_found", "There is no report of this month.", url="/transparency")
    return row


def read(row: MonthlyReport) -> dict[str, Any]:
    """Return what a monthly report says."""
    value: dict[str, Any] = json.loads(row.body)
    return value


def second_looks(session: Session, *, now: datetime) -> SecondLooks:
    """Return how second looks at versions that came into force at once went."""
    rows = licensing.second_looks(session)
    return rules.second_looks([(row.due_at, row.reviewed_at, row.finding) for row in rows], now)
