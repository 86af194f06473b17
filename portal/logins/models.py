"""Tables of where people are signed in, and of attempts that failed."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from portal.core.actor import Level
from portal.core.db import Base


class LoginSession(Base):
    """A browser in which a person is signed in; the cookie's value is stored as an HMAC.

    `level` is how firmly they proved who they are; 0 waits for the second factor and is nobody until then.
    """

    __tablename__ = "login_session"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    reference_hmac: Mapped[str] = mapped_column(unique=True)
    means: Mapped[str]
    level: Mapped[int] = mapped_column(default=Level.NONE)
    created_at: Mapped[datetime]
    proved_at: Mapped[datetime]
    last_used_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    user_agent: Mapped[str] = mapped_column(default="")

    __table_args__ = (CheckConstraint("level BETWEEN 0 AND 2", name="level"),)


class LoginFailure(Base):
    """A failed attempt to get in, by a digest of what it aimed at, so that trying again grows slower."""

    __tablename__ = "login_failure"

    id: Mapped[int] = mapped_column(primary_key=True)
    attempt_hmac: Mapped[str] = mapped_column(index=True)
    at: Mapped[datetime] = mapped_column(index=True)
