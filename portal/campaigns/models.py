"""Tables of campaigns: who is asked to sign a version, or to confirm that they read of a change."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.campaigns.rules import CampaignKind, CampaignState
from portal.catalog.models import CardRevision, Release
from portal.core.db import Base, append_only, enum_type
from portal.licensing.models import LicenseVersion
from portal.previews.models import Preview

OVER = "('finished', 'cancelled')"


class Campaign(Base):
    """Asking everybody whom something concerns: to sign a version, or to confirm that they read of a change.

    Args:
        version, preview: of one that asks to sign, from its preview to the day that the version binds.
        card: of one that tells of a changed limitation: the card that says it.
        release: of one that tells those who hold copies of a correction.
        words, answer_by: what they are told beside, and by when they are asked to confirm it.
    """

    __tablename__ = "campaign"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[CampaignKind] = mapped_column(enum_type(CampaignKind, "kind"), default=CampaignKind.RE_SIGN)
    version_id: Mapped[int | None] = mapped_column(ForeignKey("license_version.id", ondelete="RESTRICT"), index=True)
    preview_id: Mapped[int | None] = mapped_column(ForeignKey("preview.id", ondelete="RESTRICT"))
    card_revision_id: Mapped[int | None] = mapped_column(ForeignKey("card_revision.id", ondelete="RESTRICT"))
    release_id: Mapped[int | None] = mapped_column(ForeignKey("release.id", ondelete="RESTRICT"))
    words: Mapped[str] = mapped_column(default="")
    answer_by: Mapped[datetime | None]
    state: Mapped[CampaignState] = mapped_column(enum_type(CampaignState, "state"), default=CampaignState.PLANNED)
    planned_by: Mapped[str]
    planned_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    reminded_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]

    version: Mapped[LicenseVersion | None] = relationship(lazy="joined")
    preview: Mapped[Preview | None] = relationship()
    card: Mapped[CardRevision | None] = relationship(lazy="joined")
    release: Mapped[Release | None] = relationship(lazy="joined")

    __table_args__ = (
        CheckConstraint("(kind = 're_sign') = (version_id IS NOT NULL)", name="version"),
        CheckConstraint("(version_id IS NULL) = (preview_id IS NULL)", name="preview"),
        CheckConstraint("(kind = 'limitation') = (card_revision_id IS NOT NULL)", name="card"),
        CheckConstraint("(kind = 'correction') = (release_id IS NOT NULL)", name="release"),
        CheckConstraint("(kind = 're_sign') = (answer_by IS NULL)", name="answer_by"),
        CheckConstraint("state NOT IN ('running', 'paused', 'cut_over') OR started_at IS NOT NULL", name="started"),
        CheckConstraint(f"(state IN {OVER}) = (ended_at IS NOT NULL)", name="ended"),
        Index(
            "uq_campaign_open", "version_id", unique=True,
            sqlite_where=text(f"state NOT IN {OVER}"), postgresql_where=text(f"state NOT IN {OVER}"),
        ),
    )  # fmt: skip


@append_only()
class CampaignPurpose(Base):
    """An intended use that a changed limitation touches; of a campaign without any, it touches all."""

    __tablename__ = "campaign_purpose"

    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id", ondelete="RESTRICT"), primary_key=True)
    stable_key: Mapped[str] = mapped_column(primary_key=True)


class Target(Base):
    """Somebody whom a campaign asks; how far they came follows from signatures, words and notices."""

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


@append_only()
class Acknowledgment(Base):
    """Somebody's word that they read what a campaign tells them; `shown_sha256` is the digest of what was shown."""

    __tablename__ = "acknowledgment"

    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id", ondelete="RESTRICT"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), primary_key=True)
    shown_sha256: Mapped[str]
    at: Mapped[datetime]
