"""The table of case decisions."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, foreign, mapped_column, relationship

from portal.core.db import Base, enum_type
from portal.moderation.rules import DecisionState, Finding
from portal.sanctions.models import Sanction
from portal.statements.models import StatementOfReasons
from portal.strikes.rules import Intent


class CaseDecision(Base):
    """What was decided about a case; an interim one, by a program, lapses unless a person confirms it.

    Args:
        user_id: whom it is about; nobody, where a case without an account behind it is closed without a breach.
        decided_by, confirmed_by: public ids; ``program`` for a detection rule, ``system`` for the operators.
        rule_ref: the detection rule that decided or pointed to it.
        batch_ref: set when it was decided about many at once.
    """

    __tablename__ = "case_decision"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("case_file.id", ondelete="RESTRICT"), index=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    state: Mapped[DecisionState] = mapped_column(enum_type(DecisionState, "state"), default=DecisionState.IN_FORCE)
    finding: Mapped[Finding] = mapped_column(enum_type(Finding, "finding"))
    intent: Mapped[Intent] = mapped_column(enum_type(Intent, "intent"))
    statement_id: Mapped[int | None] = mapped_column(
        ForeignKey("statement_of_reasons.id", ondelete="RESTRICT"), unique=True
    )
    decided_by: Mapped[str]
    decided_at: Mapped[datetime]
    confirmed_by: Mapped[str | None]
    confirmed_at: Mapped[datetime | None]
    lapses_at: Mapped[datetime | None]
    lapsed_at: Mapped[datetime | None]
    rule_ref: Mapped[str] = mapped_column(default="")
    batch_ref: Mapped[str] = mapped_column(default="", index=True)
    overturned_by: Mapped[str | None]
    overturned_at: Mapped[datetime | None]
    overturn_reason: Mapped[str | None]

    statement: Mapped[StatementOfReasons] = relationship(lazy="joined")
    sanctions: Mapped[list[Sanction]] = relationship(
        primaryjoin=lambda: foreign(Sanction.decision_ref) == CaseDecision.public_id, viewonly=True, lazy="selectin",
        order_by=Sanction.id,
    )  # fmt: skip

    @property
    def person_id(self) -> int:
        """Whom it is about, where it is about somebody."""
        return self.user_id or 0

    __table_args__ = (
        CheckConstraint("(state = 'overturned') = (overturned_at IS NOT NULL)", name="overturned"),
        CheckConstraint("(finding = 'violation') = (statement_id IS NOT NULL)", name="reasons_given"),
        CheckConstraint("finding <> 'violation' OR user_id IS NOT NULL", name="of_somebody"),
        CheckConstraint("confirmed_by <> decided_by", name="two_people"),
        CheckConstraint("decided_by <> 'program' OR lapses_at IS NOT NULL", name="program_only_interim"),
    )
