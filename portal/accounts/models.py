"""Tables of people, what is personal about them, and their staff roles."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.accounts.rules import Role, Standing
from portal.core.db import Base, append_only, enum_type


class User(Base):
    """A person with an account; holds nothing personal."""

    __tablename__ = "user_account"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    standing: Mapped[Standing] = mapped_column(enum_type(Standing, "standing"), default=Standing.ACTIVE)
    standing_until: Mapped[datetime | None]
    standing_ref: Mapped[str | None]
    created_at: Mapped[datetime]

    profile: Mapped["Profile"] = relationship(back_populates="user", lazy="joined")

    __table_args__ = (
        CheckConstraint("(standing = 'suspended') = (standing_until IS NOT NULL)", name="suspended_until"),
        CheckConstraint("(standing = 'active') = (standing_ref IS NULL)", name="standing_ref"),
    )


class Profile(Base):
    """What is personal about a person; the only place of it, and deletable. `email` is casefolded."""

    __tablename__ = "profile"

    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    verified_at: Mapped[datetime | None]
    name: Mapped[str]
    affiliation: Mapped[str] = mapped_column(default="")
    country: Mapped[str] = mapped_column(default="")
    locale: Mapped[str] = mapped_column(default="en")

    user: Mapped[User] = relationship(back_populates="profile", lazy="joined")


class RoleHolding(Base):
    """A staff role that a person holds, from when until when."""

    __tablename__ = "role_holding"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    role: Mapped[Role] = mapped_column(enum_type(Role, "role"))
    granted_by: Mapped[str]
    granted_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "uq_role_holding_live", "user_id", "role", unique=True,
            sqlite_where=text("ended_at IS NULL"), postgresql_where=text("ended_at IS NULL"),
        ),
    )  # fmt: skip


@append_only("confirmed_by", "confirmed_at")
class Proposal(Base):
    """A grave act that one member of staff proposes and another confirms, bound to the digest of exactly what it is."""

    __tablename__ = "proposal"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    action: Mapped[str]
    subject_ref: Mapped[str] = mapped_column(index=True)
    page: Mapped[str]
    payload: Mapped[bytes]
    payload_sha256: Mapped[str]
    proposed_by: Mapped[str]
    proposed_at: Mapped[datetime]
    confirmed_by: Mapped[str | None]
    confirmed_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]

    __table_args__ = (
        CheckConstraint("confirmed_by <> proposed_by", name="two_people"),
        CheckConstraint("(confirmed_by IS NULL) = (confirmed_at IS NULL)", name="confirmed"),
        CheckConstraint("expires_at > proposed_at", name="life"),
        CheckConstraint("confirmed_at < expires_at", name="in_time"),
    )
