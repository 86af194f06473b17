"""The ledger of delivered copies, and the requests by which each was fetched."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.core.db import Base, append_only


@append_only("completed_at")
class Delivery(Base):
    """One copy of one file handed to one person, under the signatures and card that it relied on.

    It is fetched by one request or, in ranges, by several; it is whole once they hold every byte.
    """

    __tablename__ = "delivery"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    access_token_id: Mapped[int | None] = mapped_column(ForeignKey("access_token.id", ondelete="RESTRICT"))
    release_id: Mapped[int] = mapped_column(ForeignKey("release.id", ondelete="RESTRICT"), index=True)
    path: Mapped[str]
    file_sha256: Mapped[str] = mapped_column(index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    signature_set: Mapped[str] = mapped_column(ForeignKey("signature_set.sha256", ondelete="RESTRICT"))
    card_revision_id: Mapped[int] = mapped_column(ForeignKey("card_revision.id", ondelete="RESTRICT"))
    opened_at: Mapped[datetime]
    completed_at: Mapped[datetime | None]

    parts: Mapped[list["DeliveryPart"]] = relationship(lazy="selectin", order_by="DeliveryPart.id", viewonly=True)

    @property
    def complete(self) -> bool:
        """Say whether every byte left."""
        return self.completed_at is not None

    @property
    def bytes_sent(self) -> int:
        """How many bytes left in all requests together; more than the size where some were sent twice."""
        return sum(part.bytes_sent or 0 for part in self.parts)

    @property
    def is_running(self) -> bool:
        """Say whether a request for it has not ended yet."""
        return any(part.finished_at is None for part in self.parts)


@append_only("bytes_sent", "finished_at")
class DeliveryPart(Base):
    """One request that fetched bytes of a copy, from `range_start` on."""

    __tablename__ = "delivery_part"

    id: Mapped[int] = mapped_column(primary_key=True)
    delivery_id: Mapped[int] = mapped_column(ForeignKey("delivery.id", ondelete="RESTRICT"), index=True)
    request_id: Mapped[str] = mapped_column(unique=True)
    range_start: Mapped[int] = mapped_column(BigInteger)
    opened_at: Mapped[datetime]
    bytes_sent: Mapped[int | None] = mapped_column(BigInteger)
    finished_at: Mapped[datetime | None]
