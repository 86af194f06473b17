"""Table of the reviews of published cards."""

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from portal.core.db import Base, append_only


@append_only()
class CardReview(Base):
    """Somebody looked at a published card revision again and found that it still holds, until the next time."""

    __tablename__ = "card_review"

    id: Mapped[int] = mapped_column(primary_key=True)
    revision_id: Mapped[int] = mapped_column(ForeignKey("card_revision.id", ondelete="RESTRICT"), index=True)
    by: Mapped[str]
    at: Mapped[datetime]
    note: Mapped[str]
    next_at: Mapped[datetime]
