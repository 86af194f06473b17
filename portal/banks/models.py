"""Table of banks of phrases."""

from datetime import datetime

from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from portal.core.change import facts
from portal.core.db import JSON_VALUE, Base, append_only


@append_only()
class PhraseBank(Base):
    """One version of the phrases and patterns of one sort in one language; the highest version is looked for."""

    __tablename__ = "phrase_bank"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    language: Mapped[str]
    version: Mapped[int]
    clause: Mapped[str]
    says: Mapped[str]
    phrases: Mapped[list[str]] = mapped_column(JSON_VALUE)
    patterns: Mapped[list[str]] = mapped_column(JSON_VALUE)
    added_by: Mapped[str]
    added_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("name", "language", "version"),)


facts("phrase_bank")
