"""Table of what must be signed for what."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from portal.access.rules import Action, Follows, Grace
from portal.core.change import facts
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


# What `service.facts_for` reads. Ceremonies and notices are read only through declines and notice events, and never
# change in what is read; of deliveries, and the files that they cover, see `portal.access.edge`.
for table in (
    "user_account", "profile", "gated_model", "release", "requirement", "license", "license_version", "signature",
    "annulment", "decline", "reconfirmation", "notice_event", "access_token_scope", "access_token_model", "quota",
    "former_name", "request_form", "access_request", "entitlement", "entitlement_end", "sanction",
):  # fmt: skip
    facts(table)
facts("access_token", but=["name", "last_used_at"])
