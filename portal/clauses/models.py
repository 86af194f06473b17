"""Tables of exact texts, their clauses, and how clauses changed between two texts."""

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from portal.clauses.rules import ClauseKind, Element, Relation
from portal.core.db import Base, append_only, enum_type


@append_only()
class Text(Base):
    """Exact bytes, named by their SHA-256."""

    __tablename__ = "text"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    body: Mapped[bytes]
    media_type: Mapped[str] = mapped_column(default="text/markdown")


class Clause(Base):
    """A clause of a family of texts, with a key that survives renumbering."""

    __tablename__ = "clause"

    id: Mapped[int] = mapped_column(primary_key=True)
    family: Mapped[str]
    stable_key: Mapped[str]
    kind: Mapped[ClauseKind] = mapped_column(enum_type(ClauseKind, "kind"))
    element: Mapped[Element | None] = mapped_column(enum_type(Element, "element"))

    __table_args__ = (
        UniqueConstraint("family", "stable_key"),
        CheckConstraint("(kind = 'restriction') = (element IS NOT NULL)", name="restriction_element"),
    )


@append_only()
class ClauseText(Base):
    """A clause as it stands in one text: its number there, its span in characters and its digest."""

    __tablename__ = "clause_text"

    id: Mapped[int] = mapped_column(primary_key=True)
    text_sha256: Mapped[str] = mapped_column(ForeignKey("text.sha256", ondelete="RESTRICT"))
    clause_id: Mapped[int] = mapped_column(ForeignKey("clause.id", ondelete="RESTRICT"), index=True)
    ordinal: Mapped[int]
    label: Mapped[str]
    start: Mapped[int] = mapped_column("span_start")
    end: Mapped[int] = mapped_column("span_end")
    sha256: Mapped[str]

    __table_args__ = (
        UniqueConstraint("text_sha256", "clause_id"),
        UniqueConstraint("text_sha256", "ordinal"),
        CheckConstraint("span_start < span_end", name="span"),
    )


class ClauseChange(Base):
    """How one clause changed from one text to another, decided by an editor; frozen with the later text's version."""

    __tablename__ = "clause_change"

    id: Mapped[int] = mapped_column(primary_key=True)
    from_sha256: Mapped[str] = mapped_column(ForeignKey("text.sha256", ondelete="RESTRICT"))
    to_sha256: Mapped[str] = mapped_column(ForeignKey("text.sha256", ondelete="RESTRICT"))
    clause_id: Mapped[int] = mapped_column(ForeignKey("clause.id", ondelete="RESTRICT"))
    relation: Mapped[Relation] = mapped_column(enum_type(Relation, "relation"))
    explanation: Mapped[str] = mapped_column(default="")

    __table_args__ = (
        UniqueConstraint("from_sha256", "to_sha256", "clause_id"),
        CheckConstraint("from_sha256 <> to_sha256", name="two_texts"),
        CheckConstraint("relation = 'same' OR explanation <> ''", name="explained"),
    )
