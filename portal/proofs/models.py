"""Tables of what an outsider can check: receipts by digest, and the log with its tree and its checkpoints."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from portal.core.db import Base, append_only, enum_type
from portal.proofs.rules import ReceiptTime


@append_only()
class Receipt(Base):
    """The PDF of one statement: its subject by public id, what it states and its bytes by digest.

    The newest number stands for the statement; it supersedes those before it.
    """

    __tablename__ = "receipt"

    id: Mapped[int] = mapped_column(primary_key=True)
    subject_ref: Mapped[str] = mapped_column(index=True)
    number: Mapped[int] = mapped_column(default=1)
    statement_sha256: Mapped[str]
    pdf_sha256: Mapped[str]
    made_at: Mapped[datetime]
    time: Mapped[ReceiptTime] = mapped_column(enum_type(ReceiptTime, "time"), default=ReceiptTime.PORTAL)
    timestamped_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("subject_ref", "number"),
        CheckConstraint("(time = 'authority') = (timestamped_at IS NOT NULL)", name="timestamped"),
    )


@append_only("index")
class Leaf(Base):
    """The commitment to one event, pending until it is given its place in the log."""

    __tablename__ = "leaf"

    id: Mapped[int] = mapped_column(primary_key=True)
    event_ref: Mapped[str] = mapped_column(unique=True)
    commitment: Mapped[bytes]
    index: Mapped[int | None] = mapped_column(BigInteger, unique=True)

    __table_args__ = (
        CheckConstraint('"index" >= 0', name="index"),
        Index(
            "ix_leaf_pending", "id", sqlite_where=text('"index" IS NULL'), postgresql_where=text('"index" IS NULL')
        ),
    )  # fmt: skip


@append_only()
class Node(Base):
    """The hash of one complete subtree; level 0 holds the leaves."""

    __tablename__ = "node"

    level: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    index: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    hash: Mapped[bytes]


@append_only()
class Checkpoint(Base):
    """A signed tree head, exactly as it was published.

    Args:
        signer: the public key that signed it.
        successor: the public key that signs from here on, where this one hands the log over to it.
    """

    __tablename__ = "checkpoint"

    size: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    root: Mapped[bytes]
    note: Mapped[bytes]
    signer: Mapped[bytes]
    successor: Mapped[bytes | None]
    signed_at: Mapped[datetime]
