"""The table of what happened, and the salts that keep the public log from telling it."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.core.db import Base, append_only


@append_only()
class AuditEvent(Base):
    """One event: its name, subject and fields, who acted, and when."""

    __tablename__ = "audit_event"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str] = mapped_column(index=True)
    subject: Mapped[str] = mapped_column(index=True)
    data: Mapped[dict[str, Any]]
    actor: Mapped[str] = mapped_column(index=True)
    at: Mapped[datetime] = mapped_column(index=True)

    __table_args__ = (sa.CheckConstraint("name <> ''", name="name_given"),)


class Salt(Base):
    """What has to be known to recognize an event in the log; erasing it unlinks the two and leaves the log whole."""

    __tablename__ = "salt"

    event_ref: Mapped[str] = mapped_column(
        sa.ForeignKey("audit_event.public_id", ondelete="RESTRICT"), primary_key=True
    )
    salt: Mapped[bytes]

    event: Mapped[AuditEvent] = relationship()
