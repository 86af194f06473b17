"""Tables of statements of reasons and the clauses that they cite."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.core.db import Base, append_only, enum_type
from portal.statements.rules import Automation, Source


@append_only()
class StatementOfReasons(Base):
    """Why: the facts, the clauses of the version that bound the person, until when, and how to contest it."""

    __tablename__ = "statement_of_reasons"

    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("license_version.id", ondelete="RESTRICT"))
    signature_id: Mapped[int] = mapped_column(ForeignKey("signature.id", ondelete="RESTRICT"))
    facts: Mapped[str]
    automation: Mapped[Automation] = mapped_column(enum_type(Automation, "automation"))
    source: Mapped[Source] = mapped_column(enum_type(Source, "source"))
    restricted: Mapped[str]
    notice: Mapped[str]
    notice_sha256: Mapped[str]
    until: Mapped[datetime | None]
    appeal_by: Mapped[datetime]

    clauses: Mapped[list["StatementClause"]] = relationship(lazy="selectin")

    __table_args__ = (CheckConstraint("facts <> ''", name="facts_given"),)


@append_only()
class StatementClause(Base):
    """A clause that a statement cites."""

    __tablename__ = "statement_clause"

    statement_id: Mapped[int] = mapped_column(
        ForeignKey("statement_of_reasons.id", ondelete="RESTRICT"), primary_key=True
    )
    clause_id: Mapped[int] = mapped_column(ForeignKey("clause.id", ondelete="RESTRICT"), primary_key=True)
