"""Gathering the figures that everybody may read."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.clauses.models import Clause
from portal.licensing import service as licensing
from portal.moderation.models import Appeal, CaseDecision, StatementClause, StatementOfReasons
from portal.transparency import rules
from portal.transparency.rules import Figures, SecondLooks, figures


def published(session: Session, *, now: datetime) -> Figures:
    """Return the figures about moderation, small cells kept back."""
    sanctions = (
        sa.select(Clause.stable_key, CaseDecision.decided_at)
        .select_from(CaseDecision)
        .join(StatementOfReasons, StatementOfReasons.case_decision_id == CaseDecision.id)
        .join(StatementClause, StatementClause.statement_id == StatementOfReasons.id)
        .join(Clause, Clause.id == StatementClause.clause_id)
    )
    filed = sa.select(Appeal.filed_at, Appeal.due_at, Appeal.decided_at, Appeal.outcome)
    return figures(
        [(key, at) for key, at in session.execute(sanctions)],
        [(at, due, answered, outcome) for at, due, answered, outcome in session.execute(filed)],
        now,
    )


def second_looks(session: Session, *, now: datetime) -> SecondLooks:
    """Return how second looks at versions that came into force at once went."""
    rows = licensing.second_looks(session)
    return rules.second_looks([(row.due_at, row.reviewed_at, row.finding) for row in rows], now)
