"""Table of receipts: sealed statements, made once and kept by digest."""

from datetime import datetime

from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from portal.core.db import Base, append_only


@append_only()
class Receipt(Base):
    """The PDF of one statement: its subject by public id, what it states and its bytes by digest."""

    __tablename__ = "receipt"

    id: Mapped[int] = mapped_column(primary_key=True)
    subject_ref: Mapped[str] = mapped_column(index=True)
    number: Mapped[int] = mapped_column(default=1)
    statement_sha256: Mapped[str]
    pdf_sha256: Mapped[str]
    made_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("subject_ref", "number"),)
