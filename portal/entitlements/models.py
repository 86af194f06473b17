"""Tables of what is asked of people who want a model, what they answered, and what they were granted."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.core.db import Base, append_only, enum_type
from portal.entitlements.rules import EndKind, Mode, RequestState


@append_only()
class RequestForm(Base):
    """What a model asks of people who want it, from then on; the newest one counts."""

    __tablename__ = "request_form"

    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("gated_model.id", ondelete="RESTRICT"))
    number: Mapped[int]
    mode: Mapped[Mode] = mapped_column(enum_type(Mode, "mode"))
    question: Mapped[str]
    days: Mapped[int]
    created_at: Mapped[datetime]
    created_by: Mapped[str]

    __table_args__ = (UniqueConstraint("model_id", "number"),)


class AccessRequest(Base):
    """One person's asking for one model, in answer to one form."""

    __tablename__ = "access_request"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("gated_model.id", ondelete="RESTRICT"))
    form_id: Mapped[int] = mapped_column(ForeignKey("request_form.id", ondelete="RESTRICT"))
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    purpose: Mapped[str]
    state: Mapped[RequestState] = mapped_column(enum_type(RequestState, "state"), default=RequestState.SUBMITTED)
    asked_at: Mapped[datetime]
    moved_at: Mapped[datetime]
    moved_by: Mapped[str]
    reason: Mapped[str] = mapped_column(default="")
    may_reapply_at: Mapped[datetime | None]

    form: Mapped[RequestForm] = relationship(lazy="joined")

    __table_args__ = (
        Index("ix_access_request_state", "model_id", "state"),
        Index(
            "uq_access_request_open", "user_id", "model_id", unique=True,
            sqlite_where=text("state = 'submitted'"), postgresql_where=text("state = 'submitted'"),
        ),
    )  # fmt: skip


@append_only()
class AccessRequestPurpose(Base):
    """An intended use, by its key in the model's card, that a person declared with an access request."""

    __tablename__ = "access_request_purpose"

    access_request_id: Mapped[int] = mapped_column(
        ForeignKey("access_request.id", ondelete="RESTRICT"), primary_key=True
    )
    stable_key: Mapped[str] = mapped_column(primary_key=True)


@append_only()
class Entitlement(Base):
    """What an accepted access request gave: this person may use this model, between two days."""

    __tablename__ = "entitlement"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"))
    model_id: Mapped[int] = mapped_column(ForeignKey("gated_model.id", ondelete="RESTRICT"))
    access_request_id: Mapped[int] = mapped_column(ForeignKey("access_request.id", ondelete="RESTRICT"), index=True)
    valid_from: Mapped[datetime]
    valid_to: Mapped[datetime]

    __table_args__ = (Index("ix_entitlement_person", "user_id", "model_id"),)


@append_only()
class EntitlementEnd(Base):
    """Why an entitlement ended before its day."""

    __tablename__ = "entitlement_end"

    id: Mapped[int] = mapped_column(primary_key=True)
    entitlement_id: Mapped[int] = mapped_column(ForeignKey("entitlement.id", ondelete="RESTRICT"), unique=True)
    kind: Mapped[EndKind] = mapped_column(enum_type(EndKind, "kind"))
    by: Mapped[str]
    at: Mapped[datetime]
