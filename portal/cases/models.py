"""Tables of what is looked into: cases, what they are linked to, their evidence, notes and holds."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from portal.cases.rules import CaseState, LinkKind, Origin
from portal.core.db import Base, append_only, enum_type


class Case(Base):
    """One thing that is looked into, by one person at a time; the same thing on the same day is the same case.

    `subject_ref` is the public id of what it is about, and `user_id` the person behind that, where there is one;
    several people are linked to it, and `reach` is how many.
    """

    __tablename__ = "case_file"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    dedupe_key: Mapped[str] = mapped_column(unique=True)
    origin: Mapped[Origin] = mapped_column(enum_type(Origin, "origin"))
    subject_ref: Mapped[str] = mapped_column(index=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    state: Mapped[CaseState] = mapped_column(enum_type(CaseState, "state"), default=CaseState.OPEN)
    severity: Mapped[int]
    confidence: Mapped[int]
    reach: Mapped[int]
    rank: Mapped[int]
    holder_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"))
    lease_until: Mapped[datetime | None]
    opened_at: Mapped[datetime]
    opened_by: Mapped[str]
    due_at: Mapped[datetime]
    first_action_at: Mapped[datetime | None]
    moved_at: Mapped[datetime]

    __table_args__ = (
        CheckConstraint("severity BETWEEN 1 AND 4", name="severity"),
        CheckConstraint("(holder_id IS NULL) = (lease_until IS NULL)", name="lease"),
        Index("ix_case_file_queue", "state", "rank", "opened_at"),
    )


@append_only()
class CaseLink(Base):
    """Something that a case has to do with, by public id."""

    __tablename__ = "case_link"

    case_id: Mapped[int] = mapped_column(ForeignKey("case_file.id", ondelete="RESTRICT"), primary_key=True)
    kind: Mapped[LinkKind] = mapped_column(enum_type(LinkKind, "kind"), primary_key=True)
    ref: Mapped[str] = mapped_column(primary_key=True, index=True)


@append_only()
class Evidence(Base):
    """What was known at one instant, as canonical JSON under its digest; the log holds the digest."""

    __tablename__ = "evidence"

    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("case_file.id", ondelete="RESTRICT"), index=True)
    sha256: Mapped[str]
    body: Mapped[bytes]
    taken_at: Mapped[datetime]
    taken_by: Mapped[str]


@append_only()
class CaseNote(Base):
    """What a member of staff noted for colleagues; the person concerned does not read it."""

    __tablename__ = "case_note"

    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("case_file.id", ondelete="RESTRICT"), index=True)
    author: Mapped[str]
    words: Mapped[str]
    at: Mapped[datetime]


@append_only("released_at")
class EvidenceHold(Base):
    """While it lasts, nothing that a case rests on is deleted, by nobody and for no reason."""

    __tablename__ = "evidence_hold"

    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("case_file.id", ondelete="RESTRICT"), index=True)
    because: Mapped[str]
    set_at: Mapped[datetime]
    released_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "uq_evidence_hold_open", "case_id", "because", unique=True,
            sqlite_where=text("released_at IS NULL"), postgresql_where=text("released_at IS NULL"),
        ),
    )  # fmt: skip
