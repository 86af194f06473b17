"""Tables of who else vouches for the log: cosignatures of witnesses, and the checkpoint of each day with its time."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from portal.core.db import Base, append_only


@append_only()
class Cosignature(Base):
    """The word of a witness that a checkpoint extends all that it saw of the log before."""

    __tablename__ = "cosignature"

    size: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("checkpoint.size", ondelete="RESTRICT"), primary_key=True, autoincrement=False
    )
    witness: Mapped[str] = mapped_column(primary_key=True)
    line: Mapped[bytes]
    witnessed_at: Mapped[datetime]


@append_only("token")
class DailyCheckpoint(Base):
    """The checkpoint that stands for a UTC day: mailed, printed on receipts, and timestamped by an authority.

    Args:
        token: the timestamp over the bytes of the checkpoint (RFC 3161), once an authority gave one.
    """

    __tablename__ = "daily_checkpoint"

    day: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger, ForeignKey("checkpoint.size", ondelete="RESTRICT"))
    noted_at: Mapped[datetime]
    token: Mapped[bytes | None]
