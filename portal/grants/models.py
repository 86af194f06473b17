"""Tables of permissions by which programs act for people, and of the codes and refresh tokens that came of them."""

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.core.db import Base, enum_type
from portal.grants.rules import Ending, GrantState
from portal.programs.models import Program


class Grant(Base):
    """A person's word that a program may act for them; all tokens that come of it end with it."""

    __tablename__ = "program_grant"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    program_id: Mapped[int] = mapped_column(ForeignKey("program.id", ondelete="RESTRICT"), index=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    scopes: Mapped[str]
    state: Mapped[GrantState] = mapped_column(enum_type(GrantState, "state"), default=GrantState.LIVE)
    given_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    ending: Mapped[Ending | None] = mapped_column(enum_type(Ending, "ending"))

    program: Mapped[Program] = relationship(lazy="joined")


class AuthorizationCode(Base):
    """What a browser carries from the person's word to the program, which exchanges it once; stored as an HMAC."""

    __tablename__ = "authorization_code"

    id: Mapped[int] = mapped_column(primary_key=True)
    hmac: Mapped[str] = mapped_column(unique=True)
    grant_id: Mapped[int] = mapped_column(ForeignKey("program_grant.id", ondelete="RESTRICT"), unique=True)
    redirect_uri: Mapped[str]
    challenge: Mapped[str]
    nonce: Mapped[str]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    used_at: Mapped[datetime | None]

    grant: Mapped[Grant] = relationship(lazy="joined")


class RefreshToken(Base):
    """What a program gets its next tokens by, once; used ones are kept to be known again. Stored as an HMAC."""

    __tablename__ = "refresh_token"

    id: Mapped[int] = mapped_column(primary_key=True)
    hmac: Mapped[str] = mapped_column(unique=True)
    grant_id: Mapped[int] = mapped_column(ForeignKey("program_grant.id", ondelete="RESTRICT"), index=True)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]

    grant: Mapped[Grant] = relationship(lazy="joined")
