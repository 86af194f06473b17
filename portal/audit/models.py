"""The table of what happened."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

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
