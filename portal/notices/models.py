"""Tables of what people were told, and how far each notice got."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from portal.core.db import Base, append_only, enum_type
from portal.notices.rules import Rung


class Notice(Base):
    """One message to one person, waiting for or past delivery.

    The body is dropped once sent when it holds a one-time link (`secret`).
    """

    __tablename__ = "notice"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    recipient_id: Mapped[int | None] = mapped_column(index=True)
    address: Mapped[str]
    kind: Mapped[str]
    subject_ref: Mapped[str] = mapped_column(default="")
    subject: Mapped[str]
    body: Mapped[str | None]
    secret: Mapped[bool] = mapped_column(default=False)
    queued_at: Mapped[datetime]
    due_at: Mapped[datetime | None]
    tries: Mapped[int] = mapped_column(default=0)
    last_error: Mapped[str] = mapped_column(default="")

    __table_args__ = (Index("ix_notice_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),)


@append_only()
class NoticeEvent(Base):
    """A rung that a notice reached."""

    __tablename__ = "notice_event"

    id: Mapped[int] = mapped_column(primary_key=True)
    notice_id: Mapped[int] = mapped_column(ForeignKey("notice.id", ondelete="RESTRICT"), index=True)
    rung: Mapped[Rung] = mapped_column(enum_type(Rung, "rung"))
    channel: Mapped[str] = mapped_column(default="mail")
    at: Mapped[datetime]
