"""Tables of kept texts, the terms by which they are found, and who agreed to what."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from portal.contents.rules import Basis
from portal.core.change import facts
from portal.core.db import Base, enum_type


class Retention(Base):
    """For how many days a model keeps texts of those who agreed; a model without a row keeps none."""

    __tablename__ = "retention"

    model_id: Mapped[int] = mapped_column(ForeignKey("gated_model.id", ondelete="RESTRICT"), primary_key=True)
    days: Mapped[int]
    set_by: Mapped[str]
    set_at: Mapped[datetime]


class TextConsent(Base):
    """A person agrees that a model keeps their texts, until they no longer do."""

    __tablename__ = "text_consent"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("gated_model.id", ondelete="RESTRICT"))
    given_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "uq_text_consent_open", "user_id", "model_id", unique=True,
            sqlite_where=text("ended_at IS NULL"), postgresql_where=text("ended_at IS NULL"),
        ),
    )  # fmt: skip


class Content(Base):
    """A prompt and its answer, redacted and encrypted; the key of its row is wrapped by the key of its month.

    Args:
        held_for: the case for which it is kept beyond its day.
    """

    __tablename__ = "content"

    id: Mapped[int] = mapped_column(primary_key=True)
    request_id: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("gated_model.id", ondelete="RESTRICT"))
    month: Mapped[str] = mapped_column(index=True)
    wrapped_key: Mapped[bytes]
    sealed: Mapped[bytes]
    basis: Mapped[Basis] = mapped_column(enum_type(Basis, "basis"))
    kept_at: Mapped[datetime]
    delete_after: Mapped[datetime] = mapped_column(index=True)
    held_for: Mapped[str | None] = mapped_column(index=True)

    __table_args__ = (CheckConstraint("delete_after > kept_at", name="ends"),)


class ContentTerm(Base):
    """By which keyed number a kept text is found; it lives and dies with the text."""

    __tablename__ = "content_term"

    content_id: Mapped[int] = mapped_column(ForeignKey("content.id", ondelete="CASCADE"), primary_key=True)
    term: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False, index=True)


# The data plane reads what engines write for models that keep texts.
facts("retention")
