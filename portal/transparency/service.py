"""Gathering the figures that everybody may read."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.clauses.models import Clause
from portal.moderation.models import Appeal, CaseDecision, StatementClause, StatementOfReasons
from portal.transparency.rules import Figures, figures


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
