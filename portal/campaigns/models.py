"""Tables of campaigns that ask people to sign a license version."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.campaigns.rules import CampaignState
from portal.core.db import Base, enum_type
from portal.licensing.models import LicenseVersion
from portal.previews.models import Preview

OVER = "('finished', 'cancelled')"


class Campaign(Base):
    """Asking everybody who must sign a version to do so, from its preview to the day it binds."""

    __tablename__ = "campaign"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("license_version.id", ondelete="RESTRICT"), index=True)
    preview_id: Mapped[int] = mapped_column(ForeignKey("preview.id", ondelete="RESTRICT"))
    state: Mapped[CampaignState] = mapped_column(enum_type(CampaignState, "state"), default=CampaignState.PLANNED)
    planned_by: Mapped[str]
    planned_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    reminded_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]

    version: Mapped[LicenseVersion] = relationship(lazy="joined")
    preview: Mapped[Preview] = relationship()

    __table_args__ = (
        CheckConstraint("state NOT IN ('running', 'paused', 'cut_over') OR started_at IS NOT NULL", name="started"),
        CheckConstraint(f"(state IN {OVER}) = (ended_at IS NOT NULL)", name="ended"),
        Index(
            "uq_campaign_open", "version_id", unique=True,
            sqlite_where=text(f"state NOT IN {OVER}"), postgresql_where=text(f"state NOT IN {OVER}"),
        ),
    )  # fmt: skip


class Target(Base):
    """Somebody whom a campaign asks to sign; how far they came follows from signatures and notices."""

    __tablename__ = "campaign_target"

    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id", ondelete="RESTRICT"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), primary_key=True)
    waves: Mapped[int] = mapped_column(default=0)
    exempt_by: Mapped[str | None]
    exempt_at: Mapped[datetime | None]
    exempt_reason: Mapped[str | None]

    __table_args__ = (
        CheckConstraint("(exempt_by IS NULL) = (exempt_at IS NULL)", name="exempt"),
        CheckConstraint("(exempt_by IS NULL) = (exempt_reason IS NULL)", name="exempt_reason"),
    )
