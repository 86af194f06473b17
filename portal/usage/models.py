"""Tables of what was used and how much a person may use."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from portal.core.db import Base, append_only, enum_type
from portal.usage.rules import Outcome


class UsageRecord(Base):
    """One use of a model over an access token or a page; written from the journal, unique by request id.

    What a refused call lacks (release, terms) is NULL; an answered one always names them.
    """

    __tablename__ = "usage_record"
    # Sums over days are read from these alone.
    __table_args__ = tuple(
        Index(name, *of, "day", "outcome", "prompt_tokens", "completion_tokens", "bytes_sent")
        for name, of in (("ix_usage_record_day_sums", ()), ("ix_usage_record_user_day_sums", ("user_id",)))
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    request_id: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    access_token_id: Mapped[int | None] = mapped_column(ForeignKey("access_token.id", ondelete="RESTRICT"))
    model_name: Mapped[str]
    release_id: Mapped[int | None] = mapped_column(ForeignKey("release.id", ondelete="RESTRICT"))
    action: Mapped[str]
    channel: Mapped[str]
    signature_set: Mapped[str | None] = mapped_column(ForeignKey("signature_set.sha256", ondelete="RESTRICT"))
    card_revision_id: Mapped[int | None] = mapped_column(ForeignKey("card_revision.id", ondelete="RESTRICT"))
    prompt_tokens: Mapped[int] = mapped_column(default=0)
    completion_tokens: Mapped[int] = mapped_column(default=0)
    bytes_sent: Mapped[int] = mapped_column(BigInteger, default=0)
    ms: Mapped[int] = mapped_column(default=0)
    outcome: Mapped[Outcome] = mapped_column(enum_type(Outcome, "outcome"))
    reason_code: Mapped[str] = mapped_column(default="")
    server: Mapped[str] = mapped_column(default="")
    lab: Mapped[str] = mapped_column(default="", index=True)
    day: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(index=True)
    finished_at: Mapped[datetime | None]


@append_only()
class UsageSeal(Base):
    """The digest over the usage records of one UTC day, once all of them have ended; late ones get a further seal.

    Args:
        last_id: the last record that it covers; it begins after the last one of the seal before it.
    """

    __tablename__ = "usage_seal"

    day: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    last_id: Mapped[int]
    records: Mapped[int]
    sha256: Mapped[str]
    sealed_at: Mapped[datetime]


class Quota(Base):
    """Daily limits set for one person in place of the portal's own."""

    __tablename__ = "quota"

    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), primary_key=True)
    calls: Mapped[int]
    text_tokens: Mapped[int]
    set_by: Mapped[str]
    set_at: Mapped[datetime]
