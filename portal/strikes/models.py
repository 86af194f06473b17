"""The table of strikes."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from portal.core.db import Base, append_only


@append_only("overruled_at")
class Strike(Base):
    """What a case decision counts towards the score of a person, for a year."""

    __tablename__ = "strike"

    id: Mapped[int] = mapped_column(primary_key=True)
    decision_ref: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    weight: Mapped[int]
    at: Mapped[datetime]
    overruled_at: Mapped[datetime | None]

    __table_args__ = (CheckConstraint("weight > 0", name="weight"),)
