"""Tables of backtests: what a rule would have done with past use."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.core.db import Base, append_only
from portal.detection.models import DetectionRule


@append_only("done_at", "result")
class Backtest(Base):
    """A version of a rule tried on the use of some days; its forecast comes once all of it has been looked at."""

    __tablename__ = "backtest"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    rule_id: Mapped[int] = mapped_column(ForeignKey("detection_rule.id", ondelete="RESTRICT"), index=True)
    days: Mapped[int]
    since: Mapped[datetime]
    until: Mapped[datetime]
    total: Mapped[int]
    asked_by: Mapped[str]
    asked_at: Mapped[datetime]
    done_at: Mapped[datetime | None]
    result: Mapped[dict[str, Any] | None]

    rule: Mapped[DetectionRule] = relationship(lazy="joined")

    __table_args__ = (
        CheckConstraint("until > since", name="span"),
        CheckConstraint("(done_at IS NULL) = (result IS NULL)", name="done"),
    )


@append_only()
class BacktestPart(Base):
    """What was counted in one stretch of past use; where a backtest goes on follows from its parts."""

    __tablename__ = "backtest_part"

    backtest_id: Mapped[int] = mapped_column(ForeignKey("backtest.id", ondelete="RESTRICT"), primary_key=True)
    last_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    looked: Mapped[int]
    tally: Mapped[dict[str, Any]]
