"""Tables of case decisions, sanctions, statements of reasons and appeals."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.core.db import Base, append_only, enum_type
from portal.moderation.rules import AppealOutcome, AppealState, DecisionState, SanctionKind


class CaseDecision(Base):
    """What a member of staff decided about a person's conduct."""

    __tablename__ = "case_decision"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    state: Mapped[DecisionState] = mapped_column(enum_type(DecisionState, "state"), default=DecisionState.IN_FORCE)
    decided_by: Mapped[str]
    decided_at: Mapped[datetime]
    overturned_by: Mapped[str | None]
    overturned_at: Mapped[datetime | None]
    overturn_reason: Mapped[str | None]

    statement: Mapped["StatementOfReasons"] = relationship(back_populates="case_decision", lazy="joined")
    sanctions: Mapped[list["Sanction"]] = relationship(back_populates="case_decision", lazy="selectin")

    __table_args__ = (CheckConstraint("(state = 'overturned') = (overturned_at IS NOT NULL)", name="overturned"),)


@append_only()
class Sanction(Base):
    """One effect of a case decision, from one instant until another."""

    __tablename__ = "sanction"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    case_decision_id: Mapped[int] = mapped_column(ForeignKey("case_decision.id", ondelete="RESTRICT"), index=True)
    kind: Mapped[SanctionKind] = mapped_column(enum_type(SanctionKind, "kind"))
    starts_at: Mapped[datetime]
    until: Mapped[datetime]

    case_decision: Mapped[CaseDecision] = relationship(back_populates="sanctions")

    __table_args__ = (CheckConstraint("until > starts_at", name="ends"),)


@append_only()
class StatementOfReasons(Base):
    """Why: the facts, the clauses of the version that bound the person, until when, and how to contest it."""

    __tablename__ = "statement_of_reasons"

    id: Mapped[int] = mapped_column(primary_key=True)
    case_decision_id: Mapped[int] = mapped_column(ForeignKey("case_decision.id", ondelete="RESTRICT"), unique=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("license_version.id", ondelete="RESTRICT"))
    signature_id: Mapped[int] = mapped_column(ForeignKey("signature.id", ondelete="RESTRICT"))
    facts: Mapped[str]
    automation: Mapped[str] = mapped_column(default="none")
    notice: Mapped[str]
    notice_sha256: Mapped[str]
    until: Mapped[datetime]
    appeal_by: Mapped[datetime]

    case_decision: Mapped[CaseDecision] = relationship(back_populates="statement")
    clauses: Mapped[list["StatementClause"]] = relationship(lazy="selectin")

    __table_args__ = (CheckConstraint("facts <> ''", name="facts_given"),)


@append_only()
class StatementClause(Base):
    """A clause that a statement cites."""

    __tablename__ = "statement_clause"

    statement_id: Mapped[int] = mapped_column(
        ForeignKey("statement_of_reasons.id", ondelete="RESTRICT"), primary_key=True
    )
    clause_id: Mapped[int] = mapped_column(ForeignKey("clause.id", ondelete="RESTRICT"), primary_key=True)


class Appeal(Base):
    """The person concerned contests a case decision; one per decision."""

    __tablename__ = "appeal"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    case_decision_id: Mapped[int] = mapped_column(ForeignKey("case_decision.id", ondelete="RESTRICT"), unique=True)
    state: Mapped[AppealState] = mapped_column(enum_type(AppealState, "state"), default=AppealState.FILED)
    text: Mapped[str]
    filed_at: Mapped[datetime]
    due_at: Mapped[datetime]
    reviewer: Mapped[str | None]
    outcome: Mapped[AppealOutcome | None] = mapped_column(enum_type(AppealOutcome, "outcome"))
    reasons: Mapped[str | None]
    decided_at: Mapped[datetime | None]

    __table_args__ = (CheckConstraint("(state = 'decided') = (outcome IS NOT NULL)", name="outcome_given"),)
