"""The table of decisions about several people at once."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from portal.core.db import Base, append_only


@append_only("executed_at", "confirmed_by", "undone_at", "undone_by")
class Batch(Base):
    """One decision about several people, exactly as it was looked at before; each of them has a case of their own.

    `case_ref` names the case about all of them that it settles, where there is one.
    """

    __tablename__ = "batch"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    body: Mapped[bytes]
    sha256: Mapped[str]
    size: Mapped[int]
    made_by: Mapped[str]
    made_at: Mapped[datetime]
    executed_at: Mapped[datetime | None]
    confirmed_by: Mapped[str | None]
    undone_at: Mapped[datetime | None]
    undone_by: Mapped[str | None]
    case_ref: Mapped[str] = mapped_column(default="")
