"""Tables of the reviews of published cards, and of what was drawn of their results."""

from datetime import datetime

from sqlalchemy import ForeignKey, UniqueConstraint
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


@append_only()
class CardPlot(Base):
    """A drawing of results that a card revision states, made once when it was published."""

    __tablename__ = "card_plot"

    id: Mapped[int] = mapped_column(primary_key=True)
    revision_id: Mapped[int] = mapped_column(ForeignKey("card_revision.id", ondelete="RESTRICT"))
    ordinal: Mapped[int]
    title: Mapped[str]
    svg: Mapped[str]

    __table_args__ = (UniqueConstraint("revision_id", "ordinal"),)
