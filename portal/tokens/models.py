"""Tables of access tokens: the secret a program shows, stored as a peppered HMAC."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.core.db import JSON_VALUE, Base, append_only, enum_type
from portal.tokens.rules import LeakSource, Scope, TokenState


class AccessToken(Base):
    """An access token of a person; bound to no model, it is good for all.

    Args:
        grant_id: the permission by which a program was given it; none where the person made it.
    """

    __tablename__ = "access_token"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    name: Mapped[str]
    hmac: Mapped[str] = mapped_column(unique=True)
    last4: Mapped[str]
    state: Mapped[TokenState] = mapped_column(enum_type(TokenState, "state"), default=TokenState.LIVE)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    signature_set: Mapped[str | None] = mapped_column(ForeignKey("signature_set.sha256", ondelete="RESTRICT"))
    grant_id: Mapped[int | None] = mapped_column(ForeignKey("program_grant.id", ondelete="RESTRICT"), index=True)

    scope_rows: Mapped[list["AccessTokenScope"]] = relationship(lazy="selectin", cascade="all")
    model_rows: Mapped[list["AccessTokenModel"]] = relationship(lazy="selectin", cascade="all")


class AccessTokenScope(Base):
    """A scope of an access token."""

    __tablename__ = "access_token_scope"

    access_token_id: Mapped[int] = mapped_column(ForeignKey("access_token.id", ondelete="RESTRICT"), primary_key=True)
    scope: Mapped[Scope] = mapped_column(enum_type(Scope, "scope"), primary_key=True)


class AccessTokenModel(Base):
    """A model that an access token is bound to; a token without any is good for all."""

    __tablename__ = "access_token_model"

    access_token_id: Mapped[int] = mapped_column(ForeignKey("access_token.id", ondelete="RESTRICT"), primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("gated_model.id", ondelete="RESTRICT"), primary_key=True)


class LeakReport(Base):
    """Secrets that somebody says are in public, as digests, until the next look at whether any of them is real.

    Args:
        network: digest of the neighborhood that it came from; empty where a signature says whose it is.
        body_sha256: digest of the signed bytes, so that sending them again does nothing.
        items: what was found, as pairs of digest and place; gone once it was looked at.
        ended: how many access tokens it ended.
    """

    __tablename__ = "leak_report"

    id: Mapped[int] = mapped_column(primary_key=True)
    source: Mapped[LeakSource] = mapped_column(enum_type(LeakSource, "source"))
    network: Mapped[str] = mapped_column(index=True)
    body_sha256: Mapped[str | None] = mapped_column(unique=True)
    items: Mapped[list[Any] | None] = mapped_column(JSON_VALUE)
    ended: Mapped[int] = mapped_column(default=0)
    received_at: Mapped[datetime]
    settled_at: Mapped[datetime | None] = mapped_column(index=True)


@append_only()
class TokenSighting(Base):
    """Where the secret of an access token was seen in public."""

    __tablename__ = "token_sighting"

    id: Mapped[int] = mapped_column(primary_key=True)
    access_token_id: Mapped[int] = mapped_column(ForeignKey("access_token.id", ondelete="RESTRICT"), index=True)
    source: Mapped[LeakSource] = mapped_column(enum_type(LeakSource, "source"))
    place: Mapped[str]
    seen_at: Mapped[datetime]
