"""Tables of exemptions for declared research."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.accounts.models import User
from portal.catalog.models import GatedModel
from portal.clauses.models import Clause
from portal.core.change import facts
from portal.core.db import Base, append_only, enum_type
from portal.exemptions.rules import Purpose


@append_only("ended_at", "ended_by", "end_reason")
class Exemption(Base):
    """Declared research of a person, from when until when; hits within it are recorded and nothing more."""

    __tablename__ = "exemption"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    purpose: Mapped[Purpose] = mapped_column(enum_type(Purpose, "purpose"))
    license: Mapped[str]
    model_id: Mapped[int | None] = mapped_column(ForeignKey("gated_model.id", ondelete="RESTRICT"))
    safeguards: Mapped[str]
    valid_from: Mapped[datetime]
    valid_to: Mapped[datetime]
    approved_by: Mapped[str]
    approved_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    ended_by: Mapped[str | None]
    end_reason: Mapped[str | None]

    model: Mapped[GatedModel | None] = relationship(lazy="joined")
    user: Mapped[User] = relationship(lazy="joined")
    cited: Mapped[list["ExemptionClause"]] = relationship(lazy="selectin", order_by="ExemptionClause.clause_id")

    __table_args__ = (
        CheckConstraint("valid_to > valid_from", name="life"),
        CheckConstraint("(ended_at IS NULL) = (ended_by IS NULL)", name="ended"),
        CheckConstraint("(ended_at IS NULL) = (end_reason IS NULL)", name="end_reason"),
    )


@append_only()
class ExemptionClause(Base):
    """A clause that an exemption covers."""

    __tablename__ = "exemption_clause"

    exemption_id: Mapped[int] = mapped_column(ForeignKey("exemption.id", ondelete="RESTRICT"), primary_key=True)
    clause_id: Mapped[int] = mapped_column(ForeignKey("clause.id", ondelete="RESTRICT"), primary_key=True)

    clause: Mapped[Clause] = relationship(lazy="joined")


facts("exemption")
