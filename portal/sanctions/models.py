"""The table of sanctions; the one decision reads it, so nothing of their effects has to be written anywhere else."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from portal.core.db import Base, append_only, enum_type
from portal.sanctions.rules import SanctionKind


@append_only("ended_at", "confirmed_at")
class Sanction(Base):
    """One effect of a case decision, from one instant until another.

    Args:
        lapses_at: until when an interim one waits for a person to confirm it.
        ended_at: when it was ended before its day.
    """

    __tablename__ = "sanction"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    decision_ref: Mapped[str] = mapped_column(index=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    kind: Mapped[SanctionKind] = mapped_column(enum_type(SanctionKind, "kind"))
    target: Mapped[str] = mapped_column(default="")
    action: Mapped[str] = mapped_column(default="")
    calls: Mapped[int | None]
    text_tokens: Mapped[int | None]
    starts_at: Mapped[datetime]
    until: Mapped[datetime | None]
    lapses_at: Mapped[datetime | None]
    confirmed_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("until > starts_at", name="ends"),
        CheckConstraint("(until IS NULL) = (kind IN ('revoke_entitlement', 'close'))", name="permanent"),
        CheckConstraint("lapses_at IS NULL OR until IS NOT NULL", name="never_interim"),
    )
