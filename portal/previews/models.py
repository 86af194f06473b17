"""Tables of looks ahead to a license version: what it would do, and to whom."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.core.db import Base, append_only, enum_type
from portal.licensing.models import LicenseVersion
from portal.previews.rules import Lot


@append_only("done_at", "result")
class Preview(Base):
    """What a version with certain dates would do to whom; its counts come once everybody has been looked at."""

    __tablename__ = "preview"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("license_version.id", ondelete="RESTRICT"), index=True)
    effective_at: Mapped[datetime]
    required_by: Mapped[datetime]
    inputs_sha256: Mapped[str]
    people: Mapped[int]
    asked_by: Mapped[str]
    asked_at: Mapped[datetime]
    done_at: Mapped[datetime | None]
    result: Mapped[dict[str, Any] | None]

    version: Mapped[LicenseVersion] = relationship(lazy="joined")

    __table_args__ = (CheckConstraint("(done_at IS NULL) = (result IS NULL)", name="done"),)


@append_only()
class PreviewPerson(Base):
    """What a preview found for one person; `stops_at` is when something that they may do is refused."""

    __tablename__ = "preview_person"

    preview_id: Mapped[int] = mapped_column(ForeignKey("preview.id", ondelete="RESTRICT"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), primary_key=True)
    lot: Mapped[Lot] = mapped_column(enum_type(Lot, "lot"))
    reachable: Mapped[bool]
    stops_at: Mapped[datetime | None]


@append_only()
class PreviewStop(Base):
    """An access token that opens less from an instant on, as a preview found."""

    __tablename__ = "preview_stop"

    preview_id: Mapped[int] = mapped_column(ForeignKey("preview.id", ondelete="RESTRICT"), primary_key=True)
    access_token_id: Mapped[int] = mapped_column(ForeignKey("access_token.id", ondelete="RESTRICT"), primary_key=True)
    stops_at: Mapped[datetime]
