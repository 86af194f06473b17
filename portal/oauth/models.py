"""Tables of terminals that ask to be let in, and of codes that were typed wrong."""

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.core.db import Base, enum_type
from portal.oauth.rules import DeviceState
from portal.tokens.models import AccessToken


class DeviceCode(Base):
    """A terminal that asks to be let in; its own code is stored as an HMAC, and it gets one access token at most."""

    __tablename__ = "device_code"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    hmac: Mapped[str] = mapped_column(unique=True)
    user_code: Mapped[str] = mapped_column(unique=True)
    client_id: Mapped[str]
    scopes: Mapped[str]
    network: Mapped[str] = mapped_column(index=True)
    user_agent: Mapped[str]
    state: Mapped[DeviceState] = mapped_column(enum_type(DeviceState, "state"), default=DeviceState.PENDING)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    interval: Mapped[int]
    last_polled_at: Mapped[datetime | None]
    decided_by_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"))
    decided_at: Mapped[datetime | None]
    access_token_id: Mapped[int | None] = mapped_column(ForeignKey("access_token.id", ondelete="RESTRICT"), unique=True)

    access_token: Mapped[AccessToken | None] = relationship(lazy="select")


class DeviceMistake(Base):
    """A code that a person typed and that no terminal shows, so that guessing grows slower."""

    __tablename__ = "device_mistake"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"), index=True)
    at: Mapped[datetime] = mapped_column(index=True)
