"""The table of reports from outside."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from portal.core.db import Base, enum_type
from portal.reports.rules import ReportOutcome, ReportState


class Report(Base):
    """What somebody says is a use that breaks the license, and where that stands.

    Args:
        subject_ref: what it is about, as far as the portal knows it.
        reporter_id: who reports it, if they were signed in.
        network: digest of the neighborhood that it came from.
        puzzle: names the piece of work that was done for it, good for one report.
        secret_hmac: digest of the link that confirms it.
        weight: how reliable its reporter was when it came.
        proved_at: when the reporter proved to be who they say.
    """

    __tablename__ = "report"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    state: Mapped[ReportState] = mapped_column(enum_type(ReportState, "state"), default=ReportState.UNCONFIRMED)
    subject_ref: Mapped[str] = mapped_column(index=True)
    clause_key: Mapped[str]
    locator: Mapped[str]
    explanation: Mapped[str]
    name: Mapped[str]
    email: Mapped[str] = mapped_column(index=True)
    reporter_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    network: Mapped[str] = mapped_column(index=True)
    puzzle: Mapped[str | None] = mapped_column(unique=True)
    secret_hmac: Mapped[str | None] = mapped_column(unique=True)
    case_ref: Mapped[str | None] = mapped_column(index=True)
    weight: Mapped[int]
    outcome: Mapped[ReportOutcome | None] = mapped_column(enum_type(ReportOutcome, "outcome"))
    filed_at: Mapped[datetime]
    proved_at: Mapped[datetime | None]
    answered_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("(state = 'answered') = (outcome IS NOT NULL)", name="outcome_given"),
        CheckConstraint("(state = 'unconfirmed') = (case_ref IS NULL)", name="case_named"),
    )
