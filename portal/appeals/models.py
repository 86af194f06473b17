"""Tables of appeals and what is written back and forth about them."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from portal.appeals.rules import AppealOutcome, AppealState
from portal.core.db import Base, append_only, enum_type


class Appeal(Base):
    """The person concerned contests a case decision; one per decision."""

    __tablename__ = "appeal"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    decision_ref: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    state: Mapped[AppealState] = mapped_column(enum_type(AppealState, "state"), default=AppealState.FILED)
    text: Mapped[str]
    filed_at: Mapped[datetime]
    due_at: Mapped[datetime]
    reviewer: Mapped[str | None]
    outcome: Mapped[AppealOutcome | None] = mapped_column(enum_type(AppealOutcome, "outcome"))
    reasons: Mapped[str | None]
    decided_at: Mapped[datetime | None]

    __table_args__ = (CheckConstraint("(state = 'decided') = (outcome IS NOT NULL)", name="outcome_given"),)


@append_only()
class AppealMessage(Base):
    """A question about an appeal, or the answer to one."""

    __tablename__ = "appeal_message"

    id: Mapped[int] = mapped_column(primary_key=True)
    appeal_id: Mapped[int] = mapped_column(ForeignKey("appeal.id", ondelete="RESTRICT"), index=True)
    author: Mapped[str]
    words: Mapped[str]
    at: Mapped[datetime]
