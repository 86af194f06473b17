"""Tables of how people prove who they are."""

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from portal.core.db import Base, enum_type
from portal.identity.rules import LinkPurpose


class Password(Base):
    """A person's password as an argon2id digest."""

    __tablename__ = "password"

    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), primary_key=True)
    digest: Mapped[str]
    changed_at: Mapped[datetime]


class OneTimeLink(Base):
    """A link that proves control of an address or an invitation, once and for a while; stored as an HMAC."""

    __tablename__ = "one_time_link"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    purpose: Mapped[LinkPurpose] = mapped_column(enum_type(LinkPurpose, "purpose"))
    hmac: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
