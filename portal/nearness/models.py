"""Tables of texts by how near they are to each other."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from portal.core.db import Base


class NearText(Base):
    """The signature of a text of the last two days; the text itself is not kept.

    Args:
        part: prompt or output.
        algorithm: how the signature was made; those made otherwise are never compared with it.
        signature: 128 numbers of 32 bits.
        entities: keyed digest of the numbers and addresses that it is about; empty if there are too few.
        script: the script that most of it is written in.
    """

    __tablename__ = "near_text"

    id: Mapped[int] = mapped_column(primary_key=True)
    usage_record_id: Mapped[int] = mapped_column(ForeignKey("usage_record.id", ondelete="RESTRICT"))
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"))
    at: Mapped[datetime] = mapped_column(index=True)
    part: Mapped[str]
    algorithm: Mapped[str]
    signature: Mapped[bytes] = mapped_column(LargeBinary)
    entities: Mapped[str] = mapped_column(default="")
    script: Mapped[str] = mapped_column(default="")

    __table_args__ = (
        Index("uq_near_text_part", "usage_record_id", "part", unique=True),
        Index("ix_near_text_user_entities", "user_id", "entities"),
    )


class NearBand(Base):
    """Two numbers of a signature together; texts that share a band may be near to each other."""

    __tablename__ = "near_band"

    value: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    near_text_id: Mapped[int] = mapped_column(ForeignKey("near_text.id", ondelete="CASCADE"), primary_key=True)

    __table_args__ = (Index("ix_near_band_near_text_id", "near_text_id"),)
