"""Table of what must be signed for what."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from portal.access.rules import Action, Follows, Grace
from portal.core.db import Base, enum_type


class Requirement(Base):
    """A license that must be signed for one action on one model, and which of its versions."""

    __tablename__ = "requirement"

    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("gated_model.id", ondelete="RESTRICT"))
    action: Mapped[Action] = mapped_column(enum_type(Action, "action"))
    license_id: Mapped[int] = mapped_column(ForeignKey("license.id", ondelete="RESTRICT"))
    follows: Mapped[Follows] = mapped_column(enum_type(Follows, "follows"))
    grace: Mapped[Grace] = mapped_column(enum_type(Grace, "grace"), default=Grace.STANDARD)
    valid_from: Mapped[datetime]
    valid_to: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "uq_requirement_open", "model_id", "action", "license_id", unique=True,
            sqlite_where=text("valid_to IS NULL"), postgresql_where=text("valid_to IS NULL"),
        ),
    )  # fmt: skip
