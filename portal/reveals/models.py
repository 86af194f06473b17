"""Tables of who asked to read which kept texts, and why."""

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from portal.core.db import Base, append_only


@append_only()
class Reveal(Base):
    """A member of staff reads kept texts within a case, on record before the first word is shown."""

    __tablename__ = "reveal"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("case_file.id", ondelete="RESTRICT"), index=True)
    reader_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    reason: Mapped[str]
    at: Mapped[datetime]


@append_only()
class RevealedText(Base):
    """One of the texts that were asked for, by its request, and whose it is."""

    __tablename__ = "revealed_text"

    reveal_id: Mapped[int] = mapped_column(ForeignKey("reveal.id", ondelete="RESTRICT"), primary_key=True)
    request_id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
