"""The ledger of delivered copies."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from portal.core.db import Base, append_only


@append_only("bytes_sent", "complete", "finished_at")
class Delivery(Base):
    """One answer that carried bytes of one file to one person, under the signatures and card it relied on."""

    __tablename__ = "delivery"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    request_id: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    access_token_id: Mapped[int | None] = mapped_column(ForeignKey("access_token.id", ondelete="RESTRICT"))
    release_id: Mapped[int] = mapped_column(ForeignKey("release.id", ondelete="RESTRICT"), index=True)
    path: Mapped[str]
    file_sha256: Mapped[str] = mapped_column(index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    range_start: Mapped[int] = mapped_column(BigInteger, default=0)
    signature_set: Mapped[str] = mapped_column(ForeignKey("signature_set.sha256", ondelete="RESTRICT"))
    card_revision_id: Mapped[int] = mapped_column(ForeignKey("card_revision.id", ondelete="RESTRICT"))
    opened_at: Mapped[datetime]
    bytes_sent: Mapped[int | None] = mapped_column(BigInteger)
    complete: Mapped[bool | None]
    finished_at: Mapped[datetime | None]
